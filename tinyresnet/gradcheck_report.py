"""What is wrong with an array, said in the order a person would look: shape, extent, worst element, likely cause.

A wrong gradient seldom says what made it wrong, but it often has a shape: it is twice too large, it is mirrored, it is
right everywhere but in the last row. Those are looked for here. And where a known mistake gives exactly these numbers,
the report names it. It never says that this was the mistake, only that it gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy import ndarray as Array

BOUND = 1e-9  # of the relative error of a layer's gradient: ten times the noise of a finite difference
OWN = "tinyresnet's own"  # title of the suspect that is right
Outcome = Mapping[str, Array]
Suspects = Iterable[tuple[str, Callable[[], Outcome]]]  # known mistakes: a name, and what it computes in this place


class GradientError(ValueError):
    """A wrong array or a broken rule; the message is the report. `without_hints` is the report for an exam."""

    def __init__(self, report: str, without_hints: str = ""):
        super().__init__(report)
        self.without_hints = without_hints or report


class Errors(dict[str, float]):
    """Relative errors by name, infinite for a wrong shape or NaN. Printed, it says what is wrong with the large ones."""

    def __init__(self, errors: Mapping[str, float], describe: Callable[[str, bool], str], where: str = ""):
        super().__init__(errors)
        self.describe, self.where = describe, where

    def text(self, bound: float = BOUND, hints: bool = True) -> str:
        wrong = [name for name, error in self.items() if not error < bound]
        more = [f"also wrong: {', '.join(wrong[3:])}"] if wrong[3:] else []
        return "\n".join([self.describe(name, hints) for name in wrong[:3]] + more)

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {error:.1e}" for name, error in self.items())
        return self.text() or f"nothing wrong: {numbers} ({self.where})"

    def require(self, bound: float = BOUND) -> Errors:
        """Raise GradientError with the report unless every error is below the bound; returns itself."""
        if not all(error < bound for error in self.values()):
            raise GradientError(self.text(bound), self.text(bound, hints=False))
        return self


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


def compare(yours: Outcome, right: Outcome, *, where: str = "", suspects: Suspects = (),
            source: str = "expected") -> Errors:
    """Relative error of each array in `right`; `source` says in the report where the right one comes from."""
    known: list[tuple[str, Outcome]] = []

    def describe(name: str, hints: bool) -> str:
        if hints:
            known.extend(outcomes(suspects))  # the first time only, if they come from a generator
        return describe_array(name, yours.get(name), right[name], where, source, known, hints)

    return Errors({name: error_of(yours.get(name), right[name]) for name in right}, describe, where)


def outcomes(suspects: Suspects) -> Iterable[tuple[str, Outcome]]:
    for title, compute in suspects:
        try:
            yield title, compute()
        except Exception:  # a known mistake that breaks down in this place is not the one that was made
            continue


def error_of(yours: Array | None, right: Array) -> float:
    if yours is None or np.shape(yours) != right.shape or not np.isfinite(yours).all():
        return float("inf")
    return relative_error(yours, right)


def same(a: Array, b: Array) -> bool:
    """Equal up to the noise of a finite difference."""
    return a.shape == b.shape and bool(np.linalg.norm(a - b) <= 1e-8 * (np.linalg.norm(a) + np.linalg.norm(b)))


def same_with_nan(a: Array, b: Array) -> bool:
    return np.array_equal(np.isnan(a), np.isnan(b)) and same(np.nan_to_num(a), np.nan_to_num(b))


def describe_array(name: str, yours: Array | None, right: Array, where: str, source: str,
                   known: Sequence[tuple[str, Outcome]], hints: bool) -> str:
    """The paragraph about one array: facts, then, if hints are wanted, the cause."""
    if yours is None:
        return f"{name} is missing ({where})."
    facts = describe_facts(name, yours, right, where, source)
    if not hints:
        return facts
    titles = [title for title, theirs in known if name in theirs and same_with_nan(yours, theirs[name])]
    if OWN in titles:
        return f"{facts}\n  this is what {OWN} has: it is forward that is another, and {name} does not fit it"
    if titles:
        exactly = " and with ".join(f'"{title}"' for title in titles)
        return f"{facts}\n  exactly what you get with {exactly}: see docs/gradient-checks.md"
    cause = "" if source == "before" else likely_cause(yours, right)  # a changed argument is no gradient gone wrong
    return f"{facts}\n  {cause}" if cause else facts


def describe_facts(name: str, yours: Array, right: Array, where: str, source: str) -> str:
    if np.shape(yours) != right.shape:
        return f"{name} has shape {np.shape(yours)}, {source} has {right.shape} ({where})."
    wrong = wrong_elements(yours, right)
    worst = np.unravel_index(np.argmax(np.nan_to_num(abs(yours - right), nan=np.inf)), right.shape)
    a, b = float(yours[worst]), float(right[worst])
    index = tuple(int(i) for i in worst)
    error = abs(a - b) / (abs(a) + abs(b)) if np.isfinite(a) else np.inf
    return (f"{name} is wrong at {extent(wrong)} of its {right.size} elements ({where}).\n"
            f"  worst element {index}: yours {a:+.6g}, {source} {b:+.6g}, relative error {error:.1e}")


def extent(wrong: Array) -> str:
    share = 100 * wrong.mean()
    return f"{share:.0f}%" if share in (0, 100) or 1 <= share <= 99 else f"{np.count_nonzero(wrong)}"


def wrong_elements(yours: Array, right: Array) -> Array:
    """Where they differ by more than a finite difference can err, and all NaN."""
    return ~(abs(yours - right) <= 1e-8 * np.linalg.norm(right) / np.sqrt(right.size))


def likely_cause(yours: Array, right: Array) -> str:
    """The first sentence that fits, or none."""
    if yours.shape != right.shape:
        return transposed(yours, right)
    return next((sentence for look in (not_finite, zeros, rounding, ratio, transposed, mirrored, shifted, edges, shuffled)
                 if (sentence := look(yours, right))), "")


def not_finite(yours: Array, right: Array) -> str:
    number = np.count_nonzero(~np.isfinite(yours))
    return f"{number} elements are NaN or infinite: a division by zero, or an array that was never filled" if number else ""


def zeros(yours: Array, right: Array) -> str:
    if not yours.any():
        return "all zeros: nothing was written into it"
    wrong = wrong_elements(yours, right)
    if yours[wrong].any() or not wrong.any():
        return ""
    return "zero where it is wrong, and right elsewhere: a part was never written"


def rounding(yours: Array, right: Array) -> str:
    small = relative_error(yours, right) < 1e-6
    return "as small as the rounding of float32: an array on the way was made without x's dtype" if small else ""


def ratio(yours: Array, right: Array) -> str:
    factor = np.sum(yours * right) / np.sum(right * right)
    if same(yours, factor * right):
        return f"{factor:.6g} times the right one, everywhere"
    others = tuple(range(right.ndim - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.sum(yours * right, others) / np.sum(right * right, others)  # (C,)
    if others and len(factors) > 1 and same(yours, factors * right):
        numbers = ", ".join(f"{number:.4g}" for number in factors[:4])
        return f"each channel has a factor of its own ({numbers}): one number a channel is missing, or used twice"
    return ""


def transposed(yours: Array, right: Array) -> str:
    orders = [order for order in permutations(range(right.ndim)) if right.ndim == yours.ndim
              and order != tuple(range(right.ndim)) and same(yours.transpose(order), right)]
    return f"right after transpose{orders[0]}: its axes are in another order" if orders else ""


def mirrored(yours: Array, right: Array) -> str:
    for axes in ((0,), (1,), (2,), (0, 1), (1, 2)):
        if max(axes) < right.ndim and same(np.flip(yours, axes), right):
            return f"right after turning it round along axis {' and '.join(map(str, axes))}: a kernel was rotated"
    return ""


def shifted(yours: Array, right: Array) -> str:
    """One pixel off in an image (N, H, W, C)."""
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)] if right.ndim == 4 else []
    for i, j in steps:
        moved = np.roll(yours, (i, j), (1, 2))[:, 1:-1, 1:-1]
        if moved.any() and same(moved, right[:, 1:-1, 1:-1]):
            return f"right after moving it by {i} rows and {j} columns: padding or remainder at the wrong edge"
    return ""


def edges(yours: Array, right: Array) -> str:
    """Images (N, H, W, C) that are right inside."""
    if right.ndim != 4 or min(right.shape[1:3]) < 3:
        return ""
    wrong: Array = np.any(wrong_elements(yours, right), axis=(0, 3))  # (H, W)
    if not wrong[:-1, :-1].any():
        return "only the last row or column is wrong: what the stride leaves over, or the padding"
    return "only the borders are wrong: the padding" if not wrong[1:-1, 1:-1].any() else ""


def shuffled(yours: Array, right: Array) -> str:
    if same(np.sort(yours, axis=None), np.sort(right, axis=None)):
        return "the right numbers in other places: a reshape took axes for one another"
    return ""
