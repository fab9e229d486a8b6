"""How kernels are compiled and launched, and the one switch that turns them off.

    TINYRESNET_KERNELS=reference python examples/train_ich.py

runs everything on the plain-NumPy references and never imports Numba: for reading, for debugging, for machines without
a compiler.

Threads that wait for work by spinning take the cores from those that have some. Numba's and the BLAS's pool did so to
each other (a small network trained five times slower on two cores), and two programs did so to each other (seventeen
times). So only Numba's pool is used, its threads soon fall asleep when they wait, and while a kernel runs, the BLAS
inside it has one thread. That setting is the whole process's, so a lock lets one kernel run at a time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable

import numpy as np

KERNELS = os.environ.get("TINYRESNET_KERNELS", "numba")
if KERNELS not in ("numba", "reference"):
    raise ValueError(f"TINYRESNET_KERNELS must be 'numba' or 'reference', got {KERNELS!r}")

if KERNELS == "numba":
    import numba
    import scipy.linalg.cython_blas  # noqa: F401  np.dot in a kernel calls this BLAS, which must be loaded to be found
    from numba import njit, prange
    from threadpoolctl import ThreadpoolController

    BLAS = ThreadpoolController().select(user_api="blas").lib_controllers
else:
    prange = range  # type: ignore[misc, assignment]

LAUNCH = threading.Lock()
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"}  # GNU's: some microseconds, then sleep


@functools.cache
def launch_threads() -> None:
    """Start Numba's threads. OpenMP reads from the environment, once, how they wait; then ours is put back."""
    before = dict(os.environ)
    os.environ.update(WAITING | before)
    numba.get_num_threads()
    for name in WAITING.keys() - before.keys():
        del os.environ[name]


def compiled(function: Callable) -> Callable:
    """A part of kernels, which is compiled with them; it has no reference, because only they call it."""
    return function if KERNELS == "reference" else njit(cache=True)(function)


def faster_than(reference: Callable) -> Callable:
    """Decorate the Numba version of `reference`; in reference mode, use the reference in its place.

    Arrays are handed over C-contiguous, so that each kernel is compiled once for each dtype and not for each layout.
    """

    def decorate(function: Callable) -> Callable:
        if KERNELS == "reference":
            return reference
        parallel = njit(parallel=True, cache=True)(function)

        def kernel(*args):
            contiguous = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in args]
            with LAUNCH:
                launch_threads()
                threads = [library.num_threads for library in BLAS]
                try:
                    for library in BLAS:
                        library.set_num_threads(1)
                    return parallel(*contiguous)
                finally:
                    for library, number in zip(BLAS, threads):
                        library.set_num_threads(number)

        kernel.__name__, kernel.__doc__ = function.__name__, function.__doc__
        return kernel

    return decorate
