"""Winograd's convolution: its transforms, its rounding, what it makes of NaN, and when it runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_kernels import PRODUCTS, arguments, largest_error, normals

from tinyresnet.gradcheck import directional_errors, prepared
from tinyresnet.kernels import conv_backward_weight, conv_forward, transforms, winograd
from tinyresnet.kernels.conv import conv_forward_reference
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.layers import Conv2d

pytestmark = pytest.mark.skipif(not winograd.ENABLED or KERNELS == "reference", reason="Winograd's method is turned off")

# Lavin and Gray, arXiv:1509.09308, the three matrices of F(4x4, 3x3); G times 24, so that all numbers are whole
B_T = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1]])
G_24 = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]])
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
TRANSFORMS = {"apply_BT": (B_T, 1), "apply_AT": (A_T, 1), "apply_A": (A_T.T, 1),
              "apply_G": (G_24, 24), "apply_GT": (G_24.T, 24)}
LAYER = (2, 16, 20, 40), (3, 3, 40, 33)  # x and weight: 40 patches, and neither 64 channels in nor out


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_called_twice_is_exact_for_whole_numbers(name):
    matrix, divisor = TRANSFORMS[name]
    rows, columns = matrix.shape
    whole = np.random.default_rng(0).integers(-9, 9, (columns, columns, transforms.LANES))
    half, full = np.empty((columns, rows, transforms.LANES)), np.empty((rows, rows, transforms.LANES))
    getattr(transforms, name)(whole * float(divisor**2), half)
    getattr(transforms, name)(half, full)
    np.testing.assert_array_equal(full, np.einsum("ui,vj,ijc->uvc", matrix, matrix, whole))


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_method_is_exact_for_whole_numbers(product, padding):
    """Weights that G divides without a rest; of dweight, to the nearest whole number."""
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-9, 9, LAYER[0]).astype(np.float64), 576.0 * rng.integers(-9, 9, LAYER[1])
    dy = rng.integers(-9, 9, conv_forward_reference(x, weight, 1, padding).shape).astype(np.float64)
    fast, plain = (function(*arguments(product, x, weight, dy, 1, padding)) for function in PRODUCTS[product])
    np.testing.assert_array_equal(np.round(fast) if product == "dweight" else fast, plain)


@pytest.mark.parametrize("size, C", [(56, 64), (28, 128), (14, 256), (7, 512)])
@pytest.mark.parametrize("product", PRODUCTS)
def test_rounding_after_a_relu_is_no_larger_than_documented(product, size, C):
    x, weight, dy = normals((8, size, size, C), (3, 3, C, C), (8, size, size, C), dtype=np.float64)
    x, dy = np.maximum(x, 0), dy * (x > 0)  # as a block sees them: half of all numbers are zero, none of x is negative
    singles = (a.astype(np.float32) for a in (x, weight, dy))
    fast, plain = PRODUCTS[product]
    error = largest_error(fast(*arguments(product, *singles, 1, 1)), plain(*arguments(product, x, weight, dy, 1, 1)))
    assert error < 1.4e-5  # what the module says


@pytest.fixture
def calls(monkeypatch):
    """The names of the module's functions that ran, in order."""
    names = []
    for name in ("forward", "backward_weight"):
        def counting(*args, name=name, function=getattr(winograd, name)):
            names.append(name)
            return function(*args)
        monkeypatch.setattr(winograd, name, counting)
    return names


def test_gradients_of_a_layer_that_runs_it_are_those_of_difference_quotients(calls):
    layer = prepared(Conv2d(32, 40, 3, padding=1))
    (x,) = normals((2, 13, 18, 32), dtype=np.float64)
    errors = directional_errors(layer, x)
    assert max(errors.values()) < 1e-9 and {*calls} == {"forward", "backward_weight"}  # linear: only rounding is left


def test_forward_and_backward_of_a_wide_layer_run_it(calls):
    layer, (x,) = Conv2d(32, 40, 3, padding=1), normals((2, 13, 18, 32))
    layer.backward(layer.forward(x))
    assert calls == ["forward", "backward_weight", "forward"]  # dx is a convolution of dy


@pytest.mark.parametrize("layer, size", [
    (Conv2d(31, 64, 3, padding=1), 24), (Conv2d(64, 31, 3, padding=1), 24), (Conv2d(64, 64, 3, padding=1), 12),
    (Conv2d(64, 64, 3, padding=1, stride=2), 48), (Conv2d(64, 64, 5, padding=2), 24), (Conv2d(64, 64, 1), 24),
    (Conv2d(64, 64, 3, padding=3), 24)], ids=str)
def test_forward_of_a_layer_that_does_not_suit_it_is_direct(layer, size, calls):
    layer.forward(np.ones((1, size, size, layer.weight.shape[2]), np.float32))
    assert calls == []


@pytest.mark.parametrize("value", ["0", "1"])
def test_an_environment_variable_turns_it_off(value):
    program = ("import numpy as np\n"
               "from tinyresnet.kernels import winograd\n"
               "print(winograd.suits(np.ones((2, 24, 24, 64)), (2, 24, 24, 64), 3, 1, 1))")
    run = subprocess.run([sys.executable, "-c", program], env={**os.environ, "TINYRESNET_WINOGRAD": value},
                         capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(value == "1")


@pytest.mark.parametrize("product", PRODUCTS)
def test_images_that_fit_into_the_workspace_one_by_one_give_the_same_numbers(product, monkeypatch):
    x, weight, dy = normals((5, 12, 13, 33), (3, 3, 33, 40), (5, 12, 13, 40), dtype=np.float64)
    given = arguments(product, x, weight, dy, 1, 1)
    together = PRODUCTS[product][0](*given)
    monkeypatch.setattr(winograd, "WORKSPACE", 1)
    assert largest_error(PRODUCTS[product][0](*given), together) < 1e-14  # sums over images in another order


def held_by_patches(shape, i, j, padding):
    """Where y (N, P, Q, O) belongs to a 4x4 tile whose 6x6 patch of the first image holds the pixel (i, j)."""
    where = np.zeros(shape, dtype=bool)
    for p in range(0, shape[1], 4):
        for q in range(0, shape[2], 4):
            where[0, p : p + 4, q : q + 4] = p - padding <= i < p - padding + 6 and q - padding <= j < q - padding + 6
    return where


NOT_FINITE = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
PIXELS = pytest.mark.parametrize("i, j", [(0, 0), (3, 4), (7, 9), (15, 19)])  # corners, edges and the middle of patches


@NOT_FINITE
@PIXELS
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_what_is_not_finite_stays_within_the_tiles_whose_patches_hold_it(padding, i, j, value):
    x, weight = normals(*LAYER)
    clean = conv_forward(x, weight, 1, padding)
    x[0, i, j, 35] = value
    y = conv_forward(x, weight, 1, padding)
    elsewhere = ~held_by_patches(y.shape, i, j, padding)
    np.testing.assert_array_equal(y[elsewhere], clean[elsewhere])


@NOT_FINITE
@PIXELS
def test_no_output_whose_window_holds_what_is_not_finite_is_finite(i, j, value):
    x, weight = normals(*LAYER)
    x[0, i, j, 35] = value
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        plain = conv_forward_reference(x, weight, 1, 1)
    assert not np.isfinite(conv_forward(x, weight, 1, 1)[~np.isfinite(plain)]).any()


@NOT_FINITE
def test_what_is_not_finite_reaches_the_weights_gradients_of_its_channels_alone(value):
    x, dy = normals(LAYER[0], (2, 16, 20, 33))
    clean = conv_backward_weight(x, dy, 3, 1, 1)
    x[1, 5, 6, 35] = dy[0, 2, 3, 4] = value
    dweight = conv_backward_weight(x, dy, 3, 1, 1)
    c, o = np.arange(40) != 35, np.arange(33) != 4
    np.testing.assert_array_equal(dweight[:, :, c][..., o], clean[:, :, c][..., o])
