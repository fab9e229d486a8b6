"""How kernels are compiled, and the one switch that turns them off.

    TINYRESNET_KERNELS=reference python examples/train_ich.py

runs everything on the plain-NumPy references and never imports Numba: for reading, for debugging, for machines without
a compiler.

A kernel is a loop over tiles, `def kernel(first, last, ...)`, and `threads.launch` shares the tiles out. Numba's own
parallel loops (prange) need three times as long to compile and cannot be used after a fork.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

KERNELS = os.environ.get("TINYRESNET_KERNELS", "numba")
if KERNELS not in ("numba", "reference"):
    raise ValueError(f"TINYRESNET_KERNELS must be 'numba' or 'reference', got {KERNELS!r}")

BLAS: list = []  # the libraries that multiply matrices, SciPy's and NumPy's
if KERNELS == "numba":
    import scipy.linalg.cython_blas  # noqa: F401  kernels call this BLAS, which must be loaded before we look for it
    from numba import njit
    from threadpoolctl import ThreadpoolController

    from tinyresnet.kernels.announce import announce_compilation

    announce_compilation()
    BLAS = ThreadpoolController().select(user_api="blas").lib_controllers

SOURCES = sorted(Path(__file__).parent.glob("*.py"))
KINDS = [library.info().get("architecture") for library in BLAS]
STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES) + repr(KINDS).encode()).digest()


def compiled(function: Callable) -> Callable:
    """Compile a kernel or a part of one; it runs without holding Python's lock, and divides as NumPy does.

    What was compiled is kept for the next start, until one of the kernels' files or the BLAS changes: Numba would only
    look at the function's own file, but its code holds that of others. Where nothing can be kept, nothing is.
    """
    if KERNELS == "reference":
        return function
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # no folder to write to
        dispatcher.enable_caching()
        cache = dispatcher._cache
        cache._cache_file._source_stamp = STAMP
        cache.load_overload = careful(cache.load_overload, otherwise=cache.flush)  # an empty index instead of a broken one
        cache.save_overload = careful(cache.save_overload)
    return dispatcher


def careful(use: Callable, otherwise: Callable = lambda: None) -> Callable:
    """Load or save a compiled function if that works: a folder may vanish, a disk be full, a file have been cut."""

    @functools.wraps(use)
    def use_or_not(*args):
        try:
            return use(*args)
        except Exception:  # whatever the remains of a file may raise
            with suppress(OSError):
                otherwise()
        return None

    return use_or_not


def faster_than(reference: Callable, *, places: int | None = None) -> Callable:
    """Decorate the fast version of `reference`; in reference mode, use the reference in its place.

    Arrays are handed over in C order and writeable, so that each kernel is compiled once for each dtype and not for
    each layout too.
    Raises ValueError unless they hold floating-point numbers of one kind.

    places: which argument, counted from 0, holds whole numbers instead.
    """

    def decorate(function: Callable) -> Callable:
        if KERNELS == "reference":
            return reference

        @functools.wraps(function)
        def kernel(*args, **options):
            numbers = *(a for number, a in enumerate(args) if number != places), *options.values()
            arrays = [a for a in numbers if isinstance(a, np.ndarray)]
            if len(dtypes := {a.dtype for a in arrays}) != 1 or dtypes.pop() not in (np.float32, np.float64):
                raise ValueError(f"{function.__name__} takes arrays of float32 or of float64, all alike, got "
                                 f"{', '.join(str(a.dtype) for a in arrays) or 'none'}")
            return function(*map(contiguous, args), **{name: contiguous(a) for name, a in options.items()})

        return kernel

    return decorate


def contiguous(a):
    """An array in C order that may be written to, for which kernels are compiled; whatever else it is, unchanged."""
    return np.require(a, requirements=["C", "W"]) if isinstance(a, np.ndarray) else a


def expect_shapes(**arrays: tuple) -> None:
    """Raise ValueError unless each array has the shape that stands beside it; a kernel would read past its end."""
    for name, (a, shape) in arrays.items():
        if a is not None and a.shape != tuple(shape):
            raise ValueError(f"expected {name} of shape {tuple(shape)}, got {a.shape}")
