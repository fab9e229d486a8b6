"""Numba kernels against their NumPy references, and im2col against the definition."""

import numpy as np
import pytest

from tinyresnet.kernels.batchnorm import (gradient_sums, gradient_sums_reference, input_gradient, input_gradient_reference,
                                          moments, moments_reference, normalise, normalise_reference)
from tinyresnet.kernels.conv import (conv_backward_input, conv_backward_input_reference, conv_backward_weight,
                                     conv_backward_weight_reference, conv_finish, conv_finish_reference, conv_forward,
                                     conv_forward_reference, conv_moments, conv_moments_reference)
from tinyresnet.kernels.im2col import col2im, col2im_reference, im2col, im2col_reference, out_size
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.kernels.pooling import maxpool, maxpool_backward, maxpool_backward_reference, maxpool_reference, pool_size

# kernel, stride, padding of ResNet-50's convolutions, and three that are not; the last has windows of nothing but padding
GEOMETRIES = [(7, 2, 3), (1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 0), (4, 1, 3), (1, 20, 40)]
SIZES = [(7, 8), (8, 9), (10, 5)]  # odd and even, never square
POOLS = [(3, 2, 1, False), (3, 2, 0, True), (3, 2, 0, False), (2, 2, 0, False), (2, 3, 1, True), (3, 1, 1, False)]
numba_only = pytest.mark.skipif(KERNELS == "reference", reason="NumPy computes with any numbers")

PRODUCTS = {"y": (conv_forward, conv_forward_reference), "dweight": (conv_backward_weight, conv_backward_weight_reference),
            "dx": (conv_backward_input, conv_backward_input_reference)}
ROUNDING = [(np.float32, 2e-6), (np.float64, 4e-15)]  # some units in the last place: sums in another order


def arguments(product, x, weight, dy, stride, padding):
    """What the kernel of this product takes."""
    first = {"y": (x, weight), "dweight": (x, dy, len(weight)), "dx": (dy, weight, x.shape)}
    return *first[product], stride, padding


def both(product, x_shape, weight_shape, stride, padding, dtype):
    """What the kernel and its reference give for random arrays of these shapes."""
    x, weight = normals(x_shape, weight_shape, dtype=dtype)
    (dy,) = normals(conv_forward_reference(x, weight, stride, padding).shape, dtype=dtype)
    return [function(*arguments(product, x, weight, dy, stride, padding)) for function in PRODUCTS[product]]


def normals(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def largest_error(fast, plain):
    """Of the largest number."""
    assert fast.shape == plain.shape
    return np.abs(fast - plain).max() / np.abs(plain).max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_im2col_moves_the_same_numbers_as_its_reference(kernel, stride, padding, size, dtype):
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(dtype)
    cols = im2col(x, kernel, stride, padding)
    np.testing.assert_array_equal(cols, im2col_reference(x, kernel, stride, padding))
    assert cols.dtype == dtype


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
def test_im2col_reference_is_the_definition_of_a_window(kernel, stride, padding, size):
    x = np.random.default_rng(0).standard_normal((2, *size, 3))
    P, Q = (out_size(s, kernel, stride, padding) for s in size)
    cols = im2col_reference(x, kernel, stride, padding).reshape(2, P, Q, kernel, kernel, 3)
    for n, p, q, u, v, c in np.ndindex(cols.shape):
        i, j = p * stride + u - padding, q * stride + v - padding
        inside = 0 <= i < size[0] and 0 <= j < size[1]
        assert cols[n, p, q, u, v, c] == (x[n, i, j, c] if inside else 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_col2im_adds_to_the_same_bits_as_its_reference(kernel, stride, padding, size, dtype):
    rng = np.random.default_rng(0)
    cols = rng.standard_normal(im2col_reference(np.empty((2, *size, 3)), kernel, stride, padding).shape).astype(dtype)
    x = col2im(cols, (2, *size, 3), kernel, stride, padding)
    np.testing.assert_array_equal(x, col2im_reference(cols, (2, *size, 3), kernel, stride, padding))
    assert x.dtype == dtype


@pytest.mark.parametrize("transform", [im2col, im2col_reference])
@pytest.mark.parametrize("back", [col2im, col2im_reference])
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
def test_col2im_is_the_adjoint_of_im2col(transform, back, kernel, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (2, 7, 8, 3)).astype(np.float64)  # whole numbers: both sums are exact
    cols = transform(x, kernel, stride, padding)
    c = rng.integers(-9, 9, cols.shape).astype(np.float64)
    assert np.sum(cols * c) == np.sum(x * back(c, x.shape, kernel, stride, padding))


@pytest.mark.parametrize("layout", ["fortran", "strided", "read-only"])
def test_im2col_takes_arrays_of_any_layout(layout):
    x = np.random.default_rng(0).standard_normal((2, 8, 18, 3)).astype(np.float32)
    x = {"fortran": np.asfortranarray(x), "strided": x[:, :, ::2], "read-only": x}[layout]
    x.flags.writeable = layout != "read-only"
    np.testing.assert_array_equal(im2col(x, 3, 2, 1), im2col_reference(x, 3, 2, 1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", POOLS)
@pytest.mark.parametrize("values", ["normal", "ties", "negative", "NaN and infinity"])
def test_maxpool_equals_its_reference(kernel, stride, padding, ceil_mode, size, values):
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    x = {"normal": x, "ties": np.round(x), "negative": x - 10, "NaN and infinity": x}[values]
    if values == "NaN and infinity":
        x[0, 2, 3], x[1, 4, :2] = np.nan, -np.inf
    P, Q = (pool_size(s, kernel, stride, padding, ceil_mode) for s in size)
    fast, plain = (f(x, kernel, stride, padding, P, Q) for f in (maxpool, maxpool_reference))
    np.testing.assert_array_equal(fast[0], plain[0])
    np.testing.assert_array_equal(fast[1], plain[1])
    dy = np.random.default_rng(1).standard_normal(fast[0].shape).astype(np.float32)
    back = [f(dy, fast[1], x.shape, kernel, stride, padding) for f in (maxpool_backward, maxpool_backward_reference)]
    np.testing.assert_array_equal(*back)
    assert back[0].dtype == np.float32


def test_maxpool_gives_a_tie_to_the_first():
    dx = maxpool_backward(np.ones((1, 1, 1, 1)), maxpool(np.ones((1, 2, 2, 1)), 2, 2, 0, 1, 1)[1], (1, 2, 2, 1), 2, 2, 0)
    assert dx.ravel().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("size, ceil_windows, floor_windows", [(112, 56, 55), (113, 56, 56), (8, 4, 3), (7, 3, 3)])
def test_caffes_ceil_rule_adds_a_window_where_the_stride_leaves_a_remainder(size, ceil_windows, floor_windows):
    assert pool_size(size, 3, 2, 0, ceil_mode=True) == ceil_windows
    assert pool_size(size, 3, 2, 0) == floor_windows


def test_no_window_of_caffes_ceil_rule_begins_outside_the_image():
    assert pool_size(5, 2, 3, 1, ceil_mode=True) == 2  # windows begin at -1 and 2; one at 5 would hold padding alone


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="7x7 window does not fit into 3 pixels"):
        out_size(3, 7, 1, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("dtype, bound", ROUNDING)
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_three_products_of_a_convolution_equal_their_references(product, kernel, stride, padding, size, dtype, bound):
    fast, plain = both(product, (3, *size, 3), (kernel, kernel, 3, 5), stride, padding, dtype)
    assert largest_error(fast, plain) < bound and fast.dtype == dtype


PIXELS = [(2, 7, 8, 3), (3, 65, 72, 5), (1, 1, 1, 4), (2, 16, 32, 3)]  # less than a tile, many and a part, one pixel, two
PRECISIONS = [(np.float32, 1e-5), (np.float64, 1e-12)]  # rounding of sums in another order


@pytest.mark.parametrize("shape", PIXELS)
@pytest.mark.parametrize("dtype, rtol", PRECISIONS)
def test_the_sums_of_batch_norm_equal_their_references(shape, dtype, rtol):
    x, dy = (np.random.default_rng(seed).standard_normal(shape).astype(dtype) + dtype(1) for seed in (0, 1))
    mean = x.mean(axis=(0, 1, 2))
    for fast, plain in [*zip(moments(x), moments_reference(x)),
                        *zip(gradient_sums(dy, x, mean)[1:], gradient_sums_reference(dy, x, mean)[1:])]:
        np.testing.assert_allclose(fast, plain, rtol=rtol, atol=rtol)
        assert fast.dtype == np.float64


@pytest.mark.parametrize("shape", PIXELS)
@pytest.mark.parametrize("dtype, rtol", PRECISIONS)
def test_the_elementwise_passes_of_batch_norm_equal_their_references(shape, dtype, rtol):
    rng = np.random.default_rng(0)
    x, dy, factors = (rng.standard_normal(size).astype(dtype) for size in (shape, shape, (3, shape[3])))
    mean, scale, shift = factors
    for fast, plain in [(normalise(x, mean, scale, shift), normalise_reference(x, mean, scale, shift)),
                        (input_gradient(dy, x, mean, factors), input_gradient_reference(dy, x, mean, factors))]:
        np.testing.assert_allclose(fast, plain, rtol=rtol, atol=rtol)
        assert fast.dtype == dtype and fast.shape == shape


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("pixel", [0, 511, 512, 4095])  # in the first tile, and in the last
def test_the_moments_of_infinity_are_those_of_numpy(pixel, value):
    x = np.ones((1, 64, 64, 2))
    x.reshape(-1, 2)[pixel, 0] = value
    with np.errstate(invalid="ignore"):
        for fast, plain in zip(moments(x), moments_reference(x)):
            np.testing.assert_array_equal(fast, plain)


def test_a_variance_far_from_zero_does_not_cancel():
    """E[x*x] - mean*mean in float32 gives anything from -10 to 10 here."""
    x = (1000 + np.random.default_rng(0).standard_normal((4, 33, 40, 2))).astype(np.float32)
    np.testing.assert_allclose(moments(x)[1], x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-9)  # sums in float64


ODD = [  # x and weight; one channel or image, and channels around the widths of SIMD and of Winograd's 64 lanes
    ((1, 7, 5, 1), (3, 3, 1, 1)),
    ((1, 9, 14, 3), (1, 1, 3, 9)), ((2, 6, 11, 7), (3, 3, 7, 13)),
    ((1, 5, 6, 2), (5, 5, 2, 3)), ((3, 15, 18, 5), (3, 3, 5, 6)),  # the last: four tiles, one smaller
    ((2, 17, 21, 33), (3, 3, 33, 65)),
    ((3, 15, 18, 65), (3, 3, 65, 33)), ((1, 23, 26, 64), (3, 3, 64, 130))]


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shapes", ODD, ids=str)
@pytest.mark.parametrize("dtype, bound", [(np.float32, 3e-5), (np.float64, 4e-14)])  # Winograd's rounding, at most
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_three_products_are_right_at_odd_sizes(product, dtype, bound, shapes, stride, padding):
    fast, plain = both(product, *shapes, stride, padding, dtype)
    assert largest_error(fast, plain) < bound and fast.dtype == dtype


@pytest.mark.parametrize("shapes", ODD, ids=str)
@pytest.mark.parametrize("dtype, bound", [(np.float32, 3e-5), (np.float64, 4e-14)])  # Winograd's rounding, at most
def test_the_moments_of_a_convolution_equal_their_reference(dtype, bound, shapes):
    x, weight = normals(*shapes, dtype=dtype)
    for fast, plain in zip(conv_moments(x, weight, 1, 1), conv_moments_reference(x, weight, 1, 1)):
        assert largest_error(fast, plain) < bound


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_skip", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shapes", ODD, ids=str)
@pytest.mark.parametrize("dtype, bound", [(np.float32, 3e-5), (np.float64, 4e-14)])  # Winograd's rounding, at most
def test_every_finish_of_a_convolution_equals_its_reference(dtype, bound, shapes, with_bias, with_skip, relu):
    x, weight = normals(*shapes, dtype=dtype)
    bias, skip = normals(weight.shape[3:], conv_forward_reference(x, weight, 1, 1).shape, dtype=dtype)
    finish = (bias if with_bias else None, skip if with_skip else None, relu)
    assert largest_error(conv_finish(x, weight, 1, 1, *finish), conv_finish_reference(x, weight, 1, 1, *finish)) < bound


@pytest.mark.parametrize("stride, padding", [(1, 1), (2, 1), (1, 3)])  # a convolution, and two that are scattered
@pytest.mark.parametrize("dtype, bound", ROUNDING)
def test_what_is_to_be_added_to_dx_is_added(dtype, bound, stride, padding):
    skip, weight = normals((3, 9, 8, 4), (3, 3, 4, 5), dtype=dtype)
    (dy,) = normals(conv_forward_reference(skip, weight, stride, padding).shape, dtype=dtype)
    given = (dy, weight, skip.shape, stride, padding, skip)
    assert largest_error(conv_backward_input(*given), conv_backward_input_reference(*given)) < bound
