"""The shortcut without parameters: every other pixel, between channels of zeros."""

import definitions
import numpy as np
import pytest

from tinyresnet.gradcheck import gradient_errors, prepared
from tinyresnet.layers import Conv2d, PaddedIdentity

SIZES = [(6, 8), (5, 8), (33, 33), (1, 2), (1, 1)]


def normal(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def test_every_other_pixel_lies_between_channels_of_zeros():
    x = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])[None, :, :, None] * [1, 10]  # (1, 3, 3, 2)
    y = PaddedIdentity(2, 4, stride=2).forward(x)
    np.testing.assert_array_equal(y, [[[[0, 1, 10, 0], [0, 3, 30, 0]], [[0, 7, 70, 0], [0, 9, 90, 0]]]])


def test_the_gradient_returns_to_the_pixels_that_were_passed_on():
    layer = PaddedIdentity(1, 3, stride=2)
    layer.forward(np.ones((1, 3, 2, 1)))
    dx = layer.backward(np.array([[-1.0, 5, -1], [-1, 6, -1]]).reshape(1, 2, 1, 3))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[5, 0], [0, 0], [6, 0]])


@pytest.mark.parametrize("into, out", [(16, 32), (32, 64), (3, 4), (1, 2), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("N", [1, 2])
def test_forward_is_its_equation(N, size, stride, into, out):
    x = normal(N, *size, into, dtype=np.float32)
    y = PaddedIdentity(into, out, stride=stride).forward(x)
    np.testing.assert_array_equal(y, definitions.padded_identity(x, out, stride))
    assert y.dtype == np.float32


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 4), (4, 3), (1, 1)])
def test_backward_is_the_derivative_of_forward(size, stride):
    gradient_errors(prepared(PaddedIdentity(2, 5, stride=stride)), normal(2, *size, 2)).require(1e-9)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_its_output_has_the_size_of_the_3x3_convolutions(size, stride):
    shape = (2, *size, 3)
    y = PaddedIdentity(3, 4, stride=stride).output_shape(shape)
    assert y == Conv2d(3, 4, 3, stride=stride, padding=1).output_shape(shape)


def test_gradients_have_the_dtype_of_x():
    layer = PaddedIdentity(2, 4, stride=2)
    assert layer.backward(layer.forward(normal(1, 5, 4, 2, dtype=np.float32))).dtype == np.float32


def test_one_backward_is_answered_for_each_forward():
    layer, x = PaddedIdentity(2, 4, stride=2), normal(1, 4, 4, 2)
    dy = layer.forward(x)
    layer.backward(dy)
    with pytest.raises(RuntimeError, match="needs a forward in train mode"):
        layer.backward(dy)


@pytest.mark.parametrize("x, words", [
    (np.ones((1, 4, 4, 2), np.int64), "expected x of dtype float32, got int64"),
    (np.ones((1, 4, 4, 3), np.float32), "expected 2 input channels"), (np.ones((4, 4, 2), np.float32), "input channels"),
    (np.ones((0, 4, 4, 2), np.float32), "non-empty")])
def test_input_that_does_not_fit_is_refused(x, words):
    with pytest.raises(ValueError, match=words):
        PaddedIdentity(2, 4, stride=2).forward(x)


@pytest.mark.parametrize("into, out, stride", [(4, 2, 2), (0, 2, 2), (2, 4, 0)])
def test_a_geometry_that_is_none_is_refused(into, out, stride):
    with pytest.raises(ValueError, match=rf"got PaddedIdentity\({into}, {out}, stride={stride}\)"):
        PaddedIdentity(into, out, stride=stride)
