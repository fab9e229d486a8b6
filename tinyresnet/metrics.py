"""How good is a classifier of two classes, and how sure are we of that number?

Every measure here is a ratio of sums over images, so each takes a weight for every image, and many sets of weights at
once. A bootstrap is then no loop: drawing images with replacement means giving each the number of times it was drawn as
its weight, and 2000 draws are one matrix of weights (B, n).

Positive is class 1 (hemorrhage), negative is class 0. TP, FN, FP, TN are the sums of the weights of the images that are
positive and called so, positive and missed, negative and called positive, negative and called so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

Array = NDArray

MEASURES = ("accuracy", "sensitivity", "specificity", "precision", "f1", "balanced_accuracy", "roc_auc")


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike) -> Array:
    """(2, 2) counts, row = true class, column = predicted class: [[TN, FP], [FN, TP]].

    Shapes: labels and predictions (n,), each 0 or 1. Raises ValueError otherwise.
    """
    truth, called = check_classes("labels", labels), check_classes("predictions", predictions)
    if truth.shape != called.shape:
        raise ValueError(f"expected one prediction a label, got {truth.size} labels and {called.size} predictions")
    return np.bincount(2 * truth + called, minlength=4).reshape(2, 2)


def binary_measures(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None,
                    threshold: float = 0.5) -> dict:
    """The measures of the paper and the true ROC-AUC; an image is called positive if its probability >= threshold.

        accuracy = (TP + TN) / (TP + TN + FP + FN)        sensitivity TPR = TP / (TP + FN)
        specificity TNR = TN / (TN + FP)                  precision PPV = TP / (TP + FP)
        f1 = 2 PPV TPR / (PPV + TPR)                      balanced_accuracy = (TPR + TNR) / 2
        roc_auc = P(a positive scores higher than a negative) + P(they score the same) / 2

    What the paper calls "AUC" is balanced_accuracy. A measure that needs a class of which there is none is NaN;
    precision is 0 when nothing is called positive, and f1 is 0 when nothing is called positive rightly.

    Shapes: labels (n,) of 0 and 1, probabilities (n,) within 0..1; weights None or (n,) -> floats, (B, n) -> (B,) each.
    Raises ValueError for other shapes or values.
    """
    truth, scores = check_pair(labels, probabilities)
    check_range(scores)
    w = check_weights(weights, truth.size)  # (n,) or (B, n)
    values = {**rates(truth, scores >= threshold, w), "roc_auc": _roc_auc(truth, scores, w)}
    return {name: float(value) if w.ndim == 1 else value for name, value in values.items()}


def rates(labels: Array, called: Array, weights: Array) -> dict[str, Array]:
    """The measures of binary_measures that depend on what was called positive: all but roc_auc, unchecked.

    Shapes: labels (n,) of 0 and 1, called (n,) of bool, weights (n,) or (B, n) -> () or (B,) each.
    """
    cells = [~called & (labels == 0), called & (labels == 0), ~called & (labels == 1), called & (labels == 1)]
    TN, FP, FN, TP = np.moveaxis(weights @ np.array(cells, dtype=float).T, -1, 0)  # each () or (B,)
    TPR, TNR = ratio(TP, TP + FN), ratio(TN, TN + FP)
    PPV = ratio(TP, TP + FP, otherwise=0.0)
    return {
        "accuracy": ratio(TP + TN, TP + TN + FP + FN),
        "sensitivity": TPR,
        "specificity": TNR,
        "precision": PPV,
        "f1": ratio(2 * PPV * TPR, PPV + TPR, otherwise=0.0),
        "balanced_accuracy": (TPR + TNR) / 2,
    }


def ratio(numerator: Array, denominator: Array, otherwise: ArrayLike = np.nan) -> Array:
    """numerator / denominator, and `otherwise` where the denominator is zero."""
    nothing = denominator == 0
    return np.where(nothing, otherwise, numerator / np.where(nothing, 1, denominator))


def _roc_auc(labels: Array, scores: Array, weights: Array) -> Array:
    """The probability that a positive outscores a negative, by walking up the scores; equal scores are one step.

        sum over steps k of  P[k] (negatives below k + N[k] / 2)  /  (all positives * all negatives)

    Shapes: labels, scores (n,), weights (n,) or (B, n) -> () or (B,).
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)  # where each step begins
    positive = np.add.reduceat((weights * labels)[..., order], starts, axis=-1)  # (..., steps)
    negative = np.add.reduceat((weights * (1 - labels))[..., order], starts, axis=-1)  # (..., steps)
    below = np.cumsum(negative, axis=-1) - negative
    wins = (positive * (below + negative / 2)).sum(axis=-1)
    return ratio(wins, positive.sum(axis=-1) * negative.sum(axis=-1))


def roc_curve(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array, Array]:
    """fpr, tpr, thresholds of the ROC curve, from (0, 0) at threshold infinity to (1, 1); equal scores are one step.

    Entry k calls positive what scores >= thresholds[k]. Shapes: (n,), (n,) -> three times (distinct scores + 1,).
    Raises ValueError if a class is absent: its rate does not exist.
    """
    truth, scores = check_pair(labels, probabilities)
    if truth.min() == truth.max():
        raise ValueError(f"a ROC curve needs images of both classes, got {truth.size} of class {truth[0]} and no other")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), truth.size - 1)  # the last image of each step
    true_positives = np.cumsum(truth[order])[last]
    false_positives = last + 1 - true_positives
    fpr = np.append(0.0, false_positives / false_positives[-1])
    tpr = np.append(0.0, true_positives / true_positives[-1])
    return fpr, tpr, np.append(np.inf, scores[order][last])


def with_intervals(labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike | None, *, draws: int = 2000,
                   seed: int = 0, level: float = 0.95, measures: Callable[..., dict] = binary_measures,
                   less: ArrayLike | None = None) -> dict[str, dict[str, float]]:
    """{measure: {"value", "low", "high"}}: the mean over repeats, and a percentile bootstrap over groups.

    Row r of probabilities holds the out-of-fold predictions of repeat r of the cross-validation. Images of one patient
    resemble each other, so whole groups are drawn with replacement: drawing images would make the interval too narrow.
    Repeats are the same images again, so every repeat gets the same draw and the measure is averaged over repeats
    within it. A draw without one of the classes is left out for the measures that need that class.

    The interval says how the measure varies with the patients met, not with the training.

    measures(labels, row, weights) -> {name: value}, with weights and values as those of binary_measures.
    less: what another method answered in the same repeats; its measures are subtracted, draw by draw, so that images
    that both find hard, or both easy, do not widen the interval of the difference.

    Shapes: labels (n,), probabilities and less (R, n) or (n,), groups (n,) of any kind, or None if each image is its own.
    Raises ValueError for other shapes or values.
    """
    truth, rows = check_classes("labels", labels), np.atleast_2d(np.asarray(probabilities, dtype=float))
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"expected draws >= 1 and a level between 0 and 1, got draws={draws} and level={level}")
    weights = _bootstrap_weights(check_groups(groups, truth.size), draws, seed)  # (draws, n)
    others = [None] * len(rows) if less is None else np.atleast_2d(np.asarray(less, dtype=float))
    if len(others) != len(rows):
        raise ValueError(f"expected answers of as many repeats to subtract, {len(rows)}, got {len(others)}")
    observed, drawn = ([_difference(measures, truth, w, *pair) for pair in zip(rows, others)] for w in (None, weights))
    tail = (1 - level) / 2
    result = {}
    for name in observed[0]:
        values = np.mean([repeat[name] for repeat in drawn], axis=0)  # (draws,)
        values = values[~np.isnan(values)]
        low, high = np.quantile(values, [tail, 1 - tail]) if values.size else (np.nan, np.nan)
        value = np.mean([repeat[name] for repeat in observed])
        result[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return result


def _difference(measures: Callable[..., dict], truth: Array, weights: Array | None, row: Array,
                other: Array | None) -> dict[str, Array]:
    """What is measured of a row of answers, less what is measured of another row, if there is one."""
    mine = measures(truth, row, weights)
    if other is None:
        return mine
    return {name: mine[name] - value for name, value in measures(truth, other, weights).items()}


def _bootstrap_weights(groups: Array, draws: int, seed: int) -> Array:
    """(draws, n): how often the group of each image was drawn, when as many groups are drawn as there are."""
    names, of_image = np.unique(groups, return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(names.size, np.full(names.size, 1 / names.size), size=draws)
    return counts[:, of_image].astype(float)  # (draws, n)


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """(low, high): the exact interval for a proportion of which `successes` of n independent images were seen.

    low is the proportion at which so many successes or more have probability (1 - level) / 2; high the one at which so
    few or fewer have. Only for independent images: siblings of one patient make it too narrow. The beta distribution
    does not ask for whole numbers, so n may be the number of independent images that resembling ones are worth.
    Raises ValueError unless 0 <= successes <= n, n >= 1 and 0 < level < 1. Source: Clopper and Pearson, Biometrika 26
    (1934), in its form by the beta distribution.
    """
    if not (0 <= successes <= n and n >= 1 and 0 < level < 1):
        raise ValueError(f"expected 0 <= successes <= n, n >= 1, 0 < level < 1, got {successes} of {n} at {level}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def exact_intervals(labels: Array, probabilities: Array) -> dict[str, dict[str, float]]:
    """Clopper's and Pearson's, for those measures that are a number of images out of another; none where that is 0.

    Only for independent images, as clopper_pearson. Shapes: labels (n,) of 0 and 1, probabilities (n,), called from .5 on.
    """
    (TN, FP), (FN, TP) = confusion_matrix(labels, probabilities >= 0.5).tolist()
    counts = {"accuracy": (TP + TN, TP + TN + FP + FN), "sensitivity": (TP, TP + FN), "specificity": (TN, TN + FP),
              "precision": (TP, TP + FP)}
    return {name: dict(zip(("value", "low", "high"), (k / n, *clopper_pearson(k, n))))
            for name, (k, n) in counts.items() if n}


def check_classes(name: str, values: ArrayLike) -> Array:
    """The classes (n,) as integers. Raises ValueError unless each is 0 or 1."""
    classes = np.asarray(values)
    if classes.ndim != 1 or classes.size == 0 or not np.isin(classes, (0, 1)).all():
        raise ValueError(f"expected {name} (n,) of 0 and 1, got shape {classes.shape} with {np.unique(classes)[:5]}")
    return classes.astype(np.int64)


def check_pair(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Array, Array]:
    """Labels (n,) and finite scores (n,). Raises ValueError otherwise."""
    truth, scores = check_classes("labels", labels), np.asarray(probabilities, dtype=float)
    if scores.shape != truth.shape:
        raise ValueError(f"expected one probability a label, got {scores.shape} for labels {truth.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"expected finite probabilities, got {np.count_nonzero(~np.isfinite(scores))} NaN or infinite")
    return truth, scores


def check_range(scores: Array) -> None:
    """Raises ValueError unless all lie within 0..1."""
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"expected probabilities within 0..1, got {scores.min():g} to {scores.max():g}; apply softmax")


def check_groups(groups: ArrayLike | None, n: int) -> Array:
    """Groups (n,), each image its own if None. Raises ValueError for another shape."""
    found = np.arange(n) if groups is None else np.asarray(groups)
    if found.shape != (n,):
        raise ValueError(f"expected one group an image, ({n},), got groups of shape {found.shape}")
    return found


def check_weights(weights: ArrayLike | None, n: int) -> Array:
    """Weights (n,) or (B, n), ones if None. Raises ValueError unless they are finite and >= 0."""
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=float)
    if w.ndim not in (1, 2) or w.shape[-1] != n:
        raise ValueError(f"expected weights ({n},) or (B, {n}), got {w.shape}")
    if not np.isfinite(w).all() or (w < 0).any():
        raise ValueError(f"expected finite weights >= 0, got {w.min():g} to {w.max():g}")
    return w
