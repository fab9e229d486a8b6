"""The rectifier and its derivative, in one pass each."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.jit import compiled, expect_shapes, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.threads import launch

TILE = 1 << 16  # numbers


def relu_reference(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.maximum(x, 0)


@faster_than(relu_reference)
def relu(x):
    """Same as relu_reference."""
    y = empty(x.shape, x.dtype)
    launch(relu_tiles, -(-x.size // TILE), x.reshape(-1), y.reshape(-1))
    return y


@compiled
def relu_tiles(first, last, x, y):
    """relu for TILE numbers of each array, a tile."""
    zero = x.dtype.type(0)
    x, y = x[first * TILE : last * TILE], y[first * TILE : last * TILE]
    for i in range(len(x)):
        y[i] = zero if x[i] < zero else x[i]


def relu_backward_reference(dy: Array, y: Array) -> Array:
    """dy where y is positive, else 0: y = relu(x) is positive just where x is."""
    return np.where(y > 0, dy, dy.dtype.type(0))


@faster_than(relu_backward_reference)
def relu_backward(dy, y):
    """Same as relu_backward_reference."""
    expect_shapes(dy=(dy, y.shape))
    dx = empty(dy.shape, dy.dtype)
    launch(relu_backward_tiles, -(-dy.size // TILE), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
    return dx


@compiled
def relu_backward_tiles(first, last, dy, y, dx):
    """relu_backward for TILE numbers of each array, a tile."""
    zero = dy.dtype.type(0)
    tile = slice(first * TILE, last * TILE)
    dy, y, dx = dy[tile], y[tile], dx[tile]
    for i in range(len(dy)):
        dx[i] = dy[i] if y[i] > zero else zero
