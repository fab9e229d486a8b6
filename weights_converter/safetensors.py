"""safetensors: a table of contents in JSON, then the numbers. Nothing in it can run, by design.

    8 bytes                      length of the table, little-endian
    {"conv1.weight": {"dtype": "F32", "shape": [64, 3, 7, 7], "data_offsets": [0, 37632]}, "__metadata__": ..., ...}
    37632 bytes, ...             the numbers, little-endian, in C order; offsets count from here

What is left to check is that the tensors tile the data: where two overlap, or bytes between them belong to none, somebody
hides something. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
from typing import BinaryIO, NamedTuple

from numpy import ndarray as Array

from tinyresnet.files import read_bytes
from weights_converter.dense import add_array
from weights_converter.torch_tensors import is_count

DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bfloat16", "C64": "c8",
    "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "bool",
}

MAX_TABLE = 1 << 20  # bytes; 100 for each tensor. Three bytes of JSON may become an object of 64 bytes
METADATA = "__metadata__"  # free text of whoever wrote the file


class Tensor(NamedTuple):
    """A line of the table; start and end are bytes of the data."""

    start: int
    end: int
    dtype: str
    shape: tuple


def read(file: BinaryIO) -> dict[str, Array]:
    """The tensors by name, in the order of the table. Raises ValueError with the reason."""
    table, data_start = read_table(file)
    tensors = {name: tensor_of(name, entry) for name, entry in table.items() if name != METADATA}
    check_tiling(tensors, file.seek(0, os.SEEK_END) - data_start)
    arrays: dict[str, Array] = {}
    for name, (start, end, dtype, shape) in tensors.items():
        add_array(arrays, name, shape, dtype, read_bytes(file, data_start + start, end - start))
    return arrays


def read_table(file: BinaryIO) -> tuple[dict, int]:
    """The table of contents, and where the data begin."""
    size = int.from_bytes(read_bytes(file, 0, 8).tobytes(), "little")
    if size > MAX_TABLE:
        raise ValueError(f"expected at most {MAX_TABLE} bytes of safetensors' table, its length is given as {size}")
    text = read_bytes(file, 8, size).tobytes()
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates)
    except RecursionError:
        raise ValueError("the table of the safetensors file is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the table of the safetensors file is not sound JSON: {error}") from error
    if not isinstance(table, dict) or not table.keys() - {METADATA}:
        raise ValueError("the safetensors file holds no tensors")
    return table, 8 + size


def without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object as a dictionary. Of two equal keys, one reader would take the first, another the last."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError(f"a key is there twice, among {str(list(entries)[:5])[:200]}")
    return entries


def tensor_of(name: str, entry: object) -> Tensor:
    """The line of the table for one tensor."""
    match entry:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [start, end]}:
            if dtype not in DTYPES:
                raise ValueError(f"{name[:80]!r} is of safetensors' dtype {dtype[:80]!r}, which is not read")
            if all(map(is_count, (start, end, *shape))) and start <= end:
                return Tensor(start, end, DTYPES[dtype], tuple(shape))
    raise ValueError(f"expected a dtype, a shape and two data_offsets, all sound, for {name[:80]!r}")


def check_tiling(tensors: dict[str, Tensor], size: int) -> None:
    """Refuse tensors that do not lie one after another in `size` bytes, from the first to the last."""
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][:2]):
        if tensor.start != at:
            trouble = "a hole before" if tensor.start > at else "an overlap with"
            raise ValueError(f"there is {trouble} {name[:80]!r}: it starts at byte {tensor.start}, expected {at}")
        at = tensor.end
    if at != size:
        raise ValueError(f"the tensors take {at} bytes, but {size} follow the table: the file is cut or goes on")
