"""How a slice is shown to a network: the whole head, and the brain alone; each as it is, and mirrored left to right.

The brain alone keeps film, letters and skull from answering; the whole head keeps what lies along the skull. A head and
its mirror image bleed alike, so every answer is asked for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.ich.brain import brain_blanked, brain_interior
from tinyresnet.ich.dataset import crop_to_head
from tinyresnet.images import Preprocessing, preprocess

BATCH = 16  # images at a time where nothing is learned
VIEWS: dict[str, Callable[[Array], Array]] = {
    "slice": lambda image: image,
    "head": crop_to_head,
    "interior": lambda image: brain_interior(crop_to_head(image)),
    "blanked": lambda image: brain_blanked(crop_to_head(image)),  # what a network should know nothing from
}
BOTH = "head", "interior"


def stretched(preprocessing: Preprocessing) -> Preprocessing:
    """The same, but the whole picture is stretched to the size, where ImageNet's photographs lose their edges.

    With other weights, heads that kept their proportions were told apart worse, by 5 in 100.
    """
    return replace(preprocessing, resize=preprocessing.size or (224, 224), crop=None)


def seen(images: Sequence[Array], view: str, preprocessing: Preprocessing) -> Array:
    """What a network is given: images (H, W, 3) uint8 of any size -> (n, height, width, 3) float32."""
    return np.stack([preprocess(VIEWS[view](image), stretched(preprocessing)) for image in images])


def through(function: Callable[[Array], Array], images: Sequence[Array], preprocessing: Preprocessing, *,
            views: Sequence[str] = BOTH, mirrored: bool = True, description: str = "features") -> Array:
    """function(x) of all images in these views, as they are [0] and, with `mirrored`, mirrored [1], a few at a time.

    Shapes: function (N, height, width, 3) -> (N, ...); (V, M, n, ...). A progress bar shows on a terminal.
    """
    result = np.empty(0)
    starts = range(0, len(images), BATCH)
    with tqdm(total=len(views) * len(images), desc=description, unit=" images", leave=False, disable=None) as progress:
        for v, view in enumerate(views):
            for rows in (slice(start, start + BATCH) for start in starts):
                x = seen(images[rows], view, preprocessing)
                for m, side in enumerate((x, np.ascontiguousarray(x[:, :, ::-1]))[:1 + mirrored]):
                    y = function(side)
                    if not result.size:
                        result = np.empty((len(views), 1 + mirrored, len(images), *y.shape[1:]), y.dtype)
                    result[v, m, rows] = y
                progress.update(len(x))
    return result
