"""A residual network for answers alone: batch norm becomes part of the convolution before it.

In eval mode batch norm multiplies and adds constants, and so does a convolution:

    weight / std * (conv(x) - mean) + bias  =  conv'(x) + bias',    conv' with weights * (weight / std)

What is left, bias, addition and ReLU, is done to each tile of y while it is in the cache.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self, overload

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import conv_finish
from tinyresnet.layers import Conv2d, Identity, Layer, Sequential
from tinyresnet.layers.fused import ConvBatchNorm, FusedBlock, block_of, in_steps
from tinyresnet.resnet import ResidualBlock, ResNet


class FoldedConv2d(Conv2d):
    """y = relu(conv(x) + bias + skip), in one pass; the ReLU only where the network had one.

    Shapes: x (N, H, W, C), skip and y (N, P, Q, O).
    """

    param_names = ()  # nothing to train

    def __init__(self, step: ConvBatchNorm):
        Layer.__init__(self)
        conv, bn, relu = step
        scale = bn.weight / np.sqrt(bn.running_var.astype(np.float64) + bn.eps)  # (O,)
        self._weight = (conv.weight * scale).astype(conv.weight.dtype)
        self.bias = (bn.bias - bn.running_mean * scale).astype(conv.weight.dtype)
        self.stride, self.padding, self.relu = conv.stride, conv.padding, relu is not None
        self.prepared: dict[str, Array] = {}  # the weights as a kernel wants them

    @property
    def weight(self) -> Array:  # type: ignore[override]
        """(K, K, C, O), not to be changed: kernels have their own copies."""
        weight = self._weight.view()
        weight.flags.writeable = False
        return weight

    def __getstate__(self) -> dict:
        """Without what was prepared, which may suit this machine's BLAS only."""
        return vars(self) | {"prepared": {}}

    def forward(self, x: Array, *, skip: Array | None = None) -> Array:
        self.check(x)
        return conv_finish(x, self._weight, self.stride, self.padding, self.bias, skip, self.relu, self.prepared)

    def backward(self, dy: Array) -> Array:
        raise RuntimeError("a folded network gives answers only; train the one that it was made from")


class FoldedAway(Identity):
    """Where a batch norm or a ReLU was that now is part of the convolution before it."""


class FoldedBlock(Layer):
    """A residual block whose addition is part of its last convolution."""

    def __init__(self, block: FusedBlock):
        super().__init__()
        self.convs = [FoldedConv2d(step) for step in block.steps]
        self.downsample = folded(block.downsample)

    def forward(self, x: Array) -> Array:
        y = x
        for conv in self.convs[:-1]:
            y = conv.forward(y)
        last = self.convs[-1]
        skip, shape = self.downsample.forward(x), last.output_shape(y.shape)
        return last.forward(y, skip=skip if skip.shape == shape else np.broadcast_to(skip, shape))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for conv in self.convs:
            shape = conv.output_shape(shape)
        return shape

    def children(self) -> list[tuple[str, Layer]]:
        return [*((f"conv{number}", conv) for number, conv in enumerate(self.convs, 1)), *super().children()]

    backward = FoldedConv2d.backward


class FoldedResNet(ResNet):
    """What `fold_batch_norm` makes of a ResNet; stages have the names they had, those that were folded away do nothing."""

    def __init__(self, model: ResNet):
        Layer.__init__(self)
        vars(self).update(vars(folded(model)))
        self.config, self.classes, self.origin = copy.deepcopy((model.config, model.classes, model.origin))

    def part(self, *, after: str | None = None, to: str | None = None) -> Sequential:
        """As of every ResNet; raises ValueError where the cut would lie inside a convolution with folded batch norm."""
        stages = [name for name, _ in self.children()]
        for name in (after, to):
            if name in stages[:-1] and isinstance(getattr(self, stages[stages.index(name) + 1]), FoldedAway):
                raise ValueError(f"{name} and the stage after it are one in a folded network; cut the one it was made from")
        return super().part(after=after, to=to)

    def backward(self, dlogits: Array, *, to: str | None = None) -> Array:
        raise RuntimeError("a folded network gives answers only; train the one that it was made from")

    def astype(self, dtype) -> Self:
        raise ValueError("convert the network that this folded one was made from, and fold it again")

    def state_dict(self) -> dict[str, Array]:
        raise ValueError("a folded network cannot be saved; save the one that it was made from")


@overload
def fold_batch_norm(model: ResNet) -> FoldedResNet: ...
@overload
def fold_batch_norm(model: Layer) -> Layer: ...


def fold_batch_norm(model):
    """A copy of a network, or of a part of one, for inference: the same numbers but for rounding, and faster.

    Layers that are not tinyresnet's own, and blocks that hold one, are copied as they are. Later changes of the model
    do not reach the copy.
    """
    plain = isinstance(model, ResNet) and runs(model, Sequential.forward)
    result = FoldedResNet(model).eval() if plain else folded(model)
    result.forget()
    return result


def runs(layer: Layer, forward: Callable) -> bool:
    """Whether the layer's forward is this one, replaced neither in its class nor on itself."""
    return type(layer).forward is forward and "forward" not in vars(layer)


def folded(layer: Layer) -> Layer:
    """An eval-mode copy in which each convolution without a bias and the batch norm after it are one FoldedConv2d."""
    if isinstance(layer, ResidualBlock) and runs(layer, ResidualBlock.forward):
        block = block_of(layer.branch, layer.relu, layer.downsample)
        return FoldedBlock(block).eval() if block else copy.deepcopy(layer).eval()
    if not runs(layer, Sequential.forward):
        return copy.deepcopy(layer).eval()
    result = copy.copy(layer)
    names = iter([name for name, _ in layer.children()])
    for step in in_steps(part for _, part in layer.children()):
        if isinstance(step, ConvBatchNorm):
            setattr(result, next(names), FoldedConv2d(step))
            for _ in filter(None, step[1:]):  # batch norm and ReLU
                setattr(result, next(names), FoldedAway())
        else:
            setattr(result, next(names), folded(step))
    return result.eval()
