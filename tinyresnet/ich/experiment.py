"""An experiment: which images learn and which test, every fold fitted once, the answers collected.

No image is tested by a network that learned from it or, in grouped folds, from its scan. A finished fold is kept in
`folds/` and a running one in a checkpoint after every epoch, so that an interrupted experiment goes on to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.calibration import fit_temperature
from tinyresnet.ich.recipes import Fit, Head, Recipe
from tinyresnet.ich.splits import stratified_group_folds
from tinyresnet.metrics import exact_intervals, with_intervals
from tinyresnet.weights import read_arrays, write_arrays

INNER_FOLDS = 4


class Slices(NamedTuple):
    """What an experiment is about, image by image. Shapes: all (n,)."""

    names: Sequence[str]
    labels: Array  # 1 = positive
    groups: Array  # scan or patient
    grouped: bool  # False if the groups are not known
    classes: tuple[str, str]  # negative, positive


class Fold(NamedTuple):
    """One part learns, the other is asked."""

    split: str  # "grouped" or "plain"
    repeat: int
    fold: int
    train_rows: Array
    valid_rows: Array


class Outcome(NamedTuple):
    """A fold, what came of it, and the temperature that images of its training part ask for, if that is known."""

    fold: Fold
    fit: Fit
    temperature: float | None = None


def cross_validation(slices: Slices, splits: Sequence[str], folds: int, repeats: int, seed: int) -> list[Fold]:
    """Stratified k-fold, repeated with other random folds, for each of the splits ("grouped", "plain")."""
    plan = []
    for split in splits:
        groups = slices.groups if split == "grouped" else np.arange(len(slices.labels))
        for repeat in range(repeats):
            fold_of = stratified_group_folds(slices.labels, groups, folds, np.random.default_rng([seed, repeat]))
            plan += [Fold(split, repeat, fold, np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold))
                     for fold in range(folds)]
    return plan


def run(recipe: Recipe, plan: Sequence[Fold], slices: Slices, directory: Path,
        seed: int) -> tuple[list[Outcome], list[Head]]:
    """Fit every fold, then once more on all images; a plan of a single fold is its own final fit.

    Also gives the heads to save: of the final fit, then, where they fit the same backbone, of the first split's folds.
    While it runs, the directory has folds/ and checkpoint.npz.
    """
    (directory / "folds").mkdir(exist_ok=True)
    every = np.arange(len(slices.labels))
    final = plan[0] if len(plan) == 1 else Fold("final", 0, 0, every, every[:0])
    outcomes = []
    for number, fold in enumerate(tqdm([f for f in plan if f is not final], desc="folds", leave=False, disable=None)):
        kept = directory / "folds" / f"{fold.split}-{fold.repeat}-{fold.fold}.npz"
        checkpoint = kept.with_suffix(".part.npz")  # its own: another fold's has seen the images that this one tests
        if not kept.exists():
            fit = recipe.fit(fold.train_rows, fold.valid_rows, rng_of(fold, seed), checkpoint=checkpoint,
                             description=f"fold {number + 1} of {len(plan)}")
            keep(kept, Outcome(fold, fit, inner_temperature(recipe, slices, fold, seed)))
        checkpoint.unlink(missing_ok=True)
        outcomes.append(recall(kept, fold))
    fit = recipe.fit(final.train_rows, final.valid_rows, rng_of(final, seed), checkpoint=directory / "checkpoint.npz")
    folds = [outcome.fit.head for outcome in outcomes if outcome.fold.split == plan[0].split]
    return outcomes or [Outcome(final, fit, None)], [fit.head, *(folds if recipe.keeps_backbone else [])]


def inner_temperature(recipe: Recipe, slices: Slices, fold: Fold, seed: int) -> float | None:
    """The temperature that makes answers for the training part as sure as they should be: each was given by a fit to
    the other inner folds. None where fits take long, or the training part is too small to be divided once more. The
    test part has no say in it.
    """
    if not recipe.keeps_backbone:
        return None
    rows, rng = fold.train_rows, rng_of(fold, seed)
    groups = slices.groups if fold.split == "grouped" else np.arange(len(slices.labels))
    try:
        part = stratified_group_folds(slices.labels[rows], groups[rows], INNER_FOLDS, rng)
    except ValueError:  # how far the answers can be trusted is not known then, but there are answers
        return None
    answers = np.empty(len(rows))
    for k in range(INNER_FOLDS):
        answers[part == k] = recipe.fit(rows[part != k], rows[part == k], rng).probabilities
    return fit_temperature(slices.labels[rows], answers)


def rng_of(fold: Fold, seed: int) -> np.random.Generator:
    """Randomness of its own for each fold, whatever ran before it."""
    return np.random.default_rng([seed, {"plain": 1, "final": 2}.get(fold.split, 0), fold.repeat, fold.fold])


def keep(path: Path, outcome: Outcome) -> None:
    """Write what `recall` reads, in which numbers keep all their bits."""
    _, fit, temperature = outcome
    write_arrays(path, {"probabilities": fit.probabilities, "weight": fit.head.weight, "bias": fit.head.bias},
                 {"history": fit.history, "temperature": temperature})


def recall(path: Path, fold: Fold) -> Outcome:
    """Read what `keep` wrote."""
    arrays, facts = read_arrays(path)
    head = Head(arrays["weight"], arrays["bias"])
    return Outcome(fold, Fit(arrays["probabilities"], facts["history"], head), facts["temperature"])


def out_of_fold(outcomes: Sequence[Outcome], split: str) -> tuple[Array, Array]:
    """The images that were tested, and a row a repeat of their probabilities: rows (m,), probabilities (R, m)."""
    repeats: dict[int, dict[int, float]] = {}
    for fold, fit, _ in outcomes:
        if fold.split == split:
            repeats.setdefault(fold.repeat, {}).update(zip(fold.valid_rows.tolist(), fit.probabilities.tolist()))
    rows = np.array(sorted(repeats[0]))
    return rows, np.array([[answers[row] for row in rows.tolist()] for answers in repeats.values()])


def measure(slices: Slices, outcomes: Sequence[Outcome], less: Sequence[Outcome] | None = None, *,
            independent: bool = False) -> dict[str, dict]:
    """{split: {measure: {"value", "low", "high"}}}: means over repeats, 95 % bootstrap over groups.

    less: another method's outcomes of the same folds; then it is the difference that is measured.
    independent: images were divided singly and count singly, as in the paper; then proportions have exact intervals.
    """
    metrics = {}
    for split in dict.fromkeys(outcome.fold.split for outcome in outcomes):
        rows, probabilities = out_of_fold(outcomes, split)
        labels, groups = slices.labels[rows], None if independent else slices.groups[rows]
        others = None if less is None else out_of_fold(less, split)[1]
        exact = exact_intervals(labels, probabilities[0]) if independent and less is None else {}
        metrics[split] = with_intervals(labels, probabilities, groups, less=others) | exact
    return metrics


def siblings(slices: Slices, plan: Sequence[Fold]) -> dict[str, float]:
    """{split: part of the tested images of which another image of the same group was learned from}."""
    parts: dict[str, list[Array]] = {}
    for fold in plan:
        parts.setdefault(fold.split, []).append(np.isin(slices.groups[fold.valid_rows], slices.groups[fold.train_rows]))
    return {split: float(np.concatenate(part).mean()) for split, part in parts.items()}
