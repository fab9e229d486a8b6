"""What a run leaves in its folder, ready to be asked: a network and linear heads on its averaged features.

    classifier = Classifier.load("runs/today")
    features = classifier.features(images)
    classifier.probabilities(features)      of the positive class: by the head that learned from all, and by each fold's
    classifier.grad_cam(image, "layer4")    where the image's features speak for the positive class
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array
from scipy.special import expit

from tinyresnet.ich.views import VIEWS, seen, through
from tinyresnet.images import resize
from tinyresnet.inference import fold_batch_norm
from tinyresnet.layers import Layer
from tinyresnet.resnet import ResNet
from tinyresnet.weights import WeightsFileError, load_model, read_arrays

LONGEST = 3  # times the short side of a picture, for a person to look at
SIDE = 224  # pixels of what is longer


class Classifier(NamedTuple):
    """Shapes: weight (H, V, C), bias (H, V) for H heads and V views; the first head learned from all images."""

    backbone: ResNet
    weight: Array
    bias: Array
    at: list[str]  # stages whose averages the heads read, side by side
    views: list[str]
    mirrored: bool  # every view is read mirrored, too
    facts: dict[str, Any]  # of data, model and protocol, as in results.json

    @classmethod
    def load(cls, directory: str | Path) -> Classifier:
        """What a run left in `directory`. Raises WeightsFileError naming a file that is not what it left."""
        path = Path(directory) / "head.npz"
        backbone = load_model(Path(directory) / "backbone.npz")
        arrays, facts = read_arrays(path)
        try:
            result = cls(backbone.eval(), arrays["weight"], arrays["bias"], facts["at"], facts["views"], facts["mirrored"],
                         facts)
            check(result)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsFileError(f"{path}: not the heads that a run of train_ich.py leaves ({error!r})") from error
        return result

    def features(self, images: Sequence[Array]) -> Array:
        """Of images (H, W, 3) uint8 of any size: (V, M, n, C)."""
        function = partial(fold_batch_norm(self.backbone).features, at=self.at)
        return through(function, images, self.backbone.preprocessing, views=self.views, mirrored=self.mirrored)

    def probabilities(self, features: Array) -> Array:
        """Of the positive class, by each head, the mean over views and mirrors: (V, M, n, C) -> (H, n)."""
        logits = np.einsum("vmnc,hvc->hnvm", features, self.weight) + self.bias[:, None, :, None]
        return expit(logits).mean(axis=(2, 3))

    def shown(self, image: Array) -> Array:
        """The first view for a person: (h, w, 3) uint8. A strip is stretched as for the network; it would fill a wall."""
        view = VIEWS[self.views[0]](image)
        return view if max(view.shape[:2]) <= LONGEST * min(view.shape[:2]) else resize(view, (SIDE, SIDE))

    def features_of_view(self, images: Sequence[Array]) -> Array:
        """Of the first view as it is, (n, C): what tells which images resemble each other."""
        return self._replace(views=self.views[:1], mirrored=False).features(images)[0, 0]

    def logit(self, head: int = 0) -> Logit:
        """The network that gives a head's logit for the first view."""
        return Logit(self, head)

    def grad_cam(self, image: Array, at: str, head: int = 0) -> Array:
        """Where, in the first view, the activations of the stage `at` speak for the positive class: signed, (h, w).

            alpha[c] = mean over i, j of  d logit / d A[i, j, c],     map[i, j] = sum_c alpha[c] A[i, j, c]

        As explain.grad_cam, for a head that may read several stages. Raises ValueError for a stage that is none.
        """
        x = seen([image], self.views[0], self.backbone.preprocessing)
        A = fold_batch_norm(self.backbone.part(to=at)).forward(x)  # (1, h, w, C)
        if A.ndim != 4:
            raise ValueError(f"expected a stage before the average, which has maps (N, h, w, C); {at} gives {A.shape}")
        return A[0] @ channel_weights(self, A, at, head)


def channel_weights(classifier: Classifier, A: Array, at: str, head: int) -> Array:
    """alpha (C,) of `grad_cam`, for the activations A (1, h, w, C) of the stage `at`."""
    backbone, weights = classifier.backbone, classifier.weight[head, 0]
    stages, alpha = [name for name, _ in backbone.children()], np.zeros(A.shape[3])
    for stage, weight in zip(classifier.at, np.split(weights, ends(backbone, classifier.at)[:-1])):
        if stages.index(stage) >= stages.index(at):  # what was read before `at` does not depend on it
            rest = copy.deepcopy(backbone.part(after=at, to=stage)).train().freeze()  # nothing, for `at` itself
            y = rest.forward(A)  # (1, h', w', C')
            dy = np.broadcast_to(weight / y[0, :, :, 0].size, y.shape).astype(y.dtype)
            alpha += rest.backward(dy).mean(axis=(0, 1, 2))
    return alpha


def ends(backbone: ResNet, at: Sequence[str]) -> Array:
    """Where the channels of each of these stages end in a head's weights."""
    return np.cumsum([backbone.part(to=stage).output_shape((1, 64, 64, 3))[-1] for stage in at])


def check(classifier: Classifier) -> None:
    """Raise ValueError, TypeError or KeyError where heads, backbone and facts do not go together."""
    backbone, weight, bias, at, views, mirrored, facts = classifier
    if not views or not set(views) <= set(VIEWS) or type(mirrored) is not bool:
        raise ValueError(f"expected views of {', '.join(VIEWS)}, mirrored or not, got {views}, {mirrored}")
    if not at or len(set(at)) < len(at):
        raise ValueError(f"expected one or more stages, each once, got {at}")
    expected = len(views), ends(backbone, at)[-1]
    if not len(weight) or weight.shape[1:] != expected or bias.shape != weight.shape[:2]:
        raise ValueError(f"expected heads for {expected} views and features, got {weight.shape} and {bias.shape}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise ValueError("expected finite weights")
    negative, positive = facts["classes"]
    if not (isinstance(negative, str) and isinstance(positive, str) and type(facts["data"]["synthetic"]) is bool
            and 0 <= facts["refer_half_width"] <= 0.5):
        raise ValueError("expected two classes, whether the images were synthetic, and a band to refer")


class Logit(Layer):
    """Backbone and one head of a classifier as one network: x (N, height, width, 3), logits (N, 1) of the positive class."""

    def __init__(self, classifier: Classifier, head: int):
        super().__init__()
        self.network, self.at = fold_batch_norm(classifier.backbone), classifier.at
        self.weight, self.bias = classifier.weight[head, 0], classifier.bias[head, 0]

    def forward(self, x: Array) -> Array:
        return (self.network.features(x, self.at) @ self.weight + self.bias)[:, None]
