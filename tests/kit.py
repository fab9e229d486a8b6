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
from tinyresnet.gradcheck_report import OWN
from tinyresnet.gradcheck_walk import STATISTICS
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
    copy_arrays({**theirs, **ours}, layer)  # theirs: arrays that ours has no use for
    return layer


def check_backward(name, subject, make, x, *, bound=1e-9, frozen=False):
    """Every gradient of make(subject) against central differences; returns the errors."""
    def ready(subject):
        layer = built(name, subject, make)
        layer.frozen = frozen
        return layer

    refuse_changes(name, ready(subject), x)
    suspects = [(OWN, SUBJECTS[name]), *((wrong.title, wrong) for wrong in zoo.members(name))]
    return check(ready(subject), x, suspects=((title, ready(wrong)) for title, wrong in suspects), once=False, bound=bound)


def refuse_changes(name, layer, x):
    """Raise GradientError if forward or backward changes a parameter, or a frozen layer's gradients."""
    def gradients():
        frozen = [(path, part) for path, part in parts(layer) if getattr(part, "frozen", False)]
        return {f"{path}.{key}" if path else key: np.array(gradient) for path, part in frozen
                for key, gradient in (getattr(part, "grads", None) or {}).items() if gradient is not None}

    params = {key: array.copy() for key, array in arrays(layer).items() if key.split(".")[-1] not in STATISTICS}
    before = gradients()
    layer.backward(normal(*layer.forward(x.copy()).shape, seed=1))
    for key, array in arrays(layer).items():
        if key in params and not np.array_equal(array, params[key]):
            rule = f"forward or backward of {name} changed {key}"
            raise GradientError(f"{rule}: only the optimiser does, work on a copy", rule)
    for key, gradient in gradients().items():
        if key not in before or not np.array_equal(gradient, before[key]):
            rule = f"backward of a frozen {name} left a gradient of {key} in grads"
            raise GradientError(f"{rule}: an optimiser would train it, ask for self.frozen first", rule)


def check_values(name, subject, compute, right, *, bound=1e-12):
    """The arrays that compute(subject) returns by name, against the right ones."""
    suspects = ((wrong.title, lambda wrong=wrong: compute(wrong)) for wrong in zoo.members(name))
    compare(compute(subject), right, where=name, suspects=suspects).require(bound)


def check_float32(name, subject, make, x, *, training=True):
    """In float32, y and the running statistics stay float32 and are those of float64 but for rounding.

    The bound: float32 rounds at 6e-8, and some hundred of these add up.
    """
    def results(layer, x):
        layer.training = training
        return {"y": layer.forward(x)} | {key: array for key, array in arrays(layer).items() if key in STATISTICS}

    require_float32(name, results(in_float32(name, subject, make), x.astype(np.float32)),
                    results(built(name, subject, make), x))


def check_float32_backward(name, subject, make, x):
    """In float32, dx and every gradient stay float32 and are those of float64 but for rounding."""
    def results(layer, x, dy):
        layer.forward(x)
        dx = layer.backward(dy)
        grads = getattr(layer, "grads", None) or {}
        return {"dx": dx} | {key: gradient for key, gradient in grads.items() if gradient is not None}

    dy = normal(*built(name, subject, make).forward(x).shape, seed=1)
    require_float32(name, results(in_float32(name, subject, make), x.astype(np.float32), dy.astype(np.float32)),
                    results(built(name, subject, make), x, dy))


def in_float32(name, subject, make):
    layer = built(name, subject, make)
    copy_arrays({key: array.astype(np.float32) for key, array in arrays(layer).items()}, layer)
    return layer


def require_float32(name, results, right):
    for key, array in results.items():
        if array.dtype != np.float32:
            raise GradientError(f"{key} is {array.dtype} where x and the weights are float32: {name} upcasts")
    compare({key: array.astype(np.float64) for key, array in results.items()}, right, where=f"{name} in float32",
            source="float64").require(1e-5)


def check_once(name, subject, make, x):
    """backward raises when it is run twice after one forward, and after a forward in eval mode."""
    layer = built(name, subject, make)
    dy = layer.forward(x)
    layer.backward(dy)
    if not raises(layer.backward, dy):
        rule = f"a second backward of {name} without a forward gives a gradient instead of an error"
        raise GradientError(f"{rule}: let go of what forward kept when backward uses it", rule)
    layer.forward(x)
    for _, part in parts(layer):
        part.training = False
    layer.forward(x)
    if not raises(layer.backward, dy):
        rule = f"backward of {name} after a forward in eval mode gives a gradient instead of an error"
        raise GradientError(f"{rule}: in eval mode nothing is kept, and what was kept before is forgotten", rule)


def refuse_upcast(name, array, dtype):
    """Raise GradientError if the array has not the dtype of what it was made from."""
    if array.dtype != dtype:
        rule = f"{name} makes {array.dtype} of {np.dtype(dtype)}"
        raise GradientError(f"{rule}: it upcasts, make its array with the dtype of its argument", rule)


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
