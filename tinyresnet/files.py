"""Reading no more of a file than is there, and writing it so that it is the old one or the new one, never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import ndarray as Array


def explain(error: Exception) -> str:
    """The message of an error for a person at the command line; an OSError's without its number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def read_bytes(file: BinaryIO, start: int, size: int) -> Array:
    """The bytes from `start` on, as (size,) uint8. Raises ValueError, before it reserves memory, if the file is shorter."""
    end = file.seek(0, os.SEEK_END)
    if start + size > end:
        raise ValueError(f"the file is cut: expected {size} bytes at byte {start}, it has {end}")
    data = np.empty(size, dtype=np.uint8)
    file.seek(start)
    if file.readinto(data) != size:  # type: ignore[attr-defined]
        raise ValueError("the file became shorter while it was read")
    return data


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name of `path` only when the block has succeeded.

        with replacing("results.json") as beside:
            beside.write_text(text)

    Raises OSError naming `path` when the disk is full or the folder cannot be written; `path` itself is then as before.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # keeps the suffix: matplotlib reads it
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write ({reason}); what was there before is untouched", str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
