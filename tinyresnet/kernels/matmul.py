"""The two matrix products of a convolution, split among the threads by rows, with a single-threaded BLAS inside.

The split depends on the shapes alone, so any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.jit import faster_than, prange


def matmul_reference(a: Array, b: Array) -> Array:
    """a (M, K), b (K, N) -> a @ b (M, N)."""
    return a @ b


@faster_than(matmul_reference)
def matmul(a, b):
    """Same as matmul_reference, in tiles of rows of a."""
    M = a.shape[0]
    size = max(16, min(1024, (M + 7) // 8))  # rows in a tile: all threads busy, and a tile stays in the cache
    out = np.empty((M, b.shape[1]), dtype=a.dtype)
    for tile in prange((M + size - 1) // size):
        start, end = tile * size, min(M, (tile + 1) * size)
        np.dot(a[start:end], b, out[start:end])
    return out


def matmul_transposed_reference(a: Array, b: Array) -> Array:
    """a (M, K), b (M, N) -> a.T @ b (K, N): a sum over the M rows, such as the gradient of a weight."""
    return a.T @ b


@faster_than(matmul_transposed_reference)
def matmul_transposed(a, b):
    """Same as matmul_transposed_reference: each group of rows has its own sum, and the sums are added in order."""
    M = a.shape[0]
    groups = min(8, (M + 255) // 256)
    size = (M + groups - 1) // groups
    sums = np.zeros((groups, a.shape[1], b.shape[1]), dtype=a.dtype)
    for group in prange(groups):
        start, end = group * size, min(M, (group + 1) * size)
        if start < end:
            np.dot(a[start:end].T, b[start:end], sums[group])
    total = sums[0]
    for group in range(1, groups):
        total += sums[group]
    return total
