"""From the answers of an experiment to its numbers: measures with intervals, calibration, and what referring would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from tinyresnet.calibration import brier_with_interval, referred, reliability, with_temperature
from tinyresnet.ich.experiment import Fold, Outcome, Slices, measure, out_of_fold, rng_of
from tinyresnet.ich.features import Features
from tinyresnet.ich.paper import PUBLISHED
from tinyresnet.metrics import MEASURES, binary_measures, clopper_pearson, confusion_matrix, with_intervals


def analyse(slices: Slices, outcomes: Sequence[Outcome], *, independent: bool = False) -> dict[str, dict[str, Any]]:
    """{"metrics": {split: ...}, "calibration": {split: ...}, "referral": {split: ...}}, as results.json has them.

    independent: images were divided singly and count singly, as in the paper; then proportions have exact intervals.
    """
    result: dict[str, dict] = {"metrics": {}, "calibration": {}, "referral": {}}
    for split in dict.fromkeys(outcome.fold.split for outcome in outcomes):
        rows, probabilities = out_of_fold(outcomes, split)
        labels, groups = slices.labels[rows], None if independent else slices.groups[rows]
        measures = with_intervals(labels, probabilities, groups)
        result["metrics"][split] = measures | (exact_intervals(labels, probabilities[0]) if independent else {})
        result["calibration"][split] = calibration(labels, probabilities, groups, outcomes, split)
        result["referral"][split] = referred(labels, probabilities, groups=groups)
    return result


def exact_intervals(labels: Array, probabilities: Array) -> dict[str, dict[str, float]]:
    """Clopper's and Pearson's, for those measures that are a number of images out of another."""
    (TN, FP), (FN, TP) = confusion_matrix(labels, probabilities >= 0.5).tolist()
    counts = {"accuracy": (TP + TN, TP + TN + FP + FN), "sensitivity": (TP, TP + FN), "specificity": (TN, TN + FP),
              "precision": (TP, TP + FP)}
    return {name: dict(zip(("value", "low", "high"), (k / n, *clopper_pearson(k, n))))
            for name, (k, n) in counts.items() if n}


def published() -> dict[str, dict[str, float]]:
    """What the paper reports, with the intervals that so few images allow."""
    right, images = PUBLISHED
    labels = np.repeat([0, 1], images)
    answers = np.where(np.arange(2 * images) % images < right, labels, 1 - labels)
    measures = binary_measures(labels, answers)
    return {name: {"value": measures[name]} for name in MEASURES[:-1]} | exact_intervals(labels, answers)


def calibration(labels: Array, probabilities: Array, groups: Array | None, outcomes: Sequence[Outcome],
                split: str) -> dict[str, Any]:
    """Brier score and reliability diagram, and the score again with the temperatures of the folds, if all have one."""
    found: dict[str, Any] = {"brier": brier_with_interval(labels, probabilities, groups),
                             "reliability": [bin_._asdict() for bin_ in reliability(labels, probabilities, groups=groups)]}
    of_split = [outcome for outcome in outcomes if outcome.fold.split == split]
    temperatures = [T for _, _, T in of_split if T is not None]
    if len(temperatures) == len(of_split):
        cooled = [Outcome(fold, fit._replace(probabilities=with_temperature(fit.probabilities, T)))
                  for (fold, fit, _), T in zip(of_split, temperatures)]
        found["temperature"] = float(np.mean(temperatures))
        found["brier_with_temperature"] = brier_with_interval(labels, out_of_fold(cooled, split)[1], groups)
    return found


def exploratory(recipe: Features, slices: Slices, plan: Sequence[Fold], seed: int) -> dict[str, dict]:
    """{variant: {split: measures}} of what else the recipe might have been. Tried on the images that judge it, so the
    best of them is no result.
    """
    return {name: measure(slices, [Outcome(fold, variant.fit(fold.train_rows, fold.valid_rows, rng_of(fold, seed)))
                                   for fold in plan]) for name, variant in recipe.variants()}
