"""Pictures of what a network looked at: its maps laid over the slice, and the training cases that resemble a slice.

Heat is transparent where a map is near zero, so that the anatomy stays to be read, and its colours rise evenly in
lightness, so that no step is seen where the map has none. `note` is printed below, as below the figures of plots.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tinyresnet.images import resize
from tinyresnet.plots import BLUE, DPI, GREY, ORANGE, save_figure

Array = NDArray

STEPS = np.linspace(0, 1, 256)
HEAT = ListedColormap(np.column_stack([matplotlib.colormaps["plasma"](0.25 + 0.7 * STEPS)[:, :3], 0.8 * STEPS ** 1.5]))
DIMMED = 330  # what is drawn white below heat, of 255: on white bone and blood light colours would be lost
PANE = 2.6  # inches


class Case(NamedTuple):
    """A slice that is known: image (H, W) or (H, W, 3) uint8, its true label, its scan or patient."""

    image: Array
    label: str
    group: str


def plot_maps(image: Array, maps: Mapping[str, Array], path: str | Path, *, class_name: str, probability: float,
              label: str, mask: Array | None = None, note: str = "") -> None:
    """The slice, then each map, name: (h, w), laid over it, from 0 to the map's own maximum; what is negative is not shown.

    The title says for which class the maps speak, with what probability the network gave it, and the true label.
    image: (H, W) or (H, W, 3) uint8 of the same field of view as the network's input, of any size and proportions.
    mask: (H, W) bool where the truth is known; it is outlined on the slice. Raises ValueError for other shapes.
    """
    grey = _grey(image)
    figure = Figure(figsize=_size(1 + len(maps), grey), dpi=DPI, facecolor="white", layout="constrained")
    panes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    _draw_slice(panes[0], grey, "slice")
    if mask is not None:
        _outline(panes[0], mask, grey)
    for axes, (name, heat) in zip(panes[1:], maps.items()):
        _draw_slice(axes, grey, name, white=DIMMED)
        _draw_heat(axes, heat, grey)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), ax=panes, aspect=30, pad=0.01, ticks=[0, 1])
    bar.ax.set_yticklabels(["0", "max"], color=GREY)
    bar.outline.set_visible(False)
    figure.suptitle(f"{class_name} {probability:.2f}, true label {label}", fontsize=13)
    save_figure(figure, path, note)


def plot_nearest(case: Case, neighbours: Sequence[Case], similarities: Sequence[float], path: str | Path, *,
                 note: str = "") -> None:
    """A test case and the training cases nearest to it: label, similarity and group of each.

    Framed blue where the label is the test case's, orange where it is another. Raises ValueError unless there is a
    similarity for each neighbour.
    """
    if len(neighbours) != len(similarities):
        raise ValueError(f"expected a similarity a neighbour, got {len(neighbours)} and {len(similarities)}")
    grey = _grey(case.image)
    figure = Figure(figsize=_size(1 + len(neighbours), grey), dpi=DPI, facecolor="white", layout="constrained")
    one_frame = {"box_aspect": grey.shape[0] / grey.shape[1], "adjustable": "datalim", "facecolor": "black"}
    first, *panes = figure.subplots(1, 1 + len(neighbours), squeeze=False, subplot_kw=one_frame)[0]
    _draw_slice(first, grey, f"test case: {case.label}", below=f"group {case.group}")
    for axes, near, similarity in zip(panes, neighbours, similarities):
        _draw_slice(axes, _grey(near.image), near.label, below=f"group {near.group}, similarity {similarity:.2f}")
        axes.spines[:].set(visible=True, color=BLUE if near.label == case.label else ORANGE, linewidth=3)
    figure.suptitle("Nearest training cases", fontsize=13)
    save_figure(figure, path, note)


def _grey(image: Array) -> Array:
    """(H, W), so that heat is the only colour."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"expected an image (H, W) or (H, W, 3) of uint8, got {image.shape} of {image.dtype}")
    return image if image.ndim == 2 else image.mean(axis=2)


def _size(panes: int, grey: Array) -> tuple[float, float]:
    """Of a figure with a row of panes, in inches."""
    H, W = grey.shape
    return PANE * panes + 0.6, PANE * H / W + 1.0


def _draw_slice(axes: Axes, grey: Array, title: str, *, below: str = "", white: int = 255) -> None:
    axes.imshow(grey, cmap="gray", vmin=0, vmax=white)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(below, fontsize=10, color=GREY)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_heat(axes: Axes, heat: Array, grey: Array) -> None:
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"expected a map (h, w) of finite numbers, got shape {heat.shape}")
    large = resize(heat.astype(np.float32), grey.shape)  # (H, W)
    top = heat.max() if heat.max() > 0 else 1  # nothing speaks for the class: nothing is drawn
    axes.imshow(np.clip(large / top, 0, 1), cmap=HEAT, vmin=0, vmax=1)


def _outline(axes: Axes, mask: Array, grey: Array) -> None:
    if mask.shape != grey.shape:
        raise ValueError(f"expected a mask {grey.shape} like the image, got {mask.shape}")
    axes.contour(mask, levels=[0.5], colors=[ORANGE], linewidths=1.2)
