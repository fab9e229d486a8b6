"""Which residual network are these arrays? Names and shapes tell, as torchvision gives them (layer1.0.conv1.weight)."""

from __future__ import annotations

import re
from typing import NamedTuple

from numpy import ndarray as Array

from tinyresnet.resnet import DEPTHS, ResNet

Shapes = dict[str, tuple[int, ...]]

WRAPPED = re.compile(r"((?:(?:state_dict|model|module)\.)*)conv1\.weight")  # what training scripts put before the names
UNUSED = ".num_batches_tracked"  # counts batches for a running mean without momentum, which no ResNet uses


class Network(NamedTuple):
    """What names and shapes tell of a network."""

    name: str  # of tinyresnet.resnet.DEPTHS
    width: int
    num_classes: int

    def thin(self) -> ResNet:
        """The same with one class, and one channel in the place of every `width`: quick to build whatever a file says."""
        return ResNet(*DEPTHS[self.name], 1, width=1)

    def __str__(self) -> str:
        return self.name.replace("resnet", "ResNet-")


def unwrap(tensors: dict[str, Array]) -> dict[str, Array]:
    """The arrays of the network under their own names: no wrappers, no optimiser's state, no counters of batches."""
    prefixes = [match[1] for name in tensors if (match := WRAPPED.fullmatch(name))]
    if len(prefixes) > 1:
        raise ValueError(f"holds {len(prefixes)} networks, under {prefixes[0]!r} and {prefixes[1]!r}; save one alone")
    prefix = prefixes[0] if prefixes else ""
    return {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix) and not name.endswith(UNUSED)
    }


def recognise(arrays: dict[str, Array]) -> Network:
    """The network whose names and shapes these are, in torch's layout, after `unwrap`.

    Raises ValueError with the first names that differ from the network that has most names in common.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    width = shapes.get("bn1.weight", (64,))[:1]
    num_classes = shapes.get("fc.weight", (1000,))[:1]
    if not (width and num_classes):
        raise ValueError("is of no residual network: bn1.weight or fc.weight is a single number")
    candidates = [Network(name, *width, *num_classes) for name in DEPTHS]
    nearest = min(candidates, key=lambda network: len(expected_shapes(network).keys() ^ shapes.keys()))
    found = differences(shapes, expected_shapes(nearest))
    if found:
        raise ValueError(f"is of no network known here; to {nearest}, the nearest, it has {found}")
    return nearest


def differences(shapes: Shapes, expected: Shapes) -> str:
    """What distinguishes the two, with the first names of each kind; "" if nothing does."""
    kinds = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected],
        "of another shape": [
            f"{name} {shapes[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ],
    }
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for kind, names in kinds.items()
        if names
    )


def expected_shapes(network: Network) -> Shapes:
    """Names and shapes of the network's arrays in torch's layout: convolutions (O, C, K, K), linear (out, in).

    All numbers of channels are multiples of the width, but for the image's three and the classes.
    """
    shapes: Shapes = {}
    for name, array in network.thin().state_dict().items():
        *kernel, into, out = (1, *array.shape)  # of the thin network, (K, K, C, O) or (in, out)
        into = 3 if name == "conv1.weight" else into * network.width
        out = network.num_classes if name.startswith("fc.") else out * network.width
        shapes[name] = (out,) if array.ndim == 1 else (out, into, *kernel[1:])
    return shapes
