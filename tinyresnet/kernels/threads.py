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
from queue import SimpleQueue

from tinyresnet.kernels.jit import BLAS, KERNELS

if KERNELS == "numba":
    from numba.core.compiler_lock import global_compiler_lock

LAUNCH = threading.Lock()
MOST = 512  # threads
PIECES = 8  # a thread: few cost little, many let a thread that was held up do less


def launch(kernel: Callable, tiles: int, *args) -> None:
    """Call kernel(first, last, *args) for all tiles from 0 on, on all threads."""
    if tiles == 0:
        return
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
    """Take one piece after the other, together with the helpers; return when nobody works on one any more."""
    offers, number = helpers()
    step = max(1, tiles // (PIECES * (number + 1)))
    pieces = iter(range(0, tiles, step))

    def work() -> None:
        for first in pieces:
            kernel(first, min(tiles, first + step), *args)

    offered = [Offer(work) for _ in range(number)]
    try:
        try:
            for offer in offered:
                offers.put(offer)
            work()
        finally:
            settle(offered)
    except BaseException:  # on the way into settle, too, the handler of a signal may raise what it likes
        settle(offered)
        raise
    for offer in offered:
        if offer.error is not None:
            raise offer.error


class Offer:
    """Work that a helper may join, if the one who offers it has not finished it alone by then."""

    def __init__(self, work: Callable[[], None]):
        self.work = work
        self.taken_by: dict[str, str] = {}
        self.done = threading.Event()
        self.error: BaseException | None = None

    def is_for(self, who: str) -> bool:
        """Whether this one asked first; asking again gives the same answer."""
        return self.taken_by.setdefault("first", who) == who

    def join(self) -> None:
        """Work until nothing is left, and say so."""
        try:
            self.work()
        except BaseException as error:  # raised again where the kernel was launched
            self.error = error
        self.close()

    def close(self) -> None:
        """Let go of the arrays that the work is about."""
        self.work = lambda: None
        self.done.set()


def settle(offered: list[Offer]) -> None:
    """Withdraw what no helper has taken, and wait for those who have: they write to our arrays. Ctrl-C waits, too."""
    try:
        for offer in offered:
            if offer.is_for("caller"):
                offer.close()
            offer.done.wait()
    except BaseException:
        settle(offered)
        raise


def help_out(offers: SimpleQueue[Offer]) -> None:
    """What a helper does all its life: sleep until there is an offer, and join."""
    while True:
        offer = offers.get()
        if offer.is_for("helper"):
            offer.join()
        del offer  # and with it the arrays, should the kernel have failed


@functools.cache
def helpers() -> tuple[SimpleQueue[Offer], int]:
    """A thread for every core but the caller's, started at the first call."""
    return start_helpers(number_of_threads() - 1)


def start_helpers(number: int) -> tuple[SimpleQueue[Offer], int]:
    """So many threads; returns where they look for work, and how many they are."""
    offers: SimpleQueue[Offer] = SimpleQueue()
    for _ in range(number):
        threading.Thread(target=help_out, args=(offers,), name="tinyresnet", daemon=True).start()
    return offers, number


def number_of_threads() -> int:
    """What TINYRESNET_NUM_THREADS says, else the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = os.environ.get("TINYRESNET_NUM_THREADS", str(min(cores, MOST)))
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(f"TINYRESNET_NUM_THREADS must be a number from 1 to {MOST}, got {text!r}")
    return int(text)


def after_fork() -> None:
    """A forked child has none of its parent's threads, and nobody who would unlock what they had locked."""
    global LAUNCH
    LAUNCH = threading.Lock()
    helpers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)
    if KERNELS == "numba":  # a fork waits for the end of a compilation, whose lock the child could never take
        os.register_at_fork(before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release,
                            after_in_child=global_compiler_lock.release)
