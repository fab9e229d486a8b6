"""What a run of train_ich.py with the recipe features leaves in its folder, of 24 small slices and a thin network."""

from typing import NamedTuple

import numpy as np

from tinyresnet import small_resnet
from tinyresnet.ich.cases import Cases
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.experiment import Outcome, Slices, cross_validation, run
from tinyresnet.ich.features import Features, features_of
from tinyresnet.ich.views import stretched
from tinyresnet.images import Preprocessing
from tinyresnet.layers import BatchNorm2d

CLASSES = "normal", "hemorrhage"


class Run(NamedTuple):
    classifier: Classifier
    slices: Slices
    images: list
    outcomes: list[Outcome]


def thin_network(seed=0):
    """Two views of a slice give it 64 x 64 pixels, the last stage's map is 2 x 2."""
    rng = np.random.default_rng(seed)
    model = small_resnet(5, width=4, rng=rng)
    model.preprocessing = stretched(Preprocessing(80, 64, "bilinear", (0.4, 0.4, 0.4), (0.2, 0.2, 0.2)))
    for _, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):  # as if it had learned
            layer.bias = rng.normal(0, 0.3, len(layer.bias)).astype(np.float32)
    return model.eval()


def small_slices():
    """24 slices of 12 scans, half of them with a bright square, and which is which."""
    rng = np.random.default_rng(0)
    labels = np.arange(24) // 2 % 2
    images = [rng.integers(60, 120, (48, 40, 3), dtype=np.uint8) for _ in labels]
    for image in (images[row] for row in np.flatnonzero(labels)):
        image[10:25, 12:28] += 110
    names = [f"{number:03}.png" for number in range(24)]
    return Slices(names, labels, np.arange(24) // 2, True, CLASSES), images


def small_run(directory, *, splits=("grouped",), repeats=1, synthetic=False):
    """Fit, save, load: as examples/train_ich.py does."""
    slices, images = small_slices()
    backbone = thin_network()
    recipe = Features(backbone, features_of(backbone, images), slices.labels)
    outcomes, heads = run(recipe, cross_validation(slices, splits, 3, repeats, seed=0), slices, directory, seed=0)
    recipe.save(directory, CLASSES, {"data": {"synthetic": synthetic}, "refer_half_width": 0.25}, heads)
    classifier = Classifier.load(directory)
    Cases.of(classifier, slices, images, np.arange(24)).save(directory / "cases.npz")
    return Run(classifier, slices, images, outcomes)
