"""What kernels are given: any layout, other shapes and dtypes, nothing, NaN and infinity."""

import numpy as np
import pytest
from test_kernels import GEOMETRIES, PRODUCTS, arguments, normals, numba_only

from tinyresnet.kernels import (col2im, conv_backward_input, conv_backward_weight, conv_finish, conv_forward, gradient_sums,
                                input_gradient, maxpool_backward, normalise, pointwise_backward, relu, relu_backward)
from tinyresnet.kernels.conv import conv_forward_reference
from tinyresnet.layers import BatchNorm2d, Conv2d, GlobalAvgPool, MaxPool2d, ReLU
from tinyresnet.resnet import small_resnet


def in_layout(layout, a):
    """The same numbers in another layout."""
    if layout == "strided":
        return np.repeat(a, 2, axis=1)[:, ::2]
    a = np.asfortranarray(a) if layout == "fortran" else a.copy()
    a.flags.writeable = layout != "read-only"
    return a


@pytest.mark.parametrize("layout", ["fortran", "strided", "read-only"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_three_products_take_arrays_of_any_layout(product, layout):
    x, weight, dy = normals((2, 9, 8, 3), (3, 3, 3, 5), (2, 9, 8, 5))
    given = arguments(product, x, weight, dy, 1, 1)
    moved = [in_layout(layout, a) if isinstance(a, np.ndarray) else a for a in given]
    np.testing.assert_array_equal(PRODUCTS[product][0](*moved), PRODUCTS[product][0](*given))


@numba_only
@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3)])
def test_a_convolution_of_nothing_is_refused(shape):
    with pytest.raises(ValueError, match="at least one image and filter|does not fit"):
        conv_forward(np.ones(shape), np.ones((1, 1, 3, 2)), 1, 0)


UNFIT = {  # a call with an array of another shape than the others ask for
    "weight": lambda ones: conv_forward(ones(1, 4, 4, 3), ones(1, 1, 5, 2), 1, 0),
    "bias": lambda ones: conv_finish(ones(1, 4, 4, 3), ones(1, 1, 3, 2), 1, 0, ones(3)),
    "skip": lambda ones: conv_finish(ones(1, 4, 4, 3), ones(1, 1, 3, 2), 1, 0, None, ones(1, 4, 4, 3)),
    "dy": lambda ones: conv_backward_input(ones(1, 3, 4, 2), ones(1, 1, 3, 2), (1, 4, 4, 3), 1, 0),
    "dy of dweight": lambda ones: conv_backward_weight(ones(1, 4, 4, 3), ones(1, 3, 4, 2), 1, 1, 0),
    "cols": lambda ones: col2im(ones(3, 9), (1, 8, 8, 1), 3, 1, 1),
    "mean": lambda ones: normalise(ones(1, 4, 4, 3), ones(4), ones(3), ones(3)),
    "factors": lambda ones: input_gradient(ones(1, 4, 4, 3), ones(1, 4, 4, 3), ones(3), ones(2, 3)),
    "y": lambda ones: gradient_sums(ones(1, 4, 4, 3), ones(1, 4, 4, 3), ones(3), ones(1, 4, 3, 3)),
    "dy of relu": lambda ones: relu_backward(ones(4), ones(5)),
    "z": lambda ones: pointwise_backward(ones(1, 4, 4, 2), ones(1, 4, 4, 3), ones(2), ones(3, 2), ones(1, 4, 4, 3),
                                         ones(1, 1, 3, 2)),
    "winner": lambda ones: maxpool_backward(ones(1, 2, 2, 1), np.zeros((1, 2, 1, 1), np.uint8), (1, 4, 4, 1), 2, 2, 0),
}


@numba_only
@pytest.mark.parametrize("name", UNFIT)
def test_a_kernel_does_not_read_past_the_end_of_an_array(name):
    with pytest.raises(ValueError, match=rf"expected {name.split()[0]} of shape \(.*\), got \("):
        UNFIT[name](lambda *shape: np.ones(shape))


@numba_only
@pytest.mark.parametrize("dtypes", [("int64", "int64"), ("float16", "float16"), ("float32", "float64"),
                                    (">f4", ">f4")], ids=str)
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_three_products_refuse_other_dtypes_by_name(product, dtypes):
    a, b = (np.ones((3, 3, 3, 3), dtype=dtype) for dtype in dtypes)
    dy = a if product == "dx" else b  # dx does not look at x, dweight not at the weights
    with pytest.raises(ValueError, match=f"float32 or of float64, all alike, got {dtypes[0]}"):
        PRODUCTS[product][0](*arguments(product, a, b, dy, 1, 1))


IMAGE_LAYERS = [Conv2d(3, 3, 3), BatchNorm2d(3), MaxPool2d(2, 2), GlobalAvgPool(), small_resnet()]


@numba_only
@pytest.mark.parametrize("dtype", ["int64", "float16", "bool"])
@pytest.mark.parametrize("layer", [*IMAGE_LAYERS, ReLU()], ids=repr)
def test_a_layer_refuses_numbers_that_are_no_float32_by_their_dtype(layer, dtype):
    with pytest.raises(ValueError, match=f"float32.*got {dtype}"):
        layer.forward(np.ones((2, 40, 40, 3), dtype=dtype))


@pytest.mark.parametrize("layer", IMAGE_LAYERS, ids=repr)
def test_a_layer_refuses_a_batch_of_no_images_by_its_shape(layer):
    with pytest.raises(ValueError, match=r"non-empty array .* got x of shape \(0, 40, 40, 3\)"):
        layer.forward(np.empty((0, 40, 40, 3), dtype=np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_direct_products_treat_nan_and_infinity_as_numpy_does(product, kernel, stride, padding, value):
    x, weight = normals((2, 9, 8, 3), (kernel, kernel, 3, 5))
    (dy,) = normals(conv_forward_reference(x, weight, stride, padding).shape)
    x[1, 4, 5, 1] = dy[0, 1, 1, 2] = value
    with np.errstate(invalid="ignore"):  # infinity times zero
        fast, plain = (function(*arguments(product, x, weight, dy, stride, padding)) for function in PRODUCTS[product])
    np.testing.assert_array_equal(np.where(np.isfinite(fast), 0, fast), np.where(np.isfinite(plain), 0, plain))


def test_every_relu_keeps_nan():
    x = np.array([np.nan, -np.inf, np.inf, -1, 2], dtype=np.float32).reshape(1, 1, 1, 5)
    one, zero, none = np.ones(5, np.float32), np.zeros(5, np.float32), np.zeros_like(x)
    results = [relu(x), normalise(x, zero, one, zero, relu=True), normalise(x, zero, one, zero, none, relu=True),
               conv_finish(none, np.eye(5, dtype=np.float32)[None, None], 1, 0, skip=x, relu=True)]
    for result in results:
        np.testing.assert_array_equal(result.ravel(), [np.nan, 0, np.inf, 0, 2])


def test_the_gradient_of_a_bias_is_summed_in_float64():
    """One after the other in float32, 200,000 numbers of 0.1 make 20029.6."""
    layer = Conv2d(1, 4, 1, bias=True)
    layer.backward(np.full_like(layer.forward(np.ones((16, 112, 112, 1), np.float32)), 0.1))
    np.testing.assert_allclose(layer.grads["bias"], 16 * 112 * 112 * 0.1, rtol=1e-6)


@pytest.mark.parametrize("channels, options", [(0, {}), (3, {"eps": -1}), (3, {"eps": np.inf}), (3, {"momentum": 2})])
def test_a_batch_norm_of_no_sense_is_refused(channels, options):
    with pytest.raises(ValueError, match="at least 1 channel, eps >= 0, momentum in 0..1"):
        BatchNorm2d(channels, **options)
