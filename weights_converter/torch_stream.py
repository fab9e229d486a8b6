"""torch.save from 2017 to version 1.5: five pickles one after the other, then the numbers.

    magic number, 1001      which say that torch wrote this
    sys_info                sizes of C's types on the machine that wrote it; nothing depends on them
    the pickled object      tensors as views of storages
    list of keys            of the storages, in the order in which they follow

For each key there are the count of numbers in eight bytes and then the numbers, least significant byte first.
"""

from __future__ import annotations

import os
from functools import partial
from typing import BinaryIO

from numpy import ndarray as Array

from weights_converter.torch_tape import Tape
from weights_converter.torch_tensors import (
    MAX_PICKLE, OLD_CALLS, Storage, array_of, check_claims, named_views, storage_of,
)

MAGIC = 0x1950A86A20F9469CFC6C
MAGIC_PICKLE = b"\x80\2\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."  # with which the file starts
VERSION = 1001


def read(file: BinaryIO) -> dict[str, Array]:
    """The tensors by name. Raises ValueError with the reason."""
    tape = Tape(file, 0, file.seek(0, os.SEEK_END))
    if tape.pickle() != MAGIC or tape.pickle() != VERSION:
        raise ValueError(f"expected the magic number of a torch file and version {VERSION} of the container")
    tape.pickle()  # sys_info
    start = tape.at
    storages: dict[str, Storage] = {}
    tree = tape.pickle(MAX_PICKLE, OLD_CALLS, partial(storage_of, storages))
    views = named_views(tree, budget=tape.at - start)
    check_claims(views, tape.end)
    numbers = {key: numbers_of(storages[key], tape) for key in checked_keys(tape.pickle(MAX_PICKLE), storages)}
    tape.finish()
    return {name: array_of(view, numbers[view.storage.key]) for name, view in views.items()}


def checked_keys(keys: object, storages: dict[str, Storage]) -> list[str]:
    """The list of keys, if it has the key of each storage once."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("expected a list of the keys of the storages after the pickled object")
    if len(set(keys)) < len(keys):
        raise ValueError("the list of storages names one of them twice")
    different = sorted(set(keys) ^ storages.keys())
    if different:
        raise ValueError(f"storage {different[0][:80]!r} is in the list of storages or in the pickle, but not in both")
    return keys


def numbers_of(storage: Storage, tape: Tape) -> Array:
    """The numbers of a storage, as many as the pickle has said."""
    found, numbers = tape.storage(storage.key, storage.dtype)
    if found != storage:
        raise ValueError(f"storage {storage.key[:80]!r} should hold {storage.count} numbers, but has {found.count}")
    return numbers
