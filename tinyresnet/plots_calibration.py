"""Two figures for whoever acts on a probability: does it mean what it says, and what does referring the doubtful win?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from tinyresnet.calibration import brier_with_interval, referred, reliability
from tinyresnet.plots import BLACK, BLUE, DPI, GREY, ORANGE, save_figure, tidy

Array = NDArray

FRACTIONS = np.arange(11) / 20  # up to one half in steps of 5 %


def plot_reliability(labels: ArrayLike, probabilities: ArrayLike, path: str | Path, *, groups: ArrayLike | None = None,
                     classes: Sequence[str] = ("normal", "hemorrhage"), bins: int = 8, note: str = "") -> None:
    """Observed against predicted with 95 % intervals, and below it how many images have which probability.

    On the dotted line a probability means what it says; points that lie flatter than it come from a network that is
    too sure. Of several repeats the histogram shows the mean.

    Shapes and errors as in calibration.reliability.
    """
    found = reliability(labels, probabilities, bins, groups)
    score = brier_with_interval(labels, probabilities, groups)
    figure = Figure(figsize=(6.2, 8.2), dpi=DPI, facecolor="white", layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="Means what it says")
    x, y, low, high = np.array([bin[1:] for bin in found]).T  # each (bins,)
    above.errorbar(x, y, np.maximum((y - low, high - y), 0), color=BLUE, marker="o", markersize=5, linewidth=1.6,
                   elinewidth=1.2, capsize=3, clip_on=False, label="Observed, with 95 % interval")
    above.set(ylim=(-0.02, 1.02), xlim=(-0.02, 1.02))
    above.set_ylabel(f"Fraction that is {classes[1]}", fontsize=12)
    above.legend(loc="upper left", framealpha=0.9, edgecolor="0.85",
                 title=f"Brier score {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})")
    above.set_title("Reliability of the predicted probability", fontsize=13)
    _draw_histogram(below, np.asarray(labels), np.atleast_2d(probabilities), classes)
    below.set_xlabel(f"Predicted probability of {classes[1]}", fontsize=12)
    tidy(above)
    save_figure(figure, path, note)


def _draw_histogram(axes: Axes, labels: Array, rows: Array, classes: Sequence[str]) -> None:
    """Images in twenty steps of probability, the positive stacked upon the negative. Shapes: labels (n,), rows (R, n)."""
    edges, floor = np.linspace(0, 1, 21), np.zeros(20)
    for label, color in ((0, BLUE), (1, ORANGE)):
        heights = np.histogram(rows[:, labels == label], edges)[0] / len(rows)  # (20,)
        axes.bar(edges[:-1], heights, np.diff(edges), floor, align="edge", color=color, alpha=0.75, edgecolor="white",
                 label=classes[label])
        floor = floor + heights
    axes.set_ylabel("Images", fontsize=12)
    axes.legend(loc="upper center", framealpha=0.9, edgecolor="0.85")
    tidy(axes)


def plot_referral(labels: ArrayLike, probabilities: ArrayLike, path: str | Path, *, groups: ArrayLike | None = None,
                  note: str = "") -> None:
    """Accuracy on what is left, with its 95 % interval, against the part of the images that a person looks at.

    Shapes and errors as in calibration.referred, of which every point is an entry.
    """
    entries = referred(labels, probabilities, FRACTIONS.tolist(), groups)
    part = [100 * entry["referred"]["value"] for entry in entries]
    value, low, high = ([100 * entry["accuracy"][key] for entry in entries] for key in ("value", "low", "high"))
    figure = Figure(figsize=(6.8, 5.2), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(part, low, high, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval")
    axes.plot(part, value, color=BLUE, linewidth=2, marker="o", markersize=4, label="Accuracy on the others")
    axes.axhline(value[0], color=BLACK, linewidth=1, linestyle=":", label=f"Nobody referred ({value[0]:.1f} %)")
    axes.set(xlim=(0, None), ylim=(None, 100.3))
    axes.set_xlabel("Least certain images, referred to a person (%)", fontsize=12)
    axes.set_ylabel("Accuracy (%)", fontsize=12)
    axes.set_title("What is won by referring the doubtful images", fontsize=13)
    axes.legend(loc="lower right", framealpha=0.9, edgecolor="0.85")
    tidy(axes)
    save_figure(figure, path, note)
