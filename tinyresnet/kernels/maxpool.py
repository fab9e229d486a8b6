"""Max-pooling and its adjoint: the gradient goes to the pixel that won, and to the first of equals."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.lib.stride_tricks import sliding_window_view

from tinyresnet.kernels.jit import faster_than, prange


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
    N, H, W, C = x.shape
    y = np.empty((N, P, Q, C), dtype=x.dtype)
    winner = np.zeros((N, P, Q, C), dtype=np.uint8)
    for row in prange(N * P):
        n, p = row // P, row % P
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
    return y, winner


def maxpool_backward_reference(dy: Array, winner: Array, shape: tuple, kernel: int, stride: int, padding: int) -> Array:
    """dy (N, P, Q, C) -> dx (N, H, W, C): each dy is added at the pixel that won its window."""
    N, H, W, C = shape
    n, p, q, c = np.unravel_index(np.arange(dy.size).reshape(dy.shape), dy.shape)
    i = p * stride + winner // kernel - padding
    j = q * stride + winner % kernel - padding
    inside = (0 <= i) & (i < H) & (0 <= j) & (j < W)  # outside: a window of nothing but -inf, won by the padding
    dx = np.zeros(shape, dtype=dy.dtype)
    np.add.at(dx, (n[inside], i[inside], j[inside], c[inside]), dy[inside])
    return dx


@faster_than(maxpool_backward_reference)
def maxpool_backward(dy, winner, shape, kernel, stride, padding):
    """Same as maxpool_backward_reference to the last bit: each thread owns whole rows of dx, windows in the same order."""
    N, H, W, C = shape
    P, Q = dy.shape[1], dy.shape[2]
    dx = np.zeros((N, H, W, C), dtype=dy.dtype)
    for row in prange(N * H):
        n, i = row // H, row % H
        for p in range(max(0, (i + padding - kernel) // stride), min(P, (i + padding) // stride + 1)):
            u = i + padding - p * stride
            if 0 <= u < kernel:
                for q in range(Q):
                    for c in range(C):
                        place = winner[n, p, q, c]
                        j = q * stride + place % kernel - padding
                        if place // kernel == u and 0 <= j < W:
                            dx[n, i, j, c] += dy[n, p, q, c]
    return dx
