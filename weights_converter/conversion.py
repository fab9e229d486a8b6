"""From a published file to an .npz that `tinyresnet.weights.load_model` reads: names, layout, checks, facts."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.images import Preprocessing
from tinyresnet.weights import WeightsFileError, naming, read_arrays, write_arrays
from weights_converter.names import Network, recognise, unwrap
from weights_converter.read import read_tensors

CLASSES_FILE = Path(__file__).with_name("imagenet_classes.txt")


class Summary(NamedTuple):
    """What was converted."""

    network: Network
    arrays: int
    parameters: int  # numbers that training changes; running statistics not counted
    sha256: str  # of the published file

    def __str__(self) -> str:
        return (f"{describe(self.network)}: {self.arrays} arrays, {self.parameters:,} parameters; "
                f"source sha256 {self.sha256[:16]}...")


def convert(path: str | Path, out: str | Path, *, preprocessing: Preprocessing | None = None) -> Summary:
    """Write the network in the file `path` to `out`, an .npz in tinyresnet's layout.

    preprocessing: what its input went through, where that is known better than by the names.
    Raises WeightsFileError naming `path` and the reason if it holds no ResNet-18, 34, 50, 101 or 152 with usable
    numbers; then `out` is as it was before.
    """
    if Path(out).suffix != ".npz":
        raise ValueError(f"expected the output to end in .npz, got {str(out)!r}")
    tensors = read_tensors(path)
    with naming(path):
        if own_facts(path):
            raise ValueError("is tinyresnet's own file, nothing is left to convert; read it with tinyresnet.load_model")
        tensors = unwrap(tensors)
        network = recognise(tensors)
        arrays = {name: in_our_layout(name, tensors.pop(name)) for name in list(tensors)}  # pop: one copy at a time
    sha256 = sha256_of(path)
    facts = facts_of(network, {"file": Path(path).name, "sha256": sha256})
    write_arrays(out, arrays, facts | ({"preprocessing": asdict(preprocessing)} if preprocessing else {}))
    parameters = sum(array.size for name, array in arrays.items() if "running_" not in name)
    return Summary(network, len(arrays), parameters, sha256)


def own_facts(path: str | Path) -> dict:
    """The facts in a file that tinyresnet wrote; {} in every other."""
    try:
        return read_arrays(path)[1]
    except WeightsFileError:
        return {}


def in_our_layout(name: str, array: Array) -> Array:
    """torch's array as tinyresnet keeps it, in float32. Raises ValueError for numbers no network can work with.

    Shapes: convolutions (O, C, K, K) -> (K, K, C, O), linear (out, in) -> (in, out).
    """
    if array.dtype.kind != "f":
        raise ValueError(f"expected {name} to hold floating-point numbers, got {array.dtype}")
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)  # (K, K, C, O)
    elif array.ndim == 2:
        array = array.T  # (in, out)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which the next line reports
        array = np.require(array, np.float32, "C")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if name.endswith("running_var") and (array < 0).any():
        raise ValueError(f"{name} holds the negative variance {array.min()}")
    return array


def describe(network: Network) -> str:
    """The network in a few words."""
    stride = ", v1.5 (stride on the 3x3)" if network.thin().config["block"] == "Bottleneck" else ""
    width = f", width {network.width}" if network.width != 64 else ""
    return f"{network}{stride}{width}, {network.num_classes} classes"


def facts_of(network: Network, origin: dict[str, str]) -> dict:
    """The facts that no shape tells, for files under torchvision's names: what tinyresnet assumes, too, by itself.

    Input as for the weights that torchvision trained in 2015 to 2020 ("V1").
    """
    facts = network.thin().facts()
    facts["config"] |= {"width": network.width, "num_classes": network.num_classes}
    return facts | {"classes": imagenet_classes() if network.num_classes == 1000 else None, "origin": origin}


def imagenet_classes() -> list[str]:
    """Names of the 1000 classes, in the order of the network's outputs."""
    lines = CLASSES_FILE.read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines if not line.startswith("#")]


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
