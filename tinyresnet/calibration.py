"""Is a probability of 0.8 right in eight cases of ten, and what is won by leaving the doubtful images to a person?

Accuracy asks on which side of 1/2 a probability lies. Whoever acts on the probability asks more: how near it is to the
truth (Brier score), whether it means what it says (reliability diagram), how much too sure the network is (temperature),
and how accurate it is on the images of which it is surest.

Positive is class 1. Probabilities are (n,), or (R, n) with one row a repeat of the cross-validation: the same images
again, which make no more of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from tinyresnet.metrics import (check_groups, check_pair, check_range, check_weights, clopper_pearson, rates, ratio,
                                with_intervals)

Array = NDArray

TEMPERATURES = 0.05, 20.0  # the lowest and the highest that fit_temperature answers
SUREST = 1e-7  # float32 cannot tell a probability nearer to 1 from 1: what was rounded to 0 or 1 is taken as this


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float | Array:
    """The mean of (p - y)**2 over images, and over repeats: 0 is perfect, 1/4 is what always saying 1/2 gets.

    Shapes: labels (n,), probabilities (n,) or (R, n); weights None or (n,) -> float, (B, n) -> (B,).
    Raises ValueError for other shapes or values. Source: Brier, Monthly Weather Review 78 (1950), halved as usual for
    two classes.
    """
    truth, rows = _check_rows(labels, probabilities)
    w = check_weights(weights, truth.size)  # (n,) or (B, n)
    value = ratio(w @ ((rows - truth) ** 2).mean(axis=0), w.sum(axis=-1))
    return float(value) if w.ndim == 1 else value


def brier_with_interval(labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None) -> dict[str, float]:
    """{"value", "low", "high"}: the Brier score and its bootstrap over groups, as in metrics.with_intervals."""
    return with_intervals(labels, probabilities, groups, measures=lambda *case: {"brier": brier(*case)})["brier"]


class Bin(NamedTuple):
    """Images of about the same probability."""

    images: int  # different ones: an image that falls here in several repeats is one
    predicted: float  # the mean probability
    observed: float  # the fraction that is positive
    low: float  # 95 % interval of what would be observed in many more such images
    high: float


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 8,
                groups: ArrayLike | None = None) -> list[Bin]:
    """What was predicted beside what was observed, from the lowest probabilities to the highest.

    Every bin holds about the same number of predictions: most of 200 images lie near 0 or 1, and bins of equal width
    would be nearly empty between. Equal probabilities are never parted, so there may be fewer bins.

    The interval is Clopper's and Pearson's for as many images as those in the bin are worth: with m[g] from group g,

        (sum_g m[g])**2 / sum_g m[g]**2        (Kish, Survey Sampling, 1965)

    which is their number if all are of different groups, and 1 if all are of one. That takes siblings for copies,
    which they nearly are: they share the label. Repeats are siblings, too. In a calibrated simulation with the groups
    of the 200 slices, 95 % intervals held the truth in 98 % of the bins; those for independent images in 86 %, a
    bootstrap over groups in 63 %: where all images in a bin are of one class, every draw of them says the same.

    Shapes: labels (n,), probabilities (n,) or (R, n), groups (n,) of any kind, or None if each image is its own.
    Raises ValueError for other shapes or values, or less than one bin.
    """
    truth, rows = _check_rows(labels, probabilities)
    group_of = np.unique(check_groups(groups, truth.size), return_inverse=True)[1]
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    of_bin = np.searchsorted(np.quantile(rows, np.arange(1, bins) / bins), rows)  # (R, n)
    result = []
    for b in np.unique(of_bin):
        row, image = np.nonzero(of_bin == b)  # each (predictions in the bin,)
        members = np.bincount(group_of[image])
        worth = image.size ** 2 / (members ** 2).sum()
        observed = truth[image].mean()
        low, high = clopper_pearson(observed * worth, worth)
        result.append(Bin(np.unique(image).size, float(rows[row, image].mean()), float(observed), low, high))
    return result


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The T > 0 for which sigmoid(logit(p) / T) has the least cross-entropy: above 1 if the network is too sure.

    With a = 1 / T and s = logit(p) for positives, -logit(p) for negatives, the cross-entropy is the mean of
    log(1 + exp(-a s)), convex in a, and least where its slope, the mean of -s sigmoid(-a s), is zero. If every image
    is on its right side there is no such a: surer is always better, and the answer is the lowest of TEMPERATURES,
    which then says that nothing was learned about T. If the network is worse than chance it is the highest.

    One number cannot turn the order of images, so accuracy and ROC-AUC stay. Fit it on predictions for images that the
    network did not learn from, and judge it on others again.

    Shapes: labels (n,), probabilities (n,) or (R, n). Raises ValueError for other shapes or values.
    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    truth, rows = _check_rows(labels, probabilities)
    s = np.where(truth == 1, 1, -1) * _logit(rows)  # (R, n)

    def slope(a: float) -> float:
        return -float((s * expit(-a * s)).mean())

    lowest, highest = TEMPERATURES
    if slope(1 / highest) >= 0:
        return highest
    if slope(1 / lowest) <= 0:
        return lowest
    return 1 / brentq(slope, 1 / highest, 1 / lowest)


def with_temperature(probabilities: ArrayLike, T: float) -> Array:
    """sigmoid(logit(p) / T), of the same shape. Raises ValueError unless 0 <= p <= 1 and T > 0."""
    p = np.asarray(probabilities, dtype=float)
    if not 0 < T < math.inf:
        raise ValueError(f"expected a temperature above 0, got {T}")
    check_range(p)
    return expit(_logit(p) / T)


def half_width(probabilities: ArrayLike, fraction: float) -> float:
    """The largest h for which at most this fraction of the probabilities (n,) has |p - 1/2| < h: those to refer.

    Equal ones stay together, whatever their order: where they meet the edge of the band, none of them is referred.
    Raises ValueError unless 0 <= fraction < 1.
    """
    p = np.asarray(probabilities, dtype=float)
    if not 0 <= fraction < 1:
        raise ValueError(f"expected a fraction to refer within 0..1, and below 1, got {fraction}")
    return float(np.sort(_certainty(p))[math.floor(fraction * p.size + 1e-6)])  # 0.29 * 100 is a hair below 29


def is_doubtful(probabilities: ArrayLike, half_width: float) -> Array:
    """|p - 1/2| < half_width, of the same shape: what to refer, also of later predictions."""
    return _certainty(np.asarray(probabilities, dtype=float)) < half_width


def referred(labels: ArrayLike, probabilities: ArrayLike, fractions: Sequence[float] = (0.1, 0.2),
             groups: ArrayLike | None = None) -> list[dict]:
    """For each fraction of the least certain images: what is left when a person takes them.

        {"fraction", "half_width", "referred", "accuracy", "sensitivity", "specificity"}

    half_width is the mean over repeats; the last four are {"value", "low", "high"}, means over repeats with their
    bootstrap over groups, as in metrics.with_intervals. "referred" is the part really referred: less than the fraction
    where equal probabilities meet the edge of the band.

    The band is found once, from all observed predictions, and not anew in each draw: a patient who comes alone has no
    rank among others, so the rule to be used later is the band, and the interval says what that rule may bring, in
    accuracy and in work for the person. No label has a part in finding it. (Found anew in each draw, the interval of the
    200 slices would be one point wider, for it would add how the band itself varies.)

    Shapes: labels (n,), probabilities (n,) or (R, n), groups (n,) of any kind, or None if each image is its own.
    Raises ValueError for other shapes or values.
    """
    truth, rows = _check_rows(labels, probabilities)
    result = []
    for fraction in fractions:
        width = float(np.mean([half_width(row, fraction) for row in rows]))
        left = with_intervals(truth, rows, groups, measures=partial(_left, fraction=fraction))
        result.append({"fraction": fraction, "half_width": width, **left})
    return result


def _left(labels: Array, row: Array, weights: ArrayLike | None, fraction: float) -> dict:
    """The part that is referred, and the measures of the rest; weights as in binary_measures."""
    w = check_weights(weights, labels.size)
    doubtful = is_doubtful(row, half_width(row, fraction))  # (n,)
    rest = rates(labels, row >= 0.5, w * ~doubtful)
    return {"referred": ratio(w @ doubtful, w.sum(axis=-1)),
            **{name: rest[name] for name in ("accuracy", "sensitivity", "specificity")}}


def _certainty(p: Array) -> Array:
    """|p - 1/2|, and exactly the same for 0.3 and 0.7, which 0.5 - 0.3 and 0.7 - 0.5 are not."""
    return np.maximum(p, 1 - p) - 0.5


def _logit(p: Array) -> Array:
    return logit(np.clip(p, SUREST, 1 - SUREST))


def _check_rows(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array]:
    """Labels (n,) and probabilities (R, n). Raises ValueError for other shapes or values."""
    rows = np.atleast_2d(np.asarray(probabilities, dtype=float))
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"expected probabilities (n,) or (R, n), got {rows.shape}")
    truth = [check_pair(labels, row)[0] for row in rows][0]
    check_range(rows)
    return truth, rows
