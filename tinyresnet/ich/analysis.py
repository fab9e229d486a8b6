"""From the answers of an experiment to its numbers: measures with intervals, calibration, and what referring would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.calibration import brier_with_interval, is_doubtful, referred, reliability, with_temperature
from tinyresnet.ich.experiment import Fold, Outcome, Slices, measure, out_of_fold, rng_of
from tinyresnet.ich.features import Features
from tinyresnet.ich.paper import PUBLISHED
from tinyresnet.metrics import MEASURES, exact_intervals, with_intervals


def analyse(slices: Slices, outcomes: Sequence[Outcome], *, independent: bool = False) -> dict[str, dict[str, Any]]:
    """{"metrics": {split: ...}, "calibration": {split: ...}, "referral": {split: ...}}, as results.json has them.

    independent: as for `measure`.
    """
    result: dict[str, dict] = {"metrics": measure(slices, outcomes, independent=independent), "calibration": {},
                               "referral": {}}
    for split in result["metrics"]:
        rows, probabilities = out_of_fold(outcomes, split)
        labels, groups = slices.labels[rows], None if independent else slices.groups[rows]
        result["calibration"][split] = calibration(labels, probabilities, groups, outcomes, split)
        found = referred(labels, probabilities, groups=groups)
        result["referral"][split] = [exactly(of, labels, probabilities[0]) for of in found] if independent else found
    return result


def exactly(referral: Mapping[str, Any], labels: Array, p: Array) -> dict[str, Any]:
    """The same entry of `referred`, of independent images (n,): its proportions with exact intervals."""
    doubtful = is_doubtful(p, referral["half_width"])  # (n,)
    left = exact_intervals(labels[~doubtful], p[~doubtful])
    part = exact_intervals(np.ones(len(p), int), doubtful)["accuracy"]
    return {**referral, "referred": part, **{name: of for name, of in left.items() if name in referral}}


def published() -> dict[str, dict[str, float]]:
    """What the paper reports, with the intervals that so few images allow; no ROC-AUC can be had from its answers."""
    right, images = PUBLISHED
    labels = np.repeat([0, 1], images)
    answers = np.where(np.arange(2 * images) % images < right, labels, 1 - labels)
    measures = with_intervals(labels, answers, None) | exact_intervals(labels, answers)
    return {name: measures[name] for name in MEASURES[:-1]}


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
                                   for fold in plan])
            for name, variant in tqdm(recipe.variants(), "variants", leave=False, disable=None)}
