"""Fine-tuning: first a linear head on the published features, then the network trains from a named stage on.

A new head on random weights would send random gradients into features that took a million images; so it is fitted first,
and the features move from a good place (linear probing, then fine-tuning: Kumar et al. 2022, arXiv:2202.10054). They are
pulled back towards where they began (L2-SP), and batch norms stay frozen whole: with some hundred images the statistics
of a batch are worse than the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy import ndarray as Array

from tinyresnet.ich.features import STRENGTH
from tinyresnet.ich.recipes import Fit, Head, Recipe, Settings, last_stages
from tinyresnet.ich.views import BATCH, BOTH, through
from tinyresnet.inference import fold_batch_norm
from tinyresnet.layers import BatchNorm2d, Sequential
from tinyresnet.logistic import fit_logistic
from tinyresnet.optim import Adam, cosine
from tinyresnet.resnet import ResNet
from tinyresnet.training import Samples, predict, train

HEAD_FACTOR = 10.0  # times the learning rate of the stages below it


class Finetune(Recipe):
    """Every image in both views, as it is and mirrored: an epoch shows it once in each view, one of them mirrored, and
    the next epoch the other way round. What enters the first stage that trains is computed once.
    """

    views = BOTH

    def __init__(self, backbone: ResNet, images: Sequence[Array], labels: Array, settings: Settings, unfreeze_from: str):
        super().__init__(backbone, settings)
        self.labels, self.at = labels, last_stages(backbone, 1)
        stages = check_stage(backbone, unfreeze_from)
        self.before = stages[stages.index(unfreeze_from) - 1] if unfreeze_from != stages[0] else None
        network = fold_batch_norm(backbone)
        begin = network.part(to=self.before).forward if self.before else np.asarray
        self.entering = through(begin, images, backbone.preprocessing, views=self.views,
                                description=f"activations of {self.before or 'the image'}")  # (V, 2, n, h, w, C)
        rest = network.part(after=self.before, to="avgpool")
        starts = range(0, len(images), BATCH)
        self.features = np.stack([[np.concatenate([rest.forward(side[start : start + BATCH]) for start in starts])
                                   for side in view] for view in self.entering])  # (V, 2, n, C)
        self.published = backbone.part(after=self.before, to="avgpool").state_dict()

    def fit(self, train_rows, valid_rows, rng, *, checkpoint=None, description="training"):
        """From the linear probe on; the answer is the mean over views and mirrors."""
        tail = self.probed(train_rows)
        epochs, batch_size, lr, weight_decay = self.settings
        start = {name: self.published[name] for name, _ in tail.named_params() if name in self.published}
        adam = Adam(tail, lr, weight_decay=weight_decay, lr_factors={"fc": HEAD_FACTOR}, towards=start)
        steps = math.ceil(len(self.views) * len(train_rows) / batch_size)  # of an epoch
        train_set = self.samples(train_rows, [(v, v % 2) for v in range(len(self.views))], lambda: adam.t // steps)
        history = train(tail, adam, train_set, self.samples(valid_rows, [(0, 0)]) if len(valid_rows) else None,
                        epochs=epochs, batch_size=batch_size, rng=rng, schedule=partial(cosine, warmup=0.1),
                        checkpoint=checkpoint, description=description)
        sides = [(v, mirrored) for v in range(len(self.views)) for mirrored in (0, 1)]
        answers = predict(tail, self.samples(valid_rows, sides), BATCH)[:, 1] if len(valid_rows) else np.empty(0)
        tail.eval()
        return Fit(answers.reshape(len(sides), -1).mean(axis=0), history, self.head())

    def probed(self, train_rows: Array) -> Sequential:
        """What trains, as published, with batch norms frozen and a logistic regression for all views as its head."""
        x = self.features[:, :, train_rows].reshape(-1, self.features.shape[3])  # (V * 2 * train rows, C)
        weight, bias = fit_logistic(x, np.tile(self.labels[train_rows], 2 * len(self.views)), STRENGTH)
        self.backbone.replace_head(2)
        tail = self.backbone.part(after=self.before)
        tail.load_state_dict({**self.published, "fc.weight": np.stack([-weight / 2, weight / 2], axis=1),
                              "fc.bias": np.array([-bias / 2, bias / 2])})
        for _, layer in tail.named_layers():
            layer.frozen = isinstance(layer, BatchNorm2d)
        return tail

    def samples(self, rows: Array, sides: Sequence[tuple[int, int]], turn: Callable[[], int] = lambda: 0) -> Samples:
        """The rows in each of these views, as they are (0) or mirrored (1), and at odd turns the other way round."""
        inputs = np.array([(view, mirrored, row) for view, mirrored in sides for row in rows])  # (sides * rows, 3)
        return Samples(inputs, np.tile(self.labels[rows], len(sides)),
                       lambda x, rng: self.entering[x[:, 0], (x[:, 1] + turn()) % 2, x[:, 2]])

    def head(self) -> Head:
        """The same linear head for every view."""
        one = Head.of(self.backbone.fc)
        return Head(*(np.repeat(array, len(self.views), axis=0) for array in one))


def check_stage(backbone: ResNet, unfreeze_from: str) -> list[str]:
    """The names of all stages. Raises ValueError if `unfreeze_from` is none that can train, or the head alone."""
    stages = [name for name, layer in backbone.children()]
    able = [name for name, layer in backbone.children()
            if layer.named_params() and not isinstance(layer, BatchNorm2d) and name != stages[-1]]
    if unfreeze_from not in able:
        raise ValueError(f"--unfreeze-from: no stage is named {unfreeze_from!r}; there are {', '.join(able)}")
    return stages
