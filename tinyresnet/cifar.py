"""The residual networks for CIFAR-10, ten classes of images of 32x32 pixels (the paper's section 4.2).

So small an image must not be made smaller at once: the stem is a 3x3 convolution of stride 1, without pooling. Three stages
of n basic blocks follow, with 16, 32 and 64 channels on 32x32, 16x16 and 8x8 pixels: with stem and head 6n + 2 layers.

Where a stage halves the image, the paper's shortcut has no parameters (option A, `layers/padded.py`): a residual network
has just as many as the plain one it is compared with. option_a=False projects (option B), as the larger networks do.
"""

from __future__ import annotations

import numpy as np

from tinyresnet.resnet import BasicBlock, ResNet

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # in CIFAR-10's order


def resnet20(num_classes: int = 10, *, width: int = 16, rng: np.random.Generator | None = None, option_a: bool = True,
             eps: float = 1e-5) -> ResNet:
    """269,722 parameters."""
    return ResNet(BasicBlock, (3, 3, 3), num_classes, width=width, rng=rng, option_a=option_a, eps=eps, cifar_stem=True)


def resnet32(num_classes: int = 10, *, width: int = 16, rng: np.random.Generator | None = None, option_a: bool = True,
             eps: float = 1e-5) -> ResNet:
    """464,154 parameters."""
    return ResNet(BasicBlock, (5, 5, 5), num_classes, width=width, rng=rng, option_a=option_a, eps=eps, cifar_stem=True)


def resnet44(num_classes: int = 10, *, width: int = 16, rng: np.random.Generator | None = None, option_a: bool = True,
             eps: float = 1e-5) -> ResNet:
    """658,586 parameters."""
    return ResNet(BasicBlock, (7, 7, 7), num_classes, width=width, rng=rng, option_a=option_a, eps=eps, cifar_stem=True)


def resnet56(num_classes: int = 10, *, width: int = 16, rng: np.random.Generator | None = None, option_a: bool = True,
             eps: float = 1e-5) -> ResNet:
    """853,018 parameters."""
    return ResNet(BasicBlock, (9, 9, 9), num_classes, width=width, rng=rng, option_a=option_a, eps=eps, cifar_stem=True)


def resnet110(num_classes: int = 10, *, width: int = 16, rng: np.random.Generator | None = None, option_a: bool = True,
              eps: float = 1e-5) -> ResNet:
    """1,727,962 parameters."""
    return ResNet(BasicBlock, (18, 18, 18), num_classes, width=width, rng=rng, option_a=option_a, eps=eps, cifar_stem=True)
