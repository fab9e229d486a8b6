"""Threads and processes: the same bits with any number of threads, and nothing left changed behind."""

import functools
import gc
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from test_kernels import normals, numba_only
from test_start import PACKAGE, start
from threadpoolctl import ThreadpoolController, threadpool_limits

from tinyresnet import Adam, ResNet, cross_entropy
from tinyresnet.kernels import conv_backward_input, conv_forward, threads
from tinyresnet.resnet import Bottleneck


def fingerprint(seed=0):
    """Of everything that two training steps compute, in a network that is wide enough for every kernel."""
    model, digest = ResNet(Bottleneck, (1, 1), 3, width=32, rng=np.random.default_rng(seed)), sha256()
    optimizer, x = Adam(model, lr=1e-3), np.random.default_rng(seed).random((4, 65, 72, 3), np.float32)
    for _ in range(2):
        loss, dlogits = cross_entropy(model.forward(x), np.arange(4) % 3)
        dx = model.backward(dlogits)
        optimizer.step()
        for a in (dlogits, dx, *(grad for _, grad in model.named_grads()), *model.state_dict().values()):
            digest.update(a.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def here():
    return fingerprint()


@pytest.mark.parametrize("number", ["1", "2", "3", "5"])
def test_any_number_of_threads_gives_the_same_bits(number, here):
    run = start("import test_threads\nprint(test_threads.fingerprint())", Path(__file__).parent,
                TINYRESNET_NUM_THREADS=number, PYTHONPATH=str(PACKAGE.parent))
    assert run.stdout.strip() == here


def test_every_run_gives_the_same_bits(here):
    assert {fingerprint() for _ in range(5)} == {here}


@numba_only
@pytest.mark.parametrize("shape, kernel", [((5, 30, 28, 3), 1), ((7, 15, 16, 8), 3)])
def test_a_scattered_gradient_has_the_same_bits_whoever_computes_its_images(shape, kernel, monkeypatch):
    rng = np.random.default_rng(0)
    dy = rng.standard_normal((shape[0], -(-shape[1] // 2), -(-shape[2] // 2), 33), dtype=np.float32)
    weight = rng.standard_normal((kernel, kernel, shape[3], 33), dtype=np.float32)
    gradients = []
    for number in range(4):
        monkeypatch.setattr(threads, "helpers", functools.partial(lambda started: started, threads.start_helpers(number)))
        gradients.append(conv_backward_input(dy, weight, shape, 2, kernel // 2))
    assert all(np.array_equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", " 2", "513"])
def test_a_number_of_threads_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("TINYRESNET_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"TINYRESNET_NUM_THREADS must be a number from 1 to 512, got '{text}'"):
        threads.number_of_threads()


@numba_only
def test_a_wrong_number_of_threads_is_refused_when_a_kernel_is_called():
    run = start("import numpy as np, tinyresnet.kernels\ntinyresnet.kernels.relu(np.ones(200_000))", PACKAGE.parent,
                TINYRESNET_NUM_THREADS="none")
    assert run.stderr.endswith("ValueError: TINYRESNET_NUM_THREADS must be a number from 1 to 512, got 'none'\n")


def test_there_are_as_many_threads_as_were_asked_for(monkeypatch):
    monkeypatch.setenv("TINYRESNET_NUM_THREADS", "7")
    assert threads.number_of_threads() == 7


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot tell")
def test_there_are_as_many_threads_as_cores_this_process_may_use(monkeypatch):
    monkeypatch.delenv("TINYRESNET_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5})
    assert threads.number_of_threads() == 3


def blas_threads():
    return [library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kernel_leaves_the_blas_as_many_threads_as_it_had(number):
    x, weight = normals((2, 20, 20, 8), (3, 3, 8, 8))
    with threadpool_limits(number, "blas"):
        before = blas_threads()
        conv_forward(x, weight, 1, 1)
        assert blas_threads() == before and set(before) <= {1, number}


@numba_only
def test_the_blas_has_one_thread_while_a_kernel_runs():
    seen = []
    with threadpool_limits(2, "blas"):
        threads.launch(lambda first, last: seen.append(blas_threads()), 1)
    assert set(seen[0]) == {1}


@pytest.fixture
def two_workers(monkeypatch):
    """Whatever the machine has."""
    started = threads.start_helpers(2)
    monkeypatch.setattr(threads, "helpers", lambda: started)


def failing(error, by_worker, seen):
    """A kernel that ends with the error, on a worker's thread or on the caller's; the others wait until it has."""
    failed = threading.Event()

    def kernel(first, last):
        if (threading.current_thread().name == "tinyresnet") == by_worker and not failed.is_set():
            failed.set()
            raise error
        assert failed.wait(10)
        seen.extend(range(first, last))

    return kernel


ERRORS = pytest.mark.parametrize("error", [KeyError("a"), MemoryError("b"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
BY_WORKER = pytest.mark.parametrize("by_worker", [True, False], ids=["on a worker", "on the caller"])


@ERRORS
@BY_WORKER
def test_an_error_in_a_kernel_is_raised_where_it_was_launched(error, by_worker, two_workers):
    with pytest.raises(type(error)) as caught:
        threads.launch(failing(error, by_worker, []), 100)
    assert caught.value is error


@ERRORS
@BY_WORKER
def test_later_kernels_are_run_whole_after_an_error(error, by_worker, two_workers):
    done: list = []
    with pytest.raises(type(error)):
        threads.launch(failing(error, by_worker, []), 100)
    threads.launch(lambda first, last: done.extend(range(first, last)), 100)
    assert sorted(done) == [*range(100)]


@BY_WORKER
@pytest.mark.parametrize("number", [1, 3])
def test_an_error_in_a_kernel_leaves_the_blas_as_many_threads_as_it_had(number, by_worker, two_workers):
    with threadpool_limits(number, "blas"):
        before = blas_threads()
        with pytest.raises(KeyError):
            threads.launch(failing(KeyError(), by_worker, []), 100)
        assert blas_threads() == before


def test_nobody_works_on_after_a_kernel_has_failed(two_workers):
    seen: list = []
    with pytest.raises(KeyError):
        threads.launch(failing(KeyError(), False, seen), 100)
    before = len(seen)
    threads.launch(lambda first, last: None, 100)
    assert len(seen) == before


@pytest.mark.parametrize("tiles", [1, 2, 3, 11, 12, 13, 1000])
def test_every_tile_is_computed_once(tiles, two_workers):
    done: list = []
    threads.launch(lambda first, last: done.extend(range(first, last)), tiles)
    assert sorted(done) == [*range(tiles)]


def test_no_worker_holds_the_arrays_of_a_kernel_that_is_done(two_workers):
    x = np.ones(1000)
    before = sys.getrefcount(x)
    threads.launch(lambda first, last, x: None, 100, x)
    assert sys.getrefcount(x) == before


def test_a_worker_lets_go_of_the_arrays_of_a_kernel_that_failed_on_it(one_worker):
    x = np.ones(1000)
    before, fail = sys.getrefcount(x), failing(KeyError(), True, [])
    with suppress(KeyError):
        threads.launch(lambda first, last, x: fail(first, last), 100, x)
    fail = None  # and with it the error, which knows where it was raised
    deadline = time.monotonic() + 10
    while sys.getrefcount(x) > before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)  # until the worker sleeps again
    assert sys.getrefcount(x) == before


def slow_on_a_worker():
    """A kernel that a worker is still busy with when the caller has nothing left to do, and an event: it has finished."""
    inside, done = threading.Event(), threading.Event()

    def kernel(first, last):
        if threading.current_thread().name == "tinyresnet":
            inside.set()
            time.sleep(0.5)
            done.set()
        else:
            assert inside.wait(10)

    return kernel, done


@pytest.fixture
def one_worker(monkeypatch):
    started = threads.start_helpers(1)
    monkeypatch.setattr(threads, "helpers", lambda: started)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no alarm")
def test_launch_returns_after_its_worker_whatever_the_handler_of_a_signal_raises(one_worker, monkeypatch):
    def handler(*_):
        raise TimeoutError

    kernel, done = slow_on_a_worker()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeoutError):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            threads.launch(kernel, 16)
        assert done.is_set()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_launch_returns_after_its_worker_though_it_is_interrupted_on_the_way_into_waiting(one_worker, monkeypatch):
    real, interrupts = threads.settle, iter([KeyboardInterrupt])

    def settle(offered):
        for interrupt in interrupts:
            raise interrupt
        real(offered)

    kernel, done = slow_on_a_worker()
    monkeypatch.setattr(threads, "settle", settle)
    with pytest.raises(KeyboardInterrupt):
        threads.launch(kernel, 16)
    assert done.is_set()


def test_threads_with_a_model_each_compute_what_they_compute_alone():
    alone = [fingerprint(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fingerprint, range(3))) == alone
