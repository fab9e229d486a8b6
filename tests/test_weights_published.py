"""Small published networks, read, renamed and run: as good on images as their authors say, or refused with the reason."""

import numpy as np
import pytest

from tinyresnet import cross_entropy, load_model, preprocess
from tinyresnet.cifar import CLASSES
from weights_converter import WeightsFileError, convert

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def images_and_labels(shared):
    """The first 100 test images of CIFAR-10, (100, 32, 32, 3) uint8, and their labels"""
    rows = np.loadtxt(shared / "data" / "cifar10_sample" / "cifar10_test.csv", delimiter=",", dtype=np.uint8)
    return rows[:, 1:].reshape(-1, 32, 32, 3), rows[:, 0]


def right_answers(model, images_and_labels):
    images, labels = images_and_labels
    x = np.stack([preprocess(image, model.preprocessing) for image in images])
    return int((model.forward(x).argmax(axis=1) == labels).sum())


GUESS = "a guess: ImageNet's mean and deviation, and of ten classes the names of CIFAR-10"
PUBLISHED = {  # file: option A, changes, fewest right answers of 100, measured
    "resnet20-12fca82f.th": (True, [GUESS], 84),  # 91.73 % of all 10,000
    "resnet20.onnx": (False, [GUESS], 88),
    "junyu_cifar10_res20_iter_64000.caffemodel": (False, [
        "mean image replaced by its channels' means", "batch-norm factors divided out (21)",
        "convolution biases folded into running means (21)"], 88),  # 91.94 %
}


@pytest.mark.parametrize("file", PUBLISHED)
def test_a_published_resnet20_names_most_images(file, shared, tmp_path, images_and_labels):
    option_a, changes, fewest = PUBLISHED[file]
    summary = convert(shared / "weights" / "small" / file, tmp_path / "out.npz")
    model = load_model(tmp_path / "out.npz")
    assert (model.name, model.config["option_a"], summary.changes) == ("resnet20", option_a, changes)
    assert model.classes == list(CLASSES) and model.preprocessing.size == (32, 32)
    assert right_answers(model, images_and_labels) >= fewest


def test_the_numbered_caffe_network_takes_red_first(shared, tmp_path, images_and_labels):
    convert(shared / "weights" / "small" / "junyu_cifar10_res20_iter_64000.caffemodel", tmp_path / "out.npz")
    model = load_model(tmp_path / "out.npz")
    images, labels = images_and_labels
    x = np.stack([preprocess(image, model.preprocessing) for image in images])
    losses = [cross_entropy(model.forward(images), labels.astype(np.int64))[0] for images in (x, x[..., ::-1].copy())]
    assert losses[0] < 0.75 * losses[1], losses


@pytest.mark.parametrize("file, words", [
    ("atreides_resnet20.pth", "shortcuts average over 2x2 pixels, or that have none"),
    ("resnet8.h5", "padded below and on the right alone .* shortcuts have no batch norm"),
    ("denograd_mnist.safetensors", "none of its 18 names, 'layers.0.weight'"),
])
def test_a_network_that_tinyresnet_has_not_is_refused_with_the_reason(file, words, shared, tmp_path):
    with pytest.raises(WeightsFileError, match=f"{file}: is of no network known here.*{words}"):
        convert(shared / "weights" / "small" / file, tmp_path / "out.npz")


def test_the_blocks_of_the_refused_network_really_average(shared, images_and_labels):
    """Its arrays in a network whose shortcuts take every other pixel name half of the images, in its own most of them."""
    from weights_converter import read_tensors
    from weights_converter.conversion import in_our_terms
    from weights_converter.names import Found, unwrap
    from weights_converter.networks import Network
    from weights_converter.schemes import SCHEMES

    from tinyresnet import resnet20
    from tinyresnet.layers import PaddedIdentity

    class Averaging(PaddedIdentity):
        def forward(self, x):
            means = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / np.float32(4)
            return super().forward(np.repeat(np.repeat(means, 2, axis=1), 2, axis=2))

    def ours(name):
        """convs.3.conv1.bias -> layer2.0.conv1.bias"""
        if not name.startswith("convs."):
            return name.replace("conv0", "conv1").replace("bn0", "bn1")
        block, rest = name.removeprefix("convs.").split(".", 1)
        return f"layer{int(block) // 3 + 1}.{int(block) % 3}.{rest}"

    tensors, _ = unwrap(read_tensors(shared / "weights" / "small" / "atreides_resnet20.pth"))
    arrays = {ours(name): array for name, array in tensors.items()}
    arrays, _ = in_our_terms(Found(Network("resnet20", 16, 10, option_a=True), SCHEMES[0], arrays, {}))
    model = resnet20().eval()
    model.load_state_dict(arrays)
    every_other = right_answers(model, images_and_labels)
    for stage, channels in ((model.layer2, 16), (model.layer3, 32)):
        stage[0].downsample = Averaging(channels, 2 * channels, stride=2)
    assert every_other < 65 and right_answers(model, images_and_labels) > 80  # measured 52 and 87
