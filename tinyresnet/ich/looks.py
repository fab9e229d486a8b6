"""Pictures of what the classifier of a run looked at, for the report: wrong cases first, then some right ones.

Each is explained by a classifier that did not learn from it, where the run kept one: the head of the fold that tested it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from PIL import Image
from tqdm import tqdm

from tinyresnet.explain import nearest, occlusion
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.experiment import Outcome, Slices, out_of_fold
from tinyresnet.ich.recipes import last_stages
from tinyresnet.ich.views import VIEWS, seen
from tinyresnet.overlays import Case, plot_maps, plot_nearest

WRONG, RIGHT = 16, 6  # cases shown at most
NEIGHBOURS = 4
CELLS = 6  # of the map of occlusion, each way


class Look(NamedTuple):
    """A case in the report, and its two pictures as JPEG."""

    title: str
    right: bool
    maps: bytes
    nearest: bytes


def looks(classifier: Classifier, slices: Slices, images: Sequence[Array], outcomes: Sequence[Outcome],
          note: str) -> Iterator[Look]:
    """The most surely wrong cases of the first split, then right ones of both classes, the surest and the least sure."""
    rows, probabilities = out_of_fold(outcomes, outcomes[0].fold.split)
    p, labels = probabilities.mean(axis=0), slices.labels[rows]  # (m,)
    sure = np.abs(p - 0.5)
    wrong = np.flatnonzero((p >= 0.5) != labels)
    right = np.flatnonzero((p >= 0.5) == labels)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:WRONG].tolist()
    chosen += right[np.argsort(-sure[right], kind="stable")][np.linspace(0, len(right) - 1, RIGHT).astype(int)].tolist()
    features = classifier.features_of_view(images)  # (n, C)
    for k in tqdm(chosen, desc="explaining", unit=" images", leave=False, disable=None):
        row = int(rows[k])
        number, fold = next((number, fold) for number, (fold, *_) in enumerate(outcomes) if row in fold.valid_rows)
        head = number + 1 if number + 1 < len(classifier.weight) else 0
        maps = {**grad_cams(classifier, images[row], head), "occlusion": covered(classifier, images[row], head)}
        label = slices.classes[labels[k]]
        view = VIEWS[classifier.views[0]]
        near, similarities = nearest(features[[row]], features[fold.train_rows], NEIGHBOURS)
        cases = [Case(view(images[i]), slices.classes[slices.labels[i]], str(slices.groups[i]))
                 for i in (row, *fold.train_rows[near[0]])]
        title = f"{slices.names[row]}: {slices.classes[1]} {p[k]:.2f}, true label {label}"
        yield Look(title, bool((p[k] >= 0.5) == labels[k]),
                   drawn(lambda path: plot_maps(cases[0].image, maps, path, class_name=slices.classes[1],
                                                probability=float(p[k]), label=label, note=note)),
                   drawn(lambda path: plot_nearest(cases[0], cases[1:], similarities[0], path, note=note)))


def grad_cams(classifier: Classifier, image: Array, head: int = 0) -> dict[str, Array]:
    """{"Grad-CAM layer4": (h, w), ...} of the last two stages."""
    return {f"Grad-CAM {stage}": classifier.grad_cam(image, stage, head)
            for stage in reversed(last_stages(classifier.backbone, 2))}


def covered(classifier: Classifier, image: Array, head: int = 0) -> Array:
    """How much a square of the slice, a quarter of its side, means for the answer: (CELLS, CELLS)."""
    x = seen([image], classifier.views[0], classifier.backbone.preprocessing)
    side = x.shape[1]
    return occlusion(classifier.logit(head), x, 0, size=side // 4, stride=side // CELLS)[0]


def drawn(draw: Callable[[Path], None]) -> bytes:
    """What `draw` draws, as JPEG: of forty pictures PNG would make a page of 40 MB."""
    buffer = io.BytesIO()
    with TemporaryDirectory() as folder:
        draw(Path(folder) / "picture.png")
        Image.open(Path(folder) / "picture.png").convert("RGB").save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
