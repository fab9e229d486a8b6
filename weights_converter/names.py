"""Which residual network are these arrays? Names and shapes tell, as torchvision gives them (layer1.0.conv1.weight)."""

from __future__ import annotations

import re
from typing import NamedTuple

from numpy import ndarray as Array

Shapes = dict[str, tuple[int, ...]]

NETWORKS = {
    "ResNet-18": ("BasicBlock", (2, 2, 2, 2)),
    "ResNet-34": ("BasicBlock", (3, 4, 6, 3)),
    "ResNet-50": ("Bottleneck", (3, 4, 6, 3)),
    "ResNet-101": ("Bottleneck", (3, 4, 23, 3)),
    "ResNet-152": ("Bottleneck", (3, 8, 36, 3)),
}  # He et al. 2015, table 1

EXPANSION = {"BasicBlock": 1, "Bottleneck": 4}  # channels out of a block per channel inside
WRAPPED = re.compile(r"((?:(?:state_dict|model|module)\.)*)conv1\.weight")  # what training scripts put before the names
UNUSED = ".num_batches_tracked"  # counts batches for a running mean without momentum, which no ResNet uses


class Network(NamedTuple):
    """What names and shapes tell of a network."""

    name: str
    block: str
    depths: tuple[int, ...]
    width: int
    num_classes: int


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
    candidates = [Network(name, *NETWORKS[name], *width, *num_classes) for name in NETWORKS]
    nearest = min(candidates, key=lambda network: len(expected_shapes(network).keys() ^ shapes.keys()))
    found = differences(shapes, expected_shapes(nearest))
    if found:
        raise ValueError(f"is of no network known here; to {nearest.name}, the nearest, it has {found}")
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
    """Names and shapes of the network's arrays in torch's layout: convolutions (O, C, K, K), linear (out, in)."""
    shapes = conv_shapes("conv1", network.width, 3, 7) | norm_shapes("bn1", network.width)
    channels = network.width
    for stage, depth in enumerate(network.depths):
        inside = network.width * 2**stage
        outside = inside * EXPANSION[network.block]
        for number in range(depth):
            block = f"layer{stage + 1}.{number}"
            shapes |= block_shapes(network.block, block, channels, inside, outside)
            if number == 0 and (stage > 0 or channels != outside):  # stride 2 or more channels: no identity fits
                shapes |= conv_shapes(f"{block}.downsample.0", outside, channels, 1)
                shapes |= norm_shapes(f"{block}.downsample.1", outside)
            channels = outside
    return shapes | {"fc.weight": (network.num_classes, channels), "fc.bias": (network.num_classes,)}


def block_shapes(kind: str, name: str, channels: int, inside: int, outside: int) -> Shapes:
    """The convolutions and norms of a block's branch."""
    if kind == "BasicBlock":
        convs = [(inside, channels, 3), (outside, inside, 3)]
    else:
        convs = [(inside, channels, 1), (inside, inside, 3), (outside, inside, 1)]
    shapes: Shapes = {}
    for number, (out, into, kernel) in enumerate(convs, start=1):
        shapes |= conv_shapes(f"{name}.conv{number}", out, into, kernel) | norm_shapes(f"{name}.bn{number}", out)
    return shapes


def conv_shapes(name: str, out: int, into: int, kernel: int) -> Shapes:
    """A convolution without bias."""
    return {f"{name}.weight": (out, into, kernel, kernel)}


def norm_shapes(name: str, channels: int) -> Shapes:
    """A batch norm with its running statistics."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
