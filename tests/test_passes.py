"""The passes over memory between and around the matrix products, against their references."""

import numpy as np
import pytest
from test_kernels import largest_error, numba_only

from tinyresnet.kernels import (adam_step, conv_forward, global_average, global_average_backward, gradient_sums, maxpool,
                                moments, normalise, pointwise_backward, relu, relu_backward)
from tinyresnet.kernels.adam import adam_step_reference
from tinyresnet.kernels.batchnorm import gradient_sums_reference, normalise_reference
from tinyresnet.kernels.pointwise import pointwise_backward_reference
from tinyresnet.kernels.pooling import global_average_reference
from tinyresnet.kernels.relu import relu_backward_reference, relu_reference

PRECISIONS = [(np.float32, 3e-6), (np.float64, 1e-14)]  # sums of some hundred numbers in another order
SHAPES = [(1, 1, 2, 3), (2, 7, 8, 5), (3, 33, 20, 64), (5, 21, 30, 70)]  # pixels: two, less than a tile, several tiles


def normals(seed, *shapes, dtype):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, bound", PRECISIONS)
@pytest.mark.parametrize("with_skip", [True, False])
def test_backward_of_batch_norm_and_a_1x1_convolution_equals_its_reference(shape, dtype, bound, with_skip):
    C, O = shape[3] + 6, shape[3]  # up to 76 channels: two panels of the transposed weights
    size = shape[:3]
    dy, z, mean, factors, x, weight, skip = normals(0, shape, shape, O, (3, O), (*size, C), (1, 1, C, O), (*size, C),
                                                    dtype=dtype)
    arguments = (dy, z, mean, factors, x, weight, skip if with_skip else None)
    for fast, plain in zip(pointwise_backward(*arguments), pointwise_backward_reference(*arguments)):
        assert largest_error(fast, plain) < bound and fast.dtype == dtype


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, bound", PRECISIONS)
@pytest.mark.parametrize("with_skip", [True, False])
@pytest.mark.parametrize("with_relu", [True, False])
def test_batch_norm_with_addition_and_relu_equals_its_reference(shape, dtype, bound, with_skip, with_relu):
    C = shape[3]
    x, skip, mean, scale, shift = normals(0, shape, shape, C, C, C, dtype=dtype)
    arguments = (x, mean, scale, shift, skip if with_skip else None, with_relu)
    assert largest_error(normalise(*arguments), normalise_reference(*arguments)) < bound


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, bound", PRECISIONS)
def test_the_sums_of_batch_norms_gradient_go_through_the_relu(shape, dtype, bound):
    dy, x, y, mean = normals(0, shape, shape, shape, shape[3], dtype=dtype)
    fast, plain = gradient_sums(dy, x, mean, y), gradient_sums_reference(dy, x, mean, y)
    np.testing.assert_array_equal(fast[0], plain[0])
    for one, other in zip(fast[1:], plain[1:]):
        np.testing.assert_allclose(one, other, rtol=0, atol=bound * np.abs(dy).sum(axis=(0, 1, 2)).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, bound", PRECISIONS)
def test_pooling_everything_equals_its_reference(shape, dtype, bound):
    x, dy = normals(0, shape, (shape[0], shape[3]), dtype=dtype)
    assert np.abs(global_average(x) - global_average_reference(x)).max() < bound  # the numbers are about 1
    dx = global_average_backward(dy, shape)
    assert dx.dtype == dtype and np.abs(dx * dtype(shape[1] * shape[2]) - dy[:, None, None]).max() < bound * np.abs(dy).max()


@pytest.mark.parametrize("numbers", [1, 100, 70_000, 200_001])  # one tile of 65,536, several and a part
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_and_its_gradient_are_those_of_their_references(numbers, dtype):
    x, dy = normals(0, numbers, numbers, dtype=dtype)
    x[::17], x[::31], x[::37] = 0, np.nan, -np.inf
    np.testing.assert_array_equal(relu(x), relu_reference(x))
    np.testing.assert_array_equal(relu_backward(dy, x), relu_backward_reference(dy, x))


def test_adam_refuses_averages_of_another_shape():
    param, g, v = np.ones((3, 60_000))
    with pytest.raises(ValueError, match=r"expected m of shape \(60000,\), got \(10,\)"):
        adam_step(param, g, np.ones(10), v, 0.1, 0.9, 0.999, 1e-8, 1)


@pytest.mark.parametrize("numbers", [1, 100, 70_000, 200_001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_in_one_pass_gives_the_bits_of_its_reference(numbers, dtype):
    fast, plain = ([a.copy() for a in normals(0, numbers, numbers, dtype=dtype)] for _ in range(2))
    states = [[np.zeros(numbers, dtype), np.zeros(numbers, dtype)] for _ in range(2)]
    for t in (1, 2, 3):
        for update, (param, g), (m, v) in zip((adam_step, adam_step_reference), (fast, plain), states):
            update(param, g * t, m, v, 1e-3, 0.9, 0.999, 1e-8, t)
    for one, other in zip([*fast, *states[0]], [*plain, *states[1]]):
        np.testing.assert_array_equal(one, other)


def test_adam_changes_a_parameter_that_is_not_contiguous():
    param, g = np.ones((4, 6), np.float32)[:, ::2], np.ones((4, 3), np.float32)
    adam_step(param, g, np.zeros_like(g), np.zeros_like(g), 0.1, 0.9, 0.999, 1e-8, 1)
    np.testing.assert_allclose(param, 0.9, rtol=1e-6)  # the first step is lr long


@numba_only
@pytest.mark.parametrize("kernel, arguments", [(conv_forward, (np.ones((3, 3, 3, 5), np.float32), 1, 1)), (relu, ()),
                                               (moments, ()), (maxpool, (3, 2, 1, 2, 2))])
def test_bytes_are_refused_where_numbers_belong(kernel, arguments):
    with pytest.raises(ValueError, match="takes arrays of float32 or of float64, all alike, got uint8"):
        kernel(np.ones((2, 4, 4, 3), np.uint8), *arguments)
