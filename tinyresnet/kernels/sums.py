"""Sums over all pixels of a channel, in float64: the stem of a ResNet adds 200,000 numbers a channel for each batch."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.jit import compiled, faster_than, prange


def channel_dots_reference(a: Array, b: Array) -> Array:
    """a, b (N, H, W, C) -> (C,) float64: sum over n, i, j of a * b."""
    return (a * b).sum(axis=(0, 1, 2), dtype=np.float64)


@faster_than(channel_dots_reference)
def channel_dots(a, b):
    """Same as channel_dots_reference: tiles of 512 pixels have a sum each, and these are added in order."""
    C = a.shape[3]
    a, b = a.reshape(-1, C), b.reshape(-1, C)
    tiles = (a.shape[0] + 511) // 512
    sums = np.zeros((tiles, C))
    for tile in prange(tiles):
        for pixel in range(tile * 512, min(a.shape[0], (tile + 1) * 512)):
            for c in range(C):
                sums[tile, c] += a[pixel, c] * b[pixel, c]
    return total(sums)


def channel_sums_reference(a: Array) -> Array:
    """a (N, H, W, C) -> (C,) float64: sum over n, i, j."""
    return a.sum(axis=(0, 1, 2), dtype=np.float64)


@faster_than(channel_sums_reference)
def channel_sums(a):
    """Same as channel_sums_reference, in tiles as above."""
    C = a.shape[3]
    a = a.reshape(-1, C)
    tiles = (a.shape[0] + 511) // 512
    sums = np.zeros((tiles, C))
    for tile in prange(tiles):
        for pixel in range(tile * 512, min(a.shape[0], (tile + 1) * 512)):
            for c in range(C):
                sums[tile, c] += a[pixel, c]
    return total(sums)


@compiled
def total(sums):
    """sums.sum(axis=0), row after row; as a loop, because Numba compiles it in a tenth of the time."""
    for row in range(1, sums.shape[0]):
        for c in range(sums.shape[1]):
            sums[0, c] += sums[row, c]
    return sums[0]
