"""torch.save since version 1.6: a zip file with the pickle in one entry, and each storage in an entry of its own.

    resnet50/data.pkl       the pickled object, tensors as views of storages
    resnet50/data/0 ...     the numbers of storage "0"
    resnet50/byteorder      "little" or "big"; absent in older files, which are little
    resnet50/version        "3"

The folder's name is that of the file when it was saved, or "archive".
"""

from __future__ import annotations

import os
from functools import partial
from typing import BinaryIO, Literal

from numpy import ndarray as Array

from tinyresnet.stored_zip import Entry, read_entry
from weights_converter.torch_tensors import (
    CALLS, MAX_PICKLE, Storage, array_of, check_claims, elements, named_views, storage_of,
)
from weights_converter.unpickle import run

VERSIONS = range(1, 11)  # of the container, as torch.load accepts them
ORDERS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}


def read(file: BinaryIO, entries: dict[str, Entry]) -> dict[str, Array]:
    """The tensors by name. Raises ValueError with the reason."""
    root = root_of(entries)
    order = byte_order(file, entries, root)
    storages: dict[str, Storage] = {}
    views = named_views(*unpickled(file, entries, root, storages))
    check_claims(views, file.seek(0, os.SEEK_END))
    numbers = {
        key: elements(read_entry(file, entries, f"{root}/data/{key}"), storage, order)
        for key, storage in storages.items()
    }
    return {name: array_of(view, numbers[view.storage.key]) for name, view in views.items()}


def is_torch(entries: dict[str, Entry]) -> bool:
    """Whether a zip file with these entries was written by torch."""
    return any(name.endswith("/data.pkl") for name in entries)


def root_of(entries: dict[str, Entry]) -> str:
    """The one folder that all entries are in. Raises ValueError if there are two, or if it holds a program."""
    roots = {name.split("/")[0] for name in entries}
    root = roots.pop()
    if roots or f"{root}/data.pkl" not in entries:
        raise ValueError(f"expected one folder, with data.pkl in it, found {len(roots) + 1}, one called {root!r}")
    if f"{root}/constants.pkl" in entries or any(name.startswith(f"{root}/code/") for name in entries):
        raise ValueError("is a TorchScript program, not weights; in torch, save torch.jit.load(path).state_dict()")
    return root


def byte_order(file: BinaryIO, entries: dict[str, Entry], root: str) -> Literal["<", ">"]:
    """NumPy's sign for the order of bytes; checks the container's version first."""
    version = small_text(file, entries, f"{root}/version")
    if not version.isdecimal() or int(version) not in VERSIONS:
        raise ValueError(f"expected a container of version {VERSIONS[0]} to {VERSIONS[-1]}, got {version!r}")
    order = small_text(file, entries, f"{root}/byteorder") if f"{root}/byteorder" in entries else "little"
    if order not in ORDERS:
        raise ValueError(f"expected byte order little or big, got {order!r}")
    return ORDERS[order]


def small_text(file: BinaryIO, entries: dict[str, Entry], name: str) -> str:
    """The text of an entry of a word or a number."""
    if name in entries and entries[name].size > 20:
        raise ValueError(f"expected a word in zip entry {name!r}, got {entries[name].size} bytes")
    return read_entry(file, entries, name).tobytes().decode("ascii", "backslashreplace").strip()


def unpickled(
    file: BinaryIO, entries: dict[str, Entry], root: str, storages: dict[str, Storage]
) -> tuple[object, int]:
    """What data.pkl builds, and its length in bytes. The storages it names are entered in `storages`."""
    size = entries[f"{root}/data.pkl"].size
    if size > MAX_PICKLE:
        raise ValueError(f"expected at most {MAX_PICKLE} bytes in data.pkl, got {size}; save the state_dict alone")
    code = read_entry(file, entries, f"{root}/data.pkl").tobytes()
    tree, end = run(code, CALLS, partial(storage_of, storages))
    if end != size:
        raise ValueError(f"data.pkl goes on after its end, byte {end} of {size}")
    return tree, size
