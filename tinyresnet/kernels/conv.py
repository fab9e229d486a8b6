"""The three matrix products of a convolution, a tile of windows at a time.

The references build all windows of the batch, K*K times the size of x, and make one product of them. The kernels gather
the windows of some output rows into a tile that stays in the cache, multiply, finish what is asked for while y is there,
too, and forget it. A row is a (n, p): tiles run on from one image into the next. They are cut by shape, and sums are
added in a fixed order: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import winograd
from tinyresnet.kernels.blas import product
from tinyresnet.kernels.epilogue import finish, finish_reference, merge_moments, moments_reference, tile_moments
from tinyresnet.kernels.im2col import col2im_reference, im2col_reference, out_size
from tinyresnet.kernels.jit import compiled, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.windows import gather, scatter

TILE = 224  # windows in a tile: some whole rows of each of ResNet's images; 200 to 800 were equally fast
COLUMNS = 512  # output channels in a tile, so that y stays in the second-level cache
SPAN = 4096  # numbers that are added together
BLOCK = 32  # rows of weights that are transposed together


def conv_forward_reference(x: Array, weight: Array, stride: int, padding: int) -> Array:
    """x (N, H, W, C), weight (K, K, C, O) -> y (N, P, Q, O)."""
    N, H, W, C = x.shape
    K, O = weight.shape[0], weight.shape[3]
    cols = im2col_reference(x, K, stride, padding)  # (N*P*Q, K*K*C)
    return (cols @ weight.reshape(-1, O)).reshape(N, out_size(H, K, stride, padding), -1, O)


@faster_than(conv_forward_reference)
def conv_forward(x, weight, stride, padding):
    """Same as conv_forward_reference."""
    return convolve(x, weight, stride, padding)


def conv_moments_reference(x: Array, weight: Array, stride: int, padding: int) -> tuple[Array, Array, Array]:
    """The convolution's y (N, P, Q, O), and its mean and biased variance (O,) float64, which batch norm needs."""
    y = conv_forward_reference(x, weight, stride, padding)
    return y, *moments_reference(y)


@faster_than(conv_moments_reference)
def conv_moments(x, weight, stride, padding):
    """Same as conv_moments_reference, without reading y again."""
    tiles: list[Array] = []
    y = convolve(x, weight, stride, padding, moments=tiles)
    return y, *merge_moments(*tiles)


def conv_finish_reference(x: Array, weight: Array, stride: int, padding: int, bias: Array | None = None,
                          skip: Array | None = None, relu: bool = False, prepared: dict | None = None) -> Array:
    """relu(y + bias + skip) of the convolution's y, with bias (O,) and skip (N, P, Q, O), each only if asked for.

    prepared: a dictionary of one's own for weights that never change, in which to keep what was computed from them.
    """
    return finish_reference(conv_forward_reference(x, weight, stride, padding), bias, skip, relu)


@faster_than(conv_finish_reference)
def conv_finish(x, weight, stride, padding, bias=None, skip=None, relu=False, prepared=None):
    """Same as conv_finish_reference, without reading y again."""
    return convolve(x, weight, stride, padding, bias=bias, skip=skip, relu=relu, prepared=prepared)


def conv_backward_input_reference(dy: Array, weight: Array, shape: tuple, stride: int, padding: int,
                                  skip: Array | None = None) -> Array:
    """dy (N, P, Q, O), weight (K, K, C, O) -> dx (N, H, W, C) of this shape, plus skip (N, H, W, C) if there is one."""
    K, O = weight.shape[0], weight.shape[3]
    dcols = dy.reshape(-1, O) @ weight.reshape(-1, O).T  # (N*P*Q, K*K*C)
    return finish_reference(col2im_reference(dcols, shape, K, stride, padding), None, skip, False)


@faster_than(conv_backward_input_reference)
def conv_backward_input(dy, weight, shape, stride, padding, skip=None):
    """Same as conv_backward_input_reference.

    With stride 1, dx is itself a convolution, of dy with the weights turned round; only a larger stride must scatter.
    """
    K = weight.shape[0]
    if stride == 1 and padding < K:
        return convolve(dy, turned(weight, K), 1, K - 1 - padding, skip=skip)
    dx = empty(shape, dy.dtype)
    dx[:] = 0 if skip is None else skip
    N, P, Q, O = dy.shape
    rows, images = max(1, TILE // Q), max(1, min(TILE // (P * Q), (N + 3) // 4))
    launch(scatter_tiles, -(-N // images), dy, turned(weight, 1).reshape(O, K, K, -1), stride, padding, rows, images, dx)
    return dx


def conv_backward_weight_reference(x: Array, dy: Array, kernel: int, stride: int, padding: int) -> Array:
    """x (N, H, W, C), dy (N, P, Q, O) -> dweight (K, K, C, O), a sum over all windows."""
    cols = im2col_reference(x, kernel, stride, padding)  # (N*P*Q, K*K*C)
    return (cols.T @ dy.reshape(-1, dy.shape[3])).reshape(kernel, kernel, x.shape[3], dy.shape[3])


@faster_than(conv_backward_weight_reference)
def conv_backward_weight(x, dy, kernel, stride, padding):
    """Same as conv_backward_weight_reference: up to eight groups of tiles have a sum each, which are added in order."""
    if winograd.suits(x, dy.shape, kernel, stride, padding):
        return winograd.backward_weight(x, dy, padding)
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
    """The sum over the first axis, in order, in memory of its own."""
    if len(sums) > 1:
        launch(add_groups, -(-sums[0].size // SPAN), sums.reshape(len(sums), -1))
    return sums[0].copy()


def convolve(x, weight, stride, padding, *, bias=None, skip=None, relu=False, moments=None, prepared=None):
    """y (N, P, Q, O) of a convolution with its epilogue, by Winograd's method where that is faster.

    moments: a list that is given mean and squares (tiles, O) and the number of pixels of each tile (tiles,).
    """
    N, H, W, _ = x.shape
    K, O = weight.shape[0], weight.shape[3]
    y = empty((N, out_size(H, K, stride, padding), out_size(W, K, stride, padding), O), x.dtype)
    nothing = np.empty(0, x.dtype)
    epilogue = (nothing if bias is None else bias, (nothing if skip is None else skip).reshape(-1, O), relu)
    if winograd.suits(x, y.shape, K, stride, padding):
        counts = winograd.strips(y.shape)
        statistics = np.empty((2, len(counts) if moments is not None else 0, O))
        points = None if prepared is None else prepared.get("winograd")
        points = winograd.weights(weight) if points is None else points
        if prepared is not None:
            prepared["winograd"] = points
        winograd.forward(x, points, padding, y, *epilogue, *statistics)
    else:
        counts, rows, columns = tiles(y.shape)
        statistics = np.empty((2, len(counts) if moments is not None else 0, O))
        launch(forward_tiles, len(counts) * -(-O // columns), x, weight, stride, padding, rows, columns, y, *epilogue,
               *statistics)
    if moments is not None:
        moments.extend([*statistics, counts])
    return y


def turned(weight: Array, K: int) -> Array:
    """weight (K, K, C, O) -> (K, K, O, C), with u and v reversed: the weights that take dy back to dx."""
    C, O = weight.size // (K * K * weight.shape[-1]), weight.shape[-1]
    result = empty((K, K, O, C), weight.dtype)
    launch(turn_tiles, K * K * -(-C // BLOCK), weight.reshape(K * K, C, O), result.reshape(K * K, O, C))
    return result


def tiles(shape: tuple) -> tuple[Array, int, int]:
    """How y (N, P, Q, O) is cut: the pixels of each tile, rows of pixels in a tile, channels in a column of tiles.

    Few tiles are cut into narrower columns, so that there are pieces of work for all threads.
    """
    N, P, Q, O = shape
    number = -(-N * P * Q // TILE)
    rows = -(-N * P // (number if number < 4 else -(-number // 4) * 4))
    number = -(-N * P // rows)
    counts = np.full(number, rows * Q)
    counts[-1] = (N * P - (number - 1) * rows) * Q
    return counts, rows, min(COLUMNS, O if number >= 4 else max(64, -(-O * number // 8)))


@compiled
def forward_tiles(first, last, x, weight, stride, padding, rows, columns, y, bias, skip, relu, mean, squares):
    """y = x convolved with weight, finished; mean and squares of each tile, unless they have no elements."""
    N, P, Q, O = y.shape
    K, depth, chunks = weight.shape[0], weight.size // O, (O + columns - 1) // columns
    w, values, pixels = weight.reshape(-1), y.reshape(-1), y.reshape(-1, O)
    for task in range(first, last):
        tile, o0 = task // chunks, task % chunks * columns
        o1, start, end = min(O, o0 + columns), tile * rows, min(N * P, (tile + 1) * rows)
        cols = gather(x, start, end, P, Q, K, stride, padding)  # (pixels, K*K*C)
        product(cols.reshape(-1), depth, False, w[o0:], O, values[start * Q * O + o0 :], O,
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
            product(cols.reshape(-1), depth, True, dy.reshape(-1)[start * Q * O + o0 :], O,
                    sums[group].reshape(-1)[o0:], O, depth, o1 - o0, (end - start) * Q, start > group * group_rows)


@compiled
def add_groups(first, last, sums):
    """sums[0] += sums[1] + sums[2] + ..., in this order, for blocks of the numbers of sums (groups, numbers)."""
    for block in range(first, last):
        total = sums[0, block * SPAN : (block + 1) * SPAN]
        for group in range(1, len(sums)):
            part = sums[group, block * SPAN : (block + 1) * SPAN]
            for i in range(len(total)):
                total[i] += part[i]


@compiled
def turn_tiles(first, last, weight, result):
    """result (n, O, C) = weight (n, C, O), each matrix transposed and their order reversed."""
    n, C, O = weight.shape
    blocks = (C + BLOCK - 1) // BLOCK
    for tile in range(first, last):
        source, target = weight[tile // blocks], result[n - 1 - tile // blocks]
        c0 = tile % blocks * BLOCK
        for o in range(O):
            row = target[o, c0 : c0 + BLOCK]
            for c in range(len(row)):
                row[c] = source[c0 + c, o]


@compiled
def scatter_tiles(first, last, dy, weight, stride, padding, rows, images, dx):
    """dx += the gradient of every window, by weight (O, K, K, C); a tile is some whole images, because windows overlap."""
    N, P, Q, O = dy.shape
    K, depth, w = weight.shape[1], weight.size // O, weight.reshape(-1)
    dcols = np.empty((rows * Q, depth), dtype=dy.dtype)
    end_row = min(N, last * images) * P
    for start in range(first * images * P, end_row, rows):
        end = min(end_row, start + rows)
        product(dy.reshape(-1)[start * Q * O :], O, False, w, depth, dcols.reshape(-1), depth,
                (end - start) * Q, depth, O, 0)
        scatter(dcols, dx, start, end, P, Q, K, stride, padding)
