"""A stretch of a file in which pickles and raw numbers take turns, as in torch's containers before version 1.6.

None of them says how long it is. Where a pickle ends only its last instruction knows, and there the next thing begins:
so a tape is read forward, from where the last thing ended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from numpy import ndarray as Array

from tinyresnet.files import read_bytes
from weights_converter.torch_tensors import Storage, elements, is_count
from weights_converter.unpickle import Calls, run

SMALL_PICKLE = 1_000  # bytes; a pickle of a number, a name and its key, a few facts


def no_persistent_ids(_persistent_id: object) -> object:
    raise ValueError("a pickle refers to a storage or a tensor where only names and numbers belong")


class Tape:
    """The bytes of a file from `at` to `end`; what is read must lie there."""

    def __init__(self, file: BinaryIO, at: int, end: int):
        self.file, self.at, self.end = file, at, end

    def pickle(self, limit: int = SMALL_PICKLE, calls: Calls | None = None,
               persistent: Callable[[object], object] = no_persistent_ids) -> Any:
        """What the next pickle builds, which takes at most `limit` bytes. See `unpickle.run`."""
        self.file.seek(self.at)
        code = self.file.read(min(limit, self.end - self.at))
        value, length = run(code, calls or {}, persistent)
        self.at += length
        return value

    def part(self, size: int) -> Tape:
        """The next bytes as a tape of their own."""
        if size > self.end - self.at:
            raise ValueError(f"the file is cut or damaged: expected {size} bytes at byte {self.at}, "
                             f"but there are {self.end - self.at}")
        self.at += size
        return Tape(self.file, self.at - size, self.at)

    def raw(self, size: int) -> Array:
        """The next bytes, as (size,) uint8."""
        return read_bytes(self.file, self.part(size).at, size)

    def integers(self, layout: str) -> tuple[int, ...]:
        """The next whole numbers, laid out as `struct` describes it."""
        return struct.unpack(layout, self.raw(struct.calcsize(layout)).data)

    def storage(self, key: str, dtype: str) -> tuple[Storage, Array]:
        """The next storage: eight bytes with the count of its numbers, then the numbers, lowest byte first."""
        (count,) = self.integers("<q")
        if not is_count(count):
            raise ValueError(f"storage {key[:80]!r} claims to have {count} numbers")
        storage = Storage(key, dtype, count)
        return storage, elements(self.raw(count * storage.itemsize), storage, "<")

    def finish(self) -> None:
        """Refuse bytes that are left over."""
        if self.at != self.end:
            raise ValueError(f"expected an end at byte {self.at}, but {self.end - self.at} bytes follow")
