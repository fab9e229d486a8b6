"""Memory for large arrays that is used again.

At its first use the operating system must find and clear each page of a fresh array. So the kernels' results lie in blocks
that come back here when the last array or view that uses them is gone, and not before: nothing that somebody holds is ever
overwritten. What that gains, and where nothing: docs/performance.md.
"""

from __future__ import annotations

import math
import os
import threading

import numpy as np
from numpy import ndarray as Array

SMALL = 1 << 16  # bytes; below, malloc is as good


class Shelf:
    """Free blocks by their size. Together with those in use they never hold more than was in use at the same time."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[Array]] = {}
        self.free, self.used, self.most_used = 0, 0, 0  # bytes
        self.unlock()

    def unlock(self) -> None:
        """A lock that nobody holds: at first, and in a forked child, where nobody would open the old one.

        The collector may call give_back in the middle of take, in the same thread: hence an RLock.
        """
        self.lock = threading.RLock()

    def take(self, size: int) -> Array:
        """A block of so many bytes."""
        with self.lock:
            if self.blocks.get(size):
                self.free -= size
                block = self.blocks[size].pop()
            else:
                self.shrink(max(0, self.most_used - self.used - size))
                block = np.empty(size, dtype=np.uint8)
            self.used += size
            self.most_used = max(self.most_used, self.used)
        return block

    def give_back(self, block: Array) -> None:
        with self.lock:
            self.used -= block.nbytes
            self.free += block.nbytes
            self.blocks.setdefault(block.nbytes, []).append(block)

    def shrink(self, limit: int) -> None:
        """Let go of free blocks, the largest first, until they hold no more than `limit` bytes."""
        for size in sorted(self.blocks, reverse=True):
            while self.free > limit and self.blocks[size]:
                self.blocks[size].pop()
                self.free -= size


SHELF = Shelf()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHELF.unlock)


class Loan:
    """What an array made by `empty` keeps alive: its block, which goes back to the shelf with the last view of it."""

    def __init__(self, size: int):
        self.block: Array | None = None  # so that there is something to give back even if there is no memory
        self.block = SHELF.take(size)
        self.__array_interface__ = self.block.__array_interface__

    def __del__(self, give_back=SHELF.give_back) -> None:  # bound now: when Python ends, names vanish first
        if self.block is not None:
            give_back(self.block)


def empty(shape: tuple[int, ...], dtype) -> Array:
    """Like np.empty, in memory that was used before where there is some."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.asarray(Loan(size)).view(dtype).reshape(shape)
