"""im2col turns a convolution into one matrix product; col2im is its adjoint, which backward needs.

    <im2col(x), c> == <x, col2im(c)> for every x and c
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.lib.stride_tricks import sliding_window_view

from tinyresnet.kernels.jit import compiled, expect_shapes, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.windows import fill_windows


def out_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Number of windows along one side.

    Raises ValueError if not a single window fits.
    """
    if size + 2 * padding < kernel:
        raise ValueError(f"a {kernel}x{kernel} window does not fit into {size} pixels with padding {padding}")
    return (size + 2 * padding - kernel) // stride + 1


def im2col_reference(x: Array, kernel: int, stride: int, padding: int) -> Array:
    """x (N, H, W, C) -> cols (N*P*Q, K*K*C): row (n, p, q) is the window behind output pixel (n, p, q)."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = sliding_window_view(x, (kernel, kernel), axis=(1, 2))  # (N, H', W', C, K, K)
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)  # (N, P, Q, K, K, C)
    return windows.reshape(-1, kernel * kernel * x.shape[3])


@faster_than(im2col_reference)
def im2col(x, kernel, stride, padding):
    """Same as im2col_reference, without the padded copy of x."""
    N, H, W, C = x.shape
    P, Q = (out_size(size, kernel, stride, padding) for size in (H, W))
    cols = empty((N * P * Q, kernel * kernel * C), x.dtype)
    launch(im2col_rows, N * P, x, kernel, stride, padding, P, Q, cols.reshape(N * P, -1))
    return cols


@compiled
def im2col_rows(first, last, x, kernel, stride, padding, P, Q, cols):
    """The windows of the output rows first..last, cols (N*P, Q*K*K*C)."""
    fill_windows(x, first, last, P, Q, kernel, stride, padding, cols[first:last].reshape(-1))


def col2im_reference(cols: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """cols (N*P*Q, K*K*C) -> x (N, H, W, C): every window is added back to the pixels it was taken from."""
    N, H, W, C = shape
    P, Q = (out_size(size, kernel, stride, padding) for size in (H, W))
    windows = cols.reshape(N, P, Q, kernel, kernel, C)
    x = np.zeros((N, H + 2 * padding, W + 2 * padding, C), dtype=cols.dtype)
    for u in range(kernel):
        for v in range(kernel):  # += and not =: windows overlap
            x[:, u : u + P * stride : stride, v : v + Q * stride : stride] += windows[:, :, :, u, v]
    return x[:, padding : padding + H, padding : padding + W]


@faster_than(col2im_reference)
def col2im(cols, shape, kernel, stride, padding):
    """Same as col2im_reference to the last bit: each thread owns whole rows of x and adds in the same order (u, v)."""
    N, H, W, C = shape
    P, Q = (out_size(size, kernel, stride, padding) for size in (H, W))
    expect_shapes(cols=(cols, (N * P * Q, kernel * kernel * C)))
    x = empty(shape, cols.dtype)
    launch(col2im_rows, N * H, cols, kernel, stride, padding, P, Q, x)
    return x


@compiled
def col2im_rows(first, last, cols, kernel, stride, padding, P, Q, x):
    """The rows first..last of x (N*H): what all windows that hold a pixel say about it."""
    _, H, W, C = x.shape
    for row in range(first, last):
        n, i = row // H, row % H
        x[n, i] = 0
        for u in range(kernel):
            p, remainder = divmod(i + padding - u, stride)
            if remainder == 0 and 0 <= p < P:
                for v in range(kernel):
                    for q in range(Q):
                        j = q * stride + v - padding
                        if 0 <= j < W:
                            for c in range(C):
                                x[n, i, j, c] += cols[(n * P + p) * Q + q, (u * kernel + v) * C + c]
