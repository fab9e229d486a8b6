"""Batch norm folded into the convolutions: the same logits, from a copy that gives answers only."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from test_kernels import largest_error, numba_only
from test_start import PACKAGE

from tinyresnet import load_model, preprocess, read_image, resnet18, resnet20, resnet50, save_weights
from tinyresnet.inference import FoldedBlock, FoldedConv2d, fold_batch_norm
from tinyresnet.kernels import winograd
from tinyresnet.layers import BatchNorm2d, Conv2d, Identity, Layer, ReLU
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet

NETWORKS = {
    "ResNet-18": lambda: resnet18(7, width=8),
    "thin ResNet-50 v1.5": lambda: ResNet(Bottleneck, (3, 4, 6, 3), 7, width=8),
    "thin ResNet-50 v1, Caffe's pooling and epsilon": lambda: ResNet(
        Bottleneck, (3, 4, 6, 3), 7, width=8, stride_in_1x1=True, caffe_pool=True, eps=1e-3),
    "CIFAR's ResNet-20": resnet20,
    "wide enough for Winograd": lambda: ResNet(Bottleneck, (1, 1), 7, width=32),
}
FLOAT32 = 1e-4  # of the largest logit: the weights are rounded once more, and rounding grows through 50 layers


def images(N=2, dtype=np.float32, size=(65, 72)):
    return np.random.default_rng(0).standard_normal((N, *size, 3)).astype(dtype)


def trained(model, dtype=np.float32):
    """As if it had been trained: batch norms with statistics of their own, and weights of either sign, some zero."""
    rng = np.random.default_rng(1)
    for _, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):
            C = len(layer.weight)
            layer.weight = rng.choice([-1.2, -0.4, 0, 0.5, 1, 1.5], C)
            layer.bias, layer.running_mean = rng.normal(0, 0.3, (2, C))
            layer.running_var = rng.uniform(0.3, 2, C)
    return model.astype(dtype).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype, bound", [(np.float32, FLOAT32), (np.float64, 1e-12)])  # rounding alone
def test_a_folded_network_has_the_logits_of_the_one_it_was_made_from(name, dtype, bound):
    model, x = trained(NETWORKS[name](), dtype), images(dtype=dtype)
    assert largest_error(fold_batch_norm(model).forward(x), model.forward(x)) < bound


def test_resnet50_folded_has_its_logits_at_its_own_size():
    model, x = trained(resnet50()), images(1, size=(224, 224))
    assert largest_error(fold_batch_norm(model).forward(x), model.forward(x)) < FLOAT32


def test_no_batch_norm_is_left():
    kinds = {type(layer) for _, layer in fold_batch_norm(resnet18(7, width=8)).named_layers()}
    assert not kinds & {BatchNorm2d, Conv2d, ReLU} and kinds >= {FoldedConv2d, FoldedBlock, Identity}


def test_a_network_in_train_mode_is_folded_with_its_running_statistics():
    model, x = trained(NETWORKS["ResNet-18"]()), images()
    answers = model.forward(x)
    assert largest_error(fold_batch_norm(model.train()).forward(x), answers) < FLOAT32


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_keep_their_names(name):
    model = NETWORKS[name]()
    assert [name for name, _ in fold_batch_norm(model).children()] == [name for name, _ in model.children()]


@pytest.mark.parametrize("stage", ["relu", "maxpool", "layer1", "layer3", "avgpool"])
def test_parts_of_a_folded_network_give_what_those_of_the_network_give(stage):
    model, x = trained(NETWORKS["ResNet-18"]()), images()
    assert largest_error(fold_batch_norm(model).part(to=stage).forward(x), model.part(to=stage).forward(x)) < FLOAT32


def test_features_of_a_folded_network_are_those_of_the_network():
    model, x = trained(NETWORKS["ResNet-18"]()), images()
    assert largest_error(fold_batch_norm(model).features(x), model.features(x)) < FLOAT32


@pytest.mark.parametrize("stage", ["relu", "layer1", "layer2", "layer4"])
def test_stages_keep_the_shapes_of_their_outputs(stage):
    model = NETWORKS["thin ResNet-50 v1.5"]()
    folded = fold_batch_norm(model).part(to=stage)
    assert folded.output_shape((2, 65, 72, 3)) == model.part(to=stage).output_shape((2, 65, 72, 3))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    model = NETWORKS["ResNet-18"]().train(training)
    before, layers = model.state_dict(), dict(model.named_layers())
    folded = fold_batch_norm(model)
    folded.forward(images())
    after = model.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before) and dict(model.named_layers()) == layers
    assert {layer.training for layer in layers.values()} == {training}


def test_the_network_can_still_be_trained():
    model = NETWORKS["ResNet-18"]()
    fold_batch_norm(model)
    model.backward(model.forward(images()))
    assert len(model.named_grads()) == len(model.named_params())


def test_later_changes_of_the_weights_do_not_reach_the_folded_network():
    model, x = trained(NETWORKS["ResNet-18"]()), images()
    folded = fold_batch_norm(model)
    before = folded.forward(x)
    for _, array in model.named_params():
        array *= 3
    np.testing.assert_array_equal(folded.forward(x), before)


def test_a_new_head_of_the_network_does_not_reach_the_folded_one():
    model = NETWORKS["ResNet-18"]()
    folded = fold_batch_norm(model)
    model.replace_head(3)
    assert folded.forward(images()).shape == (2, 7)


@pytest.mark.parametrize("stage", ["conv1", "layer1", "layer4"])
def test_backward_of_a_folded_layer_says_which_network_can_be_trained(stage):
    layer = getattr(fold_batch_norm(NETWORKS["ResNet-18"]()), stage)
    with pytest.raises(RuntimeError, match="a folded network gives answers only; train the one that it was made from"):
        layer.backward(images())


def test_a_folded_network_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="a folded network cannot be saved; save the one that it was made from"):
        save_weights(fold_batch_norm(NETWORKS["ResNet-18"]()), tmp_path / "folded.npz")


def test_nothing_is_left_of_a_file_in_which_a_folded_network_was_not_saved(tmp_path):
    with pytest.raises(ValueError):
        save_weights(fold_batch_norm(NETWORKS["ResNet-18"]()), tmp_path / "folded.npz")
    assert not any(tmp_path.iterdir())


class Gate(Layer):
    """A layer of yours."""

    def forward(self, x):
        return x / (1 + np.abs(x))


@pytest.fixture
def with_a_gate():
    model = trained(NETWORKS["ResNet-18"]())
    model.layer2[1].relu1 = Gate()
    return model


def test_a_block_with_a_layer_of_yours_is_left_as_it_is(with_a_gate):
    blocks = fold_batch_norm(with_a_gate).layer2
    assert [type(block) for block in (blocks[0], blocks[1])] == [FoldedBlock, BasicBlock]


def test_a_network_with_a_layer_of_yours_has_its_logits(with_a_gate):
    assert largest_error(fold_batch_norm(with_a_gate).forward(images()), with_a_gate.forward(images())) < FLOAT32


@pytest.mark.parametrize("part", ["downsample", "relu", "bn1", "conv2"])
def test_a_block_with_any_layer_of_yours_has_its_outputs(part):
    model = trained(NETWORKS["ResNet-18"]())
    setattr(model.layer1[0], part, Gate())
    assert largest_error(fold_batch_norm(model).forward(images()), model.forward(images())) < FLOAT32


class Halved(ResNet):
    """With a forward of its own."""

    def forward(self, x):
        return super().forward(x) / 2


def test_a_forward_of_your_own_kind_of_network_is_called():
    model = trained(Halved(BasicBlock, (1, 1), 3, width=4))
    assert largest_error(fold_batch_norm(model).forward(images()), model.forward(images())) < FLOAT32


def test_an_identity_of_yours_is_not_taken_for_a_stage_that_was_folded_away():
    model = trained(NETWORKS["ResNet-18"]())
    model.maxpool, x = Identity(), images()
    folded = fold_batch_norm(model)
    whole = folded.part(after="relu").forward(folded.part(to="relu").forward(x))
    assert largest_error(whole, model.forward(x)) < FLOAT32


def test_the_weights_of_a_folded_convolution_cannot_be_changed():
    conv = fold_batch_norm(NETWORKS["ResNet-18"]()).conv1
    with pytest.raises(ValueError, match="read-only"):
        conv.weight *= 0
    with pytest.raises(AttributeError):
        conv.weight = conv.weight + 1


def test_later_changes_of_the_model_do_not_reach_the_folded_copy():
    model = NETWORKS["ResNet-18"]()
    model.origin = {"file": "a.pth"}
    folded = fold_batch_norm(model)
    before = folded.forward(images())
    model.origin["file"] = "b.pth"
    model.config["eps"] = model.conv1.weight[:] = model.fc.weight[:] = 1
    assert (folded.origin, folded.config["eps"]) == ({"file": "a.pth"}, 1e-5)
    np.testing.assert_array_equal(folded.forward(images()), before)


def test_nothing_of_training_comes_along():
    model = NETWORKS["ResNet-18"]()
    model.backward(model.forward(images()))
    assert fold_batch_norm(model).named_grads() == [] != model.named_grads()


def test_the_second_call_gives_the_same_bits_as_the_first():
    folded, x = fold_batch_norm(trained(NETWORKS["wide enough for Winograd"]())), images()
    np.testing.assert_array_equal(folded.forward(x), folded.forward(x))


@numba_only
@pytest.mark.skipif(not winograd.ENABLED, reason="Winograd's method is turned off")
def test_the_second_call_does_not_transform_the_weights_again(monkeypatch):
    folded, calls = fold_batch_norm(trained(NETWORKS["wide enough for Winograd"]())), []
    monkeypatch.setattr(winograd, "points_of_weights", lambda w, real=winograd.points_of_weights: calls.append(1) or real(w))
    numbers = [(folded.forward(images()), len(calls))[1] for _ in range(3)]
    assert numbers == [1, 1, 1]  # one layer has patches enough


def test_images_one_by_one_after_a_batch_have_the_same_logits():
    """A single small image has too few patches for Winograd, with its weights already there."""
    model = trained(NETWORKS["wide enough for Winograd"]())
    folded, x = fold_batch_norm(model), images(4, size=(33, 40))
    together = folded.forward(x)
    assert largest_error(np.concatenate([folded.forward(image[None]) for image in x]), together) < FLOAT32


def test_reference_mode_gives_the_same_logits(tmp_path):
    program = ("import sys, numpy as np\n"
               "from test_inference import NETWORKS, fold_batch_norm, images, trained\n"
               "np.save(sys.argv[1], fold_batch_norm(trained(NETWORKS['ResNet-18']())).forward(images()))")
    subprocess.run([sys.executable, "-c", program, tmp_path / "logits.npy"], cwd=PACKAGE.parent / "tests", check=True,
                   env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "TINYRESNET_KERNELS": "reference"})
    logits = fold_batch_norm(trained(NETWORKS["ResNet-18"]())).forward(images())
    assert largest_error(logits, np.load(tmp_path / "logits.npy")) < FLOAT32


@pytest.fixture(scope="module")
def answers(request):
    """Logits of the published network for a photograph: its own, and those of its folded copy."""
    shared, model = request.getfixturevalue("shared"), load_model(request.getfixturevalue("published"))
    folder = shared / "data" / "imagenet_sample"
    with open(folder / "labels.csv") as file:
        row = next(csv.DictReader(file))
    x = preprocess(read_image(folder / row["file"]), model.preprocessing)[None]
    return model.forward(x), fold_batch_norm(model).forward(x)


@pytest.mark.shared
def test_the_published_network_folded_has_its_logits(answers):
    own, folded = answers
    assert largest_error(folded, own) < FLOAT32


@pytest.mark.shared
def test_the_published_network_folded_names_a_photograph_as_it_does(answers):
    own, folded = answers
    assert folded.argmax() == own.argmax()


@pytest.mark.parametrize("stage", ["conv1", "bn1"])
def test_a_cut_inside_a_folded_convolution_is_refused(stage):
    with pytest.raises(ValueError, match=f"{stage} and the stage after it are one"):
        fold_batch_norm(NETWORKS["ResNet-18"]()).part(to=stage)


def test_a_part_of_a_network_is_folded_as_far_as_it_goes():
    model, x = trained(NETWORKS["ResNet-18"]()).eval(), images()
    for stage in ("conv1", "bn1", "layer2"):
        assert largest_error(fold_batch_norm(model.part(to=stage)).forward(x), model.part(to=stage).forward(x)) < FLOAT32


def test_a_new_head_of_the_copy_leaves_the_networks_facts_alone():
    model = NETWORKS["ResNet-18"]()
    fold_batch_norm(model).replace_head(4)
    assert model.config["num_classes"] != 4


def test_a_changed_forward_of_a_block_is_kept():
    class Half(BasicBlock):
        def forward(self, x):
            return super().forward(x) / 2

    block, x = Half(8, 8).eval(), np.random.default_rng(0).random((2, 9, 8, 8), np.float32)
    assert largest_error(fold_batch_norm(block).forward(x), block.forward(x)) < FLOAT32


def test_a_folded_network_is_not_converted():
    with pytest.raises(ValueError, match="fold it again"):
        fold_batch_norm(NETWORKS["ResNet-18"]()).astype(np.float64)
