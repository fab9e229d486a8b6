"""Where the blood is known, maps can be judged: does the brightest place of a map lie on the bleed?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy import ndimage

from tinyresnet.explain import pointing_game
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.looks import covered, grad_cams
from tinyresnet.metrics import clopper_pearson

TOLERANCE = 15 / 224  # of the side, as the pointing game's authors allow
PATIENTS = 60  # asked about at most, a slice each


def score_pointing(classifier: Classifier, images: Sequence[Array], masks: Array) -> dict[str, Any]:
    """{"slices", "chance", "hits": {map: {"value", "low", "high"}}} of bleeding slices, each of another patient.

    chance: what a random place of the picture hits. The intervals are Clopper's and Pearson's.
    Shapes: masks (n, H, W) bool, of any size, with the field of view of the images.
    """
    tolerance = TOLERANCE * masks.shape[1]
    maps = [{**grad_cams(classifier, image), "occlusion": covered(classifier, image)} for image in images]
    hits = {}
    for name in maps[0]:
        found = int(pointing_game(np.stack([of_image[name] for of_image in maps]), masks, tolerance).sum())
        hits[name] = dict(zip(("value", "low", "high"), (found / len(masks), *clopper_pearson(found, len(masks)))))
    near = [ndimage.distance_transform_edt(~mask) <= tolerance for mask in masks]
    return {"slices": len(masks), "chance": float(np.mean(near)), "hits": hits}
