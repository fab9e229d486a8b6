"""From a published file to an .npz that `tinyresnet.load_model` reads: names, layout, batch norms, checks, facts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.weights import WeightsFileError, naming, read_arrays, write_arrays
from weights_converter.catalogue import of_hash
from weights_converter.facts import facts_of
from weights_converter.names import Found, recognise, unwrap
from weights_converter.networks import CIFAR, Network, expected_shapes, thin_state
from weights_converter.onnx import Graph
from weights_converter.read import is_safetensors, read_graph, read_tensors
from weights_converter.schemes import TIMM, TORCHVISION


PIXELS_VARY = 0.25  # standard deviation of photographs, where black is 0 and white is 1
MUCH = 100  # times the variance expected; for pixels from 0 to 255 it is 3700


class Summary(NamedTuple):
    """What was converted."""

    network: Network
    scheme: str  # whose names the arrays had
    facts: dict  # as ResNet.facts gives them
    changes: list[str]  # what was done beside renaming and transposing, and what was guessed
    arrays: int
    parameters: int  # numbers that training changes; running statistics not counted
    sha256: str  # of the published file

    def __str__(self) -> str:
        changes = "".join(f"; {change}" for change in self.changes)
        return (f"{describe(self.network, self.facts['config'])}: {self.arrays} arrays, {self.parameters:,} parameters; "
                f"{input_in_words(self.facts['preprocessing'])}; names as in {self.scheme}{changes}; "
                f"source sha256 {self.sha256[:16]}...")

    def as_dict(self) -> dict[str, Any]:
        """The same for machines, in JSON's types and under keys that stay:

        network: as in torchvision, "resnet50".   missing: parts that the file has not, ["layer4", "fc"].
        scheme: whose names the arrays had.       changes: what was done beside renaming and transposing, or guessed.
        config, preprocessing: the facts.         arrays, parameters: their numbers.   sha256: of the file.
        """
        return {"network": self.network.name, "missing": self.network.missing, "scheme": self.scheme,
                "config": self.facts["config"], "preprocessing": self.facts["preprocessing"], "changes": self.changes,
                "arrays": self.arrays, "parameters": self.parameters, "sha256": self.sha256}


def convert(path: str | Path, out: str | Path, *, partial: bool = False) -> Summary:
    """Write the network in the file `path` to `out`, an .npz in tinyresnet's layout.

    partial: take also a network whose head, or last stages and head, are missing. `out` then holds the stages that are
    there, and in the place of the head one class whose weights are zeros: model.features works, and model.replace_head
    gives it a head to train. What is missing is kept in model.origin["missing"].
    Raises WeightsFileError naming `path` and the reason if it holds no residual network with usable numbers; then `out`
    is as it was before.
    """
    if Path(out).suffix != ".npz":
        raise ValueError(f"expected the output to end in .npz, got {str(out)!r}")
    with naming(path):
        if own_facts(path):
            raise ValueError("is tinyresnet's own file, nothing is left to convert; read it with tinyresnet.load_model")
        arrays, summary = translate(path, read_tensors(path), partial=partial)
    write_arrays(out, arrays, summary.facts)
    return summary


def translate(path: str | Path, tensors: dict[str, Array], *, partial: bool) -> tuple[dict[str, Array], Summary]:
    """The arrays of `convert`, from those that `path` holds, which are taken out of `tensors`, and the summary.

    Raises ValueError with the reason.
    """
    graph = read_graph(path)
    own, rest = unwrap(tensors)
    found = recognise(prepared(own, graph), partial=partial)
    tensors.clear()  # every array is let go as soon as it is copied
    own.clear()
    if found.scheme.pattern is TORCHVISION and found.network.name not in CIFAR:
        with open(path, "rb") as file:
            found = found._replace(scheme=TIMM) if is_safetensors(file.read(9)) else found
    sha256 = sha256_of(path)
    facts = facts_of(found, graph, {"file": Path(path).name, "sha256": sha256})
    arrays, changes = in_our_terms(found)
    check_scale(arrays, facts["preprocessing"]["std"])
    changes += guesses(found, sha256) + ([f"left out {len(rest)} arrays, such as {rest[0][:80]}"] if rest else [])
    parameters = sum(array.size for name, array in arrays.items() if "running_" not in name)
    summary = Summary(found.network, found.scheme.title, facts, changes, len(arrays), parameters, sha256)
    return arrays | headless(found.network), summary


def prepared(tensors: dict[str, Array], graph: Graph) -> dict[str, Array]:
    """The network's arrays. A graph has whole numbers beside them, such as shapes, and may transpose the head."""
    if not graph:
        return tensors
    heads = {name for name, node in graph["Gemm"].items() if not node["transB"]}
    return {name: array.T if name in heads else array for name, array in tensors.items() if array.dtype.kind == "f"}


def own_facts(path: str | Path) -> dict:
    """The facts in a file that tinyresnet wrote; {} in every other."""
    try:
        return read_arrays(path)[1]
    except WeightsFileError:
        return {}


# -- arrays ---------------------------------------------------------------------------------------------------------


def in_our_terms(found: Found) -> tuple[dict[str, Array], list[str]]:
    """The network's arrays as tinyresnet keeps them, in its order, and what was changed to get there."""
    changes = []
    arrays = found.arrays
    if found.scheme.bgr:
        arrays["conv1.weight"] = arrays["conv1.weight"][:, ::-1]  # (O, C, K, K): blue, green, red -> red, green, blue
        changes.append("input turned from BGR to RGB")
    if found.scheme.mean_image:
        changes.append("mean image replaced by its channels' means")
    for name in list(arrays):
        arrays[name] = in_our_layout(name, arrays[name])
    changes += fold(arrays)
    return {name: arrays[name] for name in expected_shapes(found.network)}, changes


def guesses(found: Found, sha256: str) -> list[str]:
    """What names under which many publish do not tell, in words; of a file in the catalogue everything is known."""
    if found.scheme.pattern is not TORCHVISION or of_hash(sha256):
        return []
    if found.network.name in CIFAR:
        return ["a guess: ImageNet's mean and deviation, and of ten classes the names of CIFAR-10"]
    whose = "timm's training a1, and no variant with blur" if found.scheme is TIMM else "torchvision's V1"
    return [f"a guess: the input of {whose}"]


def check_scale(arrays: dict[str, Array], std: tuple[float, float, float]) -> None:
    """Raise ValueError if the first batch norm remembers an input far larger than the facts say.

    Behind the first convolution numbers vary by about what pixels do times its weights: in published networks by 0.8 to
    1.7 times. Under torchvision's names there are Caffe's weights, too, for pixels from 0 to 255: by 3700 times.
    """
    with np.errstate(all="ignore"):
        varies = np.nanmedian(arrays["bn1.running_var"] / (arrays["conv1.weight"]**2).sum(axis=(0, 1, 2)))
    expected = (PIXELS_VARY / np.mean(std))**2
    if varies > MUCH * expected:
        raise ValueError(f"its first batch norm remembers an input {np.sqrt(varies / expected):.0f} times as large as that "
                         "of networks with these names: perhaps Caffe's weights, for pixels from 0 to 255; their colours, "
                         "strides and pooling no name tells; convert the .caffemodel they come from")


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


def fold(arrays: dict[str, Array]) -> list[str]:
    """Let batch norms take over Caffe's factors and the biases of convolutions; the words for it.

    Caffe keeps sums, mean = running_mean / factor, and the same for the variance; a factor of 0 means that both are 0.
    A batch norm takes the mean away from what the convolution gives, x + bias - mean = x - (mean - bias).
    """
    factors = [name for name in arrays if name.endswith(".factor")]
    for name in factors:
        factor = float(arrays.pop(name)[0])
        for statistic in ("running_mean", "running_var"):
            target = name.replace("factor", statistic)
            arrays[target] = in_our_layout(target, arrays[target].astype(np.float64) / factor if factor else
                                           np.zeros_like(arrays[target]))
    biases = [name for name in arrays if name.endswith(("downsample.0.bias", "conv1.bias", "conv2.bias", "conv3.bias"))]
    for name in biases:
        target = name.replace("downsample.0", "downsample.1").replace("conv", "bn").replace("bias", "running_mean")
        arrays[target] = in_our_layout(target, arrays[target].astype(np.float64) - arrays.pop(name))
    done = {"batch-norm factors divided out": factors, "convolution biases folded into running means": biases}
    return [f"{words} ({len(names)})" for words, names in done.items() if names]


def headless(network: Network) -> dict[str, Array]:
    """In the place of a head that is missing, one of zeros for one class: it says nothing, and shows it."""
    if network.num_classes:
        return {}
    channels = len(thin_state(network._replace(width=1))["fc.weight"]) * network.width
    return {"fc.weight": np.zeros((channels, 1), np.float32), "fc.bias": np.zeros(1, np.float32)}


# -- words ----------------------------------------------------------------------------------------------------------


def describe(network: Network, config: dict) -> str:
    """The network and its variant in a few words."""
    stride = "v1 (stride on the first 1x1)" if config["stride_in_1x1"] else "v1.5 (stride on the 3x3)"
    parts = [
        str(network),
        stride if network.body == 3 else "",
        f"option {'A' if network.option_a else 'B'}" if network.name in CIFAR else "",
        "Caffe's pooling" if config["caffe_pool"] else "unpadded pooling" if config["keras_pool"] else "",
        f"epsilon {config['eps']}" if config["eps"] != 1e-5 else "",
        f"width {network.width}" if network.width != (16 if network.name in CIFAR else 64) else "",
        f"{network.num_classes} classes" if network.num_classes else "",
        f"without {' and '.join(network.missing)}" if network.missing else "",
    ]
    return ", ".join(filter(None, parts))


def input_in_words(preprocessing: dict) -> str:
    """What an image goes through, in a few words."""
    size, numbers = preprocessing["resize"], {name: preprocessing[name] for name in ("mean", "std")}
    return ", ".join([f"input resized to {size} ({preprocessing['interpolation']})", f"cropped to {preprocessing['crop']}",
                      *(f"{name} {' '.join(f'{value:.4g}' for value in values)}" for name, values in numbers.items())])


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
