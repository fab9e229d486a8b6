"""Numerical gradients: an independent opinion on every backward pass.

A derivative is what the difference quotient tends to, so any backward can be checked against two forwards:

    dL/dx[i]  ~  (L(x + h e_i) - L(x - h e_i)) / (2 h)        with  L = sum(forward(x) * dy)

The central quotient errs by h*h times the third derivative; the one-sided (L(x + h) - L(x)) / h errs by h times the
second. A smaller h is better until rounding shows: L is known to 1e-16 of its size, which the division turns into
1e-16 / h. In float64 the two meet near h = 1e-5, at ten right digits. In float32 they meet at three: no step works.

dy is random. With dy = 1, L would be the plain sum of the outputs, and the sum of a batch norm's or a softmax's outputs
does not depend on x at all: its gradient is zero, and a backward that returns zeros would pass.

    check(layer, x)                       # returns the errors, or raises GradientError with a report
    python -m tinyresnet.gradcheck        # every layer of the library

The layer need not be one of ours: forward, backward, `weight` and `bias` and their `grads` are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray as Array

from tinyresnet.gradcheck_report import BOUND, Errors, GradientError, Outcome, Suspects, compare, relative_error
from tinyresnet.gradcheck_walk import arrays, copy_arrays, description, fixed_forward, parts, prepared, slots, trained

__all__ = ["BOUND", "NETWORK_BOUND", "Errors", "GradientError", "H", "arrays", "check", "compare", "copy_arrays",
           "directional_errors", "gradient_errors", "numerical_gradient", "parts", "prepared", "relative_error"]

H = 1e-5  # float64: rounding errs by about 1e-16 / h, curvature by h * h
NETWORK_BOUND = 1e-7  # of the relative error through many layers, whose curvature adds up


def numerical_gradient(loss: Callable[[], float], x: Array, h: float = H) -> Array:
    """dloss/dx by central differences, one element after the other; x is changed in place and restored."""
    require_float64(x)
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        gradient[index] = (moved(loss, x, index, h) - moved(loss, x, index, -h)) / (2 * h)
    return gradient


def moved(loss: Callable[[], float], x: Array, index: tuple[int, ...], step: float) -> float:
    """The loss with one element of x moved by `step`."""
    before = x[index]
    x[index] = before + step
    value = loss()
    x[index] = before
    return value


def step_for(x: Array) -> float:
    """H, or for an x of quite another size than 1 the same share of its spread."""
    spread = float(np.std(x))
    return H if spread == 0 or 0.1 <= spread <= 10 else H * spread


def upstream(forward: Callable[[Array], Array], x: Array, dy: Array | None, where: str) -> Array:
    """dy, random if not given, of the shape of a y that is an array of finite numbers."""
    y = forward(x.copy())
    if not isinstance(y, np.ndarray) or not np.isfinite(y).all():
        what = "NaN or infinity" if isinstance(y, np.ndarray) else f"a {type(y).__name__} and not an array"
        raise GradientError(f"forward returned {what} ({where})")
    if dy is not None and dy.shape != y.shape:
        raise ValueError(f"expected dy of shape {y.shape}, like y, got {dy.shape} ({where})")
    return np.random.default_rng(1).standard_normal(y.shape) if dy is None else dy


def require_float64(x: Array) -> None:
    if x.dtype != np.float64:
        raise ValueError(f"numerical gradients need float64, got {x.dtype}")


def gradient_errors(layer: Any, x: Array, dy: Array | None = None, *, suspects: Iterable[tuple[str, Any]] = (),
                    once: bool = True, bound: float = BOUND) -> Errors:
    """Relative error of dx and of every parameter's gradient, each over all its elements; printed, it is the report.

    suspects: pairs of a name and a layer with a known mistake, built as this one; it is given this one's arrays.
    once: backward must also raise when it is run again without a forward.
    bound: what the errors will be held to; where rounding hides it, the check is refused.

    Shapes: x as the layer takes it, float64; dy as the layer returns it, random if not given.
    Raises GradientError if an argument is changed, a second run gives other gradients, or one is missing; ValueError
    if the check would prove nothing: float32, a gradient of zero, an x on the kinks or far from mean 0 and spread 1.
    """
    require_float64(x)
    forward, where = fixed_forward(layer), description(layer, x)
    state = {name: array.copy() for name, array in arrays(layer).items()}
    dy = upstream(forward, x, dy, where)
    known = suspected(suspects, state, x.copy(), dy.copy())
    yours = settled_gradients(layer, forward, x, dy, known, once)
    right, loss = {}, partial(product, forward, x, dy)
    for name, array in {"dx": x, **trained(layer)}.items():
        if name in yours:  # else one that forward does not use
            h = step_for(array)
            right[name] = numerical_gradient(loss, array, h)
            refuse_zero(name, np.linalg.norm(right[name]) / np.sqrt(array.size), forward(x) * dy, where)
            noise = rounding(array, right[name], forward(x) * dy, h)
            skipped = skip_kinks(loss, array, yours[name], right[name], h, noise)
            where += f", {len(skipped)} elements of {name} skipped on a kink" if skipped else ""
            refuse_rounding(name, yours[name], right[name], noise, bound, where)
    copy_arrays(state, layer)  # forward has moved its running statistics
    return compare(yours, right, where=where, suspects=known, source="finite difference")


def check(layer: Any, x: Array, dy: Array | None = None, *, suspects: Iterable[tuple[str, Any]] = (),
          once: bool = True, bound: float = BOUND) -> Errors:
    """`gradient_errors`, and GradientError with the report unless all of them are below the bound."""
    return gradient_errors(layer, x, dy, suspects=suspects, once=once, bound=bound).require(bound)


def skip_kinks(loss: Callable[[], float], x: Array, yours: Array, numerical: Array, h: float,
               noise: float) -> list[tuple[int, ...]]:
    """Where a step crosses a kink, `numerical` has no opinion: it is set to yours. Returns these elements.

    Raises ValueError if they are more than one in a hundred (and more than one): such an x checks too little.
    """
    skipped: list[tuple[int, ...]] = []
    while yours.shape == x.shape and np.linalg.norm(yours - numerical) > NETWORK_BOUND * np.linalg.norm(numerical):
        gap = abs(yours - numerical)
        index = tuple(int(i) for i in np.unravel_index(np.argmax(gap), gap.shape))
        if gap[index] <= noise or not crosses_kink(loss, x, index, gap[index], h):
            break
        numerical[index] = yours[index]
        skipped.append(index)
        if len(skipped) > max(1, x.size // 100):
            raise ValueError(f"{len(skipped)} and more of {x.size} elements sit on a kink, where there is no derivative, "
                             f"{skipped[0]} for one: this check proves too little, move x")
    return skipped


def crosses_kink(loss: Callable[[], float], x: Array, index: tuple[int, ...], gap: float, h: float) -> bool:
    """Whether the quotient itself is so unsettled that it explains a gap between it and backward.

    On a smooth curve, half the step halves the difference of the right and the left quotient, and leaves the central
    one as it was. On a kink, wherever it lies in -h..h, one of the two fails by 0.4 of the quotient's error at least.
    """
    middle = loss()
    right, left, half_right, half_left = (moved(loss, x, index, step) for step in (h, -h, h / 2, -h / 2))
    bend, half_bend = (right - 2 * middle + left) / h, (half_right - 2 * middle + half_left) / (h / 2)
    slope, half_slope = (right - left) / (2 * h), (half_right - half_left) / h
    return bool(max(abs(bend - 2 * half_bend), abs(slope - half_slope)) > gap / 4)


def product(forward: Callable[[Array], Array], x: Array, dy: Array) -> float:
    """L, whose gradients backward(dy) gives."""
    return float(np.sum(forward(x) * dy))


def refuse_zero(name: str, slope: float, products: Array, where: str) -> None:
    """Raise ValueError if a slope is no larger than rounding can make the difference quotient of a sum of products."""
    if slope <= 8 * np.finfo(np.float64).eps * np.sum(np.abs(products)) / H:
        raise ValueError(f"the gradient of {name} is zero: this check proves nothing ({where})")


def rounding(x: Array, gradient: Array, products: Array, h: float) -> float:
    """How far rounding can move a quotient: that of the sum of products, and of an x far from zero for its spread."""
    largest = float(np.max(np.abs(x)))
    far = largest * np.linalg.norm(gradient) if largest > 20 * np.std(x) > 0 else 0.0
    return float(4 * np.finfo(np.float64).eps / h * (np.linalg.norm(products) + far))


def refuse_rounding(name: str, yours: Array, right: Array, noise: float, bound: float, where: str) -> None:
    """Raise ValueError if the two differ by more than the bound, but by no more than rounding moves the quotients."""
    most = noise * np.sqrt(right.size)
    if yours.shape == right.shape and bound * 2 * np.linalg.norm(right) < np.linalg.norm(yours - right) <= most:
        raise ValueError(f"rounding moves the quotients of {name} by more than the bound: this check proves too little, "
                         f"bring x to mean 0 and spread 1 ({where})")


def settled_gradients(layer: Any, forward: Callable, x: Array, dy: Array, known: Suspects, once: bool) -> dict[str, Array]:
    """The gradients, of a layer that leaves its arguments alone and gives the same ones twice."""
    where, before = description(layer, x), {name: array.copy() for name, array in trained(layer).items()}
    first, second = backward_of(layer, forward, x, dy), backward_of(layer, forward, x, dy)
    for name, argument in (("x", x), ("dy", dy)):
        if not np.array_equal(first[f"{name} afterwards"], argument):
            rule = f"forward or backward changed its argument {name}"
            report = compare(first, {f"{name} afterwards": argument}, where=where, suspects=known, source="before")
            raise GradientError(f"{rule}: another layer still needs it, work on a copy\n{report.text()}", rule)
    if once:
        refuse_a_second_backward(layer, dy, where)
    for name, array in trained(layer).items():
        if not np.array_equal(array, before[name]):
            raise GradientError(f"forward or backward changed {name}, which only an optimiser does ({where})")
        if name not in first and used(forward, x, array):
            raise GradientError(f"backward left no gradient of {name} in grads ({where})")
    for name in first:
        if not np.array_equal(first[name], second[name], equal_nan=True):
            raise GradientError(f"a second forward and backward give another gradient of {name} ({where})")
    return first


def used(forward: Callable[[Array], Array], x: Array, param: Array) -> bool:
    """Whether y depends on the parameter at all."""
    y, before = forward(x.copy()), param.copy()
    param += 1
    moved_y = forward(x.copy())
    param[...] = before
    return not np.array_equal(y, moved_y)


def refuse_a_second_backward(layer: Any, dy: Array, where: str) -> None:
    """Raise GradientError unless backward raises, when forward and backward have just been run."""
    try:
        again = layer.backward(dy)
    except Exception:  # whichever: nobody takes an old gradient for a new one
        return
    if again is not dy:  # else an identity, which keeps nothing that could be old
        rule = f"a second backward without a forward gives a gradient instead of an error ({where})"
        raise GradientError(f"{rule}\n  let go of what forward kept when backward uses it, or it answers for a batch long "
                            "gone", rule)


def backward_of(layer: Any, forward: Callable, x: Array, dy: Array) -> dict[str, Array]:
    """Copies of dx and of the parameters' gradients, and x and dy as they are left behind."""
    x, dy = x.copy(), dy.copy()
    forward(x)
    dx = layer.backward(dy)
    if not isinstance(dx, np.ndarray):
        raise GradientError(f"backward returned a {type(dx).__name__}, expected an array of shape {x.shape}")
    found = {name: getattr(part, "grads", {}).get(key) for name, part, key in slots(layer)}
    grads = {name: np.array(gradient) for name, gradient in found.items() if gradient is not None}
    return {"dx": dx.copy(), **grads, "x afterwards": x, "dy afterwards": dy}


def suspected(suspects: Iterable[tuple[str, Any]], state: dict[str, Array], x: Array, dy: Array) -> Suspects:
    """Each suspect's name, and how to get its gradients in the place of a layer with these arrays."""

    def gradients(wrong: Any) -> Outcome:
        copy_arrays(state, wrong)
        return backward_of(wrong, fixed_forward(wrong), x, dy)

    return ((title, partial(gradients, wrong)) for title, wrong in suspects)  # built only when something is wrong


def directional_errors(layer: Any, x: Array, dy: Array | None = None) -> Errors:
    """Error of the derivative along one random direction, of dx and of every parameter: for whole networks.

    A direction mixes all elements of an array, so a few forwards check them all, if not one by one. The error is
    relative to the derivative, or to the size |gradient| |direction| / sqrt(elements) it has for most directions: a
    direction that happens to run along the slope proves nothing about rounding. The names run as backward does: what is
    wrong first is nearest to the mistake.
    """
    require_float64(x)
    forward, where, rng = fixed_forward(layer), description(layer, x), np.random.default_rng(2)
    dy = upstream(forward, x, dy, where)
    yours = settled_gradients(layer, forward, x, dy, (), once=True)
    errors, lines = {}, {}
    for name, array in [*reversed(trained(layer).items()), ("dx", x)]:
        direction = rng.standard_normal(array.shape)
        direction *= np.linalg.norm(array) / np.linalg.norm(direction) if np.any(array) else 1.0
        analytic = float(np.sum(yours[name] * direction))
        usual = float(np.linalg.norm(yours[name]) * np.linalg.norm(direction) / np.sqrt(array.size))
        errors[name], slope = slope_error(partial(product, forward, x, dy), array, direction, analytic, usual)
        refuse_zero(name, max(usual, abs(slope)), forward(x) * dy, where)
        lines[name] = (f"{name} is wrong along a random direction: yours {analytic:+.6g}, finite difference {slope:+.6g}, "
                       f"relative error {errors[name]:.1e} ({where})")
    return Errors(errors, lambda name, hints: lines[name])


def slope_error(loss: Callable[[], float], x: Array, direction: Array, analytic: float, usual: float) -> tuple[float, float]:
    """The smallest error of the analytic slope over three steps, and the numerical slope there; x is restored.

    A deep network bends sharply and has many kinks: four points take the curvature out (the error falls with h**4), and
    a tenth of the step crosses a tenth of the kinks.
    """
    before, found = x.copy(), []
    for h in (H, H / 10, H / 100):
        slope = 0.0
        for step, weight in ((2 * h, -1), (-2 * h, 1), (h, 8), (-h, -8)):
            x[...] = before + step * direction
            slope += weight * loss() / (12 * h)
            x[...] = before
        found.append((abs(analytic - slope) / max(abs(analytic) + abs(slope), usual, 1e-300), slope))
        if found[-1][0] < NETWORK_BOUND:
            break
    return min(found)


if __name__ == "__main__":
    import sys

    from tinyresnet.gradcheck_command import main
    sys.exit(main())
