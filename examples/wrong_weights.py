"""Eight ways to load weights wrong. None raises an error: what does the network answer, and where does it go astray?

    python examples/wrong_weights.py photograph.jpg --weights resnet50.npz

The right network and its wrong twins look at one photograph. For each layer the relative difference is

    ||y - y_right|| / ||y_right||    over all pixels and channels

and a layer differs from 0.01 on. That is a thousand times more than rounding in float32 makes of it, and less than what
decides between two classes unless they are close. The first layer that differs tells the fault: conv1 the picture, bn1 the
batch norms, the first block of a stage the strides. The figure has a pane for each way, from the first layer to the last;
where a curve falls for a moment, a shortcut's layer has had an input from before the fault.

`python -m weights_converter verify` looks for such faults in a file for which there is no right network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray as Array
from PIL import Image

from tinyresnet import Preprocessing, load_model, preprocess, read_image, softmax
from tinyresnet.files import explain, replacing
from tinyresnet.plots import BLACK, GREY, ORANGE
from weights_converter.wrong import (Way, Weights, colours_reversed, gamma_and_beta_swapped, kernels_transposed,
                                     not_normalised, other_epsilon, other_stride, statistics_ignored, watching)

DIFFERS = 0.01
NO_ANTIALIAS, STRIDE = "no antialias in resizing", "stride in the other convolution"
WAYS: dict[str, Way] = {
    "BGR instead of RGB": colours_reversed,
    "pixels 0..1, not normalised": not_normalised,
    NO_ANTIALIAS: lambda weights: weights,  # it is the picture that differs
    "the other epsilon (1e-5, 1e-3)": other_epsilon,
    STRIDE: other_stride,
    "inputs and outputs exchanged": kernels_transposed,
    "gamma and beta exchanged": gamma_and_beta_swapped,
    "running statistics ignored": statistics_ignored,
}


class Look(NamedTuple):
    """What one network made of the photograph."""

    way: str
    best: int  # class
    probability: float
    differences: dict[str, float]  # relative, by layer in the order they ran; NaN where the shape differs

    @property
    def first(self) -> str | None:
        """The first layer that differs."""
        return next((name for name, value in self.differences.items() if not value < DIFFERS), None)

    @property
    def farthest(self) -> float:
        """The largest difference that is known."""
        return float(np.nanmax([0, *self.differences.values()]))


def main(arguments: list[str] | None = None) -> int:
    """Print the table and draw the figure; exit code 2 for a file that cannot be used."""
    parser = argparse.ArgumentParser(prog="wrong_weights.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", metavar="PHOTOGRAPH", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help=".npz of `python -m weights_converter convert`")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", default=Path("runs/wrong_weights"),
                        help="for wrong_weights.png (default %(default)s)")
    args = parser.parse_args(arguments)
    try:
        model, image = load_model(args.weights), read_image(args.image)
        looks = compare(Weights.of(model), image)
        print(table(looks, model.classes))
        args.output_dir.mkdir(parents=True, exist_ok=True)
        draw(looks[1:], args.output_dir / "wrong_weights.png")
    except (ValueError, OSError) as error:
        print(f"wrong_weights: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{args.output_dir / 'wrong_weights.png'}: how far each layer is from the right one")
    return 0


def compare(weights: Weights, image: Array) -> list[Look]:
    """The right network first, then each way in its order."""
    right: dict[str, Array] = {}
    looks = [look("as it should be", weights, image, right)]
    for way, change in WAYS.items():
        shrunk = without_antialias(image, Preprocessing(**weights.facts["preprocessing"])) if way == NO_ANTIALIAS else image
        if way == STRIDE and not weights.has_strides:
            looks.append(looks[0]._replace(way=way, differences={}))
        else:
            looks.append(look(way, change(weights), shrunk, right))
    return looks


def look(way: str, weights: Weights, image: Array, right: dict[str, Array]) -> Look:
    """Run the image through the network; the first one that does leaves its layers' outputs in `right`."""
    model, differences = weights.model(), {}

    def see(name: str, x: Array, y: Array) -> None:
        differences[name] = relative_difference(y, right.setdefault(name, y))

    with watching(model, see), np.errstate(all="ignore"):  # wrong networks overflow
        p = softmax(model.forward(preprocess(image, model.preprocessing)[None]))[0]  # (classes,)
    return Look(way, int(p.argmax()), float(p.max()), differences)


def relative_difference(y: Array, right: Array) -> float:
    """||y - right|| / ||right||; NaN for another shape, infinite where y overflows."""
    if y.shape != right.shape:
        return np.nan
    difference = np.linalg.norm((y - right).astype(float)) / np.linalg.norm(right.astype(float))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf))


def without_antialias(image: Array, preprocessing: Preprocessing) -> Array:
    """Resized from the four nearest pixels alone, as OpenCV does and as torch does with tensors."""
    H, W, _ = image.shape
    height, width, _ = preprocess(image, replace(preprocessing, crop=None)).shape
    scale = (W / width, 0, 0, 0, H / height, 0)
    return np.asarray(Image.fromarray(image).transform((width, height), Image.Transform.AFFINE, scale,
                                                       Image.Resampling.BILINEAR))


def table(looks: Sequence[Look], classes: Sequence[str] | None) -> str:
    """A line a network, and below it which of the wrong ones nobody would notice."""
    names = [classes[one.best] if classes else f"class {one.best}" for one in looks]
    wide = max(map(len, names))
    lines = [f"{'':33}{'best class':{wide + 2}}{'sure':>6}   first layer that differs"]
    for one, name in zip(looks, names):
        lines.append(f"{one.way:33}{name:{wide + 2}}{one.probability:6.1%}   {where(one)}")
    right, *wrong = looks
    quiet = [one for one in wrong if one.best == right.best and one.farthest > 0]
    if quiet:
        lines += [f"\nThe dangerous ones are those that nearly work: {len(quiet)} of {len(wrong)} still say {names[0]}",
                  *(f"  {one.way}: {one.probability:.1%} sure instead of {right.probability:.1%}" for one in quiet)]
    return "\n".join(lines)


def where(one: Look) -> str:
    """The first layer that differs, and how far."""
    if not one.differences:
        return "none: basic blocks have no 1x1 convolution to stride in"
    if one.first is None:
        return f"none: at most {one.farthest:.1e}" if one.farthest else "none"
    by = one.differences[one.first]
    return f"{one.first}: {'another shape' if np.isnan(by) else f'{by:.2g}'}"


def draw(looks: Sequence[Look], path: Path) -> None:
    """A pane a way; behind its curve, in grey, those of all others."""
    figure = Figure(figsize=(11, 9), dpi=150, facecolor="white", layout="constrained")
    panes = figure.subplots(4, 2, sharex=True, sharey=True)
    for axes, one in zip(panes.flat, looks):
        draw_pane(axes, one, looks)
    names = max((list(one.differences) for one in looks), key=len)
    stages = {name.split(".")[0]: k for k, name in reversed(list(enumerate(names)))}  # where each begins
    stages = {name: k for name, k in stages.items() if name.startswith(("layer", "fc"))}
    panes[0, 0].set(yscale="log", ylim=(1e-5, 1e2), xlim=(-1, len(names)))
    panes[0, 0].set_xticks(list(stages.values()), list(stages))
    figure.supylabel("Relative difference from the right network's output", fontsize=12)
    figure.suptitle("Eight ways to load weights wrong, layer by layer", fontsize=13)
    with replacing(path) as beside:
        figure.savefig(beside)


def draw_pane(axes: Axes, one: Look, looks: Sequence[Look]) -> None:
    """The curve of one way; values beyond the axis lie on its edge."""
    for other in looks:
        values = np.clip(list(other.differences.values()), 1.2e-5, 80)
        axes.plot(values, color=ORANGE if other is one else "0.88", linewidth=1.8 if other is one else 0.8,
                  zorder=3 if other is one else 1)
    axes.axhline(DIFFERS, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title(one.way, fontsize=11, color=BLACK, loc="left")
    if not one.differences:
        axes.text(0.5, 0.5, "nothing to get wrong here", transform=axes.transAxes, ha="center", color=GREY)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(main())
