"""Writing a file so that it is either the old one or the new one, never half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def explain(error: Exception) -> str:
    """The message of an error for a person at the command line; an OSError's without its number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


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
