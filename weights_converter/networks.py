"""The residual networks that a file may hold: the names and shapes of their arrays, as torchvision gives them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from numpy import ndarray as Array

from tinyresnet.resnet import DEPTHS, BasicBlock, Block, ResNet

Shapes = dict[str, tuple[int, ...]]

CIFAR: dict[str, tuple[Block, tuple[int, ...]]] = {  # the paper's section 4.2
    f"resnet{6 * n + 2}": (BasicBlock, (n, n, n)) for n in (3, 5, 7, 9, 18)
}
KINDS = DEPTHS | CIFAR


class Network(NamedTuple):
    """What names and shapes tell of a network."""

    name: str  # of KINDS
    width: int
    num_classes: int  # 0 if it has no head
    option_a: bool = False  # the shortcuts have no parameters
    cut: int = 0  # stages that are missing at the end; then the head is, too

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage that is there."""
        depths = KINDS[self.name][1]
        return depths[:len(depths) - self.cut]

    @property
    def body(self) -> int:
        """Convolutions in a block, without the shortcut's."""
        return 2 if KINDS[self.name][0] is BasicBlock else 3

    @property
    def missing(self) -> list[str]:
        """The parts that are not there."""
        stages = len(KINDS[self.name][1])
        numbers = range(stages - self.cut + 1, stages + 1)
        return [*(f"layer{number}" for number in numbers), *([] if self.num_classes else ["fc"])]

    def projects(self, stage: int) -> bool:
        """Whether the first block of this stage, counted from 1, has a convolution in its shortcut."""
        return not self.option_a and (stage > 1 or self.body == 3)

    def thin(self, **facts) -> ResNet:
        """The same with one class, and one channel in the place of every `width`: quick to build whatever a file says."""
        return ResNet(KINDS[self.name][0], self.depths, 1, width=1, cifar_stem=self.name in CIFAR, option_a=self.option_a,
                      **facts)

    def __str__(self) -> str:
        return self.name.replace("resnet", "ResNet-")


def candidates(width: int, num_classes: int) -> Iterator[Network]:
    """All networks known here, of this width and number of classes."""
    for name in DEPTHS:
        yield Network(name, width, num_classes)
    for name in CIFAR:
        yield Network(name, width, num_classes, option_a=True)
        yield Network(name, width, num_classes)


def beginnings(network: Network) -> Iterator[Network]:
    """The network without its head, then without its last stage, and so on while a stage is left."""
    for cut in range(len(network.depths)):
        yield network._replace(num_classes=0, cut=cut)


@lru_cache(maxsize=256)
def expected_shapes(network: Network) -> Shapes:
    """Names and shapes of the network's arrays in torch's layout: convolutions (O, C, K, K), linear (out, in).

    All numbers of channels are multiples of the width, but for the image's three and the classes.
    """
    shapes: Shapes = {}
    for name, array in thin_state(network._replace(width=1, num_classes=1)).items():
        *kernel, into, out = (1, *array.shape)  # of the thin network, (K, K, C, O) or (in, out)
        into = 3 if name == "conv1.weight" else into * network.width
        out = network.num_classes if name.startswith("fc.") else out * network.width
        if network.num_classes or not name.startswith("fc."):
            shapes[name] = (out,) if array.ndim == 1 else (out, into, *kernel[1:])
    return shapes


@lru_cache(maxsize=256)
def thin_state(network: Network) -> dict[str, Array]:
    """The arrays of the thin network."""
    return network.thin().state_dict()


@lru_cache(maxsize=256)
def allowed_shapes(network: Network) -> Shapes:
    """The expected arrays, and what a batch norm can take over: biases of convolutions, and Caffe's factors."""
    shapes = dict(expected_shapes(network))
    for name, shape in expected_shapes(network).items():
        if len(shape) == 4:
            shapes[name.replace("weight", "bias")] = shape[:1]
        elif name.endswith("running_mean"):
            shapes[name.replace("running_mean", "factor")] = (1,)
    return shapes


def differences(shapes: Shapes, network: Network) -> str:
    """What distinguishes these from the network's, with the first names of each kind; "" if nothing does."""
    allowed = allowed_shapes(network)
    kinds = {
        "missing": [name for name in expected_shapes(network) if name not in shapes],
        "unexpected": [name for name in shapes if name not in allowed],
        "of another shape": [
            f"{name} {shapes[name]} instead of {shape}"
            for name, shape in allowed.items()
            if name in shapes and shapes[name] != shape
        ],
    }
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(name[:100] for name in names[:3])}{', ...' if len(names) > 3 else ''}"
        for kind, names in kinds.items() if names
    )
