"""Published weights on real photographs: the same logits as PyTorch, and as many photographs named correctly."""

import csv

import numpy as np
import pytest
from run_examples import classify_image

from tinyresnet import load_model, preprocess, read_image

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def photographs(shared):
    """Pairs of path and class index."""
    folder = shared / "data" / "imagenet_sample"
    with open(folder / "labels.csv") as file:
        return [(folder / row["file"], int(row["class_index"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def x(published, photographs):
    preprocessing = load_model(published).preprocessing
    return np.stack([preprocess(read_image(path), preprocessing) for path, _ in photographs])


@pytest.fixture(scope="module")
def logits(published, x):
    model = load_model(published)
    return np.concatenate([model.forward(x[start : start + 10]) for start in range(0, 50, 10)])


def test_most_photographs_are_named_correctly(logits, photographs):
    classes = np.array([label for _, label in photographs])
    assert (logits.argmax(axis=1) == classes).sum() >= 40  # 83 % of this collection with PyTorch


@pytest.mark.torch
def test_logits_are_those_of_the_published_file_in_torch(shared, x, logits, photographs):
    import torch
    from torch_resnet import TorchResNet, images_to_torch
    config = {"block": "Bottleneck", "depths": [3, 4, 6, 3], "num_classes": 1000, "width": 64, "stride_in_1x1": False,
              "eps": 1e-5, "caffe_pool": False, "cifar_stem": False, "option_a": False}
    twin = TorchResNet(config).eval()
    twin.load_state_dict(torch.load(shared / "weights" / "resnet50_imagenet_pq.pth", weights_only=True))
    with torch.no_grad():
        theirs = np.concatenate([twin(images_to_torch(x[start : start + 10])).numpy() for start in range(0, 50, 10)])
    np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-3)  # float32 through 50 layers, logits up to 20
    classes = np.array([label for _, label in photographs])
    assert (logits.argmax(axis=1) == classes).sum() == (theirs.argmax(axis=1) == classes).sum()


def test_classify_image_names_a_photograph(published, photographs, capsys):
    assert classify_image(photographs[0][0], "--weights", published) == 0
    assert "brambling" in capsys.readouterr().out.splitlines()[0]
