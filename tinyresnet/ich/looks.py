"""Pictures of what the classifier of a run looked at, for the report: wrong cases first, then some right ones.

Each is explained by a classifier that did not learn from it, where the run kept one: the head of the fold that tested it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from PIL import Image
from tqdm import tqdm

from tinyresnet.explain import nearest, occlusion
from tinyresnet.ich.cases import shortened
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.experiment import Fold, Outcome, Slices, out_of_fold
from tinyresnet.ich.recipes import last_stages
from tinyresnet.ich.views import seen
from tinyresnet.images import resize
from tinyresnet.overlays import Case, plot_maps, plot_nearest

WRONG, RIGHT = 16, 6  # cases shown at most; of right ones as many of each class
NEIGHBOURS = 4
CELLS = 6  # of the map of occlusion, each way
WIDEST = 1200  # pixels of a picture: a little more than the page shows, for sharp screens


class Look(NamedTuple):
    """A case in the report, and its two pictures as JPEG."""

    title: str
    right: bool
    maps: bytes
    nearest: bytes


def looks(classifier: Classifier, slices: Slices, images: Sequence[Array], outcomes: Sequence[Outcome],
          note: str, mask_of: Callable[[int], Array] | None = None) -> Iterator[Look]:
    """The most surely wrong cases of the first split, then right ones of both classes, from the surest to the least sure.

    mask_of: of an image's row the truth to outline, where it is known: (h, w) bool, the field of view of the first view.
    """
    rows, repeats = out_of_fold(outcomes, outcomes[0].fold.split)
    probabilities = repeats.mean(axis=0)  # (m,)
    features = classifier.features_of_view(images)  # (n, C)
    chosen = worth_a_look(slices.labels[rows], probabilities)
    for k in tqdm(chosen, desc="explaining", unit=" images", leave=False, disable=None):
        row, p = int(rows[k]), float(probabilities[k])
        fold, head = judge_of(row, outcomes, len(classifier.weight))
        near, similarities = nearest(features[[row]], features[fold.train_rows], min(NEIGHBOURS, len(fold.train_rows)))
        case, *neighbours = (Case(classifier.shown(images[i]), slices.classes[slices.labels[i]],
                                  shortened(str(slices.groups[i]))) for i in (row, *fold.train_rows[near[0]]))
        has_learned = head == 0 and len(outcomes) > 1
        title = (f"{slices.names[row]}: {slices.classes[1]} {p:.2f}, true label {case.label}"
                 f"{'; maps and neighbours by the final network, which has learned from this slice' if has_learned else ''}")
        maps = {**grad_cams(classifier, images[row], head), "occlusion": covered(classifier, images[row], head)}
        truth = fitted(mask_of(row), case.image) if mask_of else None
        yield Look(title, bool((p >= 0.5) == slices.labels[row]),
                   drawn(partial(plot_maps, case.image, maps, class_name=slices.classes[1], probability=p, label=case.label,
                                 mask=truth, note=note)),
                   drawn(partial(plot_nearest, case, neighbours, similarities[0], note=note)))


def fitted(mask: Array, image: Array) -> Array | None:
    """The mask at the size of the image (H, W, 3), (H, W) bool, with pixels that it covers by a third; None if empty."""
    small = resize(mask.astype(np.float32), image.shape[:2]) > 1 / 3
    return small if small.any() else None


def judge_of(row: int, outcomes: Sequence[Outcome], heads: int) -> tuple[Fold, int]:
    """The first fold that tested the image, and the number of its head; 0 is the final fit's, if that alone was kept."""
    number, fold = next((number, fold) for number, (fold, *_) in enumerate(outcomes) if row in fold.valid_rows)
    return fold, number + 1 if number + 1 < heads else 0


def worth_a_look(labels: Array, probabilities: Array) -> list[int]:
    """The cases to show: at most WRONG, the surest first, then at most RIGHT. Shapes: labels (m,), probabilities (m,)."""
    right = (probabilities >= 0.5) == labels  # (m,)
    surest = np.argsort(-np.abs(probabilities - 0.5), kind="stable")  # (m,)
    shown = set()
    for label in (0, 1):
        of_class = surest[(right & (labels == label))[surest]]
        shown |= set(of_class[np.linspace(0, len(of_class) - 1, min(RIGHT // 2, len(of_class))).astype(int)])
    return [*surest[~right[surest]][:WRONG], *(k for k in surest if k in shown)]


def grad_cams(classifier: Classifier, image: Array, head: int = 0) -> dict[str, Array]:
    """{"Grad-CAM layer4": (h, w), ...} of the last two stages."""
    return {f"Grad-CAM {stage}": classifier.grad_cam(image, stage, head)
            for stage in reversed(last_stages(classifier.backbone, 2))}


def covered(classifier: Classifier, image: Array, head: int = 0) -> Array:
    """How much a square of the slice, a quarter of its side, means for the answer: (CELLS, CELLS)."""
    x = seen([image], classifier.views[0], classifier.backbone.preprocessing)
    side = x.shape[1]
    return occlusion(classifier.logit(head), x, 0, size=side // 4, stride=side // CELLS)[0]


def drawn(draw: Callable[..., None]) -> bytes:
    """What draw(path=...) draws, as JPEG and no wider than a page: forty pictures for print, as PNG, would be 40 MB."""
    buffer = io.BytesIO()
    with TemporaryDirectory() as folder:
        draw(path=Path(folder) / "picture.png")
        picture = Image.open(Path(folder) / "picture.png").convert("RGB")
        picture.thumbnail((WIDEST, WIDEST))
        picture.save(buffer, "JPEG", quality=75)
    return buffer.getvalue()
