"""Which residual network are these arrays, under whose names? Names and shapes tell, never the order in the file."""

from __future__ import annotations

import re
from itertools import chain
from typing import NamedTuple

from numpy import ndarray as Array

from weights_converter.networks import (
    Network, Shapes, allowed_shapes, beginnings, candidates, differences, expected_shapes,
)
from weights_converter.schemes import SCHEMES, Scheme

WRAPPER = r"((?:(?:state_dict|model|module)\.)*)"  # what training scripts put before the names
WRAPPED = re.compile(WRAPPER + r"(?:conv[01]|(?:resnet\.)?embedder\.embedder\.convolution)\.weight|(model_weights/).*")
FIRST = re.compile(r"(?:conv1|convolution)\.weight$")  # of a network, whatever stands before it
UNUSED = ".num_batches_tracked"  # counts batches for a running mean without momentum, which no ResNet uses

FOREIGN = (  # names of networks that are not among tinyresnet's, and why
    (re.compile(r"(?:.*/)?conv2d(?:_\d+)?/kernel:0"),
     "layers have the names that Keras gives by itself (conv2d_1), which tell no places. If this is MLPerf Tiny's ResNet-8, "
     "tinyresnet cannot be it: its convolutions of stride 2 are padded below and on the right alone (TensorFlow's "
     "\"same\"), and its shortcuts have no batch norm"),
    (re.compile(r"convs\.\d+\.conv1\.weight"),
     "blocks are called convs.0, convs.1, ..., as in networks whose shortcuts average over 2x2 pixels, or that have none; "
     "tinyresnet's take every other pixel"),
    (re.compile(r"onnx::Conv_\d+"),
     "batch norms are folded into convolutions that have no names (onnx::Conv_497); export it from torch with "
     "training=TrainingMode.PRESERVE, do_constant_folding=False, dynamo=False"),
    (re.compile(r"resnetv2\d+_.*|(?:.*/)?conv\d_block\d+_preact_bn/.*"),
     "batch norms come before the convolutions (ResNet v2, pre-activation); tinyresnet's come behind them"),
)


class Found(NamedTuple):
    """A network in a file: its arrays in torch's layout and under torchvision's names, and what else they were called."""

    network: Network
    scheme: Scheme
    arrays: dict[str, Array]  # with biases and factors that batch norms can take over
    stored: dict[str, str]  # torchvision's name: the file's


def unwrap(tensors: dict[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """The arrays of the network under their own names, without wrappers and counters of batches; and what is left out,
    such as an optimiser's state. Raises ValueError if there is a second network.
    """
    prefixes = list(dict.fromkeys(match[1] or match[2] or "" for name in tensors if (match := WRAPPED.fullmatch(name))))
    if len(prefixes) > 1:
        raise ValueError(f"holds {len(prefixes)} networks, under {prefixes[0]!r} and {prefixes[1]!r}; save one alone")
    prefix = prefixes[0] if prefixes else ""
    rest = [name for name in tensors if not name.startswith(prefix)]
    if other := next(filter(FIRST.search, rest), None):
        raise ValueError(f"holds another network beside the one under {prefix!r}, with {other[:100]!r}; save one alone")
    return {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix) and not name.endswith(UNUSED)
    }, rest


def recognise(tensors: dict[str, Array], *, partial: bool = False) -> Found:
    """The network whose names and shapes these are, after `unwrap`; with `partial` also one whose end is missing.

    The scheme is the one that knows most of the names. Raises ValueError with the first names that differ from the network
    that has most names in common.
    """
    counts = [sum(map(bool, map(scheme.pattern.fullmatch, tensors))) for scheme in SCHEMES]
    if not any(counts):
        raise ValueError(f"is of no network known here{reason_in(tensors) or no_name(tensors)}")
    scheme = SCHEMES[counts.index(max(counts))]
    whole = [translated(tensors, scheme, network) for network in candidates(*sizes_of(tensors, scheme))]
    cut = (one._replace(network=network) for one in whole for network in beginnings(one.network))
    for found in chain(whole, cut):
        if not differences(shapes_of(found.arrays), found.network):
            if found.network.missing and not partial:
                raise ValueError(f"is a {found.network} without {' and '.join(found.network.missing)}; --partial, in "
                                 "Python partial=True, converts what is there")
            if found.network.name not in scheme.networks:
                raise ValueError(f"is a {found.network} under names as in {scheme.title}, which are published for "
                                 f"{', '.join(scheme.networks)} alone: what its input is, nobody says")
            return found
    raise ValueError(f"is of no network known here{reason_in(tensors) or nearest(whole)}")


def reason_in(tensors: dict[str, Array]) -> str:
    """What the names say of a network that tinyresnet has not, in words; "" if they say nothing."""
    return next((f": its {reason}" for name in tensors for pattern, reason in FOREIGN if pattern.fullmatch(name)), "")


def no_name(tensors: dict[str, Array]) -> str:
    """Words for names of which none is known."""
    first = ", ".join(repr(name[:100]) for name in list(tensors)[:2])
    return f": none of its {len(tensors)} names, {first}, ..., is a residual network's; have all a prefix to take off?"


def nearest(candidates: list[Found]) -> str:
    """Of the networks that it might have been, the one with most names in common, and what differs from it."""
    found = min(candidates, key=lambda found: len(expected_shapes(found.network).keys() ^ found.arrays.keys()))
    return f"; to {found.network}, the nearest, it has {differences(shapes_of(found.arrays), found.network)}"


def sizes_of(tensors: dict[str, Array], scheme: Scheme) -> tuple[int, int]:
    """Width and number of classes, from the batch norm of the stem and the head, which are named alike in all networks."""
    shapes = shapes_of(translated(tensors, scheme, Network("resnet18", 64, 1000)).arrays)
    width, classes = shapes.get("bn1.weight", (64,)), shapes.get("fc.weight", (1000, 512))
    if not (width and classes):
        raise ValueError("is of no residual network: bn1.weight or fc.weight is a single number")
    return width[-1], classes[-2:][0]


def translated(tensors: dict[str, Array], scheme: Scheme, network: Network) -> Found:
    """The arrays under the names they have if this is the network; one that has none, or whose name is taken, keeps its
    own, and is then unexpected.
    """
    arrays: dict[str, Array] = {}
    stored = {}
    shapes = allowed_shapes(network)
    for name, array in tensors.items():
        match = scheme.pattern.fullmatch(name)
        ours = scheme.our_name(match, network) if match else name
        ours = name if ours in arrays else ours
        if scheme.channels_last:
            array = channels_first(array)
        shape = shapes.get(ours, array.shape)
        if array.shape == (1,) * (array.ndim - len(shape)) + shape:  # Caffe's old files give four sides to everything
            array = array.reshape(shape)
        arrays[ours], stored[ours] = array, name
    return Found(network, scheme, arrays, stored)


def channels_first(array: Array) -> Array:
    """Convolutions (K, K, C, O) -> (O, C, K, K), linear (in, out) -> (out, in)."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def shapes_of(arrays: dict[str, Array]) -> Shapes:
    """The shape of each array."""
    return {name: array.shape for name, array in arrays.items()}
