"""What is done wrong when weights are loaded: nothing raises an error, and the network answers something else.

Each way is a small function from weights to weights, so that it can be shown (examples/wrong_weights.py) and, because
most ways undo themselves when they are done twice, also be found in a file (verify.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy import ndarray as Array

from tinyresnet.layers.base import Layer
from tinyresnet.resnet import ResNet

Way = Callable[["Weights"], "Weights"]
See = Callable[[str, Array, Array], None]


class Weights(NamedTuple):
    """What a file of weights holds: arrays by name, and the facts that no shape tells."""

    arrays: dict[str, Array]
    facts: dict

    @classmethod
    def of(cls, model: ResNet) -> Self:
        return cls(model.state_dict(), model.facts())

    def model(self) -> ResNet:
        """The network in eval mode."""
        model = ResNet.from_facts(self.facts)
        model.load_state_dict(self.arrays)
        model.eval()
        return model

    def changed(self, change: Callable[[str, Array], Array]) -> Weights:
        """With change(name, array) in the place of each array."""
        return self._replace(arrays={name: change(name, array) for name, array in self.arrays.items()})

    def saying(self, part: str, **facts) -> Weights:
        """With other facts in "config" or "preprocessing"."""
        return self._replace(facts=self.facts | {part: self.facts[part] | facts})

    @property
    def has_strides(self) -> bool:
        """Whether there is a choice where to stride: a basic block has no 1x1 convolution."""
        return self.facts["config"]["block"] == "Bottleneck"


def colours_reversed(weights: Weights) -> Weights:
    """Blue, green, red where red, green, blue is expected, as OpenCV reads pictures and Caffe's networks expect them."""
    return weights.changed(lambda name, array: array[:, :, ::-1] if name == "conv1.weight" else array)


def with_input(weights: Weights, mean: tuple[float, ...], std: tuple[float, ...]) -> Weights:
    """Another mean and scale of the pixels, where black is 0 and white is 1: std 1/255 makes them 0 to 255."""
    return weights.saying("preprocessing", mean=mean, std=std)


def not_normalised(weights: Weights) -> Weights:
    """Pixels from 0 to 1 as they are."""
    return with_input(weights, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def other_epsilon(weights: Weights) -> Weights:
    """Early Keras' epsilon 1e-3 where it is small, and the usual 1e-5 where it is that."""
    return weights.saying("config", eps=1e-3 if weights.facts["config"]["eps"] < 1e-4 else 1e-5)


def other_stride(weights: Weights) -> Weights:
    """The stride in the first 1x1 convolution (v1) where it is in the 3x3 (v1.5), and the reverse."""
    return weights.saying("config", stride_in_1x1=not weights.facts["config"]["stride_in_1x1"])


def kernels_transposed(weights: Weights) -> Weights:
    """Input and output channels exchanged wherever there are as many: elsewhere a wrong shape would tell."""
    return weights.changed(lambda name, array: array.swapaxes(2, 3) if array.ndim == 4
                           and array.shape[2] == array.shape[3] else array)


def gamma_and_beta_swapped(weights: Weights) -> Weights:
    """Scale and shift of each batch norm exchanged."""
    other = {"weight": "bias", "bias": "weight"}

    def swapped(name: str, array: Array) -> Array:
        layer, _, kind = name.rpartition(".")
        normed = f"{layer}.running_mean" in weights.arrays
        return weights.arrays[f"{layer}.{other[kind]}"] if normed and kind in other else array
    return weights.changed(swapped)


def statistics_ignored(weights: Weights) -> Weights:
    """Running means 0 and variances 1, as a new network has them: what strict=False leaves where names differ."""
    new = {"running_mean": np.zeros_like, "running_var": np.ones_like}
    return weights.changed(lambda name, array: new.get(name.rpartition(".")[2], np.asarray)(array))


@contextmanager
def watching(model: Layer, see: See) -> Iterator[None]:
    """Inside, see(name, x, y) is called whenever a layer without parts has turned x into y.

    A layer whose forward was replaced is not fused with its neighbours, so that all outputs come to be.
    """
    layers = [(name, layer) for name, layer in model.named_layers() if not layer.children()]
    for name, layer in layers:
        setattr(layer, "forward", partial(_forward, name, layer.forward, see))
    try:
        yield
    finally:
        for _, layer in layers:
            delattr(layer, "forward")


def _forward(name: str, forward: Callable[[Array], Array], see: See, x: Array) -> Array:
    y = forward(x)
    see(name, x, y)
    return y
