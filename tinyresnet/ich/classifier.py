"""What a run leaves in its folder, ready to be asked: a network and linear heads on its averaged features.

    classifier = Classifier.load("runs/today")
    classifier.probabilities(images)        of the positive class: by the head that learned from all, and by each fold's
    classifier.grad_cam(image, "layer4")    where its features speak for the positive class
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

from tinyresnet.ich.views import seen, through
from tinyresnet.inference import fold_batch_norm
from tinyresnet.layers import Layer
from tinyresnet.resnet import ResNet
from tinyresnet.weights import WeightsFileError, load_model, read_arrays


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
            read = len(result.views), result.ends()[-1]
            if result.weight.shape[1:] != read or result.bias.shape != result.weight.shape[:2]:
                raise ValueError(f"expected heads for {read} views and features, got {result.weight.shape}")
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
        weights = dict(zip(self.at, np.split(self.weight[head, 0], self.ends()[:-1])))
        stages = [name for name, _ in self.backbone.children()]
        later = [stage for stage in self.at if stages.index(stage) > stages.index(at)]
        alpha = weights.get(at, 0) / A[0, :, :, 0].size + np.zeros(A.shape[3])
        for stage in later:
            rest = copy.deepcopy(self.backbone.part(after=at, to=stage)).train().freeze()
            y = rest.forward(A)  # (1, h', w', C')
            dy = np.broadcast_to(weights[stage] / y[0, :, :, 0].size, y.shape).astype(y.dtype)
            alpha = alpha + rest.backward(dy).mean(axis=(0, 1, 2))
        return A[0] @ alpha

    def ends(self) -> Array:
        """Where the channels of each stage of `at` end in a head's weights."""
        return np.cumsum([self.backbone.part(to=stage).output_shape((1, 64, 64, 3))[-1] for stage in self.at])


class Logit(Layer):
    """Backbone and one head of a classifier as one network: x (N, height, width, 3), logits (N, 1) of the positive class."""

    def __init__(self, classifier: Classifier, head: int):
        super().__init__()
        self.network, self.at = fold_batch_norm(classifier.backbone), classifier.at
        self.weight, self.bias = classifier.weight[head, 0], classifier.bias[head, 0]

    def forward(self, x: Array) -> Array:
        return (self.network.features(x, self.at) @ self.weight + self.bias)[:, None]
