"""ReLU, pooling and the linear layer."""

import definitions
import numpy as np
import pytest
from kit import (built, check_backward, check_float32, check_float32_backward, check_once, check_values, normal,
                 off_the_kinks, permutation)

from tinyresnet.kernels import pool_size
from tinyresnet.layers import Conv2d, Identity, PaddedIdentity, Sequential
from tinyresnet.layers import GlobalAvgPool as OurGlobalAvgPool
from tinyresnet.layers import Linear as OurLinear
from tinyresnet.layers import ReLU as OurReLU
from tinyresnet.gradcheck import GradientError, check, prepared

POOLS = [(3, 2, 1, False), (3, 2, 0, True), (2, 2, 0, False)]  # kernel, stride, padding, ceil_mode: ResNet's, Caffe's, plain


def plain(layer):
    return layer()


def linear(Linear):
    return Linear(5, 3)


def forward_of(name, make, x):
    return lambda subject: {"y": built(name, subject, make).forward(x)}


@pytest.mark.task("relu-forward", points=1)
def test_relu_forward_is_the_larger_of_x_and_zero(ReLU):
    x = normal(2, 3, 4, 5)
    check_values("ReLU", ReLU, forward_of("ReLU", plain, x), {"y": np.where(x > 0, x, 0)})


@pytest.mark.task("relu-forward", points=1)
def test_relu_passes_nan_on(ReLU):
    y = built("ReLU", ReLU, plain).forward(np.array([[np.nan, 1.0, -1.0]]))
    if not np.array_equal(y, [[np.nan, 1, 0]], equal_nan=True):
        raise GradientError(f"of NaN, 1 and -1 ReLU makes {y[0]}: what is broken must be seen at the end", "ReLU hides NaN")


@pytest.mark.task("relu-forward", points=1)
def test_relu_in_float32_stays_float32(ReLU):
    check_float32("ReLU", ReLU, plain, normal(2, 3, 4, 5))


@pytest.mark.task("relu-backward", points=1)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 5)])
def test_relu_backward_is_the_derivative_of_forward(ReLU, shape):
    check_backward("ReLU", ReLU, plain, off_the_kinks(*shape))


@pytest.mark.task("relu-backward", points=1)
def test_relu_backward_in_float32_stays_float32(ReLU):
    check_float32_backward("ReLU", ReLU, plain, normal(2, 3, 4, 5))


@pytest.mark.task("relu-once", points=1)
def test_relu_answers_one_backward_for_each_forward(ReLU):
    check_once("ReLU", ReLU, plain, normal(2, 3, 4, 5))


@pytest.mark.task("maxpool-forward", points=2)
@pytest.mark.parametrize("size", [(7, 8), (8, 9)])
@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", POOLS)
@pytest.mark.parametrize("offset", [0, -40])  # all negative: padding must not win as zero would
def test_max_pool_forward_is_its_equation(MaxPool2d, kernel, stride, padding, ceil_mode, size, offset):
    x = normal(2, *size, 3) + offset
    P, Q = (pool_size(side, kernel, stride, padding, ceil_mode) for side in size)
    right = definitions.max_pool(x, kernel, stride, padding, P, Q)
    check_values("MaxPool2d", MaxPool2d, forward_of("MaxPool2d", lambda MaxPool2d: MaxPool2d(
        kernel, stride, padding, ceil_mode=ceil_mode), x), {"y": right})


@pytest.mark.task("maxpool-forward", points=2)
def test_max_pool_in_float32_stays_float32(MaxPool2d):
    check_float32("MaxPool2d", MaxPool2d, lambda MaxPool2d: MaxPool2d(3, 2, 1), normal(2, 7, 8, 3))


@pytest.mark.task("maxpool-backward", points=2)
@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", POOLS)
@pytest.mark.parametrize("offset", [0, -40])
def test_max_pool_backward_is_the_derivative_of_forward(MaxPool2d, kernel, stride, padding, ceil_mode, offset):
    check_backward("MaxPool2d", MaxPool2d, lambda MaxPool2d: MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
                   permutation(2, 7, 8, 3, offset=offset))


@pytest.mark.task("maxpool-backward", points=2)
@pytest.mark.parametrize("window", [[[v, v], [v, v]] for v in (0.0, 1.0, -1.0)] + [[[0.0, 1.0], [1.0, 0.0]]])
def test_of_equal_values_the_first_in_its_window_wins_the_whole_gradient(MaxPool2d, window):
    """First as one reads: row by row."""
    def dx(MaxPool2d):
        layer = MaxPool2d(2, 2)
        layer.forward(np.tile(window, (2, 2)).reshape(1, 4, 4, 1))
        return {"dx": layer.backward(np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1))}

    first = np.zeros(4)
    first[np.argmax(window)] = 1
    right = np.kron([[1.0, 2], [3, 4]], first.reshape(2, 2)).reshape(1, 4, 4, 1)
    check_values("MaxPool2d", MaxPool2d, dx, {"dx": right})


@pytest.mark.task("maxpool-backward", points=2)
def test_max_pool_backward_in_float32_stays_float32(MaxPool2d):
    check_float32_backward("MaxPool2d", MaxPool2d, lambda MaxPool2d: MaxPool2d(3, 2, 1), normal(2, 7, 8, 3))


@pytest.mark.task("maxpool-once", points=1)
def test_max_pool_answers_one_backward_for_each_forward(MaxPool2d):
    check_once("MaxPool2d", MaxPool2d, lambda MaxPool2d: MaxPool2d(3, 2, 1), normal(2, 7, 8, 3))


@pytest.mark.task("avgpool-forward", points=1)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 1, 5)])
def test_global_average_pooling_is_the_mean_of_each_channel(GlobalAvgPool, shape):
    x = normal(*shape)
    right = np.array([[np.sum(x[n, :, :, c]) / (shape[1] * shape[2]) for c in range(shape[3])] for n in range(shape[0])])
    check_values("GlobalAvgPool", GlobalAvgPool, forward_of("GlobalAvgPool", plain, x), {"y": right})


@pytest.mark.task("avgpool-forward", points=1)
def test_global_average_pooling_in_float32_stays_float32(GlobalAvgPool):
    check_float32("GlobalAvgPool", GlobalAvgPool, plain, normal(2, 3, 4, 5))


@pytest.mark.task("avgpool-backward", points=1)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 1, 5)])
def test_global_average_pooling_backward_is_the_derivative_of_forward(GlobalAvgPool, shape):
    check_backward("GlobalAvgPool", GlobalAvgPool, plain, normal(*shape))


@pytest.mark.task("avgpool-backward", points=1)
def test_global_average_pooling_backward_in_float32_stays_float32(GlobalAvgPool):
    check_float32_backward("GlobalAvgPool", GlobalAvgPool, plain, normal(2, 3, 4, 5))


@pytest.mark.task("avgpool-once", points=1)
def test_global_average_pooling_answers_one_backward_for_each_forward(GlobalAvgPool):
    check_once("GlobalAvgPool", GlobalAvgPool, plain, normal(2, 3, 4, 5))


@pytest.mark.task("linear-forward", points=1)
def test_linear_forward_is_its_equation(Linear):
    x, layer = normal(4, 5), built("Linear", Linear, linear)
    right = np.array([[np.sum(x[n] * layer.weight[:, o]) + layer.bias[o] for o in range(3)] for n in range(4)])
    check_values("Linear", Linear, forward_of("Linear", linear, x), {"y": right})


@pytest.mark.task("linear-forward", points=1)
def test_linear_in_float32_stays_float32(Linear):
    check_float32("Linear", Linear, linear, normal(4, 5))


@pytest.mark.task("linear-backward", points=2)
@pytest.mark.parametrize("N", [4, 1])
@pytest.mark.parametrize("frozen", [False, True])
def test_linear_backward_is_the_derivative_of_forward(Linear, N, frozen):
    errors = check_backward("Linear", Linear, linear, normal(N, 5), frozen=frozen)
    assert set(errors) == ({"dx"} if frozen else {"dx", "weight", "bias"})


@pytest.mark.task("linear-backward", points=2)
def test_linear_backward_in_float32_stays_float32(Linear):
    check_float32_backward("Linear", Linear, linear, normal(4, 5))


@pytest.mark.task("linear-once", points=1)
def test_linear_answers_one_backward_for_each_forward(Linear):
    check_once("Linear", Linear, linear, normal(4, 5))


@pytest.mark.parametrize("layer, x", [
    (Identity(), normal(2, 3, 4, 5)),
    (PaddedIdentity(3, 6, stride=2), normal(2, 5, 4, 3)),
    (Sequential(Conv2d(2, 3, 3), OurReLU(), OurGlobalAvgPool(), OurLinear(3, 4)), normal(2, 5, 6, 2)),
], ids=repr)
def test_backward_of_layers_in_a_row_is_the_derivative_of_forward(layer, x):
    check(prepared(layer), x)
