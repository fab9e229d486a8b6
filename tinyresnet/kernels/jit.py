"""The one switch between the plain-NumPy references and the Numba kernels.

    TINYRESNET_KERNELS=reference python examples/train_ich.py

runs everything on the references and never imports Numba: for reading, for debugging, for machines without a compiler.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

KERNELS = os.environ.get("TINYRESNET_KERNELS", "numba")
if KERNELS not in ("numba", "reference"):
    raise ValueError(f"TINYRESNET_KERNELS must be 'numba' or 'reference', got {KERNELS!r}")

if KERNELS == "numba":
    from numba import njit, prange
else:
    prange = range


def faster_than(reference: Callable) -> Callable:
    """Decorate the Numba version of `reference`; in reference mode, use the reference in its place.

    Arrays are handed over C-contiguous, so that each kernel is compiled once for each dtype and not for each layout.
    """

    def decorate(function: Callable) -> Callable:
        if KERNELS == "reference":
            return reference
        compiled = njit(parallel=True, cache=True)(function)

        def kernel(*args):
            return compiled(*(np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in args))

        kernel.__name__, kernel.__doc__ = function.__name__, function.__doc__
        return kernel

    return decorate
