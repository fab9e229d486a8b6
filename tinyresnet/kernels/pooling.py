"""Two ways of pooling, with their adjoints: the gradient of a maximum goes to the pixel that won, and to the first of
equals, that of an average to all."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.lib.stride_tricks import sliding_window_view

from tinyresnet.kernels.jit import compiled, expect_shapes, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.threads import launch


def pool_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool = False) -> int:
    """Number of windows along one side; Caffe's ceil rule lets the last window hang over the edge, but not begin there."""
    windows = (size + 2 * padding - kernel) // stride + 1
    if ceil_mode and (size + 2 * padding - kernel) % stride and windows * stride < size + padding:
        windows += 1
    if size + 2 * padding < kernel and windows < 1:
        raise ValueError(f"a {kernel}x{kernel} window does not fit into {size} pixels with padding {padding}")
    return windows


def maxpool_reference(x: Array, kernel: int, stride: int, padding: int, P: int, Q: int) -> tuple[Array, Array]:
    """x (N, H, W, C) -> y (N, P, Q, C) and winner (N, P, Q, C) uint8, the place u*K + v of the maximum in its window.

    Padding counts as negative infinity, NaN wins over everything.
    """
    N, H, W, C = x.shape
    below, right = ((n - 1) * stride + kernel - size - padding for n, size in ((P, H), (Q, W)))
    pads = ((0, 0), (padding, max(below, 0)), (padding, max(right, 0)), (0, 0))
    x = np.pad(x, pads, constant_values=-np.inf)
    windows = sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]  # (N, P', Q', C, K, K)
    windows = windows[:, :P, :Q].reshape(N, P, Q, C, kernel * kernel)
    winner = windows.argmax(axis=4)
    y = np.take_along_axis(windows, winner[..., None], axis=4)[..., 0]
    return y, winner.astype(np.uint8)


@faster_than(maxpool_reference)
def maxpool(x, kernel, stride, padding, P, Q):
    """Same as maxpool_reference, in one pass over x."""
    N, _, _, C = x.shape
    y, winner = empty((N, P, Q, C), x.dtype), empty((N, P, Q, C), np.uint8)
    launch(maxpool_rows, N * P, x, kernel, stride, padding, y, winner)
    return y, winner


@compiled
def maxpool_rows(first, last, x, kernel, stride, padding, y, winner):
    """The rows first..last of y (N*P)."""
    _, H, W, C = x.shape
    _, P, Q, _ = y.shape
    for row in range(first, last):
        n, p = row // P, row % P
        winner[n, p] = 0
        for q in range(Q):
            for c in range(C):
                y[n, p, q, c] = -np.inf
            for u in range(kernel):
                i = p * stride + u - padding
                for v in range(kernel):
                    j = q * stride + v - padding
                    if 0 <= i < H and 0 <= j < W:
                        for c in range(C):
                            value, best = x[n, i, j, c], y[n, p, q, c]
                            if value > best or (value != value and best == best):  # value != value: NaN
                                y[n, p, q, c] = value
                                winner[n, p, q, c] = u * kernel + v


def maxpool_backward_reference(dy: Array, winner: Array, /, shape: tuple, kernel: int, stride: int, padding: int) -> Array:
    """dy (N, P, Q, C) -> dx (N, H, W, C): each dy is added at the pixel that won its window."""
    N, H, W, C = shape
    n, p, q, c = np.unravel_index(np.arange(dy.size).reshape(dy.shape), dy.shape)
    i = p * stride + winner // kernel - padding
    j = q * stride + winner % kernel - padding
    inside = (0 <= i) & (i < H) & (0 <= j) & (j < W)  # outside: a window of nothing but -inf, won by the padding
    dx = np.zeros(shape, dtype=dy.dtype)
    np.add.at(dx, (n[inside], i[inside], j[inside], c[inside]), dy[inside])
    return dx


@faster_than(maxpool_backward_reference, places=1)
def maxpool_backward(dy, winner, /, shape, kernel, stride, padding):
    """Same as maxpool_backward_reference to the last bit: each thread owns whole rows of dx, windows in the same order."""
    expect_shapes(winner=(winner, dy.shape), dy=(dy, (shape[0], *dy.shape[1:3], shape[3])))
    dx = empty(shape, dy.dtype)
    launch(maxpool_backward_rows, shape[0] * shape[1], dy, winner, kernel, stride, padding, dx)
    return dx


@compiled
def maxpool_backward_rows(first, last, dy, winner, kernel, stride, padding, dx):
    """The rows first..last of dx (N*H), from the windows that reach into them."""
    _, H, W, C = dx.shape
    _, P, Q, _ = dy.shape
    for row in range(first, last):
        n, i = row // H, row % H
        dx[n, i] = 0
        for p in range(max(0, (i + padding - kernel) // stride), min(P, (i + padding) // stride + 1)):
            u = i + padding - p * stride
            for q in range(Q if 0 <= u < kernel else 0):
                for v in range(kernel):
                    j = q * stride + v - padding
                    if 0 <= j < W:
                        add_won(dy[n, p, q], winner[n, p, q], u * kernel + v, dx[n, i, j])


@compiled
def add_won(dy, winner, place, dx):
    """dx (C,) += dy where the winner stands at this place of the window."""
    for c in range(len(dy)):
        dx[c] += dy[c] if winner[c] == place else dy.dtype.type(0)


def global_average_reference(x: Array) -> Array:
    """x (N, H, W, C) -> y (N, C), the mean over the pixels."""
    return x.mean(axis=(1, 2))


@faster_than(global_average_reference)
def global_average(x):
    """Same as global_average_reference."""
    N, H, W, C = x.shape
    y = np.empty((N, C), x.dtype)
    launch(global_average_images, N, x.reshape(N, H * W, C), y)
    return y


@compiled
def global_average_images(first, last, x, y):
    """x (N, pixels, C); sums in float64."""
    _, pixels, C = x.shape
    sums = np.empty(C)
    for n in range(first, last):
        sums[:] = 0
        for pixel in range(pixels):
            for c in range(C):
                sums[c] += x[n, pixel, c]
        for c in range(C):
            y[n, c] = sums[c] / pixels


def global_average_backward(dy: Array, shape: tuple) -> Array:
    """dy (N, C) -> dx of this shape (N, H, W, C): every pixel had the same part in the mean. NumPy is quick enough."""
    dx = empty(shape, dy.dtype)
    dx[:] = (dy / np.array(shape[1] * shape[2], dtype=dy.dtype))[:, None, None, :]
    return dx
