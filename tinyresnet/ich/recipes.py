"""Ways to learn from head-CT slices, each prepared once for all images and then fitted to any part of them.

    Scratch     here           a small network from random weights: for the phantoms, of which there are as many as one likes
    Features    features.py    the published network stays as it is, linear heads learn on its features
    Finetune    finetune.py    a linear head first, then the network trains from a named stage on
    Paper       paper.py       the whole network trains, as in the paper

    fit = recipe.fit(train_rows, valid_rows, rng)       fit.probabilities: of the positive class, for valid_rows
    recipe.save(directory, ...)                         the last fit as backbone.npz and head.npz, which classifier.py reads
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.ich.twins import read_twins, twin_loss
from tinyresnet.ich.views import BATCH
from tinyresnet.layers import Linear
from tinyresnet.optim import Adam, cosine
from tinyresnet.resnet import ResNet
from tinyresnet.training import Samples, predict, train
from tinyresnet.weights import save_weights, write_arrays


class Settings(NamedTuple):
    """What the command line sets, with torchvision's names."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float


class Head(NamedTuple):
    """For each view (V) a linear head on averaged features: logit of the positive class = features @ weight + bias.

    Shapes: weight (V, C), bias (V,).
    """

    weight: Array
    bias: Array

    @classmethod
    def of(cls, linear: Linear) -> Head:
        """A layer of two classes, for a single view: softmax's p[1] is the logistic function of logit[1] - logit[0]."""
        return cls((linear.weight[:, 1] - linear.weight[:, 0])[None], (linear.bias[1:] - linear.bias[:1]))


class Fit(NamedTuple):
    """What a fit leaves: probabilities (valid rows,) of the positive class, a row an epoch, and the head."""

    probabilities: Array
    history: list[dict]
    head: Head


class Recipe:
    """What they share. `at`: stages whose averages the head reads; `views`: what it is shown, see views.py, and
    mirrored, too, unless `mirrored` is False.
    """

    at: Sequence[str]
    views: Sequence[str] = ("slice",)
    mirrored = True
    keeps_backbone = False  # then heads of all folds fit the one backbone, and quick enough to fit within folds

    def __init__(self, backbone: ResNet, settings: Settings):
        self.backbone, self.settings = backbone, settings

    def fit(self, train_rows: Array, valid_rows: Array, rng: np.random.Generator, *, checkpoint: Path | None = None,
            description: str = "training") -> Fit:
        """Learn from train_rows alone, and answer for valid_rows; with a checkpoint file, go on from it."""
        raise NotImplementedError

    def save(self, directory: Path, classes: Sequence[str], facts: Mapping, heads: Sequence[Head]) -> None:
        """Write backbone.npz for load_model, and head.npz with weight (H, V, C) and bias (H, V).

        heads: that of the last fit, and of folds if they share its backbone. facts: what results.json says of data, model
        and protocol; it stays with the weights that were trained.
        """
        if not self.keeps_backbone:
            self.backbone.classes = list(classes)
            self.backbone.origin = {**facts, "before": self.backbone.origin}
        save_weights(self.backbone, directory / "backbone.npz")
        reads = {"at": list(self.at), "views": list(self.views), "mirrored": self.mirrored, "classes": list(classes)}
        arrays = {"weight": np.stack([head.weight for head in heads]), "bias": np.stack([head.bias for head in heads])}
        write_arrays(directory / "head.npz", arrays, {**facts, **reads})


class Scratch(Recipe):
    """A network from random weights, on twins, of which a batch always holds both; asked about a slice and its mirror."""

    def __init__(self, new_backbone: Callable[[np.random.Generator], ResNet], images: Array, labels: Array,
                 settings: Settings):
        super().__init__(new_backbone(np.random.default_rng(0)), settings)
        self.new_backbone, self.images, self.labels = new_backbone, images, labels
        self.at = last_stages(self.backbone, 1)

    def fit(self, train_rows, valid_rows, rng, *, checkpoint=None, description="training"):
        """From new random weights; the answer is the mean of that for the slice and that for its mirror image."""
        self.backbone = model = self.new_backbone(rng)
        optimizer = Adam(model, self.settings.lr, weight_decay=self.settings.weight_decay)
        valid_set = self.samples(valid_rows)
        history = train(model, optimizer, self.samples(train_rows), valid_set, epochs=self.settings.epochs,
                        batch_size=self.settings.batch_size, rng=rng, schedule=partial(cosine, warmup=0.1),
                        loss_function=twin_loss, checkpoint=checkpoint, description=description)
        mirrored = valid_set._replace(inputs=valid_set.inputs[:, :, ::-1])  # left and right
        answers = [predict(model, samples, BATCH)[:, 1] for samples in (valid_set, mirrored)]
        return Fit(np.mean(answers, axis=0), history, Head.of(model.fc))

    def samples(self, rows: Array) -> Samples:
        return Samples(self.images[rows], self.labels[rows], read_twins, block=2)


def last_stages(backbone: ResNet, count: int) -> list[str]:
    """The names of the last stages of blocks."""
    return [name for name, _ in backbone.children() if name.startswith("layer")][-count:]
