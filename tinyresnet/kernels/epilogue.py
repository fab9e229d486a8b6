"""What is done to a tile of y while it is still in the cache: bias, addition and ReLU, or the sums for batch norm."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.jit import compiled


def moments_reference(x: Array) -> tuple[Array, Array]:
    """x (N, H, W, C) -> mean and var (C,) float64; var is biased, the mean of the squared distances from the mean."""
    mean = x.mean(axis=(0, 1, 2), dtype=np.float64)
    return mean, np.square(x - mean).mean(axis=(0, 1, 2))


def finish_reference(y: Array, bias: Array | None, skip: Array | None, relu: bool) -> Array:
    """y (N, P, Q, O), bias (O,), skip (N, P, Q, O) -> y + bias + skip, or its ReLU."""
    for term in (bias, skip):
        y = y if term is None else y + term
    return np.maximum(y, 0) if relu else y


@compiled
def finish(y, first, last, o0, o1, bias, skip, relu):
    """Same as finish_reference for the pixels first..last of y and skip (pixels, O), channels o0..o1, in place.

    A bias or skip without elements is none.
    """
    O = y.shape[1]
    values, terms, zero = y.reshape(-1), skip.reshape(-1), y.dtype.type(0)
    for pixel in range(first, last):
        row = values[pixel * O + o0 : pixel * O + o1]
        if len(bias):
            part = bias[o0:o1]
            for o in range(len(row)):
                row[o] += part[o]
        if len(terms):
            part = terms[pixel * O + o0 : pixel * O + o1]
            for o in range(len(row)):
                row[o] += part[o]
        if relu:
            for o in range(len(row)):
                row[o] = zero if row[o] < zero else row[o]  # NaN stays


@compiled
def tile_moments(y, first, last, o0, o1, mean, squares):
    """mean, squares (O,) float64 of the pixels first..last of y (pixels, O), channels o0..o1.

    Squares are taken from the tile's own mean: E[y*y] - mean*mean would cancel. In order, and as loops, which Numba
    compiles in a tenth of the time of y.sum.
    """
    O, count = y.shape[1], last - first
    values, mean, squares = y.reshape(-1), mean[o0:o1], squares[o0:o1]
    mean[:] = 0
    squares[:] = 0
    for pixel in range(first, last):
        row = values[pixel * O + o0 : pixel * O + o1]
        for o in range(len(row)):
            mean[o] += row[o]
    for o in range(len(mean)):
        mean[o] /= count
    for pixel in range(first, last):
        row = values[pixel * O + o0 : pixel * O + o1]
        for o in range(len(row)):
            squares[o] += (row[o] - mean[o]) ** 2


@compiled
def merge_moments(mean, squares, counts):
    """mean, squares (tiles, O) of so many pixels each -> mean and var (O,) of all.

    Chan, Golub and LeVeque 1983, eq. 2.1.
    """
    before = counts[0]
    for tile in range(1, len(counts)):
        new = counts[tile]
        for o in range(mean.shape[1]):
            delta = mean[tile, o] - mean[0, o]
            mean[0, o] = (mean[0, o] * before + mean[tile, o] * new) / (before + new)  # of infinity, infinity
            squares[0, o] += squares[tile, o] + delta * delta * before * new / (before + new)
        before += new
    return mean[0], squares[0] / before
