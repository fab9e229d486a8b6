"""One convolution, eight ways: from the definition's loops to Winograd's method, and what each step gains.

    python examples/one_convolution.py

The layer is one of ResNet-50: 3x3, 16 images of 28x28 pixels with 128 channels, 3.7 GFLOP. Every way is checked
against float64; its error is relative to the largest output. The loops in Python are given one image of 4x4 pixels.
Loops leave the padding out, and their GFLOP/s count what they do; all others count the definition's work, which
Winograd's method does not need. docs/performance.md tells the story.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy import ndarray as Array
from threadpoolctl import ThreadpoolController

from tinyresnet.kernels import conv, im2col, memory, winograd
from tinyresnet.kernels.blas import SMALL_MATRICES, gemm, product
from tinyresnet.kernels.im2col import im2col_reference
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.windows import gather

REPEATS = 7
AWAKE = 0.2  # seconds
BLAS = ThreadpoolController()


def loops(x: Array, weight: Array) -> Array:
    """The definition in Python, one thread"""
    N, H, W, C = x.shape
    O = weight.shape[3]
    y = np.zeros((N, H, W, O), dtype=x.dtype)
    for n in range(N):
        for p in range(H):
            for q in range(W):
                for u in range(max(0, 1 - p), min(3, H + 1 - p)):
                    for v in range(max(0, 1 - q), min(3, W + 1 - q)):
                        for c in range(C):
                            for o in range(O):
                                y[n, p, q, o] += x[n, p + u - 1, q + v - 1, c] * weight[u, v, c, o]
    return y


compiled_loops = njit(loops)
compiled_loops.__doc__ = "The same lines, compiled by Numba, one thread"


def numpy_im2col(x: Array, weight: Array) -> Array:
    """The same with the product on all threads"""
    cols = im2col_reference(x, 3, 1, 1)  # (N*H*W, 9*C)
    return (cols @ weight.reshape(-1, weight.shape[3])).reshape(*x.shape[:3], -1)


def one_thread_im2col(x: Array, weight: Array) -> Array:
    """im2col: all windows side by side, one matrix product of NumPy's, one thread"""
    with BLAS.limit(limits=1, user_api="blas"):
        return numpy_im2col(x, weight)


def numba_im2col(x: Array, weight: Array) -> Array:
    """The windows gathered by a kernel, all threads"""
    return (im2col(x, 3, 1, 1) @ weight.reshape(-1, weight.shape[3])).reshape(*x.shape[:3], -1)


def tile_by_tile(x: Array, weight: Array, in_pieces: bool) -> Array:
    N, H, W, _ = x.shape
    y = memory.empty((N, H, W, weight.shape[3]), x.dtype)
    launch(tile_kernel, N * H // 8, x, weight.reshape(-1), in_pieces, y.reshape(-1, weight.shape[3]))
    return y


@njit(nogil=True)
def tile_kernel(first, last, x, weight, in_pieces, y):
    """y (N*H*W, O) of some tiles of eight rows each; weight (9*C*O,)."""
    _, H, W, C = x.shape
    O = y.shape[1]
    for tile in range(first, last):
        cols, part = gather(x, tile * 8, tile * 8 + 8, H, W, 3, 1, 1).reshape(-1), y[tile * 8 * W :].reshape(-1)
        if in_pieces:
            product(cols, 9 * C, False, weight, O, 1, part, O, 8 * W, O, 9 * C, 0)
        else:
            gemm(cols, 9 * C, False, weight, O, part, O, 8 * W, O, 9 * C, 0)


def tiles(x: Array, weight: Array) -> Array:
    """Eight rows of windows at a time, in the cache: each of all threads has a product of its own"""
    return tile_by_tile(x, weight, in_pieces=False)


def pieces(x: Array, weight: Array) -> Array:
    """Each product in pieces that OpenBLAS multiplies without packing (AVX-512), all threads"""
    return tile_by_tile(x, weight, in_pieces=True)


def winograds_method(x: Array, weight: Array) -> Array:
    """Winograd's F(4x4, 3x3), 36 multiplications instead of 144, all threads: what the library does"""
    return conv.conv_forward(x, weight, 1, 1)


WAYS: list[Callable[[Array, Array], Array]] = [
    compiled_loops, one_thread_im2col, numpy_im2col, numba_im2col, tiles, *([pieces] if SMALL_MATRICES else []),
    winograds_method]


def timed(way: Callable, x: Array, weight: Array) -> float:
    """Seconds of a call, after some that do not count.

    The threads of NumPy's BLAS, which spin for a while after a product, are given time to fall asleep; and a processor
    that has rested begins slowly.
    """
    time.sleep(0.1)
    end = time.perf_counter() + AWAKE
    way(x, weight)
    while time.perf_counter() < end:
        way(x, weight)
    begin = time.perf_counter()
    way(x, weight)
    return time.perf_counter() - begin


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each way: milliseconds, GFLOP/s, how many times as fast as the way before, largest error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(arguments)
    if KERNELS == "reference" or not winograd.ENABLED:
        parser.error("what is shown here is turned off by TINYRESNET_KERNELS=reference or TINYRESNET_WINOGRAD=0")
    x, weight = layer()
    little = x[:1, :4, :4]
    rate = flop_inside(little, weight) / timed(loops, little, weight)
    before = flop_inside(x, weight) / rate
    print(f"{'ms':>9}{'min..max':>15}{'GFLOP/s':>10}{'times':>9}{'error':>10}")
    print(f"{'':24}{rate / 1e9:10.4f}{'':9}{rounding(loops, little, weight):10.1e}   {loops.__doc__}: "
          f"the whole layer would take {before / 60:.1f} minutes", flush=True)
    rounds = [[timed(way, x, weight) for way in WAYS] for _ in range(REPEATS)]
    for way, times in zip(WAYS, zip(*rounds)):
        seconds, spread = statistics.median(times), f"{min(times) * 1e3:.1f}..{max(times) * 1e3:.1f}"
        rate = (flop_inside if way is compiled_loops else flop)(x, weight) / seconds
        print(f"{seconds * 1e3:9.1f}{spread:>15}{rate / 1e9:10.1f}{before / seconds:9.2f}{rounding(way, x, weight):10.1e}   "
              f"{way.__doc__}", flush=True)
        before = seconds
    return 0


def layer() -> tuple[Array, Array]:
    """x (N, H, W, C) as a ReLU leaves it, and weight (3, 3, C, O)."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal((16, 28, 28, 128), dtype=np.float32), 0)
    return x, rng.standard_normal((3, 3, 128, 128), dtype=np.float32)


def flop(x: Array, weight: Array) -> float:
    """Multiplications and additions of the definition, the padding counted as if it were there."""
    return 2.0 * x[..., 0].size * weight.size


def flop_inside(x: Array, weight: Array) -> float:
    """Those that the loops do: of three taps at each of H places, two in all lie in the padding."""
    N, H, W, _ = x.shape
    return 2.0 * N * (3 * H - 2) * (3 * W - 2) * weight[0, 0].size


def rounding(way: Callable, x: Array, weight: Array) -> float:
    """The largest error against float64, relative to the largest output."""
    exact = numpy_im2col(x.astype(float), weight.astype(float))
    error = np.abs(way(x, weight) - exact).max() / np.abs(exact).max()
    if not error < 3e-5:  # Winograd's; a wrong way is wrong by far more
        raise ArithmeticError(f"{way.__name__} differs from the definition by {error:.1e} of the largest output")
    return error


if __name__ == "__main__":
    sys.exit(main())
