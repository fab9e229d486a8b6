"""Weights on disk: an .npz of arrays by name, and beside them the facts that no shape can tell.

An .npz is a zip of .npy files, each an array behind one line of text that says its dtype and shape. Ours are never
compressed and never pickled: a pickle is a program, and whoever loads it runs it (weights_converter/unpickle.py shows
how). np.load reads them too; our own reader checks every size before it reserves memory, because weights come from
strangers.

    save_weights(model, "resnet50.npz")
    model = load_model("resnet50.npz")
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import ndarray as Array

from tinyresnet.files import replacing
from tinyresnet.layers.base import Layer, LoadReport
from tinyresnet.resnet import ResNet
from tinyresnet.stored_zip import read_directory, read_entry

FACTS = "facts.json"  # entry beside the arrays
SILENT = ("stride_in_1x1", "eps", "caffe_pool", "keras_pool")  # facts that change the result and no shape
LATER = {"keras_pool": False, "cifar_stem": False, "option_a": False}  # what earlier files mean, which do not have them
MAX_FACTS = 1 << 20  # bytes; a thousand class names take 20,000
MAX_REASON = 800  # characters
MAX_HEADER = 10_000  # bytes; NumPy's own limit
MAX_DIMENSIONS = 32
MAX_SIDE = 1 << 31  # longest side of an array: only an empty one can claim more, for free

# The first line of a .npy file, exactly as NumPy writes it, and for numbers only.
NPY_HEADER = re.compile(
    r"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]|c8|c16))', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n"
)

FOREIGN = (  # first bytes of what people have in hand instead, and what to tell them
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"<!doctype html", "is an HTML page, not weights; the download was answered by a web page"),
    (b"<html", "is an HTML page, not weights; the download was answered by a web page"),
    (b"<?xml", "is an XML document, not weights; the download was answered by an error message"),
    (b"\x1f\x8b\x08", "is compressed with gzip; decompress it first"),
    (b"\x93numpy", "is a single .npy array without a name; save it with np.savez"),
)


class WeightsFileError(ValueError):
    """A file that holds no usable weights; the message names the file and the reason."""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn a ValueError inside into a WeightsFileError that names the file, once.

    What a reason quotes comes from the file: it is cut, and a terminal will not obey it.
    """
    try:
        yield
    except WeightsFileError:
        raise
    except ValueError as error:
        reason = str(error)[:MAX_REASON]
        raise WeightsFileError(f"{path}: {reason if reason.isprintable() else ascii(reason)[1:-1]}") from error


def save_weights(model: ResNet, path: str | Path) -> None:
    """Write the model's arrays and facts, as `load_weights` and `load_model` read them."""
    write_arrays(path, model.state_dict(), model.facts())


def load_weights(model: Layer, path: str | Path, *, strict: bool = True) -> LoadReport:
    """Load the file's arrays and facts into the model, and switch it to eval mode; with strict=False only what fits.

    Raises WeightsFileError, before anything is changed, with the first names that differ, or if the model differs in a
    fact that changes the result and no shape.
    """
    arrays, facts = read_arrays(path)
    with naming(path):
        if isinstance(model, ResNet) and facts:
            check_facts(facts, arrays)
            stored = LATER | facts["config"]
            unlike = [f"{name}={stored.get(name)}" for name in SILENT if stored.get(name) != model.config[name]]
            if unlike:
                raise ValueError(f"is of a network with {', '.join(unlike)}; build yours so, or use load_model")
        report = model.load_state_dict(arrays, strict=strict)
        if isinstance(model, ResNet) and facts:
            model.adopt(facts)
    model.eval()
    return report


def load_model(path: str | Path) -> ResNet:
    """Build the network that the file's facts describe, load its arrays, and return it in eval mode.

    Raises WeightsFileError if the facts describe no network, or another one than the arrays.
    """
    arrays, facts = read_arrays(path)
    with naming(path):
        check_facts(facts, arrays)
        model = ResNet.from_facts(facts)
        model.load_state_dict(arrays)
    model.eval()
    return model


def check_facts(facts: dict, arrays: dict[str, Array]) -> None:
    """Raise ValueError if the facts describe no network, or one larger than the arrays, which could take all memory."""
    config = facts.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("depths"), list):
        raise ValueError(f"has no network's facts in {FACTS}; use load_weights with a model that you built")
    numbers = [config.get("width"), config.get("num_classes"), *config["depths"]]
    if not all(type(number) is int and 0 < number < MAX_SIDE for number in numbers):
        raise ValueError(f"expected positive whole numbers as width, num_classes and depths, got {str(numbers)[:80]}")
    width, num_classes, *depths = numbers
    fewest = width * num_classes + sum(depth * 9 * (width << min(stage, 64)) ** 2 for stage, depth in enumerate(depths))
    present = sum(array.size for array in arrays.values())  # fewest: the 3x3 convolutions and a part of fc
    if fewest > present:
        raise ValueError(f"the facts describe a network of at least {fewest} numbers, the arrays hold {present}")
    if type(config.get("eps")) not in (int, float) or not 0 <= config["eps"] < 1:
        raise ValueError(f"the facts do not describe a ResNet: expected eps within 0..1, got {str(config.get('eps'))[:80]}")
    flags = [(LATER | config).get(name) for name in ("stride_in_1x1", "caffe_pool", *LATER)]
    classes = facts.get("classes")
    if facts.get("network") != "ResNet" or not all(type(flag) is bool for flag in flags):
        raise ValueError(f"the facts do not describe a ResNet: network {str(facts.get('network'))[:80]!r}, flags {flags}")
    named = isinstance(classes, list) and len(classes) == num_classes and all(
        isinstance(name, str) and name.isprintable() for name in classes)  # a terminal obeys some that are not
    if classes is not None and not named:
        raise ValueError(f"expected the names of {num_classes} classes, or null, got {ascii(classes)[:80]}")


def write_arrays(path: str | Path, arrays: dict[str, Array], facts: dict) -> None:
    """Write arrays by name, and facts as JSON beside them. Same arrays and facts, same bytes.

    Raises ValueError for an array that does not hold numbers, TypeError for facts that JSON cannot hold.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in "biufc":
            raise ValueError(f"expected numbers, got array {name!r} of dtype {np.asarray(array).dtype}")
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: the time of writing would change the bytes
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
        archive.writestr(zipfile.ZipInfo(FACTS), text)


def read_arrays(path: str | Path) -> tuple[dict[str, Array], dict]:
    """Arrays by name, and the facts ({} where there are none, as in a file of np.savez).

    Raises WeightsFileError for everything else than an uncompressed .npz of numbers.
    """
    with open(path, "rb") as file, naming(path):
        refuse_foreign(file)
        return read_npz(file)


def refuse_foreign(file: BinaryIO) -> None:
    """Raise ValueError that says what the file is, if it is empty or one of the things saved by mistake."""
    file.seek(0)
    head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        raise ValueError("is empty")
    for signature, reason in FOREIGN:
        if head.startswith(signature):
            raise ValueError(reason)


def read_npz(file: BinaryIO) -> tuple[dict[str, Array], dict]:
    """As read_arrays, from an open file. Raises ValueError with the reason."""
    file.seek(0)
    if file.read(4) != b"PK\3\4":
        raise ValueError("is not an .npz file: expected it to start with PK\\3\\4; other formats go through "
                         "`python -m weights_converter`")
    entries = read_directory(file)
    if FACTS in entries and entries[FACTS].size > MAX_FACTS:
        raise ValueError(f"expected at most {MAX_FACTS} bytes of {FACTS}, got {entries[FACTS].size}")
    arrays = {}
    for name in entries:
        if name.endswith(".npy"):
            arrays[name.removesuffix(".npy")] = parse_npy(read_entry(file, entries, name), name)
        elif name != FACTS:
            raise ValueError(f"expected .npy arrays and {FACTS}, found {name!r}; if these are weights of another "
                             "library, convert them: python -m weights_converter convert IN OUT.npz")
    facts = parse_facts(read_entry(file, entries, FACTS).tobytes()) if FACTS in entries else {}
    return arrays, facts


def parse_npy(data: Array, name: str) -> Array:
    """The array in the bytes of a .npy file; it is a view of them, not a copy, if its bytes are in native order.

    Format: numpy.lib.format, versions 1 (2 bytes for the length of the header) and 2 (4 bytes).
    """
    head = data[:12].tobytes()
    if not head.startswith((b"\x93NUMPY\1\0", b"\x93NUMPY\2\0")):
        raise ValueError(f"{name!r} is not a .npy array of version 1 or 2")
    width = 2 if head[6] == 1 else 4
    start = 8 + width + int.from_bytes(head[8:8 + width], "little")
    header = data[8 + width:min(start, MAX_HEADER)].tobytes().decode("latin-1")
    match = NPY_HEADER.fullmatch(header)
    if not match or start > min(data.size, MAX_HEADER):
        raise ValueError(f"{name!r} is not an array of numbers, its header says {header[:120]!r}")
    dtype = np.dtype(match[1])
    shape = tuple(int(size) for size in match[3].split(",") if size.strip())
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{name!r} has {len(shape)} sides, expected at most {MAX_DIMENSIONS}")
    if prod(shape) * dtype.itemsize != data.size - start or max(shape, default=0) > MAX_SIDE:
        raise ValueError(f"{name!r} should hold {dtype} of shape ({match[3][:100]}), but has {data.size - start} bytes")
    flat = data[start:].view(dtype)
    array = flat.reshape(shape[::-1]).T if match[2] == "True" else flat.reshape(shape)
    return np.require(array, dtype.newbyteorder("="), ["C", "ALIGNED"])


def parse_facts(text: bytes) -> dict:
    """The facts in the bytes of the JSON entry."""
    try:
        facts = json.loads(text)
    except RecursionError:
        raise ValueError(f"{FACTS} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{FACTS} is not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"expected {FACTS} to hold an object, got a {type(facts).__name__}")
    return facts
