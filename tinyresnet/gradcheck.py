"""Numerical gradients: an independent opinion on every backward pass.

A derivative is what the difference quotient tends to, so any backward can be checked against two forwards:

    dL/dx[i]  ~  (L(x + h e_i) - L(x - h e_i)) / (2 h)

with L = sum(forward(x) * dy) for a random dy. Use float64: with h = 1e-5 the quotient is then good to about 1e-10, in
float32 no h works. A check on a gradient of zero proves nothing, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array

from tinyresnet.layers import Layer

H = 1e-5  # float64: rounding errs by about 1e-16 / h, curvature by h * h


def relative_error(a: Array, b: Array) -> float:
    """|a - b| / (|a| + |b|) in Euclidean norms over the whole array: 0 equal, 1 unrelated.

    Raises ValueError if the shapes differ, a value is not finite, or both are zero, because then nothing was checked.
    """
    if a.shape != b.shape:
        raise ValueError(f"gradients of different shapes: {a.shape} and {b.shape}")
    size = np.linalg.norm(a) + np.linalg.norm(b)
    if not np.isfinite(size):
        raise ValueError("a gradient holds NaN or infinity")
    if size == 0:
        raise ValueError("both gradients are zero: this check proves nothing")
    return float(np.linalg.norm(a - b) / size)


def numerical_gradient(loss: Callable[[], float], x: Array, h: float = H) -> Array:
    """dloss/dx by central differences, one element after the other; x is changed in place and restored."""
    _check_float64(x)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        before = x[index]
        x[index] = before + h
        above = loss()
        x[index] = before - h
        below = loss()
        x[index] = before
        gradient[index] = (above - below) / (2 * h)
    return gradient


def _check_float64(x: Array) -> None:
    if x.dtype != np.float64:
        raise ValueError(f"numerical gradients need float64, got {x.dtype}")


def gradient_errors(layer: Layer, x: Array, dy: Array | None = None) -> dict[str, float]:
    """Relative error of dx and of every parameter's gradient, each over all its elements.

    Shapes: x as the layer takes it, float64; dy as the layer returns it, random if not given.
    Raises ValueError if forward or backward changes its argument, or a second run gives other gradients.
    """
    _check_float64(x)
    dy = np.random.default_rng(1).standard_normal(layer.output_shape(x.shape)) if dy is None else dy
    x_before, dy_before = x.copy(), dy.copy()
    gradients = _gradients(layer, x, dy)
    for name, again in _gradients(layer, x, dy).items():
        if not np.array_equal(again, gradients[name]):
            raise ValueError(f"a second forward and backward give another gradient of {name}")
    if not (np.array_equal(x, x_before) and np.array_equal(dy, dy_before)):
        raise ValueError("forward or backward changed its argument")
    arrays = {"dx": x, **dict(layer.named_params())}
    return {name: relative_error(gradients[name], numerical_gradient(lambda: np.sum(layer.forward(x) * dy), arrays[name]))
            for name in gradients}


def directional_errors(layer: Layer, x: Array, dy: Array | None = None) -> dict[str, float]:
    """Error of the derivative along one random direction, of dx and of every parameter: for whole networks.

    A direction mixes all elements of an array, so a few forwards check them all, if not one by one. The error is
    relative to the derivative, or to the size |gradient| |direction| / sqrt(elements) it has for most directions: a
    direction that happens to run along the slope proves nothing about rounding.
    """
    rng = np.random.default_rng(2)
    dy = rng.standard_normal(layer.output_shape(x.shape)) if dy is None else dy
    gradients = _gradients(layer, x, dy)
    arrays = {"dx": x, **dict(layer.named_params())}
    errors = {}
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        direction *= np.linalg.norm(arrays[name]) / np.linalg.norm(direction) if np.any(arrays[name]) else 1.0
        slope = _slope(lambda: np.sum(layer.forward(x) * dy), arrays[name], direction, layer)
        analytic = np.sum(gradient * direction)
        usual = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(gradient.size)
        if usual == 0 == slope:
            raise ValueError(f"the gradient of {name} is zero: this check proves nothing")
        errors[name] = float(abs(analytic - slope) / max(abs(analytic) + abs(slope), usual))
    return errors


def _slope(loss: Callable[[], float], x: Array, direction: Array, layer: Layer) -> float:
    """Derivative of the loss along `direction`, without crossing a kink; x is restored.

    A deep network bends sharply and has many ReLUs: four points take the curvature out (the error falls with h**4), and
    the step is divided by ten until all four see the same ReLUs open and the same maxima win.

    Raises ValueError if even a step of 1e-7 crosses a kink.
    """
    before = x.copy()
    for h in (H, H / 10, H / 100):
        total, seen = 0.0, None
        for step, weight in ((2 * h, -1), (-2 * h, 1), (h, 8), (-h, -8)):
            x[...] = before + step * direction
            total += weight * loss()
            x[...] = before
            pattern, seen = _pattern(layer), seen or _pattern(layer)
            if not all(map(np.array_equal, pattern, seen)):
                break
        else:
            return total / (12 * h)
    raise ValueError(f"even a step of {h:.0e} crosses a kink: move the input")


def _pattern(layer: Layer) -> list[Array]:
    """Which ReLUs are open and which pixels won the max-pooling: what the layers have saved as bits and small integers."""
    saved = [value for _, part in layer.named_layers() for value in part._saved or ()]
    return [value for value in saved if isinstance(value, np.ndarray) and value.dtype.kind in "bu"]


def _gradients(layer: Layer, x: Array, dy: Array) -> dict[str, Array]:
    layer.forward(x)
    return {"dx": layer.backward(dy), **dict(layer.named_grads())}
