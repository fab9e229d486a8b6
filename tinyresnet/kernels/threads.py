"""Which thread does what: a kernel's tiles are taken one after the other by whoever has time.

TINYRESNET_NUM_THREADS says how many threads the kernels use; without it, as many as the process has cores.

Threads that wait for work by spinning take the cores from those that have some. Numba's and the BLAS's pool did so to
each other (a small network trained five times slower on two cores), and two programs did so to each other (seventeen
times). So ours sleep while they wait, and while a kernel runs, the BLAS inside it has one thread. That setting is the
whole process's, so a lock lets one kernel run at a time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable

from tinyresnet.kernels.jit import KERNELS

if KERNELS == "numba":
    import scipy.linalg.cython_blas  # noqa: F401  gemm calls this BLAS, which must be loaded before we look for it
    from threadpoolctl import ThreadpoolController

    BLAS = ThreadpoolController().select(user_api="blas").lib_controllers
else:
    BLAS = []

LAUNCH = threading.Lock()
PIECES = 4  # a thread: few cost little, many let a thread that was held up do less


def launch(kernel: Callable, tiles: int, *args) -> None:
    """Call kernel(first, last, *args) for all tiles from 0 on, on all threads."""
    with LAUNCH:
        threads = [library.num_threads for library in BLAS]
        try:
            for library in BLAS:
                library.set_num_threads(1)
            if tiles == 1:
                kernel(0, 1, *args)
            else:
                share_out(kernel, tiles, args)
        finally:
            for library, number in zip(BLAS, threads):
                library.set_num_threads(number)


def share_out(kernel: Callable, tiles: int, args: tuple) -> None:
    helpers = start_workers()
    step = -(-tiles // (PIECES * (len(helpers) + 1)))
    pieces = iter(range(0, tiles, step))

    def work() -> None:
        for first in pieces:
            kernel(first, min(tiles, first + step), *args)

    for helper in helpers:
        helper.begin(work)
    try:
        work()
    finally:
        errors = [helper.wait() for helper in helpers]
    for error in filter(None, errors):
        raise error


class Worker(threading.Thread):
    """A thread that sleeps until it is given work."""

    def __init__(self) -> None:
        super().__init__(name="tinyresnet", daemon=True)
        self.given, self.done = threading.Lock(), threading.Lock()  # locked: nothing given, nothing done
        self.given.acquire()
        self.done.acquire()
        self.work: Callable[[], None] = lambda: None
        self.error: BaseException | None = None
        self.start()

    def begin(self, work: Callable[[], None]) -> None:
        self.work = work
        self.given.release()

    def wait(self) -> BaseException | None:
        """Until the work is done; returns the error it ended with."""
        self.done.acquire()
        return self.error

    def run(self) -> None:
        while True:
            self.given.acquire()
            try:
                self.error = None
                self.work()
            except BaseException as error:  # it is raised again where the kernel was launched
                self.error = error
            self.work = lambda: None  # lets go of the arrays
            self.done.release()


@functools.cache
def start_workers() -> list[Worker]:
    """All threads but the caller's own."""
    return [Worker() for _ in range(number_of_threads() - 1)]


def number_of_threads() -> int:
    """What TINYRESNET_NUM_THREADS says, else the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = os.environ.get("TINYRESNET_NUM_THREADS", str(cores))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"TINYRESNET_NUM_THREADS must be a positive number, got {text!r}")
    return int(text)


def after_fork() -> None:
    """A forked child has none of its parent's threads, and nobody who would unlock what they had locked."""
    global LAUNCH
    LAUNCH = threading.Lock()
    start_workers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)
