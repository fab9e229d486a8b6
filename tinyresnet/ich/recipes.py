"""Three ways to learn from head-CT slices, each prepared once for all images and then fitted to any part of them.

    Scratch     a small network from random weights: for the phantoms, of which there are as many as one likes
    Features    the published network stays as it is; its averaged features are computed once, a linear head learns
    Finetune    the network trains from a named stage on; what enters that stage is computed once

    fit = recipe.fit(train_rows, valid_rows, rng)       fit.probabilities: of the positive class, for valid_rows
    recipe.save(directory)                              the last fit as backbone.npz and head.npz
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.ich.twins import read_twins, twin_loss
from tinyresnet.inference import fold_batch_norm
from tinyresnet.layers import BatchNorm2d, Layer, Linear
from tinyresnet.loss import cross_entropy
from tinyresnet.optim import Adam, cosine
from tinyresnet.resnet import ResNet
from tinyresnet.training import Loss, Samples, predict, train
from tinyresnet.weights import save_weights, write_arrays

BATCH = 16  # images at a time where nothing is learned


class Settings(NamedTuple):
    """What the command line sets, with torchvision's names."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float


class Fit(NamedTuple):
    """What a fit leaves: probabilities (valid rows,) of the positive class, and a row an epoch."""

    probabilities: Array
    history: list[dict]


class Recipe:
    """What the three share: the fit itself. Features of the stages `at`, averaged, are what the head reads."""

    at: Sequence[str] = ("layer4",)
    lr_factors: dict[str, float] = {}

    def __init__(self, backbone: ResNet, settings: Settings):
        self.backbone, self.settings = backbone, settings
        self.loss_function: Loss = cross_entropy

    def begin(self, train_rows: Array, rng: np.random.Generator) -> tuple[Layer, Callable[[Array], Samples]]:
        """An untrained model, and the function that gives the samples of some rows."""
        raise NotImplementedError

    def head(self) -> Linear:
        """The linear head of the last fit, on averaged features of `at`."""
        return self.backbone.fc

    def fit(self, train_rows: Array, valid_rows: Array, rng: np.random.Generator, *, checkpoint: Path | None = None,
            description: str = "training") -> Fit:
        """Learn from train_rows alone, and answer for valid_rows; with a checkpoint file, go on from it."""
        model, samples = self.begin(train_rows, rng)
        epochs, batch_size, lr, weight_decay = self.settings
        optimizer = Adam(model, lr, weight_decay=weight_decay, lr_factors=self.lr_factors)
        valid_set = samples(valid_rows) if len(valid_rows) else None
        history = train(model, optimizer, samples(train_rows), valid_set, epochs=epochs, batch_size=batch_size, rng=rng,
                        schedule=partial(cosine, warmup=0.1), loss_function=self.loss_function,
                        checkpoint=checkpoint, description=description)
        probabilities = self.answer(model, valid_set) if valid_set else np.empty(0)
        model.eval()
        return Fit(probabilities, history)

    def answer(self, model: Layer, samples: Samples) -> Array:
        """Probabilities (n,) of the positive class."""
        return predict(model, samples, BATCH)[:, 1]

    def save(self, directory: Path, classes: Sequence[str], facts: Mapping) -> None:
        """Write the last fit: backbone.npz for load_model, head.npz with weight (features, 2) and bias (2,).

        facts: what results.json says of data, model and protocol; it stays with the weights that were trained.
        """
        if self.head() is self.backbone.fc:  # the network itself was trained
            self.backbone.classes = list(classes)
            self.backbone.origin = {**facts, "before": self.backbone.origin}
        save_weights(self.backbone, directory / "backbone.npz")
        reads = {"at": list(self.at), "classes": list(classes), "reads": "averages of the stages `at`, side by side"}
        write_arrays(directory / "head.npz", self.head().state_dict(), {**reads, **facts})


class Features(Recipe):
    """A linear head on frozen features of the last two stages, standardised with the training rows' mean and deviation."""

    def __init__(self, backbone: ResNet, images: Array, labels: Array, settings: Settings):
        super().__init__(backbone, settings)
        self.labels = labels
        self.at = [name for name, _ in backbone.children() if name.startswith("layer")][-2:]
        network = fold_batch_norm(backbone)
        self.features = in_batches(lambda x: network.features(x, self.at), images, "features")  # (n, channels)

    def begin(self, train_rows, rng):
        self.mean = self.features[train_rows].mean(axis=0)
        self.std = self.features[train_rows].std(axis=0) + np.float32(1e-6)  # a dead channel has no deviation
        self.linear = Linear(self.features.shape[1], 2, rng=rng)
        standardised = (self.features - self.mean) / self.std
        return self.linear, lambda rows: Samples(standardised[rows], self.labels[rows])

    def head(self) -> Linear:
        """With the standardisation folded in: ((f - mean) / std) @ w + b = f @ (w / std) + (b - (mean / std) @ w)."""
        folded = Linear(*self.linear.weight.shape)
        folded.weight = self.linear.weight / self.std[:, None]
        folded.bias = self.linear.bias - self.mean @ folded.weight
        return folded


class Finetune(Recipe):
    """The network trains from the stage `unfreeze_from` on, the new head ten times as fast, batch norms frozen.

    With some hundred images the statistics of a batch are worse than the published running ones.
    """

    lr_factors = {"fc": 10.0}

    def __init__(self, backbone: ResNet, images: Array, labels: Array, settings: Settings, unfreeze_from: str):
        super().__init__(backbone, settings)
        self.labels = labels
        stages = check_stage(backbone, unfreeze_from)
        before = stages[stages.index(unfreeze_from) - 1] if unfreeze_from != stages[0] else None
        self.entering = images if before is None else in_batches(
            fold_batch_norm(backbone.part(to=before)).forward, images, f"activations of {before}")
        self.before = before
        self.published = backbone.part(after=before, to="avgpool").state_dict()

    def begin(self, train_rows, rng):
        self.backbone.replace_head(2, rng=rng)
        tail = self.backbone.part(after=self.before)
        tail.load_state_dict(self.published, strict=False)  # every fold begins with the published weights
        for _, layer in tail.named_layers():
            layer.frozen = isinstance(layer, BatchNorm2d)
        return tail, lambda rows: Samples(self.entering[rows], self.labels[rows])


class Scratch(Recipe):
    """A network from random weights, on twins, of which a batch always holds both; asked about a slice and its mirror."""

    def __init__(self, new_backbone: Callable[[np.random.Generator], ResNet], images: Array, labels: Array,
                 settings: Settings):
        super().__init__(new_backbone(np.random.default_rng(0)), settings)
        self.new_backbone, self.images, self.labels = new_backbone, images, labels
        self.loss_function = twin_loss
        self.at = [name for name, _ in self.backbone.children() if name.startswith("layer")][-1:]

    def begin(self, train_rows, rng):
        self.backbone = self.new_backbone(rng)
        return self.backbone, lambda rows: Samples(self.images[rows], self.labels[rows], read_twins, block=2)

    def answer(self, model, samples):
        mirrored = samples._replace(inputs=samples.inputs[:, :, ::-1])  # left and right
        return (super().answer(model, samples) + super().answer(model, mirrored)) / 2


def check_stage(backbone: ResNet, unfreeze_from: str) -> list[str]:
    """The names of all stages. Raises ValueError if `unfreeze_from` is none that can train, or the head alone."""
    stages = [name for name, layer in backbone.children()]
    able = [name for name, layer in backbone.children() if layer.named_params() and name != stages[-1]]
    if unfreeze_from not in able:
        raise ValueError(f"--unfreeze-from: no stage is named {unfreeze_from!r}; there are {', '.join(able)}")
    return stages


def in_batches(function: Callable[[Array], Array], x: Array, description: str) -> Array:
    """function(x) computed a few rows at a time, with a progress bar on a terminal."""
    starts = tqdm(range(0, len(x), BATCH), desc=description, unit=" batches", leave=False, disable=None)
    return np.concatenate([function(x[start : start + BATCH]) for start in starts])
