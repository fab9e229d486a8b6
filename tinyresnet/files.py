"""Reading no more of a file than is there, and writing it so that it is the old one or the new one, never half of it."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy import ndarray as Array


def printable(value: object) -> str:
    """The value as text in which nothing but letters, signs and blanks is left: a terminal or a page obeys some others.

    A character that moves the cursor, turns the direction of reading or is none becomes the replacement sign.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def explain(error: Exception) -> str:
    """The message of an error for a person at the command line, of printable lines; an OSError's without its number."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        reason = "a file of this name is in the way" if isinstance(error, FileExistsError) else error.strerror
        message = f"{error.filename}: {reason}" if error.filename else reason
    return "\n".join(map(printable, message.split("\n")))


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


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; it takes the name of `path`, which is not there or empty, when the block
    has succeeded, and else goes with all that is in it.
    """
    path = Path(path).absolute()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.mkdir(parents=True)
    try:
        yield beside
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table, complete or as it was before."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
