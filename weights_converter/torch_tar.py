"""torch.save before 2017: a tar archive of four files, in which pickles and raw numbers take turns.

    sys_info    sizes of C's types on the machine that wrote it; nothing depends on them
    pickle      the pickled object; a tensor in it is a persistent id, its key as a string
    tensors     count; for each tensor (key, storage's key, type), then the number of sides, sizes, strides, offset
    storages    count; for each storage (key, location, type), then the count of numbers, and the numbers;
                at last a list of storages that are parts of others, (key, other's key, offset, count)

A key is the address that the object had in memory. A tar archive is a row of blocks of 512 bytes: a header with name,
size in octal digits and checksum, the file padded to whole blocks, the next header; two blocks of zeros end it. Before
each file stands a header of kind "x", whose data say that it was written at a fraction of a second ("PAX" records).

Python's tarfile reads much more: links, names that lead elsewhere, records that override name and size, files with
holes. Here nothing is unpacked, and all of that is refused. Layout: POSIX.1-2001, pax, "ustar Interchange Format".
"""

from __future__ import annotations

import os
import re
import struct
from functools import partial
from typing import BinaryIO

from numpy import ndarray as Array

from tinyresnet.weights import MAX_DIMENSIONS
from weights_converter.torch_tape import Tape
from weights_converter.torch_tensors import (
    DTYPES, MAX_PICKLE, MAX_TENSORS, OLD_CALLS, Storage, View, array_of, check_claims, checked_view, is_count, named_views,
)
from weights_converter.unpickle import Calls, Global

BLOCK = 512
RECORD = 20 * BLOCK  # to a multiple of which the archive is padded with zeros
HEADER = struct.Struct("<100s24x12s12x8sc100s8s80x155s12x")  # name, size, checksum, kind, link, magic, prefix
FILES = ("sys_info", "pickle", "tensors", "storages")
NAMES = ", ".join(FILES)
HARMLESS = re.compile(rb"(\d{1,3}) (?:mtime|uid|gid|uname|gname)=[^\n]*\n")  # a PAX record, starting with its length

TYPES: Calls = {
    Global(module, name.replace("Storage", kind)): None
    for module in ("torch", "torch.cuda") for name in DTYPES for kind in ("Storage", "Tensor")
}


def read(file: BinaryIO) -> dict[str, Array]:
    """The tensors by name. Raises ValueError with the reason."""
    files = read_archive(file)
    storages, numbers = read_storages(files["storages"])
    tensors = read_tensors(files["tensors"], storages)
    tape = files["pickle"]
    start = tape.at
    tree = tape.pickle(MAX_PICKLE, OLD_CALLS, partial(tensor_of, tensors))
    tape.finish()
    views = named_views(tree, budget=tape.at - start)
    check_claims(views, file.seek(0, os.SEEK_END))
    return {name: array_of(view, numbers[view.storage.key]) for name, view in views.items()}


# -- the archive ----------------------------------------------------------------------------------------------------


def read_archive(file: BinaryIO) -> dict[str, Tape]:
    """The four files by name."""
    tape = Tape(file, 0, file.seek(0, os.SEEK_END))
    files: dict[str, Tape] = {}
    while (block := tape.raw(BLOCK)).any():
        name, kind, size = parse_header(block)
        if kind == b"x" and size <= BLOCK:
            check_records(tape.raw(size).tobytes())
        elif kind == b"0" and name in FILES and name not in files:
            files[name] = tape.part(size)
        else:
            raise ValueError(f"expected {NAMES} in the tar archive, each once and a plain file, got {name[:80]!r}")
        tape.part(-size % BLOCK)  # padding
    if len(files) < len(FILES):
        raise ValueError(f"expected {NAMES} in the tar archive, found {', '.join(sorted(files)) or 'none of them'}")
    if not BLOCK <= tape.end - tape.at <= RECORD or tape.raw(tape.end - tape.at).any():
        raise ValueError(f"expected the tar archive to end at byte {tape.at} with zeros: it is cut, or goes on")
    return files


def parse_header(block: Array) -> tuple[str, bytes, int]:
    """Name, kind and size that a header claims for what follows it."""
    name, size, checksum, kind, link, magic, prefix = HEADER.unpack(block.data)
    sum_of_bytes = int(block.sum()) - sum(checksum) + len(checksum) * ord(" ")  # of the header without its checksum
    if magic != b"ustar\x0000" or octal(checksum) != sum_of_bytes:
        raise ValueError("a header in the tar archive is damaged, or of another kind than torch's")
    if any(link) or any(prefix):
        raise ValueError(f"the tar archive has a link or a long path to {name[:80]!r}")
    return name.rstrip(b"\0").decode("ascii", "backslashreplace"), kind, octal(size)


def octal(field: bytes) -> int:
    """The number in a field of a header."""
    digits = field.rstrip(b"\0 ")
    if not re.fullmatch(b"[0-7]+", digits):
        raise ValueError(f"expected octal digits in a header of the tar archive, got {field!r}")
    return int(digits, 8)


def check_records(records: bytes) -> None:
    """Refuse PAX records that say anything of a file but when it was written and by whom."""
    for record in records.splitlines(keepends=True):
        match = HARMLESS.fullmatch(record)
        if not match or int(match[1]) != len(record):
            raise ValueError(f"the tar archive has the record {record[:80]!r}, which overrides a header or is damaged")


# -- storages and tensors -------------------------------------------------------------------------------------------


def read_storages(tape: Tape) -> tuple[dict[str, Storage], dict[str, Array]]:
    """The storages by key, and the numbers of those that are no part of another."""
    storages: dict[str, Storage] = {}
    numbers: dict[str, Array] = {}
    for _ in range(checked_count(tape)):
        match tape.pickle(calls=TYPES):
            case (int() as key, str(), Global(_, name)) if name in DTYPES and str(key) not in storages:
                storages[str(key)], numbers[str(key)] = tape.storage(str(key), DTYPES[name])
            case _:
                raise ValueError("expected a storage's key, used once, its location and type")
    parts = tape.pickle(MAX_PICKLE)
    if type(parts) is not list:
        raise ValueError("expected a list of parts after the storages")
    for part in parts:
        match part:
            case (int() as key, int() as whole, offset, count) if str(whole) in storages and str(key) not in storages:
                storages[str(key)] = storages[str(whole)].part(offset, count)
            case _:
                raise ValueError("expected a part of a storage as (key, used once, other's key, offset, count)")
    tape.finish()
    return storages, numbers


def read_tensors(tape: Tape, storages: dict[str, Storage]) -> dict[str, View]:
    """The tensors by key."""
    tensors: dict[str, View] = {}
    for _ in range(checked_count(tape)):
        match tape.pickle(calls=TYPES):
            case (int() as key, int() as storage, Global()) if str(storage) in storages and str(key) not in tensors:
                tensors[str(key)] = read_view(tape, storages[str(storage)])
            case _:
                raise ValueError("expected a tensor's key, used once, the key of a storage that is there, and a type")
    tape.finish()
    return tensors


def read_view(tape: Tape, storage: Storage) -> View:
    """A tensor's geometry: int32 number of sides, 4 bytes without meaning, then int64 sizes, strides and offset."""
    (sides,) = tape.integers("<i4x")
    if not 0 <= sides <= MAX_DIMENSIONS:
        raise ValueError(f"expected a tensor of 0 to {MAX_DIMENSIONS} sides, got {sides}")
    *numbers, offset = tape.integers(f"<{2 * sides + 1}q")
    return checked_view(storage, offset, tuple(numbers[:sides]), tuple(numbers[sides:]))


def checked_count(tape: Tape) -> int:
    """The number of storages or tensors that follow."""
    count = tape.pickle()
    if not is_count(count) or count > MAX_TENSORS:
        raise ValueError(f"expected a number of tensors and storages of at most {MAX_TENSORS}")
    return count


def tensor_of(tensors: dict[str, View], persistent_id: object) -> View:
    """The tensor of this key."""
    if type(persistent_id) is not str or persistent_id not in tensors:
        raise ValueError("expected the key of a tensor as persistent id, got another, as of a whole module")
    return tensors[persistent_id]
