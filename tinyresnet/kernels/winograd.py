"""Winograd's convolution F(4x4, 3x3): 36 multiplications where the definition has 144 (Lavin and Gray, arXiv:1509.09308).

Four outputs of a filter with three taps are a polynomial product in disguise. Evaluate both factors at six points (0, 1,
-1, 2, -2, infinity), multiply point by point, and read the four outputs off: six multiplications instead of twelve. In two
dimensions that is done along columns and along rows. With d a 6x6 patch of x, g the 3x3 weights, for all c and o:

    y = A.T [ sum_c (G g G.T)[c, o] * (B.T d B)[c] ] A        6x6 points each, y 4x4

For each of the 36 points, the sum over c is a matrix product over all patches. Backward is the transpose: dx the same
convolution of dy with the weights turned round, dg = G.T [ sum_patches (B.T d B)[c] * (A dy A.T)[o] ] G.

The price is rounding: the points' powers differ in size. In float32 at ResNet-50's layers the largest error is 5e-6 to
1.4e-5 of the largest output, thirty times that of the direct product; TINYRESNET_WINOGRAD=0 turns the method off. One
infinity may make NaN of every output whose patch holds it.

Every transform is one function of a small square of pixels with some channels, d[u, v, c]: it transforms along u and
lays the result down transposed. Called twice, it has transformed along both, and u and v are in their places again.
"""

from __future__ import annotations

import os

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.blas import product
from tinyresnet.kernels.epilogue import finish, tile_moments
from tinyresnet.kernels.jit import compiled
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.windows import copy

ENABLED = os.environ.get("TINYRESNET_WINOGRAD", "1") != "0"
LANES = 64  # channels that are transformed together: two 6x6 squares of them fit into the first-level cache
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
    if "winograd" not in prepared:
        prepared["winograd"] = weights(weight)
    N, P, Q, O = y.shape
    C, rows, columns = x.shape[3], -(-P // 4), -(-Q // 4)
    for first, last in batches(N, rows * columns, C, O, x.dtype):
        patches = (last - first) * rows * columns
        inputs, products = points_of(patches * C, x.dtype), points_of(patches * O, x.dtype)
        launch(transform_input, patches // columns, x, first, padding, rows, columns, inputs)
        launch(multiply, 36, inputs, prepared["winograd"], products, patches, C, O)
        launch(transform_output, patches // columns, products, first, rows, columns, y, *epilogue)


def weights(weight):
    """The points G g G.T of weight (3, 3, C, O)."""
    points = points_of(weight[0, 0].size, weight.dtype)
    launch(transform_weight, -(-weight[0, 0].size // LANES), weight.reshape(9, -1), points)
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
        launch(multiply_transposed, 36, inputs, gradients, first > 0, points, patches, C, O)
    launch(transform_weight_gradient, -(-C * O // LANES), points, dweight.reshape(9, -1))
    return dweight


@compiled
def evaluate_input(d, points):
    """d (6, 6, LANES) -> points[v, :, c] = B.T d[:, v, c]. Numbers are made of the dtype of d: Numba would count a bare
    4 times a float32 in float64."""
    two, four, five = d.dtype.type(2), d.dtype.type(4), d.dtype.type(5)
    for v in range(6):
        for c in range(LANES):
            d0, d1, d2, d3, d4, d5 = d[0, v, c], d[1, v, c], d[2, v, c], d[3, v, c], d[4, v, c], d[5, v, c]
            a, b, e, f = d4 - four * d2, d3 - four * d1, d4 - d2, two * (d3 - d1)
            points[v, 0, c] = four * d0 - five * d2 + d4
            points[v, 1, c] = a + b
            points[v, 2, c] = a - b
            points[v, 3, c] = e + f
            points[v, 4, c] = e - f
            points[v, 5, c] = four * d1 - five * d3 + d5


@compiled
def read_output(m, y):
    """m (6, V, LANES) -> y[v, :, c] = A.T m[:, v, c], y (V, 4, LANES)."""
    two, four, eight = m.dtype.type(2), m.dtype.type(4), m.dtype.type(8)
    for v in range(m.shape[1]):
        for o in range(LANES):
            m0, m1, m2, m3, m4, m5 = m[0, v, o], m[1, v, o], m[2, v, o], m[3, v, o], m[4, v, o], m[5, v, o]
            a, b, e, f = m1 + m2, m1 - m2, m3 + m4, m3 - m4
            y[v, 0, o] = m0 + a + e
            y[v, 1, o] = b + two * f
            y[v, 2, o] = a + four * e
            y[v, 3, o] = b + eight * f + m5


@compiled
def evaluate_gradient(y, points):
    """y (4, V, LANES) -> points[v, :, o] = A y[:, v, o], points (V, 6, LANES): the transpose of read_output."""
    two, four, eight = y.dtype.type(2), y.dtype.type(4), y.dtype.type(8)
    for v in range(y.shape[1]):
        for o in range(LANES):
            y0, y1, y2, y3 = y[0, v, o], y[1, v, o], y[2, v, o], y[3, v, o]
            a, b, e, f = y0 + y2, y1 + y3, y0 + four * y2, two * y1 + eight * y3
            points[v, 0, o] = y0
            points[v, 1, o] = a + b
            points[v, 2, o] = a - b
            points[v, 3, o] = e + f
            points[v, 4, o] = e - f
            points[v, 5, o] = y3


@compiled
def evaluate_weight(g, points):
    """g (3, V, LANES) -> points[v, :, i] = G g[:, v, i], points (V, 6, LANES)."""
    two, four, sixth = g.dtype.type(2), g.dtype.type(4), g.dtype.type(1 / 6)
    for v in range(g.shape[1]):
        for i in range(LANES):
            g0, g1, g2 = g[0, v, i], g[1, v, i], g[2, v, i]
            a, b, e = (g0 + g2) * sixth, g1 * sixth, (g0 / four + g2) * sixth
            points[v, 0, i] = g0 / four
            points[v, 1, i] = -a - b
            points[v, 2, i] = -a + b
            points[v, 3, i] = e + b / two
            points[v, 4, i] = e - b / two
            points[v, 5, i] = g2


@compiled
def read_weight(u, g):
    """u (6, V, LANES) -> g[v, :, i] = G.T u[:, v, i], g (V, 3, LANES): the transpose of evaluate_weight."""
    two, four, sixth = u.dtype.type(2), u.dtype.type(4), u.dtype.type(1 / 6)
    for v in range(u.shape[1]):
        for i in range(LANES):
            u0, u1, u2, u3, u4, u5 = u[0, v, i], u[1, v, i], u[2, v, i], u[3, v, i], u[4, v, i], u[5, v, i]
            a, b, e, f = (u1 + u2) * sixth, (u1 - u2) * sixth, (u3 + u4) * sixth, (u3 - u4) * sixth
            g[v, 0, i] = u0 / four - a + e / four
            g[v, 1, i] = f / two - b
            g[v, 2, i] = u5 - a + e


@compiled
def take(x, n, i, j, c0, d):
    """d[u, v] = LANES channels, from c0 on, of the pixels from (i, j) on; zero outside the image."""
    _, H, W, C = x.shape
    values, size = x.reshape(-1), min(LANES, C - c0)
    for u in range(d.shape[0]):
        for v in range(d.shape[1]):
            at = ((n * H + i + u) * W + j + v) * C + c0
            if 0 <= i + u < H and 0 <= j + v < W:
                copy(values[at : at + size], d[u, v])
            else:
                d[u, v] = 0


@compiled
def put(d, points, at, size):
    """points[u*V + v, at : at + size] = d[u, v]: each point is laid with those of its kind."""
    U, V, _ = d.shape
    for u in range(U):
        for v in range(V):
            copy(d[u, v], points[u * V + v, at : at + size])


@compiled
def take_points(points, at, d):
    """d[u, v] = points[u*V + v, at ...]: the opposite of put."""
    U, V, _ = d.shape
    for u in range(U):
        for v in range(V):
            copy(points[u * V + v, at : at + LANES], d[u, v])


@compiled
def transform_input(first, last, x, begin, padding, rows, columns, points):
    """points (36, patches * C) = B.T d B of the patches in strips first..last, counted from the image `begin` on."""
    C = x.shape[3]
    d, e = np.zeros((6, 6, LANES), dtype=x.dtype), np.zeros((6, 6, LANES), dtype=x.dtype)
    for patch in range(first * columns, last * columns):
        n, p, q = begin + patch // columns // rows, patch // columns % rows, patch % columns
        for c0 in range(0, C, LANES):
            take(x, n, p * 4 - padding, q * 4 - padding, c0, d)
            evaluate_input(d, e)
            evaluate_input(e, d)
            put(d, points, patch * C + c0, min(LANES, C - c0))


@compiled
def multiply(first, last, inputs, weights, products, patches, C, O):
    """products[e] (patches, O) = inputs[e] (patches, C) @ weights[e] (C, O), for the points first..last."""
    for point in range(first, last):
        product(inputs[point], C, False, weights[point], O, products[point], O, patches, O, C, 0)


@compiled
def multiply_transposed(first, last, inputs, gradients, keep, products, patches, C, O):
    """products[e] (C, O) = inputs[e].T @ gradients[e] + keep * products[e], for the points first..last."""
    for point in range(first, last):
        product(inputs[point], C, True, gradients[point], O, products[point], O, C, O, patches, keep)


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
                read_output(d, e)
                read_output(e, f)
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
            evaluate_gradient(d, e)
            evaluate_gradient(e, f)
            put(f, points, patch * O + o0, min(LANES, O - o0))


@compiled
def transform_weight(first, last, weight, points):
    """points (36, C*O) = G g G.T of weight (9, C*O), in blocks first..last of LANES numbers."""
    d, e, f = (np.zeros((3, 3, LANES), dtype=weight.dtype), np.zeros((3, 6, LANES), dtype=weight.dtype),
               np.zeros((6, 6, LANES), dtype=weight.dtype))
    for at in range(first * LANES, min(weight.shape[1], last * LANES), LANES):
        take_points(weight, at, d)
        evaluate_weight(d, e)
        evaluate_weight(e, f)
        put(f, points, at, min(LANES, weight.shape[1] - at))


@compiled
def transform_weight_gradient(first, last, points, dweight):
    """dweight (9, C*O) = G.T u G of points (36, C*O), in blocks first..last of LANES numbers."""
    d, e, f = (np.zeros((6, 6, LANES), dtype=points.dtype), np.zeros((6, 3, LANES), dtype=points.dtype),
               np.zeros((3, 3, LANES), dtype=points.dtype))
    for at in range(first * LANES, min(dweight.shape[1], last * LANES), LANES):
        take_points(points, at, d)
        read_weight(d, e)
        read_weight(e, f)
        put(f, dweight, at, LANES)
