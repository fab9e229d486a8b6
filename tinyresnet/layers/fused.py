"""Convolution, batch norm, addition and ReLU together, with fewer passes over memory than one after the other.

    z = conv(x) with the sums for batch norm,    y = relu(bn(z) + skip) in one pass

Nothing else differs: what backward needs is saved in the same layers, gradients and running statistics are theirs. Only
the library's own layers are run together, so that a layer of yours in their place is really called.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import conv_forward, conv_moments, normalise, pointwise_backward
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.layers.base import Later, Layer
from tinyresnet.layers.batchnorm import BatchNorm2d
from tinyresnet.layers.conv import Conv2d
from tinyresnet.layers.relu import ReLU

METHODS: dict[type[Layer], tuple] = {kind: (kind.forward, kind.backward) for kind in (Conv2d, BatchNorm2d, ReLU)}


def is_ours(layer: Layer) -> bool:
    """Whether the layer is exactly of one of the three classes, and neither its methods nor the class's were replaced."""
    kind = type(layer)
    return METHODS.get(kind) == (kind.forward, kind.backward) and not vars(layer).keys() & {"forward", "backward"}


class ConvBatchNorm(NamedTuple):
    """A convolution and its batch norm, and the ReLU after them, if there is one."""

    conv: Conv2d
    bn: BatchNorm2d
    relu: ReLU | None

    def forward(self, x: Array) -> Array:
        return self.run(x, x)[0]

    def run(self, x: Array, keep: Array | Later, *, skip: Array | None = None) -> tuple[Array, Array | Later]:
        """y = relu(bn(conv(x)) + skip), and what to keep of y for backward: relu(bn(z)) is quickly computed again.

        keep: what to keep of x.
        """
        conv, bn, relu = self
        conv.check(x)
        if bn.uses_batch:
            z, *batch = conv_moments(x, conv.weight, conv.stride, conv.padding)
        else:
            z, batch = conv_forward(x, conv.weight, conv.stride, conv.padding), None
        conv.save(keep)
        if skip is not None and skip.shape != z.shape:
            skip = np.broadcast_to(skip, z.shape)
        compute = partial(normalise, z, *bn.constants(z, batch), skip, relu is not None)
        y = compute()
        keep_y = Later(compute) if bn.uses_batch and skip is None else y
        if relu is not None:
            relu.save(keep_y)
        return y, keep_y

    def backward(self, dy: Array) -> Array:
        return self.propagate(dy)[0]

    def propagate(self, dy: Array, *, add: Array | None = None) -> tuple[Array, Array]:
        """dx + add, and the gradient of the sum bn(conv(x)) + skip."""
        conv, bn, relu = self
        dsum, second = bn.parameter_gradients(dy, relu.saved()[0] if relu is not None else None)
        if second is None or conv.frozen or (conv.weight.shape[0], conv.stride, conv.padding) != (1, 1, 0):
            return conv.propagate(bn.input_gradient(dsum, second), add=add), dsum
        dx, conv.grads["weight"] = pointwise_backward(dsum, *second, *conv.saved(), conv.weight, add)
        return dx, dsum


class FusedBlock(NamedTuple):
    """A residual block: steps one after the other, the addition before the last one's ReLU."""

    steps: list[ConvBatchNorm]
    downsample: Layer

    def forward(self, x: Array) -> Array:
        y = x
        keep: Array | Later = x
        for step in self.steps[:-1]:
            y, keep = step.run(y, keep)
        return self.steps[-1].run(y, keep, skip=self.downsample.forward(x))[0]

    def backward(self, dy: Array) -> Array:
        first, *between, last = self.steps
        dx, dsum = last.propagate(dy)  # "+" hands the same gradient to both its inputs
        for step in reversed(between):
            dx = step.backward(dx)
        return first.propagate(dx, add=self.downsample.backward(dsum))[0]  # x was used twice: its gradients add up


Step = Layer | ConvBatchNorm


def fit(conv: Conv2d, bn: BatchNorm2d) -> bool:
    """Whether the two can run together."""
    return is_ours(conv) and is_ours(bn) and not conv.has_bias and conv.weight.shape[3] == len(bn.weight)


def in_steps(layers: Iterable[Layer]) -> list[Step]:
    """The layers, those that can run together as one step."""
    steps: list[Step] = []
    rest = list(layers)
    while rest:
        match rest[:3]:
            case [Conv2d() as conv, BatchNorm2d() as bn, *after] if fit(conv, bn):
                relu = after[0] if after and isinstance(after[0], ReLU) and is_ours(after[0]) else None
                steps.append(ConvBatchNorm(conv, bn, relu))
                del rest[: 2 if relu is None else 3]
            case _:
                steps.append(rest.pop(0))
    return steps


def block_of(branch: Iterable[Layer], relu: Layer, downsample: Layer) -> FusedBlock | None:
    """A residual block in fused form; None if one of its layers is not ours or runs alone, or if it has but one step."""
    steps = [step for step in in_steps((*branch, relu)) if isinstance(step, ConvBatchNorm) and step.relu is not None]
    complete = len(steps) > 1 and sum(map(len, steps)) == len((*branch, relu))
    return FusedBlock(steps, downsample) if complete else None


def grouped(layers: Iterable[Layer]) -> list[Step]:
    """What a Sequential runs: the steps, or in reference mode each layer alone."""
    return list(layers) if KERNELS == "reference" else in_steps(layers)


def fused_block(branch: Iterable[Layer], relu: Layer, downsample: Layer) -> FusedBlock | None:
    """What a residual block runs if it can; None in reference mode."""
    return None if KERNELS == "reference" else block_of(branch, relu, downsample)
