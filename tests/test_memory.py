"""Memory that is used again: never under somebody's hands, never more than was needed at once."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from test_kernels import numba_only

from tinyresnet import Adam, ResNet, cross_entropy
from tinyresnet.kernels import conv_forward, memory
from tinyresnet.kernels.memory import SMALL, Shelf, empty
from tinyresnet.resnet import Bottleneck

pytestmark = numba_only

MEGABYTE = 1 << 20


@pytest.fixture
def shelf(monkeypatch):
    """A new one, on which `empty` lays its blocks."""
    gc.collect()  # what other tests left must not come back here
    fresh = Shelf()
    monkeypatch.setattr(memory, "SHELF", fresh)
    monkeypatch.setattr(memory.Loan.__del__, "__defaults__", (fresh.give_back,))
    yield fresh
    gc.collect()


def block(megabytes=1):
    return empty((megabytes * MEGABYTE,), np.uint8)


def small_network():
    return ResNet(Bottleneck, (1, 1), 3, width=16)


def step(model, optimizer, N=4, seed=0):
    """One of training; returns what it computed, as the caller would hold it."""
    x = np.random.default_rng(seed).standard_normal((N, 64, 64, 3)).astype(np.float32)
    logits = model.forward(x)
    _, dlogits = cross_entropy(logits, np.arange(N) % 3)
    dx = model.backward(dlogits)
    held = [logits, dx, dx[:, 3:9, ::2], dx.reshape(-1)[100:200].view(np.int32), *(grad for _, grad in model.named_grads())]
    optimizer.step()
    return held


def train(steps, N=4):
    model = small_network()
    optimizer = Adam(model, lr=1e-3)
    return [step(model, optimizer, N, seed) for seed in range(steps)]


def test_nothing_that_is_held_over_many_steps_is_overwritten():
    model, held, copies = small_network(), [], []
    optimizer = Adam(model, lr=1e-3)
    for seed in range(6):
        held += step(model, optimizer, seed=seed)
        copies += [a.copy() for a in held[len(copies):]]
    for a, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(a, copy)


def test_reused_memory_gives_the_same_bits_as_fresh_memory(monkeypatch):
    reused = train(4)
    monkeypatch.setattr(memory, "SMALL", 1 << 40)  # everything is left to malloc
    for a, b in zip(sum(reused, []), sum(train(4), []), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("part", [lambda a: a, lambda a: a[100:200], lambda a: a.reshape(4, -1)[1:, ::3].T,
                                  lambda a: a.view(np.float64), lambda a: memoryview(a), lambda a: np.asarray(a)[None]])
def test_a_block_stays_while_a_part_of_it_is_held(part, shelf):
    held = part(block())
    assert (shelf.used, shelf.free) == (MEGABYTE, 0)
    del held
    assert (shelf.used, shelf.free) == (0, MEGABYTE)


def test_an_output_of_a_layer_that_is_held_is_not_given_to_the_next_call(shelf):
    x, weight = np.ones((2, 32, 32, 16), np.float32), np.ones((1, 1, 16, 16), np.float32)
    first = conv_forward(x, weight, 1, 0)
    assert not np.shares_memory(first, conv_forward(x, weight, 1, 0))


def test_the_block_of_an_output_that_nobody_holds_is_given_to_the_next_call(shelf):
    x, weight = np.ones((2, 32, 32, 16), np.float32), np.ones((1, 1, 16, 16), np.float32)
    address = conv_forward(x, weight, 1, 0).ctypes.data
    assert conv_forward(x, weight, 1, 0).ctypes.data == address


def test_arrays_that_refer_to_each_other_come_back_when_they_are_collected(shelf):
    ring = [block()]
    ring.append(ring)
    del ring
    gc.collect()
    assert (shelf.used, shelf.free) == (0, MEGABYTE)


def test_small_arrays_are_left_to_malloc(shelf):
    held = empty((SMALL - 1,), np.uint8)
    assert held.base is None and shelf.used == 0


@pytest.mark.parametrize("shape, dtype", [((3, 200, 201), np.float32), ((1, 99999), np.float64), ((70000,), np.uint8)])
def test_an_array_has_the_shape_and_dtype_that_were_asked_for(shape, dtype):
    a = empty(shape, dtype)
    assert a.shape == shape and a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable and a.flags.aligned


def test_later_steps_need_no_more_memory_than_the_third(shelf):
    model = small_network()
    optimizer, most = Adam(model, lr=1e-3), []
    for seed in range(8):
        step(model, optimizer, seed=seed)
        most.append(shelf.most_used)
        assert shelf.used + shelf.free <= shelf.most_used
    assert most[2] > MEGABYTE and most[7] == most[2]


def test_other_batch_sizes_do_not_accumulate(shelf):
    train(3, N=8)
    before = shelf.most_used
    for N in (3, 7, 5, 2, 6, 8):
        train(2, N)
    assert shelf.used + shelf.free <= before  # none of them needs more at once than 8 images


def test_the_shelf_never_holds_more_than_was_in_use_at_once(shelf):
    rng, held, most = np.random.default_rng(0), [], 0
    for _ in range(2000):
        if held and rng.random() < 0.5:
            held.pop(rng.integers(len(held)))
        else:
            held.append(empty((int(rng.integers(SMALL, 4 * SMALL)),), np.uint8))
        most = max(most, sum(a.nbytes for a in held))
        assert shelf.used == sum(a.nbytes for a in held) and shelf.used + shelf.free <= most


def test_what_lies_free_is_counted_right(shelf):
    held = [block(megabytes) for megabytes in (1, 2, 3, 1)]
    del held[1:]
    held.append(block(5))
    assert shelf.free == sum(a.nbytes for blocks in shelf.blocks.values() for a in blocks)


def in_threads(function, number=4):
    """Run function(k) in so many threads; returns what they returned, or raises what one raised."""
    answers: dict = {}

    def run(k):
        try:
            answers[k] = function(k)
        except BaseException as error:
            answers[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in (answer for answer in answers.values() if isinstance(answer, BaseException)):
        raise error
    return [answers[k] for k in range(number)]


def test_threads_never_get_the_same_block(shelf):
    def use(k):
        for _ in range(500):
            a, b = block(), block()
            a[:100], b[:100] = k, k + 100
            assert (a[:100] == k).all() and (b[:100] == k + 100).all()

    in_threads(use)


def test_threads_leave_the_books_balanced(shelf):
    in_threads(lambda k: [block(1 + (k + n) % 3) for n in range(50)] and None)
    assert shelf.used == 0 and shelf.free == sum(a.nbytes for blocks in shelf.blocks.values() for a in blocks)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_write_into_its_parents_blocks(shelf):
    held = block()
    held[:] = 7
    child = os.fork()
    if child == 0:
        held[:] = 8
        second = block()
        second[:] = 9
        os._exit(0 if (held == 8).all() else 1)
    assert os.waitpid(child, 0)[1] == 0 and (held == 7).all()


def test_the_process_does_not_grow_with_its_steps():
    program = ("import resource\n"
               "from test_memory import Adam, small_network, step\n"
               "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
               "model = small_network()\n"
               "optimizer = Adam(model, lr=1e-3)\n"
               "def train(steps):\n"
               "    for seed in range(steps):\n"
               "        step(model, optimizer, N=16, seed=seed)\n"
               "train(3)\n"
               "before = peak()\n"
               "train(60)\n"
               "print(peak() - before)")
    run = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True,
                         check=True)
    assert float(run.stdout) < 12  # megabytes; a step's gradients have 0.3, its activations 20
