"""Windows of an image in and out of a tile: im2col and col2im for some rows of the output.

Numbers that lie together are moved as slices. An index that is a sum may be negative for all Numba knows, which keeps it
from using SIMD: slices made a 3x3 gather three to five times, and its scatter ten times as fast.
"""

from __future__ import annotations

import numpy as np

from tinyresnet.kernels.jit import compiled


@compiled
def copy(source, target):
    """As many numbers as both have; a loop, because Numba takes two seconds to compile target[:] = source."""
    for c in range(min(len(source), len(target))):
        target[c] = source[c]


@compiled
def gather(x, start, end, P, Q, K, stride, padding):
    """im2col for the output rows start..end: (rows*Q, K*K*C)."""
    C = x.shape[3]
    if K == 1 and stride == 1 and padding == 0:
        return x.reshape(-1, C)[start * Q : end * Q]  # the image already is its matrix
    cols = np.empty(((end - start) * Q, K * K * C), dtype=x.dtype)
    fill_windows(x, start, end, P, Q, K, stride, padding, cols.reshape(-1))
    return cols


@compiled
def fill_windows(x, start, end, P, Q, K, stride, padding, out):
    """The windows of the output rows start..end, one after the other; the K*C numbers of a row of one lie together in x."""
    _, H, W, C = x.shape
    pixels, size = x.reshape(-1), K * C
    for row in range(start, end):
        n, p = row // P, row % P
        for u in range(K):
            i = p * stride + u - padding
            for q in range(Q):
                j = q * stride - padding
                first, last = max(0, -j) * C, max(0, min(K, W - j)) * C  # of the K*C numbers, those inside the image
                source, at = ((n * H + i) * W + j) * C, (((row - start) * Q + q) * K + u) * size
                if first > 0 or last < size or not 0 <= i < H:
                    out[at : at + size] = 0
                if 0 <= i < H:
                    copy(pixels[source + first : source + last], out[at + first : at + last])


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
                    first, last = max(0, -j) * C, max(0, min(K, W - j)) * C
                    target, at = ((n * H + i) * W + j) * C, (((row - start) * Q + q) * K + u) * K * C
                    sums, parts = pixels[target + first : target + last], values[at + first : at + last]
                    for c in range(len(parts)):
                        sums[c] += parts[c]
