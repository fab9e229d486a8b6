"""Published weights in, arrays by name out. The format is what the bytes say, never what the suffix says."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from numpy import ndarray as Array

from tinyresnet.stored_zip import read_directory
from tinyresnet.weights import naming, read_npz, refuse_foreign
from weights_converter import caffe, hdf5, onnx, safetensors, torch_stream, torch_tar, torch_zip
from weights_converter.wire import message_of, present

PROTOBUF = (b"\x08", b"\x0a", b"\x12", b"\x1a", b"\x3a", b"\xa2\x06")  # the tag of a field that may come first


def read_tensors(path: str | Path) -> dict[str, Array]:
    """All arrays of the file by name, in the layout they are stored in; names are nested keys joined by dots.

    float16 and bfloat16 become float32, all else stays. Arrays share memory where the file's tensors do. No code from
    the file runs. Raises WeightsFileError naming the file and the reason for everything that is not a file of weights.
    """
    with open(path, "rb") as file, naming(path):
        refuse_foreign(file)
        return read_by_content(file)


def read_graph(path: str | Path) -> onnx.Graph:
    """What an ONNX file says beside its weights, as onnx.graph_facts gives it; {} for every other format.

    Raises WeightsFileError naming the file if it is damaged.
    """
    with open(path, "rb") as file, naming(path):
        head = file.read(512)
        protobuf = head.startswith(PROTOBUF) and not is_safetensors(head)
        if protobuf and onnx.GRAPH in present(message_of(file), onnx.GRAPH):
            return onnx.graph_facts(file)
    return {}


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins so: its table's length in 8 bytes, of which the last is 0, and a brace.

    Protobuf may have the same brace, behind a text; of a length of 2^56 or more the reader says what is wrong with it.
    """
    return head[8:9] == b"{" and (head[7] == 0 or not head.startswith(PROTOBUF))


def read_by_content(file: BinaryIO) -> dict[str, Array]:
    """As read_tensors, from an open file: tell the formats apart and call the reader. Raises ValueError."""
    file.seek(0)
    head = file.read(512)
    if is_safetensors(head):  # first, because its length may be any number: one in 32 begins as a pickle does
        return safetensors.read(file)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return read_zip(file)
    if head[257:262] == b"ustar":
        return torch_tar.read(file)
    if head.startswith(torch_stream.MAGIC_PICKLE):
        return torch_stream.read(file)
    if head.startswith(b"\x80"):
        raise ValueError("is a bare Python pickle, a program and not weights; save the arrays with np.savez")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return hdf5.read(file)
    if head.startswith(PROTOBUF):
        return read_protobuf(file)
    raise ValueError(f"is of no known format; it starts with {head[:16]!r}")


def read_zip(file: BinaryIO) -> dict[str, Array]:
    """The arrays of a zip file, which is torch's or NumPy's."""
    entries = read_directory(file)
    if torch_zip.is_torch(entries):
        return torch_zip.read(file, entries)
    if any(name.endswith(".npy") for name in entries):
        return read_npz(file)[0]
    first = ", ".join(map(repr, list(entries)[:3]))
    raise ValueError(f"is a zip file, but neither torch's nor NumPy's; it holds {first or 'nothing'}")


def read_protobuf(file: BinaryIO) -> dict[str, Array]:
    """The arrays of a protobuf message, which does not say what it is: ONNX has a graph in field 7, Caffe a flag there."""
    found = present(message_of(file), onnx.GRAPH, *caffe.LAYERS)
    if onnx.GRAPH in found:
        return onnx.read(file)
    if found:
        return caffe.read(file)
    raise ValueError("is perhaps protobuf, but neither ONNX, with a graph in field 7, nor Caffe, with layers in 100 or 2")
