"""Forked processes: children and parents compute what they always do, whatever other threads were at."""

import multiprocessing
import threading

import pytest
from test_kernels import numba_only
from test_start import PACKAGE, start
from test_threads import fingerprint

from tinyresnet.kernels import threads

FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def here():
    return fingerprint()


def told(queue):
    queue.put(fingerprint())


def told_by_a_child():
    """The fingerprint that a forked child computes."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=told, args=(queue,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0, "the child hangs" if child.is_alive() else f"the child ended with {child.exitcode}"
    return queue.get()


@FORK
def test_a_forked_child_computes_the_same_bits(here):
    assert told_by_a_child() == here


@FORK
def test_a_child_that_is_forked_while_a_kernel_runs_computes_the_same_bits(here):
    inside, leave = threading.Event(), threading.Event()

    def kernel(first, last):
        inside.set()
        assert leave.wait(60)

    thread = threading.Thread(target=threads.launch, args=(kernel, 1))
    thread.start()
    try:
        assert inside.wait(10)
        assert told_by_a_child() == here
    finally:
        leave.set()
        thread.join()


@FORK
@numba_only
def test_a_child_that_is_forked_while_a_kernel_is_compiled_is_not_stuck(tmp_path):
    program = ("import os, threading, numpy as np, tinyresnet.kernels as kernels\n"
               "from numba.core import event\n"
               "compiling = threading.Event()\n"
               "class Listener(event.Listener):\n"
               "    def on_start(self, started): compiling.set()\n"
               "    def on_end(self, ended): pass\n"
               "event.register('numba:compile', Listener())\n"
               "x, weight = np.ones((2, 20, 20, 8), np.float32), np.ones((3, 3, 8, 8), np.float32)\n"
               "thread = threading.Thread(target=kernels.conv_forward, args=(x, weight, 1, 1))\n"
               "thread.start()\n"
               "assert compiling.wait(60)\n"
               "child = os.fork()\n"
               "if child == 0:\n"
               "    os._exit(int(kernels.relu(np.float32([-1, 3]))[1]))\n"
               "thread.join()\n"
               "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))")
    run = start(program, PACKAGE.parent, NUMBA_CACHE_DIR=str(tmp_path), timeout=120)
    assert run.stdout == "3\n", run.stderr


@FORK
def test_the_parent_computes_the_same_bits_after_a_fork(here):
    told_by_a_child()
    assert fingerprint() == here
