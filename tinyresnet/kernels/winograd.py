"""Winograd's convolution F(4x4, 3x3): 36 multiplications where the definition has 144 (Lavin and Gray, arXiv:1509.09308).

Multiply a polynomial of four coefficients a by one of three, g: evaluate both at six points (0, 1, -1, 2, -2, infinity),
multiply value by value, and interpolate the product's six coefficients, B ((G g) * (A a)). To filter is the transpose of
that: four outputs of six numbers d are A.T ((G g) * (B.T d)), six multiplications instead of twelve. In two dimensions it
is done along columns and along rows. With d a 6x6 patch of x, g the 3x3 weights, for all c and o:

    y = A.T [ sum_c (G g G.T)[c, o] * (B.T d B)[c] ] A        6x6 points each, y 4x4

For each of the 36 points, as its numbers are called here, the sum over c is a matrix product over all patches. Backward is
the transpose: dx the same convolution of dy with the weights rotated by 180 degrees, and dg = G.T [ sum_patches
(B.T d B)[c] * (A dy A.T)[o] ] G.

The price is rounding, because the matrices weigh some numbers 64 times as much as others. In float32, at the layers of
ResNet-50, the largest error is 1e-6 to 1.4e-5 of the largest output, without the method 1e-7 to 5e-7;
TINYRESNET_WINOGRAD=0 turns it off. One infinity may make NaN of every output whose patch holds it.
"""

from __future__ import annotations

import os

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.blas import product
from tinyresnet.kernels.epilogue import finish, tile_moments
from tinyresnet.kernels.jit import compiled, expect_shapes
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.panels import in_panels, kept
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.transforms import (LANES, apply_A, apply_BT, apply_G, put, apply_AT,
                                           apply_GT, take, take_points)
from tinyresnet.kernels.windows import copy

SWITCH = os.environ.get("TINYRESNET_WINOGRAD", "1")
if SWITCH not in ("0", "1"):
    raise ValueError(f"TINYRESNET_WINOGRAD must be 0 or 1, got {SWITCH!r}")
ENABLED = SWITCH == "1"
PAD = 80  # numbers between the points of two kinds, whose distance would often be a power of two, for which caches are bad
PATCHES = 16  # fewer make 36 products of few rows, each of which reads its share of four times as many weights
WORKSPACE = 20e6  # bytes: the points of some images at a time, so that they stay in the last-level cache


def suits(x: Array, shape: tuple, kernel: int, stride: int, padding: int) -> bool:
    """Whether the method is enabled, fits the geometry, and pays: many channels, and patches enough for a product."""
    N, P, Q, O = shape
    return (ENABLED and (kernel, stride) == (3, 1) and padding <= 2 and min(x.shape[3], O) >= 32
            and N * -(-P // 4) * -(-Q // 4) >= PATCHES)


def pixels_of_tiles(shape: tuple) -> Array:
    """Pixels of y (N, P, Q, O) in each strip of patches, four rows high; the last one of an image may be lower."""
    N, P, Q, _ = shape
    return np.tile(np.minimum(4, P - np.arange(0, P, 4)) * Q, N)


def batches(N: int, patches: int, C: int, O: int, dtype) -> list[tuple[int, int]]:
    """First and last image of equal batches whose points fit into the workspace; an image has so many patches."""
    most = max(1, int(WORKSPACE / (36 * patches * (C + O) * np.dtype(dtype).itemsize)))
    size = -(-N // -(-N // most))
    return [(first, min(N, first + size)) for first in range(0, N, size)]


def points_of(numbers: int, dtype) -> Array:
    """Room for so many numbers of each of the 36 kinds of point."""
    return empty((36, numbers + PAD), dtype)


def forward(x, weight, stride, padding, prepared, y, *epilogue):
    """y = x convolved with weight, finished. The weights' points are kept in prepared, or taken from there."""
    N, P, Q, O = y.shape
    C, rows, columns = x.shape[3], -(-P // 4), -(-Q // 4)
    number, _, width = in_panels(C, O)
    points = kept(prepared, "winograd", points_of_weights, weight)
    expect_shapes(points=(points, (36, number * C * width + PAD)))
    for first, last in batches(N, rows * columns, C, O, x.dtype):
        patches = (last - first) * rows * columns
        inputs, products = points_of(patches * C, x.dtype), points_of(patches * O, x.dtype)
        launch(transform_input, patches // columns, x, first, padding, rows, columns, inputs)
        launch(multiply, 36, inputs, points, width, products, patches, C, O)
        launch(transform_output, patches // columns, products, first, rows, columns, y, *epilogue)


def points_of_weights(weight):
    """The points G g G.T of weight (3, 3, C, O), those of a kind in panels."""
    _, _, C, O = weight.shape
    number, _, width = in_panels(C, O)
    points = points_of(number * C * width, weight.dtype)
    launch(transform_weight, C * -(-O // LANES), weight.reshape(9, -1), O, width, points)
    return points


def backward_weight(x, dy, padding):
    """dweight (3, 3, C, O)."""
    N, P, Q, O = dy.shape
    C, rows, columns = x.shape[3], -(-P // 4), -(-Q // 4)
    points, dweight = points_of(C * O, x.dtype), empty((3, 3, C, O), x.dtype)
    for first, last in batches(N, rows * columns, C, O, x.dtype):
        patches = (last - first) * rows * columns
        inputs, gradients = points_of(patches * C, x.dtype), points_of(patches * O, x.dtype)
        launch(transform_input, patches // columns, x, first, padding, rows, columns, inputs)
        launch(transform_gradient, patches // columns, dy, first, rows, columns, gradients)
        launch(multiply_transposed, 36, inputs, gradients, int(first > 0), points, patches, C, O)
    launch(transform_weight_gradient, -(-C * O // LANES), points, dweight.reshape(9, -1))
    return dweight


@compiled
def transform_input(first, last, x, begin, padding, rows, columns, points):
    """points (36, patches * C) = B.T d B of the patches in strips first..last, counted from the image `begin` on."""
    C = x.shape[3]
    d, e = np.zeros((6, 6, LANES), dtype=x.dtype), np.zeros((6, 6, LANES), dtype=x.dtype)
    for patch in range(first * columns, last * columns):
        n, p, q = begin + patch // columns // rows, patch // columns % rows, patch % columns
        for c0 in range(0, C, LANES):
            take(x, n, p * 4 - padding, q * 4 - padding, c0, d)
            apply_BT(d, e)
            apply_BT(e, d)
            put(d, points, patch * C + c0, min(LANES, C - c0))


@compiled
def multiply(first, last, inputs, weights, width, products, patches, C, O):
    """products[e] (patches, O) = inputs[e] (patches, C) @ weights[e] (C, O), for the points first..last.

    The weights lie in panels of that width.
    """
    step = 1 if width == O else C
    for point in range(first, last):
        product(inputs[point], C, False, weights[point], width, step, products[point], O, patches, O, C, 0)


@compiled
def multiply_transposed(first, last, inputs, gradients, beta, products, patches, C, O):
    """products[e] (C, O) = inputs[e].T @ gradients[e] + beta * products[e], for the points first..last."""
    for point in range(first, last):
        product(inputs[point], C, True, gradients[point], O, 1, products[point], O, C, O, patches, beta)


@compiled
def transform_output(first, last, products, begin, rows, columns, y, bias, skip, relu, mean, squares):
    """y = A.T m A of the strips first..last, counted from the image `begin` on, and their epilogue."""
    _, P, Q, O = y.shape
    pixels = y.reshape(-1, O)
    d, e, f = (np.zeros((6, 6, LANES), dtype=y.dtype), np.zeros((6, 4, LANES), dtype=y.dtype),
               np.zeros((4, 4, LANES), dtype=y.dtype))
    for strip in range(first, last):
        row = begin * rows + strip
        n, p = row // rows, row % rows * 4
        for column in range(columns):
            for o0 in range(0, O, LANES):
                take_points(products, (strip * columns + column) * O + o0, d)
                apply_AT(d, e)
                apply_AT(e, f)
                for u in range(min(4, P - p)):
                    for v in range(min(4, Q - column * 4)):
                        copy(f[u, v], y[n, p + u, column * 4 + v, o0 : o0 + LANES])
        start, end = (n * P + p) * Q, (n * P + min(P, p + 4)) * Q
        if len(bias) or len(skip) or relu:
            finish(pixels, start, end, 0, O, bias, skip, relu)
        if len(mean):
            tile_moments(pixels, start, end, 0, O, mean[row], squares[row])


@compiled
def transform_gradient(first, last, dy, begin, rows, columns, points):
    """points (36, patches * O) = A dy A.T of the patches in strips first..last, counted from the image `begin` on."""
    O = dy.shape[3]
    d, e, f = (np.zeros((4, 4, LANES), dtype=dy.dtype), np.zeros((4, 6, LANES), dtype=dy.dtype),
               np.zeros((6, 6, LANES), dtype=dy.dtype))
    for patch in range(first * columns, last * columns):
        n, p, q = begin + patch // columns // rows, patch // columns % rows, patch % columns
        for o0 in range(0, O, LANES):
            take(dy, n, p * 4, q * 4, o0, d)
            apply_A(d, e)
            apply_A(e, f)
            put(f, points, patch * O + o0, min(LANES, O - o0))


@compiled
def transform_weight(first, last, weight, O, width, points):
    """points (36, numbers) = G g G.T of weight (9, C*O), in panels of that width; a tile is LANES numbers of a row."""
    C = weight.shape[1] // O
    step = 1 if width == O else C
    d, e, f = (np.zeros((3, 3, LANES), dtype=weight.dtype), np.zeros((3, 6, LANES), dtype=weight.dtype),
               np.zeros((6, 6, LANES), dtype=weight.dtype))
    for tile in range(first, last):
        c, o0 = tile % C, tile // C * LANES
        take_points(weight, c * O + o0, d)
        apply_G(d, e)
        apply_G(e, f)
        put(f, points, o0 * step + c * width, min(LANES, O - o0))


@compiled
def transform_weight_gradient(first, last, points, dweight):
    """dweight (9, C*O) = G.T u G of points (36, C*O), in blocks first..last of LANES numbers."""
    d, e, f = (np.zeros((6, 6, LANES), dtype=points.dtype), np.zeros((6, 3, LANES), dtype=points.dtype),
               np.zeros((3, 3, LANES), dtype=points.dtype))
    for at in range(first * LANES, min(dweight.shape[1], last * LANES), LANES):
        take_points(points, at, d)
        apply_GT(d, e)
        apply_GT(e, f)
        put(f, dweight, at, LANES)
