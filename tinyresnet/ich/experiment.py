"""An experiment: which images learn and which test, every fold fitted once, the answers collected.

No image is tested by a network that learned from it or, in grouped folds, from its scan. A finished fold is kept in
`folds/` and a running one in a checkpoint after every epoch, so that an interrupted experiment goes on to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.files import replacing
from tinyresnet.ich.recipes import Fit, Recipe
from tinyresnet.ich.splits import stratified_group_folds
from tinyresnet.metrics import with_intervals


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
    """A fold and what came of it."""

    fold: Fold
    fit: Fit


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


def run(recipe: Recipe, plan: Sequence[Fold], n: int, directory: Path, seed: int) -> list[Outcome]:
    """Fit every fold, then once more on all n images (a plan of a single fold is its own final fit), and save that.

    Writes backbone.npz and head.npz to the directory, and while it runs folds/ and checkpoint.npz.
    """
    (directory / "folds").mkdir(exist_ok=True)
    final = plan[0] if len(plan) == 1 else Fold("final", 0, 0, np.arange(n), np.arange(0))
    outcomes = []
    for number, fold in enumerate(tqdm([f for f in plan if f is not final], desc="folds", leave=False, disable=None)):
        kept = directory / "folds" / f"{fold.split}-{fold.repeat}-{fold.fold}.json"
        checkpoint = kept.with_suffix(".npz")  # its own: another fold's has seen the images that this one tests
        if not kept.exists():
            fit = recipe.fit(fold.train_rows, fold.valid_rows, rng_of(fold, seed), checkpoint=checkpoint,
                             description=f"fold {number + 1} of {len(plan)}")
            keep(kept, fit)
        checkpoint.unlink(missing_ok=True)
        outcomes.append(Outcome(fold, recall(kept)))
    fit = recipe.fit(final.train_rows, final.valid_rows, rng_of(final, seed),
                     checkpoint=directory / "checkpoint.npz")
    return outcomes if len(plan) > 1 else [Outcome(final, fit)]


def rng_of(fold: Fold, seed: int) -> np.random.Generator:
    """Randomness of its own for each fold, whatever ran before it."""
    return np.random.default_rng([seed, ("grouped", "plain", "final").index(fold.split), fold.repeat, fold.fold])


def keep(path: Path, fit: Fit) -> None:
    """Write a fit as JSON, in which numbers keep all their bits."""
    with replacing(path) as beside:
        beside.write_text(json.dumps({"probabilities": fit.probabilities.tolist(), "history": fit.history}))


def recall(path: Path) -> Fit:
    """Read what `keep` wrote."""
    kept = json.loads(path.read_text())
    return Fit(np.array(kept["probabilities"]), kept["history"])


def out_of_fold(outcomes: Sequence[Outcome], split: str) -> tuple[Array, Array]:
    """The images that were tested, and a row a repeat of their probabilities: rows (m,), probabilities (R, m)."""
    repeats: dict[int, dict[int, float]] = {}
    for fold, fit in outcomes:
        if fold.split == split:
            repeats.setdefault(fold.repeat, {}).update(zip(fold.valid_rows.tolist(), fit.probabilities.tolist()))
    rows = np.array(sorted(repeats[0]))
    return rows, np.array([[answers[row] for row in rows.tolist()] for answers in repeats.values()])


def measure(slices: Slices, outcomes: Sequence[Outcome]) -> dict[str, dict]:
    """{split: {measure: {"value", "low", "high"}}}: means over repeats, 95 % bootstrap over groups."""
    metrics = {}
    for split in dict.fromkeys(fold.split for fold, _ in outcomes):
        rows, probabilities = out_of_fold(outcomes, split)
        metrics[split] = with_intervals(slices.labels[rows], probabilities, slices.groups[rows])
    return metrics
