"""What a network must beat: simple or blind methods, through the same folds.

    metadata        ten numbers of file and border: blind, a shortcut
    brain_blanked   the network's own features of the slice without its brain: blind, a shortcut
    bright_blob     four numbers of the largest bright blob in the brain: sees what a reader looks for first
    majority        the share of positives in the training rows: knows nothing

Each is a matrix of features (n, k), a row an image and for majority no column at all, on which logistic regression
learns: there is nothing to choose, so that nothing can be chosen to please. A shortcut that gets many answers right is
a warning about the data: the network may have learned the same, and in another hospital it would be worth nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy import ndimage
from tqdm import tqdm

from tinyresnet.ich.brain import THIN, depth_in, interior, opened, small_grey
from tinyresnet.ich.dataset import crop_to_head
from tinyresnet.ich.experiment import Fold, Outcome, Slices, measure, siblings
from tinyresnet.ich.features import features_of
from tinyresnet.ich.metadata import metadata_features
from tinyresnet.ich.recipes import Fit, Head
from tinyresnet.logistic import fit_logistic, probabilities
from tinyresnet.resnet import ResNet

SHORTCUTS = {"metadata": "file metadata and border", "brain_blanked": "the slice with its brain blanked out"}
SUSPICIOUS = 0.65  # accuracy; by guessing .5 where the classes are even
STRENGTH = 1.0  # of the logistic regression
BRIGHT = 0.25  # of the way from the brain's median to bone: above grey matter, below blood


def baseline_features(paths: Sequence[Path], images: Sequence[Array], backbone: ResNet) -> dict[str, Array]:
    """{name: (n, k)} of the four, for images (H, W, 3) uint8 as they were read from the paths."""
    return {"metadata": np.stack([metadata_features(path, image) for path, image in zip(paths, images)]),  # (n, 10)
            "brain_blanked": features_of(backbone, images, views=["blanked"], mirrored=False)[0, 0],  # (n, C)
            **sighted(images, np.arange(len(images)))}


def sighted(images: Sequence[Array], rows: Array) -> dict[str, Array]:
    """Only the last two, and of thousands of images only of these rows; the others are NaN, and may not be used.

    Enough for twins: they have no files, and differ in nothing but what is in the brain.
    """
    blobs = np.full((len(images), 4), np.nan)
    blobs[rows] = [bright_blob(crop_to_head(images[row])) for row in tqdm(rows, "bright blobs", leave=False, disable=None)]
    return {"bright_blob": blobs, "majority": np.empty((len(images), 0))}


def bright_blob(head: Array) -> Array:
    """What is large and bright in the brain, as four numbers, of a slice cropped to the head, (H, W, 3) uint8 -> (4,).

    Brightness is 0 at the brain's median and 1 at bone. Of the largest blob: the root of its share of the brain, its
    mean brightness, its roundness (area of the largest disc inside it, over its own); and of the brain the 98th
    percentile. A rim along the skull, which shines in, and thin things (vessels, falx, noise) do not count.
    """
    grey = small_grey(head)  # (h, w)
    inside = depth_in(interior(grey)) > THIN
    if not inside.any():
        return np.zeros(4)
    middle = np.median(grey[inside])
    brightness = (grey - middle) / max(np.percentile(grey, 99) - middle, 1)
    percentile = np.percentile(brightness[inside], 98)
    regions, _ = ndimage.label(opened(inside & (brightness > BRIGHT), 2))
    sizes = np.bincount(regions.ravel())[1:]
    if not sizes.size:
        return np.array([0, 0, 0, percentile])
    blob = regions == 1 + sizes.argmax()
    disc = np.pi * depth_in(blob).max() ** 2
    return np.array([np.sqrt(blob.sum() / inside.sum()), brightness[blob].mean(), disc / blob.sum(), percentile])


def out_of_fold_answers(features: Array, labels: Array, plan: Sequence[Fold]) -> list[Outcome]:
    """Logistic regression fitted to the training rows of every fold, and asked about the others.

    Shapes: features (n, k), any k, labels (n,) of 0 and 1.
    """
    outcomes = []
    for fold in tqdm(plan, "a baseline", unit=" folds", leave=False, disable=None):
        weight, bias = fit_logistic(features[fold.train_rows], labels[fold.train_rows], STRENGTH)
        answers = probabilities(features[fold.valid_rows], weight, bias)
        outcomes.append(Outcome(fold, Fit(answers, [], Head(weight[None], np.array([bias])))))
    return outcomes


def compared(features: Mapping[str, Array], slices: Slices, plan: Sequence[Fold], outcomes: Sequence[Outcome], *,
             independent: bool = False) -> dict[str, Any]:
    """{"baselines": {name: {split: {measure: {"value", "low", "high"}}}}, "ahead": the same of differences, "warnings"}.

    outcomes: the network's own; "ahead" says by how much it is better. plan: what baselines learn from, which may be
    less, and the same tests. independent: as for `measure`.
    """
    answers = {name: out_of_fold_answers(matrix, slices.labels, plan) for name, matrix in features.items()}
    baselines = {name: measure(slices, answer, independent=independent) for name, answer in answers.items()}
    ahead = {name: measure(slices, outcomes, answer, independent=independent) for name, answer in answers.items()}
    return {"baselines": baselines, "ahead": ahead, "warnings": warnings_of(baselines, siblings(slices, plan))}


def warnings_of(baselines: Mapping[str, dict], siblings: Mapping[str, float]) -> list[str]:
    """A sentence for every shortcut and split with an accuracy above SUSPICIOUS, and for every split between siblings.

    Takes the baselines of `compared` and what experiment.siblings gives. bright_blob is no shortcut: it sees the brain.
    """
    shortcuts = [f"{split.replace('_', ' ')}: from {told} alone, labels are told with an accuracy of {value:.2f} (a warning "
                 f"above {SUSPICIOUS}); a network can succeed without looking at the brain, and may have learned to"
                 for name, told in SHORTCUTS.items() for split, measures in baselines.get(name, {}).items()
                 if (value := measures["accuracy"]["value"]) > SUSPICIOUS]
    return shortcuts + [f"{split.replace('_', ' ')}: {part:.0%} of the tested slices have a sibling, of the same scan, "
                        "among those that were learned from; what recognises a head knows their label"
                        for split, part in siblings.items() if part > 0]
