"""Convolution a tile of windows at a time.

The windows of some output rows are gathered into a tile that stays in the cache and multiplied; what is asked for is done
to y while it is there, too; then the tile is forgotten. A row is a (n, p): tiles run on from one image into the next.
They are cut by shape, and sums are added in a fixed order: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.blas import PANEL, product
from tinyresnet.kernels.epilogue import finish, tile_moments
from tinyresnet.kernels.im2col import im2col
from tinyresnet.kernels.jit import compiled, expect_shapes
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.panels import in_panels, kept, packed, transposed
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.windows import copy, gather, scatter

TILE = 224  # windows in a tile: some whole rows of each of ResNet's images; 200 to 800 were equally fast
FEW = 4  # tiles
COLUMNS = 512  # output channels in a tile, so that y stays in the second-level cache
SPAN = 4096  # numbers that are added together


def rows_in_tile(shape: tuple) -> int:
    """Of y (N, P, Q, O); a number of tiles that divides well among threads."""
    N, P, Q, _ = shape
    number = -(-N * P * Q // TILE)
    return -(-N * P // (number if number < FEW else -(-number // FEW) * FEW))


def pixels_of_tiles(shape: tuple) -> Array:
    """Pixels of y (N, P, Q, O) in each tile."""
    N, P, Q, _ = shape
    rows = rows_in_tile(shape)
    return np.minimum(rows, N * P - np.arange(0, N * P, rows)) * Q


def forward(x, weight, stride, padding, prepared, y, *epilogue):
    """y = x convolved with weight, finished. The weights in panels are kept in prepared, or taken from there.

    Few tiles are cut into narrower columns, pieces of work for all threads, after their windows were gathered once; for
    them alone, weights are not laid into panels.
    """
    N, P, Q, O = y.shape
    K, rows = weight.shape[0], rows_in_tile(y.shape)
    number = -(-N * P // rows)
    columns = min(COLUMNS, O) if number >= FEW else -(-O * number // (2 * FEW * PANEL)) * PANEL
    if prepared is None and number < FEW:
        panels = weight.reshape(1, -1, O)
    else:
        panels = kept(prepared, "panels", packed, weight)
        expect_shapes(panels=(panels, in_panels(weight.size // O, O)))
    if number < FEW and (K, stride, padding) != (1, 1, 0):
        x, K, stride, padding = im2col(x, K, stride, padding).reshape(N, P, Q, -1), 1, 1, 0
    launch(forward_tiles, number * -(-O // columns), x, K, stride, padding, panels, rows, columns, y, *epilogue)


def scatter_input(dy, weight, stride, padding, skip, dx):
    """dx = skip, or zero if it has no elements, plus what each window's gradient is for its pixels."""
    N, P, Q, O = dy.shape
    K = weight.shape[0]
    rows, images = max(1, TILE // Q), max(1, min(TILE // (P * Q), (N + 3) // 4))
    launch(scatter_tiles, -(-N // images), dy, K, stride, padding, transposed(weight), rows, images, skip.reshape(-1), dx)


def backward_weight(x, dy, kernel, stride, padding):
    """dweight (K, K, C, O)."""
    N, P, Q, O = dy.shape
    rows = max(1, 2 * TILE // Q)
    group_rows, groups = groups_of(N * P, rows // 2, kernel * kernel * x.shape[3] * O)
    columns = O if groups > 1 else max(64, -(-O // 4))
    sums = empty((groups, kernel, kernel, x.shape[3], O), x.dtype)
    launch(weight_tiles, groups * -(-O // columns), x, dy, stride, padding, rows, group_rows, columns, sums)
    return add_up(sums)


def groups_of(rows: int, least: int, weights: int) -> tuple[int, int]:
    """Rows in a group, at least so many, and number of groups that have a sum of so many weights each.

    Every sum must be written, read and added: four of large ones, eight of others.
    """
    group_rows = max(1, least, -(-rows // (8 if weights <= 1 << 17 else 4)))
    return group_rows, -(-rows // group_rows)


def add_up(sums: Array) -> Array:
    """The sum over the first axis, in order."""
    if len(sums) == 1:
        return sums[0]
    total = empty(sums.shape[1:], sums.dtype)
    launch(add_groups, -(-total.size // SPAN), sums.reshape(len(sums), -1), total.reshape(-1))
    return total


@compiled
def forward_tiles(first, last, x, K, stride, padding, panels, rows, columns, y, bias, skip, relu, mean, squares):
    """y = x convolved with the weights in panels, finished; mean and squares of each tile, unless they have no elements."""
    N, P, Q, O = y.shape
    number, depth, width = panels.shape
    chunks, step = (O + columns - 1) // columns, 1 if number == 1 else depth
    weight, values, pixels = panels.reshape(-1), y.reshape(-1), y.reshape(-1, O)
    for task in range(first, last):
        tile, o0 = task // chunks, task % chunks * columns
        o1, start, end = min(O, o0 + columns), tile * rows, min(N * P, (tile + 1) * rows)
        cols = gather(x, start, end, P, Q, K, stride, padding)  # (pixels, K*K*C)
        product(cols.reshape(-1), depth, False, weight[o0 * step :], width, step, values[start * Q * O + o0 :], O,
                (end - start) * Q, o1 - o0, depth, 0)
        if len(bias) or len(skip) or relu:
            finish(pixels, start * Q, end * Q, o0, o1, bias, skip, relu)
        if len(mean):
            tile_moments(pixels, start * Q, end * Q, o0, o1, mean[tile], squares[tile])


@compiled
def weight_tiles(first, last, x, dy, stride, padding, rows, group_rows, columns, sums):
    """sums (groups, K, K, C, O) = the products of each group's tiles."""
    N, P, Q, O = dy.shape
    K, depth, chunks = sums.shape[1], sums[0].size // O, (O + columns - 1) // columns
    for task in range(first, last):
        group, o0 = task // chunks, task % chunks * columns
        o1, group_end = min(O, o0 + columns), min(N * P, (group + 1) * group_rows)
        for start in range(group * group_rows, group_end, rows):
            end = min(group_end, start + rows)
            cols = gather(x, start, end, P, Q, K, stride, padding)  # (pixels, K*K*C)
            product(cols.reshape(-1), depth, True, dy.reshape(-1)[start * Q * O + o0 :], O, 1,
                    sums[group].reshape(-1)[o0:], O, depth, o1 - o0, (end - start) * Q,
                    int(start > group * group_rows))


@compiled
def add_groups(first, last, sums, total):
    """total (numbers,) = sums[0] + sums[1] + ..., in this order, of sums (groups, numbers), in blocks of numbers."""
    for block in range(first, last):
        result = total[block * SPAN : (block + 1) * SPAN]
        copy(sums[0, block * SPAN : (block + 1) * SPAN], result)
        for group in range(1, len(sums)):
            part = sums[group, block * SPAN : (block + 1) * SPAN]
            for i in range(len(result)):
                result[i] += part[i]


@compiled
def scatter_tiles(first, last, dy, K, stride, padding, panels, rows, images, skip, dx):
    """dx = skip + the gradient of every window, by the transposed weights (O, K*K*C) in panels.

    A tile is some whole images, because windows overlap.
    """
    N, P, Q, O = dy.shape
    size, values = images * dx[0].size, dx.reshape(-1)
    depth, width, step = K * K * dx.shape[3], panels.shape[2], 1 if len(panels) == 1 else O
    dcols = np.empty((rows * Q, depth), dtype=dy.dtype)
    for owned in range(first, last):
        if len(skip):
            copy(skip[owned * size : (owned + 1) * size], values[owned * size : (owned + 1) * size])
        else:
            values[owned * size : (owned + 1) * size] = 0
        last_row = min(N, (owned + 1) * images) * P
        for start in range(owned * images * P, last_row, rows):
            end = min(last_row, start + rows)
            product(dy.reshape(-1)[start * Q * O :], O, False, panels.reshape(-1), width, step, dcols.reshape(-1), depth,
                    (end - start) * Q, depth, O, 0)
            scatter(dcols, dx, start, end, P, Q, K, stride, padding)
