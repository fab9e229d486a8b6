"""What the tasks share: inputs, the library under its fourteen names, and checks that know the zoo.

Every check takes a class or function by its name, ours, a student's or one of the zoo's, and raises if it is wrong.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import zoo

import tinyresnet.resnet
from tinyresnet import SGD, Adam, cross_entropy, softmax
from tinyresnet.gradcheck import GradientError, arrays, check, compare, copy_arrays, parts, prepared
from tinyresnet.kernels.im2col import col2im, im2col
from tinyresnet.layers import BatchNorm2d, Conv2d, GlobalAvgPool, Layer, Linear, MaxPool2d, ReLU
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet
from weights_converter.conversion import in_our_layout

LIBRARY = {"Conv2d": Conv2d, "BatchNorm2d": BatchNorm2d, "ReLU": ReLU, "MaxPool2d": MaxPool2d,
           "GlobalAvgPool": GlobalAvgPool, "Linear": Linear, "BasicBlock": BasicBlock, "Bottleneck": Bottleneck,
           "Adam": Adam, "SGD": SGD, "im2col": im2col, "col2im": col2im, "softmax": softmax,
           "cross_entropy": cross_entropy}  # what a student's file may replace
SUBJECTS = {**LIBRARY, "ResNet": ResNet, "in_our_layout": in_our_layout}  # and what the zoo has wrong versions of


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def off_the_kinks(*shape, seed=0):
    """Random numbers with |x| > 0.1, so that a step of 1e-5 never crosses a ReLU's kink."""
    x = normal(*shape, seed=seed)
    return x + 0.1 * np.sign(x)


def permutation(*shape, offset=0.0):
    """Numbers of which no two lie within 0.1, so that a step never changes the maximum."""
    return np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) / 10 + offset


def built(name, subject, make):
    """make(subject) in float64, with the arrays of make(the library's): same weights, same numbers."""
    layer, ours = prepared(make(subject)), arrays(prepared(make(SUBJECTS[name])))
    theirs = arrays(layer)
    for key, array in ours.items():
        if key not in theirs:
            raise GradientError(f"{type(layer).__name__} has no array {key}; expected one of shape {array.shape}")
        if theirs[key].shape != array.shape:
            raise GradientError(f"{key} of {type(layer).__name__} has shape {theirs[key].shape}, expected {array.shape}")
    copy_arrays(ours | {key: array for key, array in theirs.items() if key not in ours}, layer)
    return layer


def check_backward(name, subject, make, x, *, bound=1e-9, frozen=False):
    """Every gradient of make(subject) against central differences; returns the errors."""
    def ready(subject):
        layer = built(name, subject, make)
        layer.frozen = frozen
        return layer

    return check(ready(subject), x, suspects=((wrong.title, ready(wrong)) for wrong in zoo.members(name)), once=False,
                 bound=bound)


def check_values(name, subject, compute, right, *, bound=1e-12):
    """The arrays that compute(subject) returns by name, against the right ones."""
    suspects = ((wrong.title, lambda wrong=wrong: compute(wrong)) for wrong in zoo.members(name))
    compare(compute(subject), right, where=name, suspects=suspects).require(bound)


def check_float32(name, subject, make, x):
    """In float32, y, dx and every gradient stay float32 and are those of float64 but for rounding.

    The bound: float32 rounds at 6e-8, and some hundred of these add up.
    """
    layer, same = built(name, subject, make), built(name, subject, make)
    copy_arrays({key: array.astype(np.float32) for key, array in arrays(layer).items()}, layer)
    y = layer.forward(x.astype(np.float32))
    dy = normal(*same.forward(x).shape, seed=1)
    results = {"y": y, "dx": layer.backward(dy.astype(np.float32)), **getattr(layer, "grads", {})}
    for key, array in results.items():
        if array.dtype != np.float32:
            raise GradientError(f"{key} is {array.dtype} where x and the weights are float32: {name} upcasts")
    right = {"y": same.forward(x), "dx": same.backward(dy), **getattr(same, "grads", {})}
    compare({key: array.astype(np.float64) for key, array in results.items()}, right, where=f"{name} in float32",
            source="float64").require(1e-5)


def check_once(name, subject, make, x):
    """backward raises when it is run twice after one forward, and after a forward in eval mode."""
    layer = built(name, subject, make)
    dy = layer.forward(x)
    layer.backward(dy)
    if not raises(layer.backward, dy):
        raise GradientError(f"a second backward of {name} without a forward gives a gradient instead of an error: "
                            "let go of what forward kept when backward uses it")
    layer.forward(x)
    for _, part in parts(layer):
        part.training = False
    layer.forward(x)
    if not raises(layer.backward, dy):
        raise GradientError(f"backward of {name} after a forward in eval mode gives a gradient instead of an error: "
                            "in eval mode nothing is kept, and what was kept before is forgotten")


def raises(function, *args):
    try:
        function(*args)
    except Exception:  # whichever: the caller is told
        return True
    return False


def with_the_rest_of_layer(name, subject):
    """A student's stand-alone class with what blocks need besides: names, modes, parts."""
    if not isinstance(subject, type) or issubclass(subject, Layer):
        return subject
    needed = {key: getattr(LIBRARY[name], key) for key in ("param_names", "buffer_names", "expansion")
              if hasattr(LIBRARY[name], key) and not hasattr(subject, key)}
    return type(subject.__name__, (subject, Layer), {"training": True, "frozen": False, "_saved": None, **needed})


@contextmanager
def inside_the_library(name, subject):
    """Blocks and networks built here have this layer in the place of the library's.

    Only while they are built: what runs later knows its own classes from others.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tinyresnet.resnet, name, with_the_rest_of_layer(name, subject))
        yield
