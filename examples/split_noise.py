"""How much of a published accuracy is the luck of the split?

    python examples/split_noise.py --data-path head_ct --weights resnet50.npz

divides the slices 200 times into 80 % and 20 %, as the paper did once, and asks the same method each time: frozen
features and a logistic regression. Nothing changes but the split. If groups.csv tells which slices are of one scan, it
also counts how many test slices have a sibling among those that were learned. Research and teaching only, not for
diagnosis.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import tinyresnet
from tinyresnet.files import explain
from tinyresnet.ich.dataset import Dataset, load_dataset, read_images
from tinyresnet.ich.features import Features, features_of
from tinyresnet.ich.paper import PUBLISHED, TEST_FRACTION
from tinyresnet.ich.report import DISCLAIMER
from tinyresnet.ich.splits import stratified_split
from tinyresnet.metrics import clopper_pearson
from tinyresnet.plots import BLUE, DPI, ORANGE, save_figure


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="split_noise.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, required=True, metavar="DIR", help="labels.csv and its images")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help=".npz of weights_converter")
    parser.add_argument("--splits", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where the histogram goes")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The exit code is 2, with one line on stderr, for input that cannot be used."""
    args = command_line().parse_args(arguments)
    try:
        if args.splits < 1:
            raise ValueError(f"--splits: expected at least 1, got {args.splits}")
        if args.plot:  # before minutes of work
            check_plot(args.plot)
        dataset, images = read_images(load_dataset(args.data_path))
        backbone = tinyresnet.load_model(args.weights)
        recipe = Features(backbone, features_of(backbone, images), dataset.labels)
        accuracies, siblings = try_splits(dataset, recipe, args.splits)
        print(in_words(accuracies, siblings if dataset.grouped else None))
        if args.plot:
            plot(accuracies, args.plot)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written, the splits take minutes and are begun anew", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"split_noise: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def check_plot(path: Path) -> None:
    """Raise ValueError unless a picture can be written there."""
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise ValueError(f"--plot: expected a FILE.png in a folder that is there, got {path}")


def try_splits(dataset: Dataset, recipe: Features, splits: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each split the accuracy, and the part of the test images that have a sibling in the training part: (splits,)."""
    accuracies, siblings = [], []
    for seed in tqdm(range(splits), desc="splits", leave=False, disable=None):
        train, test = stratified_split(dataset.labels, TEST_FRACTION, seed)
        answers = recipe.fit(train, test, np.random.default_rng(seed)).probabilities
        accuracies.append(np.mean((answers >= 0.5) == dataset.labels[test]))
        siblings.append(np.isin(dataset.groups[test], dataset.groups[train]).mean())
    return np.array(accuracies), np.array(siblings)


def in_words(accuracies: np.ndarray, siblings: np.ndarray | None) -> str:
    """What the splits say, and what the paper's single one could have said."""
    right, images = (2 * number for number in PUBLISHED)
    low, high = clopper_pearson(right, images)
    lines = [f"one method, {len(accuracies)} random splits: accuracy {accuracies.mean():.3f} on average, "
             f"from {accuracies.min():.3f} to {accuracies.max():.3f}, standard deviation {accuracies.std():.3f}",
             f"the paper's {right} of {images} is {right / images:.2f}, with a 95 % interval of {low:.3f} to {high:.3f}"]
    if siblings is not None:
        lines.append(f"{siblings.mean():.0%} of the test images have a sibling of the same scan in the training part")
    return "\n".join([*lines, DISCLAIMER])


def plot(accuracies: np.ndarray, path: Path) -> None:
    """How often each accuracy came out, and the paper's."""
    figure = Figure(figsize=(7, 3.6), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    values, counts = np.unique(accuracies, return_counts=True)
    step = np.diff(values).min() if len(values) > 1 else 0.025
    axes.bar(values, counts, width=0.8 * step, color=BLUE)
    axes.axvline(PUBLISHED[0] / PUBLISHED[1], color=ORANGE, linestyle="--")
    axes.annotate("the paper's single split", (PUBLISHED[0] / PUBLISHED[1], counts.max()), (5, -4), color=ORANGE,
                  textcoords="offset points", va="top")
    axes.set(xlabel="Accuracy on the test images", ylabel="Splits",
             title=f"One method, {len(accuracies)} random 80/20 splits")
    save_figure(figure, path, DISCLAIMER)


if __name__ == "__main__":
    sys.exit(main())
