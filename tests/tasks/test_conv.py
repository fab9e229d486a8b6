"""Convolution, and the two functions that make it a matrix product."""

from functools import partial

import definitions
import numpy as np
import pytest
from kit import (built, check_backward, check_float32, check_float32_backward, check_once, check_values, normal,
                 refuse_upcast)

from tinyresnet.layers import Conv2d as OurConv2d

RESNET50_GEOMETRIES = [(1, 1, 0), (3, 1, 1), (1, 2, 0), (3, 2, 1), (7, 2, 3)]  # kernel, stride, padding
SIZES = [(7, 8), (8, 9)]  # odd and even, never square; each leaves a remainder


@pytest.mark.task("conv-forward", points=2)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
@pytest.mark.parametrize("bias", [False, True])
def test_conv2d_forward_is_its_equation(Conv2d, kernel, stride, padding, size, bias):
    def make(Conv2d):
        layer = Conv2d(3, 4, kernel, stride=stride, padding=padding, bias=bias)
        if bias:
            layer.bias = normal(4, seed=1)
        return layer

    x, layer = normal(2, *size, 3), built("Conv2d", Conv2d, make)
    right = definitions.convolution(x, layer.weight, stride, padding, layer.bias if bias else 0)
    check_values("Conv2d", Conv2d, lambda Conv2d: {"y": built("Conv2d", Conv2d, make).forward(x)}, {"y": right})


@pytest.mark.task("conv-forward", points=2)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_conv2d_in_float32_stays_float32(Conv2d, kernel, stride, padding):
    check_float32("Conv2d", Conv2d, lambda Conv2d: Conv2d(3, 4, kernel, stride=stride, padding=padding), normal(2, 7, 8, 3))


@pytest.mark.task("conv-backward", points=3)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("N", [2, 1])
def test_conv2d_backward_is_the_derivative_of_forward(Conv2d, kernel, stride, padding, size, bias, N):
    errors = check_backward("Conv2d", Conv2d, lambda Conv2d: Conv2d(3, 4, kernel, stride=stride, padding=padding, bias=bias),
                            normal(N, *size, 3))
    assert set(errors) == {"dx", "weight"} | ({"bias"} if bias else set())


@pytest.mark.task("conv-backward", points=3)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_conv2d_backward_in_float32_stays_float32(Conv2d, kernel, stride, padding):
    check_float32_backward("Conv2d", Conv2d, lambda Conv2d: Conv2d(3, 4, kernel, stride=stride, padding=padding),
                           normal(2, 7, 8, 3))


@pytest.mark.task("conv-backward", points=3)
def test_a_frozen_conv2d_still_passes_the_gradient_on(Conv2d):
    errors = check_backward("Conv2d", Conv2d, lambda Conv2d: Conv2d(3, 4, 3, stride=2, padding=1), normal(2, 7, 8, 3),
                            frozen=True)
    assert set(errors) == {"dx"}


@pytest.mark.task("conv-once", points=1)
def test_conv2d_answers_one_backward_for_each_forward(Conv2d):
    check_once("Conv2d", Conv2d, lambda Conv2d: Conv2d(3, 4, 3), normal(2, 7, 8, 3))


@pytest.mark.task("im2col", points=2)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_im2col_is_the_definition_of_a_window(im2col, kernel, stride, padding, size, dtype):
    x = normal(2, *size, 3, dtype=dtype)
    right = definitions.im2col(x, kernel, stride, padding)
    check_values("im2col", im2col, lambda im2col: {"cols": im2col(x, kernel, stride, padding)}, {"cols": right})
    refuse_upcast("im2col", im2col(x, kernel, stride, padding), dtype)


@pytest.mark.task("col2im", points=2)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_col2im_adds_every_window_back_to_its_pixels(col2im, kernel, stride, padding, size):
    shape = (2, *size, 3)
    cols = normal(*definitions.im2col(np.zeros(shape), kernel, stride, padding).shape)
    right = definitions.col2im(cols, shape, kernel, stride, padding)
    check_values("col2im", col2im, lambda col2im: {"x": col2im(cols, shape, kernel, stride, padding)}, {"x": right})
    refuse_upcast("col2im", col2im(cols.astype(np.float32), shape, kernel, stride, padding), np.float32)


@pytest.mark.task("col2im", points=2)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_col2im_is_the_adjoint_of_im2col(col2im, kernel, stride, padding):
    x = np.random.default_rng(0).integers(-9, 9, (2, 7, 8, 3)).astype(np.float64)  # whole numbers: both sums are exact
    cols = definitions.im2col(x, kernel, stride, padding)
    c = np.random.default_rng(1).integers(-9, 9, cols.shape).astype(np.float64)
    back = col2im(c, x.shape, kernel, stride, padding)
    assert np.sum(cols * c) == np.sum(x * back), "<im2col(x), c> is not <x, col2im(c)>"


class Conv2dOn(OurConv2d):
    """The convolution of the textbook, made of a given im2col and col2im."""

    def __init__(self, *arguments, im2col=definitions.im2col, col2im=definitions.col2im, **options):
        super().__init__(*arguments, **options)
        self.im2col, self.col2im = im2col, col2im

    def forward(self, x):
        K, _, _, O = self.weight.shape
        self.save(x)
        y = self.im2col(x, K, self.stride, self.padding) @ self.weight.reshape(-1, O)  # (N*P*Q, O)
        return y.reshape(self.output_shape(x.shape))

    def backward(self, dy):
        (x,) = self.saved()
        K, _, _, O = self.weight.shape
        cols, dy = self.im2col(x, K, self.stride, self.padding), dy.reshape(-1, O)
        self.grads["weight"] = (cols.T @ dy).reshape(self.weight.shape)
        return self.col2im(dy @ self.weight.reshape(-1, O).T, x.shape, K, self.stride, self.padding)


@pytest.mark.task("im2col", points=2)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_a_convolution_on_this_im2col_has_the_right_gradient(im2col, kernel, stride, padding):
    check_backward("Conv2d", partial(Conv2dOn, im2col=im2col), lambda Conv2d: Conv2d(
        3, 4, kernel, stride=stride, padding=padding), normal(2, 5, 6, 3))


@pytest.mark.task("col2im", points=2)
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
def test_a_convolution_on_this_col2im_has_the_right_gradient(col2im, kernel, stride, padding):
    check_backward("Conv2d", partial(Conv2dOn, col2im=col2im), lambda Conv2d: Conv2d(
        3, 4, kernel, stride=stride, padding=padding), normal(2, 5, 6, 3))
