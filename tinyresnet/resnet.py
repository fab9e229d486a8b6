"""Residual networks (He, Zhang, Ren and Sun, arXiv:1512.03385): learn what to add to x, not what to turn x into.

A plain stack of layers must rebuild its input at every step, and a deep one fails even on its training set. A residual
block computes y = relu(x + branch(x)): with branch(x) = 0 it passes x on, so depth cannot hurt, and the "+" carries the
gradient back to the first layer undiminished.

Read from top to bottom: the block, its two kinds, the network made of them, the five published depths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy import ndarray as Array

from tinyresnet.images import CIFAR10, IMAGENET, Preprocessing
from tinyresnet.layers import (BatchNorm2d, Conv2d, GlobalAvgPool, Identity, Layer, Linear, MaxPool2d, PaddedIdentity,
                               ReLU, Sequential)
from tinyresnet.layers.fused import fused_block
from tinyresnet.summary import summary


class ResidualBlock(Layer):
    """y = relu(branch(x) + downsample(x)), whatever the branch is."""

    expansion: int  # output channels = width * expansion
    relu: Layer
    downsample: Layer

    @property
    def branch(self) -> tuple[Layer, ...]:
        """The layers between x and the addition, as they are now: replace an attribute, and it is used."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        if block := fused_block(self.branch, self.relu, self.downsample):
            return block.forward(x)  # the same with fewer passes over memory
        y = x
        for layer in self.branch:
            y = layer.forward(y)
        return self.relu.forward(y + self.downsample.forward(x))

    def backward(self, dy: Array) -> Array:
        if block := fused_block(self.branch, self.relu, self.downsample):
            return block.backward(dy)
        dsum = self.relu.backward(dy)  # "+" hands the same gradient to both its inputs
        dx = dsum
        for layer in reversed(self.branch):
            dx = layer.backward(dx)
        return dx + self.downsample.backward(dsum)  # x was used twice: its gradients add up

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.branch:
            shape = layer.output_shape(shape)
        return shape


def shortcut(in_channels: int, out_channels: int, stride: int, eps: float, rng: np.random.Generator) -> Layer:
    """The identity where x and y have the same shape; else a 1x1 convolution and a batch norm fit x to y (option B)."""
    if stride == 1 and in_channels == out_channels:
        return Identity()
    return Sequential(Conv2d(in_channels, out_channels, 1, stride=stride, rng=rng), BatchNorm2d(out_channels, eps=eps))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions: the block of ResNet-18 and 34 (the paper's figure 5, left). It has no 1x1 to stride in."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, stride_in_1x1: bool = False, eps: float = 1e-5,
                 rng: np.random.Generator | None = None):
        super().__init__()
        rng = rng or np.random.default_rng(0)
        self.conv1 = Conv2d(in_channels, width, 3, stride=stride, padding=1, rng=rng)
        self.bn1 = BatchNorm2d(width, eps=eps)
        self.relu1 = ReLU()
        self.conv2 = Conv2d(width, width, 3, padding=1, rng=rng)
        self.bn2 = BatchNorm2d(width, eps=eps)
        self.downsample = shortcut(in_channels, width * self.expansion, stride, eps, rng)
        self.relu = ReLU()

    @property
    def branch(self) -> tuple[Layer, ...]:
        return self.conv1, self.bn1, self.relu1, self.conv2, self.bn2

    def __repr__(self) -> str:
        return f"BasicBlock({self.conv1.weight.shape[2]}, {self.conv1.weight.shape[3]}, stride={self.conv1.stride})"


class Bottleneck(ResidualBlock):
    """1x1 down to `width` channels, 3x3, 1x1 up to 4 * width: the block of ResNet-50, 101 and 152 (figure 5, right).

    Where the block halves the image, the stride sits in the 3x3 convolution ("v1.5", torchvision and most newer
    weights) or, with stride_in_1x1, in the first 1x1 as published ("v1", the paper, Caffe, Keras), which passes over
    three of four pixels unseen. No shape differs: weights of the one run in the other without an error, and mislead.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, stride_in_1x1: bool = False, eps: float = 1e-5,
                 rng: np.random.Generator | None = None):
        super().__init__()
        rng = rng or np.random.default_rng(0)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Conv2d(in_channels, width, 1, stride=stride_1x1, rng=rng)
        self.bn1 = BatchNorm2d(width, eps=eps)
        self.relu1 = ReLU()
        self.conv2 = Conv2d(width, width, 3, stride=stride_3x3, padding=1, rng=rng)
        self.bn2 = BatchNorm2d(width, eps=eps)
        self.relu2 = ReLU()
        self.conv3 = Conv2d(width, width * self.expansion, 1, rng=rng)
        self.bn3 = BatchNorm2d(width * self.expansion, eps=eps)
        self.downsample = shortcut(in_channels, width * self.expansion, stride, eps, rng)
        self.relu = ReLU()

    @property
    def branch(self) -> tuple[Layer, ...]:
        return self.conv1, self.bn1, self.relu1, self.conv2, self.bn2, self.relu2, self.conv3, self.bn3

    def __repr__(self) -> str:
        stride = self.conv1.stride * self.conv2.stride
        return f"Bottleneck({self.conv1.weight.shape[2]}, {self.conv1.weight.shape[3]}, stride={stride})"


Block = type[BasicBlock] | type[Bottleneck]
BLOCKS: dict[str, Block] = {"BasicBlock": BasicBlock, "Bottleneck": Bottleneck}


class ResNet(Sequential):
    """Stem, stages of residual blocks, average, linear head: the paper's table 1, one row an attribute.

    Each stage after the first halves the image and doubles the channels. `caffe_pool` pads the stem's pooling at the
    lower right only, as Caffe does, `keras_pool` not at all, as early Keras; `cifar_stem` is a 3x3 convolution alone, for
    images of 32x32 pixels; `option_a` fits x to y with zeros where `shortcut` has a projection. The weights' facts travel
    with the network: `config` (what it is built from), `preprocessing` (what its input went through), `classes` (names, or
    None), `origin` (of the weights).

    Shapes: x (N, H, W, 3) float32, logits (N, num_classes).
    """

    layer1: Sequential
    layer2: Sequential
    layer3: Sequential
    layer4: Sequential

    def __init__(self, block: Block, depths: Sequence[int], num_classes: int = 1000, *, width: int = 64,
                 rng: np.random.Generator | None = None, stride_in_1x1: bool = False, eps: float = 1e-5,
                 caffe_pool: bool = False, keras_pool: bool = False, cifar_stem: bool = False, option_a: bool = False):
        super().__init__()
        rng = rng or np.random.default_rng(0)
        self.config: dict[str, Any] = {"block": block.__name__, "depths": list(depths), "num_classes": num_classes,
                                       "width": width, "eps": eps, "stride_in_1x1": stride_in_1x1, "option_a": option_a,
                                       "caffe_pool": caffe_pool, "keras_pool": keras_pool, "cifar_stem": cifar_stem}
        self.preprocessing = CIFAR10 if cifar_stem else IMAGENET
        self.classes: list[str] | None = None
        self.origin: str | dict = "random initialisation"
        kernel, stride = (3, 1) if cifar_stem else (7, 2)
        self.conv1 = Conv2d(3, width, kernel, stride=stride, padding=kernel // 2, rng=rng)
        self.bn1 = BatchNorm2d(width, eps=eps)
        self.relu = ReLU()
        if not cifar_stem:
            self.maxpool = MaxPool2d(3, 2, 0 if caffe_pool or keras_pool else 1, ceil_mode=caffe_pool)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(block(channels, width * 2**stage, stride=stride, stride_in_1x1=stride_in_1x1, eps=eps,
                                    rng=rng))
                into, channels = channels, width * 2**stage * block.expansion
                if option_a and (into, stride) != (channels, 1):
                    blocks[-1].downsample = PaddedIdentity(into, channels, stride=stride)  # no projection
            setattr(self, f"layer{stage + 1}", Sequential(*blocks))
        self.avgpool = GlobalAvgPool()
        self.fc = Linear(channels, num_classes, rng=rng)

    def backward(self, dlogits: Array, *, to: str | None = None) -> Array:
        """dL/dlogits -> dL/dx; with to="layer4" stop after, and return the gradient at, that stage's output.

        The layers up to there then have no gradients, not even from an earlier backward.
        """
        if to is not None:
            self.part(to=to).forget()
        return self.part(after=to).backward(dlogits)

    def part(self, *, after: str | None = None, to: str | None = None) -> Sequential:
        """The layers after `after`, up to and including `to`, as a network of their own that shares their weights."""
        names = [name for name, _ in self.children()]
        for name in (after, to):
            if name is not None and name not in names:
                raise ValueError(f"no stage is named {name!r}; there are {', '.join(names)}")
        first = 0 if after is None else names.index(after) + 1
        end = len(names) if to is None else names.index(to) + 1
        return Sequential(**dict(self.children()[first:end]))

    def features(self, x: Array, at: Sequence[str] = ("layer3", "layer4")) -> Array:
        """Averages over the image of the named stages' outputs, side by side: (N, sum of their channels)."""
        for stage in at:
            self.part(to=stage)  # raises for a name that is no stage's
        means: dict[str, Array] = {}
        after = None
        for stage in (name for name, _ in self.children() if name in at):
            x = self.part(after=after, to=stage).forward(x)
            means[stage], after = x.mean(axis=(1, 2)), stage
        return np.concatenate([means[stage] for stage in at], axis=1)

    def replace_head(self, num_classes: int, *, rng: np.random.Generator | None = None) -> None:
        """Put a new linear head in the place of `fc`; the classes' names go with the old one."""
        self.fc = Linear(len(self.fc.weight), num_classes, rng=rng).astype(self.fc.weight.dtype)
        self.fc.training, self.classes = self.training, None
        self.config["num_classes"] = num_classes

    def facts(self) -> dict:
        """What a weight file must say beside the arrays, so that the network can be built and fed from it (JSON types)."""
        return {"network": "ResNet", "config": self.config, "preprocessing": asdict(self.preprocessing),
                "classes": self.classes, "origin": self.origin}

    @classmethod
    def from_facts(cls, facts: Mapping) -> ResNet:
        """The network that `facts` describe, with random weights. Raises ValueError if they do not describe one."""
        try:
            config = dict(facts["config"])
            model = cls(BLOCKS[config.pop("block")], **config)
            model.adopt(facts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the facts do not describe a ResNet: {error!r}") from error
        return model

    def adopt(self, facts: Mapping) -> None:
        """Take over what the facts say of the weights: preprocessing, origin, and the classes if there are as many."""
        self.preprocessing, self.origin = Preprocessing(**facts["preprocessing"]), facts["origin"]
        classes = facts["classes"]
        self.classes = classes if classes and len(classes) == self.config["num_classes"] else None

    @property
    def name(self) -> str:
        """"resnet50" or "resnet20" for the published depths, else what it is built of: "BasicBlock-1-1-1-1"."""
        block, depths = self.config["block"], tuple(self.config["depths"])
        if self.config["cifar_stem"] and (block, len(depths), len(set(depths))) == ("BasicBlock", 3, 1):
            return f"resnet{6 * depths[0] + 2}"  # section 4.2
        published = [name for name, (kind, numbers) in DEPTHS.items() if (kind.__name__, numbers) == (block, depths)]
        return published[0] if published else "-".join([block, *map(str, depths)])

    def __repr__(self) -> str:
        return f"ResNet({self.name}, num_classes={self.config['num_classes']})"

    def __str__(self) -> str:
        return summary(self, self.preprocessing.size or (224, 224))


DEPTHS: dict[str, tuple[Block, tuple[int, ...]]] = {  # the paper's table 1
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


def resnet18(num_classes: int = 1000, *, width: int = 64, rng: np.random.Generator | None = None,
             stride_in_1x1: bool = False, eps: float = 1e-5, caffe_pool: bool = False) -> ResNet:
    """11,689,512 parameters."""
    return ResNet(*DEPTHS["resnet18"], num_classes, width=width, rng=rng, stride_in_1x1=stride_in_1x1, eps=eps,
                  caffe_pool=caffe_pool)


def resnet34(num_classes: int = 1000, *, width: int = 64, rng: np.random.Generator | None = None,
             stride_in_1x1: bool = False, eps: float = 1e-5, caffe_pool: bool = False) -> ResNet:
    """21,797,672 parameters."""
    return ResNet(*DEPTHS["resnet34"], num_classes, width=width, rng=rng, stride_in_1x1=stride_in_1x1, eps=eps,
                  caffe_pool=caffe_pool)


def resnet50(num_classes: int = 1000, *, width: int = 64, rng: np.random.Generator | None = None,
             stride_in_1x1: bool = False, eps: float = 1e-5, caffe_pool: bool = False) -> ResNet:
    """25,557,032 parameters."""
    return ResNet(*DEPTHS["resnet50"], num_classes, width=width, rng=rng, stride_in_1x1=stride_in_1x1, eps=eps,
                  caffe_pool=caffe_pool)


def resnet101(num_classes: int = 1000, *, width: int = 64, rng: np.random.Generator | None = None,
              stride_in_1x1: bool = False, eps: float = 1e-5, caffe_pool: bool = False) -> ResNet:
    """44,549,160 parameters."""
    return ResNet(*DEPTHS["resnet101"], num_classes, width=width, rng=rng, stride_in_1x1=stride_in_1x1, eps=eps,
                  caffe_pool=caffe_pool)


def resnet152(num_classes: int = 1000, *, width: int = 64, rng: np.random.Generator | None = None,
              stride_in_1x1: bool = False, eps: float = 1e-5, caffe_pool: bool = False) -> ResNet:
    """60,192,808 parameters."""
    return ResNet(*DEPTHS["resnet152"], num_classes, width=width, rng=rng, stride_in_1x1=stride_in_1x1, eps=eps,
                  caffe_pool=caffe_pool)


def small_resnet(num_classes: int = 2, *, depths: Sequence[int] = (1, 1, 1, 1), width: int = 16, **options) -> ResNet:
    """A network for small images, tests and lessons: basic blocks, any number of stages, any width."""
    return ResNet(BasicBlock, depths, num_classes, width=width, **options)
