"""Batch norm in one pass over the pixels forward, and two backward, with the addition and the ReLU that follow it.

Sums are taken in float64: the stem of a ResNet adds 200,000 numbers a channel for each batch. Each tile of pixels has its
own, while it is in the cache, and tiles are cut by shape and merged in order: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.epilogue import finish_reference, merge_moments, moments_reference, tile_moments
from tinyresnet.kernels.jit import compiled, expect_shapes, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.relu import relu_backward_reference
from tinyresnet.kernels.threads import launch

TILE = 512  # pixels


def number_of_tiles(x: Array) -> int:
    """Of TILE pixels of x (N, H, W, C), the last of which may have fewer."""
    return -(-x.size // (x.shape[3] * TILE))


@faster_than(moments_reference)
def moments(x):
    """Same as moments_reference in one pass."""
    C = x.shape[3]
    x = x.reshape(-1, C)
    counts = np.minimum(TILE, len(x) - np.arange(0, len(x), TILE))
    mean, squares = np.empty((2, len(counts), C))
    launch(moment_tiles, len(counts), x, mean, squares)
    return merge_moments(mean, squares, counts)


@compiled
def moment_tiles(first, last, x, mean, squares):
    """mean, squares (tiles, C) of x (pixels, C)."""
    for tile in range(first, last):
        tile_moments(x, tile * TILE, min(len(x), (tile + 1) * TILE), 0, x.shape[1], mean[tile], squares[tile])


def normalise_reference(x: Array, mean: Array, scale: Array, shift: Array, skip: Array | None = None,
                        relu: bool = False) -> Array:
    """x (N, H, W, C), mean, scale, shift (C,) of the same dtype -> (x - mean) * scale + shift, plus skip (N, H, W, C)
    if there is one, or the ReLU of that."""
    return finish_reference((x - mean) * scale + shift, None, skip, relu)


@faster_than(normalise_reference)
def normalise(x, mean, scale, shift, skip=None, relu=False):
    """Same as normalise_reference in one pass."""
    C, y = x.shape[3], empty(x.shape, x.dtype)
    expect_shapes(mean=(mean, (C,)), scale=(scale, (C,)), shift=(shift, (C,)), skip=(skip, x.shape))
    skip = np.empty((0, C), x.dtype) if skip is None else skip.reshape(-1, C)
    launch(normalise_tiles, number_of_tiles(x), x.reshape(-1, C), mean, scale, shift, skip, relu, y.reshape(-1, C))
    return y


@compiled
def normalise_tiles(first, last, x, mean, scale, shift, skip, relu, y):
    """x, skip, y (pixels, C). One loop for each case, because a question inside keeps Numba from using SIMD."""
    zero = x.dtype.type(0)
    for pixel in range(first * TILE, min(len(x), last * TILE)):
        if len(skip):
            for c in range(len(mean)):
                y[pixel, c] = (x[pixel, c] - mean[c]) * scale[c] + shift[c] + skip[pixel, c]
        else:
            for c in range(len(mean)):
                y[pixel, c] = (x[pixel, c] - mean[c]) * scale[c] + shift[c]
        if relu:
            for c in range(len(mean)):
                y[pixel, c] = zero if y[pixel, c] < zero else y[pixel, c]  # NaN stays


def gradient_sums_reference(dy: Array, x: Array, mean: Array, y: Array | None = None) -> tuple[Array, Array, Array]:
    """dy, x (N, H, W, C), mean (C,) -> dz (N, H, W, C), and (C,) float64 each, the sum of dz and of dz * (x - mean).

    dz is dy; with a y = relu(z) it is the gradient of z, zero where y is.
    """
    dz = dy if y is None else relu_backward_reference(dy, y)
    return dz, dz.sum(axis=(0, 1, 2), dtype=np.float64), (dz * (x - mean)).sum(axis=(0, 1, 2), dtype=np.float64)


@faster_than(gradient_sums_reference)
def gradient_sums(dy, x, mean, y=None):
    """Same as gradient_sums_reference in one pass."""
    C = x.shape[3]
    expect_shapes(dy=(dy, x.shape), mean=(mean, (C,)), y=(y, x.shape))
    dz = dy if y is None else empty(dy.shape, dy.dtype)
    sums = np.zeros((number_of_tiles(x), 2, C))
    launch(sum_tiles, len(sums), *(a.reshape(-1, C) for a in (dy, x, dz if y is None else y, dz)), y is not None, mean, sums)
    add_tiles(sums)
    return dz, *sums[0]


@compiled
def sum_tiles(first, last, dy, x, y, dz, relu, mean, sums):
    """sums (tiles, 2, C) of dy, x, y, dz (pixels, C); three loops, because Numba uses SIMD where few arrays meet."""
    zero = dy.dtype.type(0)
    for tile in range(first, last):
        for pixel in range(tile * TILE, min(len(x), (tile + 1) * TILE)):
            if relu:
                for c in range(len(mean)):
                    dz[pixel, c] = dy[pixel, c] if y[pixel, c] > zero else zero
            for c in range(len(mean)):
                sums[tile, 0, c] += dz[pixel, c]
            for c in range(len(mean)):
                sums[tile, 1, c] += dz[pixel, c] * (x[pixel, c] - mean[c])


@compiled
def add_tiles(sums):
    """sums[0] += sums[1] + sums[2] + ..., in this order."""
    for tile in range(1, len(sums)):
        for kind in range(2):
            for c in range(sums.shape[2]):
                sums[0, kind, c] += sums[tile, kind, c]


def input_gradient_reference(dz: Array, x: Array, mean: Array, factors: Array) -> Array:
    """dz, x (N, H, W, C), mean (C,), factors (3, C) of one dtype -> f[0] * dz + f[1] * (x - mean) + f[2]."""
    return factors[0] * dz + factors[1] * (x - mean) + factors[2]


@faster_than(input_gradient_reference)
def input_gradient(dz, x, mean, factors):
    """Same as input_gradient_reference in one pass."""
    C, dx = x.shape[3], empty(x.shape, x.dtype)
    expect_shapes(dz=(dz, x.shape), mean=(mean, (C,)), factors=(factors, (3, C)))
    launch(input_gradient_tiles, number_of_tiles(x), *(a.reshape(-1, C) for a in (dz, x)), mean, factors, dx.reshape(-1, C))
    return dx


@compiled
def input_gradient_tiles(first, last, dz, x, mean, factors, dx):
    """dz, x, dx (pixels, C)."""
    for pixel in range(first * TILE, min(len(x), last * TILE)):
        input_gradient_pixel(pixel, dz, x, mean, factors, pixel, dx)


@compiled
def input_gradient_pixel(pixel, dz, x, mean, factors, target, dx):
    """dx[target] (C,) from one pixel of dz and x (pixels, C)."""
    for c in range(len(mean)):
        dx[target, c] = factors[0, c] * dz[pixel, c] + factors[1, c] * (x[pixel, c] - mean[c]) + factors[2, c]
