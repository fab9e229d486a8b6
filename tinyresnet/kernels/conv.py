"""The three matrix products of a convolution: y, dx and dweight.

The references build all windows of the batch, K*K times the size of x, and make one product of them. The kernels work
on a tile of windows at a time, in direct.py, or by Winograd's method, in winograd.py.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import direct, winograd
from tinyresnet.kernels.epilogue import finish_reference, merge_moments, moments_reference
from tinyresnet.kernels.im2col import col2im_reference, im2col_reference, out_size
from tinyresnet.kernels.jit import expect_shapes, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.panels import turned


def conv_forward_reference(x: Array, weight: Array, stride: int, padding: int) -> Array:
    """x (N, H, W, C), weight (K, K, C, O) -> y (N, P, Q, O)."""
    N, H, W, C = x.shape
    K, O = weight.shape[0], weight.shape[3]
    cols = im2col_reference(x, K, stride, padding)  # (N*P*Q, K*K*C)
    return (cols @ weight.reshape(-1, O)).reshape(N, out_size(H, K, stride, padding), -1, O)


@faster_than(conv_forward_reference)
def conv_forward(x, weight, stride, padding):
    """Same as conv_forward_reference."""
    return convolve(x, weight, stride, padding)[0]


def conv_moments_reference(x: Array, weight: Array, stride: int, padding: int) -> tuple[Array, Array, Array]:
    """The convolution's y (N, P, Q, O), and its mean and biased variance (O,) float64, which batch norm needs."""
    y = conv_forward_reference(x, weight, stride, padding)
    return y, *moments_reference(y)


@faster_than(conv_moments_reference)
def conv_moments(x, weight, stride, padding):
    """Same as conv_moments_reference, without reading y again."""
    y, *tiles = convolve(x, weight, stride, padding, moments=True)
    return y, *merge_moments(*tiles)


def conv_finish_reference(x: Array, weight: Array, stride: int, padding: int, bias: Array | None = None,
                          skip: Array | None = None, relu: bool = False, prepared: dict | None = None) -> Array:
    """relu(y + bias + skip) of the convolution's y, with bias (O,) and skip (N, P, Q, O), each only if asked for.

    prepared: a dictionary of one's own for weights that never change, in which is kept what was computed from them.
    """
    return finish_reference(conv_forward_reference(x, weight, stride, padding), bias, skip, relu)


@faster_than(conv_finish_reference)
def conv_finish(x, weight, stride, padding, bias=None, skip=None, relu=False, prepared=None):
    """Same as conv_finish_reference, without reading y again."""
    return convolve(x, weight, stride, padding, bias=bias, skip=skip, relu=relu, prepared=prepared)[0]


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
    K, O = weight.shape[0], weight.shape[3]
    N, H, W, C = shape
    P, Q = (out_size(size, K, stride, padding) for size in (H, W))
    expect_shapes(weight=(weight, (K, K, C, O)), dy=(dy, (N, P, Q, O)), skip=(skip, shape))
    if stride == 1:
        return convolve(dy, turned(weight), 1, K - 1 - padding, skip=skip)[0]
    dx = empty(shape, dy.dtype)
    direct.scatter_input(dy, weight, stride, padding, np.empty(0, dy.dtype) if skip is None else skip, dx)
    return dx


def conv_backward_weight_reference(x: Array, dy: Array, kernel: int, stride: int, padding: int) -> Array:
    """x (N, H, W, C), dy (N, P, Q, O) -> dweight (K, K, C, O), a sum over all windows."""
    cols = im2col_reference(x, kernel, stride, padding)  # (N*P*Q, K*K*C)
    return (cols.T @ dy.reshape(-1, dy.shape[3])).reshape(kernel, kernel, x.shape[3], dy.shape[3])


@faster_than(conv_backward_weight_reference)
def conv_backward_weight(x, dy, kernel, stride, padding):
    """Same as conv_backward_weight_reference."""
    N, H, W, _ = x.shape
    P, Q = (out_size(size, kernel, stride, padding) for size in (H, W))
    expect_shapes(dy=(dy, (N, P, Q, dy.shape[-1])))
    if winograd.suits(x, dy.shape, kernel, stride, padding):
        return winograd.backward_weight(x, dy, padding)
    return direct.backward_weight(x, dy, kernel, stride, padding)


def convolve(x, weight, stride, padding, *, bias=None, skip=None, relu=False, moments=False, prepared=None):
    """y (N, P, Q, O) with its epilogue, by the method that is faster.

    Returns y, and if moments are wanted mean and squares (tiles, O) and the pixels (tiles,) of the tiles of y.
    """
    N, H, W, C = x.shape
    K, O = weight.shape[0], weight.shape[3]
    y = empty((N, out_size(H, K, stride, padding), out_size(W, K, stride, padding), O), x.dtype)
    expect_shapes(weight=(weight, (K, K, C, O)), bias=(bias, (O,)), skip=(skip, y.shape))
    if not y.size:
        raise ValueError(f"expected at least one image and filter, got x {x.shape} and weight {weight.shape}")
    method = winograd if winograd.suits(x, y.shape, K, stride, padding) else direct
    pixels = method.pixels_of_tiles(y.shape) if moments else np.empty(0, int)
    mean, squares = np.empty((2, len(pixels), O))
    bias, skip = (np.empty(0, x.dtype) if term is None else term for term in (bias, skip))
    method.forward(x, weight, stride, padding, prepared, y, bias, skip.reshape(-1, O), bool(relu), mean, squares)
    return y, mean, squares, pixels
