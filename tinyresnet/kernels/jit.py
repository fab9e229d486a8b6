"""How kernels are compiled and launched, and the one switch that turns them off.

    TINYRESNET_KERNELS=reference python examples/train_ich.py

runs everything on the plain-NumPy references and never imports Numba: for reading, for debugging, for machines without
a compiler.

Two pools of threads, Numba's and the BLAS's, take the cores from each other: on two cores a small network trained
five times slower. So only Numba's is used, and while a kernel runs, the BLAS inside it has one thread; a lock lets one
kernel run at a time, because that setting is the whole process's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np

KERNELS = os.environ.get("TINYRESNET_KERNELS", "numba")
if KERNELS not in ("numba", "reference"):
    raise ValueError(f"TINYRESNET_KERNELS must be 'numba' or 'reference', got {KERNELS!r}")

if KERNELS == "numba":
    import scipy.linalg.cython_blas  # noqa: F401  np.dot in a kernel calls this BLAS, which must be loaded to be found
    from numba import njit, prange
    from threadpoolctl import ThreadpoolController

    BLAS = ThreadpoolController().select(user_api="blas").lib_controllers
else:
    prange = range  # type: ignore[misc, assignment]

LAUNCH = threading.Lock()


def faster_than(reference: Callable) -> Callable:
    """Decorate the Numba version of `reference`; in reference mode, use the reference in its place.

    Arrays are handed over C-contiguous, so that each kernel is compiled once for each dtype and not for each layout.
    """

    def decorate(function: Callable) -> Callable:
        if KERNELS == "reference":
            return reference
        compiled = njit(parallel=True, cache=True)(function)

        def kernel(*args):
            contiguous = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in args]
            with LAUNCH:
                threads = [library.num_threads for library in BLAS]
                try:
                    for library in BLAS:
                        library.set_num_threads(1)
                    return compiled(*contiguous)
                finally:
                    for library, number in zip(BLAS, threads):
                        library.set_num_threads(number)

        kernel.__name__, kernel.__doc__ = function.__name__, function.__doc__
        return kernel

    return decorate
