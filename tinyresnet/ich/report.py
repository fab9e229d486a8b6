"""What an experiment leaves in its folder: tables, figures, and the numbers as JSON."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tinyresnet.files import replacing, write_csv
from tinyresnet.ich.experiment import Outcome, Slices, out_of_fold
from tinyresnet.metrics import confusion_matrix
from tinyresnet.plots import plot_confusion_matrix, plot_roc, plot_training_progress
from tinyresnet.plots_calibration import plot_referral, plot_reliability
from tinyresnet.version import __version__

DISCLAIMER = "Research and teaching only, not for diagnosis."
EPOCH_COLUMNS = ("epoch", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
PACKAGES = ("numpy", "scipy", "numba", "pillow", "matplotlib", "tqdm")
OUTPUTS = ("results.json", "predictions.csv", "summary.csv", "training_progress.png",
           "confusion_matrix.png", "roc.png", "reliability.png", "referral.png", "backbone.npz", "head.npz", "cases.npz",
           "report.html", "checkpoint.npz")


def write_json(path: Path, content: dict) -> None:
    """Write JSON that a person can read, complete or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """What the figures may depend on; of packages, those that are installed (the references run without Numba)."""
    found = {"tinyresnet": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def write_tables(directory: Path, slices: Slices, outcomes: Sequence[Outcome]) -> None:
    """predictions.csv, a row a tested image, and summary.csv, a row an epoch."""
    write_csv(directory / "predictions.csv", ("split", "repeat", "fold", "image", "label", "group", "probability"),
              ((*fold[:3], slices.names[row], slices.labels[row], slices.groups[row], f"{p:.6f}")
               for fold, fit, _ in outcomes for row, p in zip(fold.valid_rows, fit.probabilities)))
    write_csv(directory / "summary.csv", ("split", "repeat", "fold", *EPOCH_COLUMNS),
              ((*fold[:3], *(row[column] for column in EPOCH_COLUMNS)) for fold, fit, _ in outcomes for row in fit.history))


def write_figures(directory: Path, slices: Slices, outcomes: Sequence[Outcome], note: str, batch_size: int | None) -> None:
    """Training progress, confusion matrix (first repeat), reliability and referral (all) of the first split; ROC of all.

    batch_size: then training progress has iterations below, as in the paper's figure.
    """
    splits = list(dict.fromkeys(fold.split for fold, *_ in outcomes))
    history = [dict(split=fold.split, repeat=fold.repeat, fold=fold.fold, **row)
               for fold, fit, _ in outcomes if fold.split == splits[0] for row in fit.history]
    folds = f"{splits[0].capitalize()} folds. {note}" if len(outcomes) > 1 else note
    if history:  # heads that are fitted exactly have none
        steps = math.ceil(len(outcomes[0].fold.train_rows) / batch_size) if batch_size else None
        plot_training_progress(history, directory / "training_progress.png", note=folds, iterations_per_epoch=steps)
    answers = {split: out_of_fold(outcomes, split) for split in splits}
    curves = {split.replace("_", " "): (slices.labels[rows], repeats[0]) for split, (rows, repeats) in answers.items()}
    rows, probabilities = answers[splits[0]]
    labels, groups = slices.labels[rows], slices.groups[rows]
    repeats = max(fold.repeat for fold, *_ in outcomes) + 1
    which = f"{splits[0].capitalize()} folds, repeat 1 of {repeats}. {note}" if repeats > 1 else note
    plot_confusion_matrix(confusion_matrix(labels, probabilities[0] >= 0.5), directory / "confusion_matrix.png",
                          classes=slices.classes, note=which)
    plot_roc(curves, directory / "roc.png", note=f"Repeat 1 of {repeats}. {note}" if repeats > 1 else note)
    every = f"{splits[0].capitalize()} folds, all repeats. {note}" if repeats > 1 else note
    plot_reliability(labels, probabilities, directory / "reliability.png", groups=groups, classes=slices.classes, note=every)
    if not batch_size:  # of some forty images every point would be a handful
        plot_referral(labels, probabilities, directory / "referral.png", groups=groups, note=every)


def table(metrics: dict[str, dict]) -> str:
    """The measures side by side, with their intervals, for the terminal."""
    names = dict.fromkeys(name for measures in metrics.values() for name in measures)
    lines = [" " * 18 + "".join(f"{split.replace('_', ' '):^26}" for split in metrics)]
    for name in names:
        cells = "".join(f"   {interval(of[name]) if name in of else '-'}".ljust(26) for of in metrics.values())
        lines.append(f"{name.replace('_', ' '):<18}{cells}".rstrip())
    return "\n".join(lines)


def interval(measure: Mapping[str, float]) -> str:
    """"0.864 (0.824 to 0.905)"; what has no interval alone."""
    around = f" ({measure['low']:.3f} to {measure['high']:.3f})" if "low" in measure else ""
    return f"{measure['value']:.3f}{around}"
