"""The 53 convolutions of ResNet-50 at their own shapes: float32 kernels against the float64 references."""

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from test_kernels import PRODUCTS, arguments, largest_error

from tinyresnet import resnet50
from tinyresnet.kernels import winograd
from tinyresnet.kernels.conv import conv_forward_reference
from tinyresnet.layers import Conv2d
from tinyresnet.resnet import ResidualBlock

DIRECT = 2e-6  # float32 sums of up to 4608 products: 2e-7 to 5e-7 of the largest output, on any order of adding
WINOGRAD = 2e-5  # 1e-6 to 1.4e-5: it weighs some numbers 64 times as much as others


def convolutions(layer, shape):
    """(K, stride, padding, size, C, O) of every Conv2d that an input of this shape passes."""
    if isinstance(layer, Conv2d):
        K, _, C, O = layer.weight.shape
        yield K, layer.stride, layer.padding, shape[1], C, O
    if isinstance(layer, ResidualBlock):
        yield from convolutions(layer.downsample, shape)
    for part in layer.branch if isinstance(layer, ResidualBlock) else [part for _, part in layer.children()]:
        yield from convolutions(part, shape)
        shape = part.output_shape(shape)


SHAPES = Counter(convolutions(resnet50(1), (2, 224, 224, 3)))
WINOGRADS = [shape for shape in SHAPES if shape[:2] == (3, 1)]


@lru_cache(maxsize=1)  # the tests of one shape come one after the other
def problem(shape, batch=2):
    """x, weight and dy in float64, spread so that no sum is far from 1."""
    K, stride, padding, size, C, O = shape
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((batch, size, size, C)), rng.standard_normal((K, K, C, O)) / np.sqrt(K * K * C)
    return x, weight, rng.standard_normal(conv_forward_reference(x, weight, stride, padding).shape)


def error(product, shape, batch=2):
    fast, plain = PRODUCTS[product]
    x, weight, dy = problem(shape, batch)
    singles = (a.astype(np.float32) for a in (x, weight, dy))
    return largest_error(fast(*arguments(product, *singles, *shape[1:3])),
                         plain(*arguments(product, x, weight, dy, *shape[1:3])))


@pytest.fixture
def without_winograd(monkeypatch):
    monkeypatch.setattr(winograd, "ENABLED", False)


def test_there_are_53_convolutions_of_23_shapes():
    assert (SHAPES.total(), len(SHAPES)) == (53, 23)


def test_thirteen_of_them_are_3x3_with_stride_1():
    assert sum(SHAPES[shape] for shape in WINOGRADS) == 13


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_convolution_of_resnet50_is_right(shape, product):
    assert error(product, shape) < (WINOGRAD if shape in WINOGRADS and shape[3] > 7 else DIRECT)  # 7x7: too few patches


@pytest.mark.usefixtures("without_winograd")
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", WINOGRADS, ids=str)
def test_a_3x3_convolution_of_resnet50_is_as_exact_as_the_others_without_winograd(shape, product):
    assert error(product, shape) < DIRECT


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_last_stage_is_right_with_images_enough_for_winograd(product):
    assert error(product, (3, 1, 1, 7, 512, 512), batch=8) < WINOGRAD


@pytest.mark.skipif(not winograd.ENABLED, reason="Winograd's method is turned off")
@pytest.mark.parametrize("batch, number", [(1, 11), (3, 11), (4, 13)])  # few patches make a poor product
def test_winograd_suits_the_3x3_convolutions_with_patches_enough(batch, number):
    suited = [winograd.suits(np.empty((batch, size, size, C)), (batch, size, size, O), 3, 1, 1)
              for *_, size, C, O in WINOGRADS for _ in range(SHAPES[(3, 1, 1, size, C, O)])]
    assert sum(suited) == number
