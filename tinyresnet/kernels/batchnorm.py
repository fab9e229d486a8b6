"""Batch norm in two passes over the pixels forward, and two backward.

Sums are taken in float64: the stem of a ResNet adds 200,000 numbers a channel for each batch. Each tile of pixels has its
own, while it is in the cache, and tiles are cut by shape and merged in order: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.jit import compiled, faster_than, prange

TILE = 512  # pixels


def moments_reference(x: Array) -> tuple[Array, Array]:
    """x (N, H, W, C) -> mean and var (C,) float64; var is biased, the mean of the squared distances from the mean."""
    mean = x.mean(axis=(0, 1, 2), dtype=np.float64)
    return mean, np.square(x - mean).mean(axis=(0, 1, 2))


@faster_than(moments_reference)
def moments(x):
    """Same as moments_reference in one pass. A tile's squares are taken from its own mean: E[x*x] - mean*mean cancels."""
    C = x.shape[3]
    x = x.reshape(-1, C)
    tiles = (x.shape[0] + TILE - 1) // TILE
    mean, squares = np.zeros((tiles, C)), np.zeros((tiles, C))
    for tile in prange(tiles):
        part = x[tile * TILE : (tile + 1) * TILE]
        add_pixels(part, mean[tile])
        for c in range(C):
            mean[tile, c] /= part.shape[0]
        for pixel in range(part.shape[0]):
            for c in range(C):
                squares[tile, c] += (part[pixel, c] - mean[tile, c]) ** 2
    for tile in range(1, tiles):  # Chan, Golub and LeVeque 1983, eq. 2.1
        before, new = tile * TILE, min(TILE, x.shape[0] - tile * TILE)
        for c in range(C):
            delta = mean[tile, c] - mean[0, c]
            mean[0, c] += delta * new / (before + new)
            squares[0, c] += squares[tile, c] + delta * delta * before * new / (before + new)
    return mean[0], squares[0] / x.shape[0]


def scale_and_shift_reference(x: Array, mean: Array, scale: Array, shift: Array) -> Array:
    """x (N, H, W, C), the rest (C,) of the same dtype -> (x - mean) * scale + shift."""
    return (x - mean) * scale + shift


@faster_than(scale_and_shift_reference)
def scale_and_shift(x, mean, scale, shift):
    """Same as scale_and_shift_reference."""
    shape, C = x.shape, x.shape[3]
    x = x.reshape(-1, C)
    y = np.empty_like(x)
    for tile in prange((x.shape[0] + TILE - 1) // TILE):
        for pixel in range(tile * TILE, min(x.shape[0], (tile + 1) * TILE)):
            for c in range(C):
                y[pixel, c] = (x[pixel, c] - mean[c]) * scale[c] + shift[c]
    return y.reshape(shape)


def gradient_sums_reference(dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """dy, x (N, H, W, C), mean (C,) -> (C,) float64 each: the sum of dy, and of dy * (x - mean)."""
    return dy.sum(axis=(0, 1, 2), dtype=np.float64), (dy * (x - mean)).sum(axis=(0, 1, 2), dtype=np.float64)


@faster_than(gradient_sums_reference)
def gradient_sums(dy, x, mean):
    """Same as gradient_sums_reference in one pass."""
    C = x.shape[3]
    dy, x = dy.reshape(-1, C), x.reshape(-1, C)
    tiles = (x.shape[0] + TILE - 1) // TILE
    plain, dots = np.zeros((tiles, C)), np.zeros((tiles, C))
    for tile in prange(tiles):
        for pixel in range(tile * TILE, min(x.shape[0], (tile + 1) * TILE)):
            for c in range(C):
                plain[tile, c] += dy[pixel, c]
                dots[tile, c] += dy[pixel, c] * (x[pixel, c] - mean[c])
    add_pixels(plain[1:], plain[0])
    add_pixels(dots[1:], dots[0])
    return plain[0], dots[0]


def input_gradient_reference(dy: Array, x: Array, mean: Array, factors: Array) -> Array:
    """dy, x (N, H, W, C), mean (C,), factors (3, C) of one dtype -> f[0] * dy + f[1] * (x - mean) + f[2]."""
    return factors[0] * dy + factors[1] * (x - mean) + factors[2]


@faster_than(input_gradient_reference)
def input_gradient(dy, x, mean, factors):
    """Same as input_gradient_reference."""
    shape, C = x.shape, x.shape[3]
    dy, x = dy.reshape(-1, C), x.reshape(-1, C)
    dx = np.empty_like(x)
    for tile in prange((x.shape[0] + TILE - 1) // TILE):
        for pixel in range(tile * TILE, min(x.shape[0], (tile + 1) * TILE)):
            for c in range(C):
                dx[pixel, c] = factors[0, c] * dy[pixel, c] + factors[1, c] * (x[pixel, c] - mean[c]) + factors[2, c]
    return dx.reshape(shape)


@compiled
def add_pixels(x, sums):
    """sums (C,) += every row of x (pixels, C), in order; as a loop, which Numba compiles in a tenth of x.sum's time."""
    for pixel in range(x.shape[0]):
        for c in range(x.shape[1]):
            sums[c] += x[pixel, c]
