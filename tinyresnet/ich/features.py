"""Frozen features: the published network stays as it is, and a logistic regression for each view reads its averages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy import ndarray as Array

from tinyresnet.ich.recipes import Fit, Head, Recipe, last_stages
from tinyresnet.ich.views import BOTH, through
from tinyresnet.inference import fold_batch_norm
from tinyresnet.logistic import fit_logistic, probabilities
from tinyresnet.resnet import ResNet

STRENGTH = 10.0  # of the L2 penalty: scikit-learn's C = 0.1


class Features(Recipe):
    """Heads on the averages of the last two stages, side by side, of every image and its mirror image.

    The probability is the mean over views and mirrors. features: (V, 2, n, C) as `features_of` computes them.
    """

    keeps_backbone = True

    def __init__(self, backbone: ResNet, features: Array, labels: Array, *, views: Sequence[str] = BOTH,
                 strength: float = STRENGTH):
        self.backbone, self.features, self.labels = backbone, features, labels
        self.at, self.views, self.strength = last_stages(backbone, 2), views, strength

    def fit(self, train_rows, valid_rows, rng, *, checkpoint=None, description="training"):
        """One logistic regression a view, on images and mirror images; nothing is random, and there are no epochs."""
        weights, biases, answers = [], [], []
        for of_view in self.features:  # (2, n, C)
            x = of_view[:, train_rows].reshape(-1, of_view.shape[2])  # (M * train rows, C): images, then mirror images
            weight, bias = fit_logistic(x, np.tile(self.labels[train_rows], len(of_view)), self.strength)
            weights.append(weight)
            biases.append(bias)
            answers += [probabilities(side[valid_rows], weight, bias) for side in of_view]
        return Fit(np.mean(answers, axis=0), [], Head(np.stack(weights), np.array(biases)))

    def variants(self) -> Iterator[tuple[str, Features]]:
        """What else might have been done, to see what matters: exploratory, since it is tried on the same images."""
        make = partial(Features, self.backbone, labels=self.labels)
        first = self.features.shape[3] // 3  # a stage has twice the channels of the one before
        for v, view in enumerate(self.views):
            yield f"{view} alone", make(self.features[v:v + 1], views=[view])
        yield "without mirror images", make(self.features[:, :1])
        yield f"{self.at[0]} alone", make(self.features[..., :first])
        yield f"{self.at[1]} alone", make(self.features[..., first:])
        for factor in (0.01, 100):
            yield f"penalty times {factor:g}", make(self.features, strength=self.strength * factor)


def features_of(backbone: ResNet, images: Sequence[Array], **how) -> Array:
    """What Features reads, of images (H, W, 3) uint8 of any size: (V, 2, n, C). how: views and mirrored, for `through`."""
    network, at = fold_batch_norm(backbone), last_stages(backbone, 2)
    return through(partial(network.features, at=at), images, backbone.preprocessing, **how)
