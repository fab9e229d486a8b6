"""The three matrix products of a convolution, a tile of windows at a time.

The references build all windows of the batch, K*K times the size of x, and make one product of them. The kernels gather
the windows of some output rows into a tile that stays in the cache, multiply, and forget it. A row is a (n, p): tiles
run on from one image into the next. They are cut by shape, and sums are added in a fixed order: any number of threads
gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.im2col import col2im_reference, im2col_reference, out_size
from tinyresnet.kernels.jit import compiled, faster_than, prange

TILE = 512  # windows in a tile: 256 to 1024 were equally fast


def conv_forward_reference(x: Array, weight: Array, stride: int, padding: int) -> Array:
    """x (N, H, W, C), weight (K, K, C, O) -> y (N, P, Q, O)."""
    N, H, W, C = x.shape
    K, O = weight.shape[0], weight.shape[3]
    cols = im2col_reference(x, K, stride, padding)  # (N*P*Q, K*K*C)
    return (cols @ weight.reshape(-1, O)).reshape(N, out_size(H, K, stride, padding), -1, O)


@faster_than(conv_forward_reference)
def conv_forward(x, weight, stride, padding):
    """Same as conv_forward_reference."""
    N, H, W, C = x.shape
    K, O = weight.shape[0], weight.shape[3]
    P = (H + 2 * padding - K) // stride + 1
    Q = (W + 2 * padding - K) // stride + 1
    w = weight.reshape(K * K * C, O)
    y = np.empty((N * P * Q, O), dtype=x.dtype)
    rows = max(1, min(TILE // Q, (N * P + 7) // 8))  # in a tile; a single image still makes eight
    for tile in prange((N * P + rows - 1) // rows):
        start, end = tile * rows, min(N * P, (tile + 1) * rows)
        np.dot(gather(x, start, end, P, Q, K, stride, padding), w, y[start * Q : end * Q])
    return y.reshape(N, P, Q, O)


def conv_backward_weight_reference(x: Array, dy: Array, kernel: int, stride: int, padding: int) -> Array:
    """x (N, H, W, C), dy (N, P, Q, O) -> dweight (K, K, C, O), a sum over all windows."""
    cols = im2col_reference(x, kernel, stride, padding)  # (N*P*Q, K*K*C)
    return (cols.T @ dy.reshape(-1, dy.shape[3])).reshape(kernel, kernel, x.shape[3], dy.shape[3])


@faster_than(conv_backward_weight_reference)
def conv_backward_weight(x, dy, kernel, stride, padding):
    """Same as conv_backward_weight_reference: up to eight groups of tiles have a sum each, which are added in order."""
    N, P, Q, O = dy.shape
    C, K = x.shape[3], kernel
    dy = dy.reshape(-1, O)
    rows = max(1, TILE // Q)
    group_rows = max(rows, (N * P + 7) // 8)
    groups = (N * P + group_rows - 1) // group_rows
    sums = np.zeros((groups, K * K * C, O), dtype=x.dtype)
    for group in prange(groups):
        last = min(N * P, (group + 1) * group_rows)
        for start in range(group * group_rows, last, rows):
            end = min(last, start + rows)
            cols = gather(x, start, end, P, Q, K, stride, padding)
            add(sums[group], np.dot(cols.T, dy[start * Q : end * Q]))
    for group in range(1, groups):
        add(sums[0], sums[group])
    return sums[0].reshape(K, K, C, O)


def conv_backward_input_reference(dy: Array, weight: Array, shape: tuple, stride: int, padding: int) -> Array:
    """dy (N, P, Q, O), weight (K, K, C, O) -> dx (N, H, W, C) of this shape."""
    K, O = weight.shape[0], weight.shape[3]
    dcols = dy.reshape(-1, O) @ weight.reshape(-1, O).T  # (N*P*Q, K*K*C)
    return col2im_reference(dcols, shape, K, stride, padding)


@faster_than(conv_backward_input_reference)
def conv_backward_input(dy, weight, shape, stride, padding):
    """Same as conv_backward_input_reference: each thread owns whole images, because windows overlap."""
    N, P, Q, O = dy.shape
    K = weight.shape[0]
    w = weight.reshape(-1, O).T  # (O, K*K*C)
    dy = dy.reshape(-1, O)
    dx = np.zeros(shape, dtype=dy.dtype)
    rows = max(1, TILE // Q)
    images = max(1, min(TILE // (P * Q), (N + 3) // 4))
    for owned in prange((N + images - 1) // images):
        last = min(N, (owned + 1) * images) * P
        for start in range(owned * images * P, last, rows):
            end = min(last, start + rows)
            scatter(np.dot(dy[start * Q : end * Q], w), dx, start, end, P, Q, K, stride, padding)
    return dx


@compiled
def add(total, part):
    """total += part; as a loop, because Numba takes fifteen seconds to compile it for arrays of two dimensions."""
    for row in range(total.shape[0]):
        for column in range(total.shape[1]):
            total[row, column] += part[row, column]


@compiled
def gather(x, start, end, P, Q, K, stride, padding):
    """im2col for the output rows start..end: (rows*Q, K*K*C). The K*C numbers of a window's row lie together in x."""
    _, H, W, C = x.shape
    if K == 1 and stride == 1 and padding == 0:
        return x.reshape(-1, C)[start * Q : end * Q]  # the image already is its matrix
    cols = np.zeros(((end - start) * Q, K * K * C), dtype=x.dtype)
    pixels, out = x.reshape(-1), cols.reshape(-1)
    for row in range(start, end):
        n, p = row // P, row % P
        for u in range(K):
            i = p * stride + u - padding
            if 0 <= i < H:  # else: padding, already zero
                for q in range(Q):
                    j = q * stride - padding
                    first, last = max(0, -j) * C, min(K, W - j) * C  # of the K*C numbers, those inside the image
                    source, at = ((n * H + i) * W + j) * C, (((row - start) * Q + q) * K + u) * K * C
                    out[at + first : at + last] = pixels[source + first : source + last]
    return cols


@compiled
def scatter(cols, x, start, end, P, Q, K, stride, padding):
    """The adjoint of gather: add the windows of the output rows start..end back to x."""
    _, H, W, C = x.shape
    pixels, values = x.reshape(-1), cols.reshape(-1)
    for row in range(start, end):
        n, p = row // P, row % P
        for u in range(K):
            i = p * stride + u - padding
            if 0 <= i < H:
                for q in range(Q):
                    j = q * stride - padding
                    first, last = max(0, -j) * C, min(K, W - j) * C
                    target, at = ((n * H + i) * W + j) * C, (((row - start) * Q + q) * K + u) * K * C
                    # slices, because an index that may be negative for all Numba knows keeps it from using SIMD
                    sums, parts = pixels[target + first : target + last], values[at + first : at + last]
                    for c in range(len(parts)):
                        sums[c] += parts[c]
