"""The three figures of the paper, in the manner of MATLAB: training progress, confusion matrix, ROC curve; and the
benchmark's, how the cost grows.

Every figure is an object that is drawn, written and forgotten. matplotlib.pyplot is not used: it keeps figures in a
global list and looks for a screen, and here is neither a list to empty nor a screen to find.

`note` is printed below each figure, so that "synthetic" or "not for diagnosis" stays with the picture when it travels.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from tinyresnet.files import replacing
from tinyresnet.metrics import binary_measures, roc_curve

Array = NDArray

BLUE, ORANGE, BLACK, GREY = "#0072bd", "#d95319", "#1a1a1a", "#6b6b6b"  # the first two are MATLAB's
GREEN, RED, LIGHT_GREEN, LIGHT_RED = "#11772d", "#c0271d", "#bce6c4", "#f9c4c0"  # the light ones are MATLAB's
CURVES = (BLUE, ORANGE, "#77ac30", "#7e2f8e", "#edb120", "#4dbeee", "#a2142f")
DPI = 150


def plot_training_progress(history: Sequence[Mapping], path: str | Path, *, iterations_per_epoch: int | None = None,
                           note: str = "") -> None:
    """Accuracy in percent above, loss below, epochs shaded alternately; training coloured, validation black and dashed.

    With iterations_per_epoch (updates of the weights) the x axis counts those, as MATLAB's does. Training is the mean
    over an epoch and stands in its middle; validation was measured at its end, and stands there.

    history: one row an epoch with split, repeat, fold, epoch, train_loss, train_accuracy, valid_loss and valid_accuracy
    (accuracies 0..1; validation may be None or NaN). Of several folds the mean is drawn, and a band from the lowest to
    the highest. Raises ValueError if history is empty or a column is missing.
    """
    runs = _runs(history)
    figure = Figure(figsize=(9, 6.2), dpi=DPI, facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_pane(above, runs, "accuracy", BLUE, 100)
    _draw_pane(below, runs, "loss", ORANGE, 1)
    above.set(ylabel="Accuracy (%)", ylim=(0, 104), yticks=range(0, 101, 20))
    below.set(ylabel="Loss", ylim=(0, None))
    below.set_xlabel("Iteration" if iterations_per_epoch else "Epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    below.xaxis.set_major_formatter(FuncFormatter(lambda epoch, _: f"{epoch * (iterations_per_epoch or 1):g}"))
    for axes in (above, below):
        _shade_epochs(axes, max(row["epoch"] for row in history), named=axes is above and bool(iterations_per_epoch))
    above.legend(loc="lower right", bbox_to_anchor=(1, 0.08), frameon=True, framealpha=0.9, edgecolor="0.85")
    below.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="0.85")
    folds = "" if len(runs) == 1 else f": mean and range of {len(runs)} folds"
    figure.suptitle(f"Training progress{folds}", fontsize=13)
    save_figure(figure, path, note)


def _runs(history: Sequence[Mapping]) -> list[list[Mapping]]:
    """The rows of each training run, one run a (split, repeat, fold), by epoch."""
    columns = ("split", "repeat", "fold", "epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    if not history:
        raise ValueError("expected a history of at least one epoch, got none; nothing was trained")
    missing = [column for column in columns if any(column not in row for row in history)]
    if missing:
        raise ValueError(f"expected rows with {', '.join(columns)}, got rows without {', '.join(missing)}")
    runs: dict[tuple, list[Mapping]] = {}
    for row in history:
        runs.setdefault((row["split"], row["repeat"], row["fold"]), []).append(row)
    return [sorted(run, key=lambda row: row["epoch"]) for run in runs.values()]


def _draw_pane(axes: Axes, runs: list[list[Mapping]], measure: str, color: str, factor: float) -> None:
    """Training and validation of one measure, each with its last value written beside its end."""
    epochs = sorted({row["epoch"] for run in runs for row in run})
    every = 1 + len(epochs) // 40  # more markers than 40 would merge into a band
    ends = []
    for part, name, hue, line, before in (("train", "Training", color, "-", 0.5), ("valid", "Validation", BLACK, "--", 0)):
        values = factor * _table(runs, epochs, f"{part}_{measure}")  # (runs, epochs)
        shown = np.flatnonzero(~np.isnan(values).all(axis=0))
        if shown.size == 0:
            continue
        x, y = np.array(epochs)[shown] - before, np.nanmean(values[:, shown], axis=0)
        marker = "" if part == "train" and x.size > 1 else "o"  # MATLAB's training is a line, which one point is not
        axes.plot(x, y, line, label=name, color=hue, linewidth=1.6, marker=marker, markersize=4, markevery=every)
        if len(runs) > 1:
            low, high = np.nanmin(values[:, shown], axis=0), np.nanmax(values[:, shown], axis=0)
            axes.fill_between(x, low, high, color=hue, alpha=0.15, linewidth=0)
        ends.append((float(y[-1]), hue))
    _write_ends(axes, ends, "{:.1f} %" if measure == "accuracy" else "{:.3f}")
    tidy(axes)


def _shade_epochs(axes: Axes, last: int, *, named: bool) -> None:
    """Every second epoch grey, or every second block where there are more than 40; about eight of them named."""
    block = 1 + last // 40
    for first in range(block, last, 2 * block):
        axes.axvspan(first, min(first + block, last), facecolor="0.95", linewidth=0, zorder=0)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(0, 1.01 * last)  # room for half a marker
    step = next(step for step in (1, 2, 5, 10, 20, 50, math.ceil(last / 8)) if last <= 8 * step)
    for epoch in range(step, last + 1, step) if named else ():
        axes.text(epoch, 2, f"Epoch {epoch} ", ha="right", va="bottom", fontsize=8, color=GREY)


def _table(runs: list[list[Mapping]], epochs: list[int], column: str) -> Array:
    """(runs, epochs) of float, NaN where a run has no such value."""
    values = np.full((len(runs), len(epochs)), np.nan)
    for r, run in enumerate(runs):
        for row in run:
            values[r, epochs.index(row["epoch"])] = np.nan if row[column] is None else row[column]
    return values


def _write_ends(axes: Axes, ends: list[tuple[float, str]], pattern: str) -> None:
    """The last values, (y, color) each, right of the pane; the higher sits above its point, so two never overlap."""
    for (y, color), position in zip(sorted(ends, reverse=True), ("bottom", "top")):
        axes.annotate(pattern.format(y), (1, y), xycoords=axes.get_yaxis_transform(), xytext=(3, 0), color=color,
                      textcoords="offset points", va=position, fontsize=10, fontweight="bold", annotation_clip=False)


def plot_confusion_matrix(matrix: ArrayLike, path: str | Path, *, classes: Sequence[str] = ("normal", "hemorrhage"),
                          note: str = "") -> None:
    """As MATLAB's plotconfusion: counts and percent of all images, green where right and red where wrong.

    The grey squares say what percent is right (green) and wrong (red): at the end of a row of the images of that true
    class, below a column of those called so, in the corner of all. One thing differs: here a row is a true class, as
    in confusion_matrix, and there a predicted one. To compare, exchange rows and columns.

    matrix: (K, K) counts, row = true class, column = predicted class. A class without images shows a dash.
    Raises ValueError if matrix has not one row and one column a class, or holds anything but counts.
    """
    counts, K = np.asarray(matrix), len(classes)
    if counts.shape != (K, K) or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError(f"expected counts ({K}, {K}) for the classes {', '.join(classes)}, got {counts.tolist()}")
    figure = Figure(figsize=(1.7 + 1.5 * K, 1.9 + 1.5 * K), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for i in range(K):
        for j in range(K):
            _draw_square(axes, j, i, LIGHT_GREEN if i == j else LIGHT_RED)
            axes.text(j + 0.5, i + 0.5, f"{counts[i, j]:g}", ha="center", va="bottom", fontsize=18, fontweight="bold")
            axes.text(j + 0.5, i + 0.54, _percent(counts[i, j], counts.sum()), ha="center", va="top", fontsize=11)
    for k in range(K):
        _draw_summary(axes, K, k, counts[k, k], counts[k].sum())
        _draw_summary(axes, k, K, counts[k, k], counts[:, k].sum())
    _draw_summary(axes, K, K, np.trace(counts), counts.sum(), "0.84")
    axes.set(xlim=(-0.02, K + 1.02), ylim=(K + 1.02, -0.02), aspect="equal")
    _name_classes(axes, classes)
    axes.set_title(f"Confusion matrix of {counts.sum():g} images", fontsize=13)
    save_figure(figure, path, note)


def _name_classes(axes: Axes, classes: Sequence[str]) -> None:
    """Beside and below the squares."""
    places, middle = np.arange(len(classes) + 1) + 0.5, len(classes) / 2 / (len(classes) + 1)
    axes.set_xlabel("Predicted class", fontsize=12, x=middle)  # of the classes' squares, as a part of the axes
    axes.set_ylabel("True class", fontsize=12, y=1 - middle)
    axes.set_xticks(places, [*classes, "of the row"])
    axes.set_yticks(places, [*classes, "of the column"], rotation=90, va="center")
    axes.tick_params(length=0, labelsize=11)
    axes.spines[:].set_visible(False)


def _draw_summary(axes: Axes, x: float, y: float, right: int, total: int, grey: str = "0.93") -> None:
    """The percent right in green above the percent wrong in red."""
    _draw_square(axes, x, y, grey)
    axes.text(x + 0.5, y + 0.46, _percent(right, total), ha="center", va="bottom", fontsize=12, color=GREEN)
    axes.text(x + 0.5, y + 0.54, _percent(total - right, total), ha="center", va="top", fontsize=12, color=RED)


def _draw_square(axes: Axes, x: float, y: float, color: str) -> None:
    """A unit square from (x, y) to the right and down."""
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=color, edgecolor="0.45", linewidth=0.8))


def _percent(part: int, total: int) -> str:
    return f"{100 * part / total:.1f} %" if total else "\u2013"


def plot_roc(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], path: str | Path, note: str = "") -> None:
    """The ROC curve of each entry name: (labels, probabilities), with its area in the legend and the line of chance.

    Raises ValueError if there is no curve, or one has images of one class only.
    """
    if not curves:
        raise ValueError("expected at least one curve, name: (labels, probabilities), got none")
    figure = Figure(figsize=(6.2, 6.4), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="Chance (AUC 0.500)")
    for k, (name, (labels, probabilities)) in enumerate(curves.items()):
        fpr, tpr, _ = roc_curve(labels, probabilities)
        auc = binary_measures(labels, probabilities)["roc_auc"]
        axes.plot(fpr, tpr, color=CURVES[k % len(CURVES)], linewidth=2, linestyle=("-", "--")[k // len(CURVES) % 2],
                  label=f"{name} (AUC {auc:.3f})")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("False positive rate (1 \u2013 specificity)", fontsize=12)
    axes.set_ylabel("True positive rate (sensitivity)", fontsize=12)
    axes.set_title("ROC curve" if len(curves) == 1 else "ROC curves", fontsize=13)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[1:] + handles[:1], names[1:] + names[:1], loc="lower right", framealpha=0.9, edgecolor="0.85")
    tidy(axes)
    save_figure(figure, path, note)


def plot_growth(batches: Sequence[Mapping], sizes: Sequence[Mapping], path: str | Path, *, note: str = "") -> None:
    """Milliseconds of a training step and of a forward against the number of images, and against their pixels.

    Both axes are logarithmic: a straight line is a power, and the dotted one beside each curve is what time would be
    if it grew exactly as the work does. A bar reaches from the quickest to the slowest call.

    batches and sizes: points with batch, size (pixels, one way) and seconds, which holds the lists forward and step.
    Raises ValueError if one of them has no point.
    """
    if not batches or not sizes:
        raise ValueError(f"expected points for both panes, got {len(batches)} and {len(sizes)}")
    figure = Figure(figsize=(9.6, 5), dpi=DPI, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_growth(left, batches, "batch", 1)
    _draw_growth(right, sizes, "size", 2)
    left.set(xlabel=f"Images of {batches[0]['size']} \u00d7 {batches[0]['size']} pixels", ylabel="Milliseconds")
    right.set_xlabel(f"Height and width in pixels, {sizes[0]['batch']} images")
    figure.suptitle("How the cost grows", fontsize=13)
    save_figure(figure, path, note)


def _draw_growth(axes: Axes, points: Sequence[Mapping], axis: str, power: int) -> None:
    """Two curves, each named beside its last point; work grows with this power of x."""
    x = np.array([point[axis] for point in points], dtype=float)
    for part, name, hue in (("step", "training step", ORANGE), ("forward", "forward", BLUE)):
        calls = [1000 * np.array(point["seconds"][part]) for point in points]
        y = np.array([np.median(times) for times in calls])
        low, high = (np.array([bound(times) for times in calls]) for bound in (np.min, np.max))
        axes.plot(x, y[-1] * (x / x[-1]) ** power, ":", color=GREY, linewidth=1)
        axes.errorbar(x, y, (y - low, high - y), color=hue, linewidth=1.8, marker="o", markersize=4, elinewidth=1)
        axes.annotate(name, (x[len(x) // 2], y[len(x) // 2]), xytext=(-6, 8), textcoords="offset points", ha="right",
                      color=hue, fontsize=11, fontweight="bold")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    tidy(axes)


def tidy(axes: Axes) -> None:
    """A light grid behind the curves, and no frame above and to the right."""
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | Path, note: str) -> None:
    """Write the figure with the note below it, complete or not at all; raises OSError naming the file if it cannot be."""
    if note:
        lines = math.ceil(len(note) / (12 * figure.get_figwidth()))  # about as many letters fit into an inch
        figure.supxlabel(textwrap.fill(note, len(note) // lines + 8), fontsize=10, color=GREY, style="italic")
    for text in figure.findobj(Text):  # in the name of a file or a class a $ is a $, and begins no formula
        text.set_parse_math(False)
    with replacing(path) as beside:
        figure.savefig(beside)
