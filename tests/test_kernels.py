"""Numba kernels against their NumPy references, and im2col against the definition."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tinyresnet.kernels.batchnorm import (gradient_sums, gradient_sums_reference, input_gradient, input_gradient_reference,
                                          moments, moments_reference, normalise, normalise_reference)
from tinyresnet.kernels.conv import (conv_backward_input, conv_backward_input_reference, conv_backward_weight,
                                     conv_backward_weight_reference, conv_forward, conv_forward_reference)
from tinyresnet.kernels.im2col import col2im, col2im_reference, im2col, im2col_reference, out_size
from tinyresnet.kernels.pooling import maxpool, maxpool_backward, maxpool_backward_reference, maxpool_reference, pool_size

# kernel, stride, padding of ResNet-50's convolutions, and two that are not
GEOMETRIES = [(7, 2, 3), (1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 0), (4, 1, 3)]
SIZES = [(7, 8), (8, 9), (10, 5)]  # odd and even, never square
POOLS = [(3, 2, 1, False), (3, 2, 0, True), (3, 2, 0, False), (2, 2, 0, False), (2, 3, 1, True), (3, 1, 1, False)]


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


def test_reference_mode_runs_a_network_without_importing_numba():
    program = ("import sys, numpy as np, tinyresnet\n"
               "model = tinyresnet.small_resnet(width=4)\n"
               "model.backward(np.ones_like(model.forward(np.ones((2, 33, 40, 3), np.float32))))\n"
               "print('numba' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", program], env={**os.environ, "TINYRESNET_KERNELS": "reference"},
                         capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_an_unknown_kernel_mode_is_refused_by_name():
    run = subprocess.run([sys.executable, "-c", "import tinyresnet"], env={**os.environ, "TINYRESNET_KERNELS": "fast"},
                         capture_output=True, text=True)
    assert "TINYRESNET_KERNELS must be 'numba' or 'reference', got 'fast'" in run.stderr


def test_the_kernels_are_not_the_references_unless_asked():
    assert (im2col is im2col_reference) == (os.environ.get("TINYRESNET_KERNELS") == "reference")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-5), (np.float64, 1e-13)])  # the sums' order differs
def test_the_three_products_of_a_convolution_equal_their_references(kernel, stride, padding, size, dtype, rtol):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(s).astype(dtype) for s in ((3, *size, 3), (kernel, kernel, 3, 5)))
    y = conv_forward(x, weight, stride, padding)
    dy = rng.standard_normal(y.shape).astype(dtype)
    pairs = [(y, conv_forward_reference(x, weight, stride, padding)),
             (conv_backward_weight(x, dy, kernel, stride, padding),
              conv_backward_weight_reference(x, dy, kernel, stride, padding)),
             (conv_backward_input(dy, weight, x.shape, stride, padding),
              conv_backward_input_reference(dy, weight, x.shape, stride, padding))]
    for fast, plain in pairs:
        np.testing.assert_allclose(fast, plain, rtol=rtol, atol=rtol * np.abs(plain).max())
        assert fast.dtype == dtype


@pytest.mark.parametrize("kernel, stride, padding, size, C, O", [
    (7, 2, 3, 64, 3, 64), (1, 1, 0, 56, 64, 256), (3, 1, 1, 28, 128, 128), (3, 2, 1, 28, 256, 256),
    (1, 2, 0, 14, 1024, 2048), (3, 1, 1, 7, 512, 512)])
def test_float32_convolutions_at_resnet50s_shapes_agree_with_the_float64_reference(kernel, stride, padding, size, C, O):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, size, size, C)), rng.standard_normal((kernel, kernel, C, O))
    y = conv_forward_reference(x, weight, stride, padding)
    dy = rng.standard_normal(y.shape)
    x32, weight32, dy32 = (a.astype(np.float32) for a in (x, weight, dy))
    pairs = [(conv_forward(x32, weight32, stride, padding), y),
             (conv_backward_weight(x32, dy32, kernel, stride, padding),
              conv_backward_weight_reference(x, dy, kernel, stride, padding)),
             (conv_backward_input(dy32, weight32, x.shape, stride, padding),
              conv_backward_input_reference(dy, weight, x.shape, stride, padding))]
    for fast, plain in pairs:
        assert np.abs(fast - plain).max() < 3e-5 * np.abs(plain).max()  # Winograd's rounding, at most


def test_one_thread_and_two_give_the_same_bits():
    program = ("import hashlib, numpy as np, tinyresnet\n"
               "model = tinyresnet.small_resnet()\n"
               "dx = model.backward(model.forward(np.random.default_rng(0).random((5, 65, 72, 3), np.float32)))\n"
               "grads = b''.join(g.tobytes() for _, g in model.named_grads())\n"
               "print(hashlib.sha256(dx.tobytes() + grads).hexdigest())")
    prints = {subprocess.run([sys.executable, "-c", program], env={**os.environ, "NUMBA_NUM_THREADS": threads},
                             capture_output=True, text=True, check=True).stdout for threads in ("1", "2")}
    assert len(prints) == 1


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


def test_a_variance_far_from_zero_does_not_cancel():
    """E[x*x] - mean*mean in float32 gives anything from -10 to 10 here."""
    x = (1000 + np.random.default_rng(0).standard_normal((4, 33, 40, 2))).astype(np.float32)
    np.testing.assert_allclose(moments(x)[1], x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-9)  # sums in float64
