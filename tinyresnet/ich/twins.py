"""A data set of phantoms in which every patient is seen twice: before the bleed, and after it.

Two heads differ in a thousand ways and a small bleed is one more. In twins it is the only difference, so a batch that
holds both shows a network what to look for, and it can be asked which of the two bleeds. Patients, not slices, are
divided into training and test, where each slice is judged alone; the bleeds are as small and as faint as they come.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.ich.phantom import (KINDS, LEVELS, WINDOWS, Phantom, make_phantom, panel_letter, shows_blood, stamp,
                                    three_windows)
from tinyresnet.images import Preprocessing, augment, preprocess, resize
from tinyresnet.loss import cross_entropy

STROKE = (40, 40)  # window: width, level in HU
SIZE = 64  # pixels a side
PREPROCESSING = Preprocessing((SIZE, SIZE), mean=(0.35, 0.35, 0.35), std=(0.3, 0.3, 0.3))  # to mean 0 and variance 1


class Twins(NamedTuple):
    """Rows 2k and 2k + 1 are one slice without and with blood. n = patients * slices * 2.

    Shapes: images (n, size, size, 3) uint8, one channel a window; labels, groups (n,) int64; facts n dictionaries, of
    the slices as drawn, with twice the pixels a side.
    """

    images: Array
    labels: Array
    groups: Array
    facts: list[dict[str, Any]]


def make_twins(patients: int, *, slices: int = 2, size: int = SIZE, seed: int = 0, shortcut: float = 0.0) -> Twins:
    """Patients 0, 1, ... bleed in turn in all five ways, and are cut at levels that show it.

    A patient whose bleed shows on too few levels is replaced: with two slices one SAH in seven, few others.
    shortcut: the fraction of bleeding slices, and of no others, with a letter in a corner (facts["letter"]) to catch.
    Raises ValueError for no patients, or unless 1 <= slices <= 4 and 0 <= shortcut <= 1.
    """
    if patients < 1 or not 1 <= slices <= 4:
        raise ValueError(f"expected at least 1 patient with 1 to 4 slices, got {patients} with {slices}")
    images, facts = [], []
    for patient in tqdm(range(patients), desc="drawing phantoms", leave=False, disable=None):
        kind, rng = KINDS[1 + patient % 5], np.random.default_rng([seed, patient])
        levels: list[int] = []
        while len(levels) < slices:
            number, in_any_order = int(rng.integers(2**62)), rng.permutation(LEVELS).tolist()
            showing = (level for level in in_any_order if shows_blood(number, kind, level, size=2 * size))
            levels = list(islice(showing, slices))  # looks no further than it must
        for level in levels:
            for twin in ("normal", kind):
                phantom = make_phantom(number, twin, level, size=2 * size)
                letter = panel_letter(phantom.facts, shortcut)
                images.append(stamp(as_seen(phantom, size), letter))
                facts.append({**phantom.facts, "letter": letter})
    labels = np.arange(len(images)) % 2
    return Twins(np.stack(images), labels, np.arange(len(images)) // (2 * slices), facts)


def as_seen(phantom: Phantom, size: int) -> Array:
    """The slice as (size, size, 3) uint8, in the three windows that a radiologist clicks through, a channel each.

    The brain in the window of that scan (width 70 to 130, level 32 to 48 HU), stroke and subdural in fixed ones; made
    smaller as the finer pixels of a real image are.
    """
    return resize(three_windows(phantom.hu, (phantom.facts["window"], STROKE, WINDOWS["subdural"])), (size, size))


def read_twins(images: Array, rng: np.random.Generator | None) -> Array:
    """The network's input (n, size, size, 3) float32; with a generator both twins are turned, zoomed and mirrored alike."""
    if rng is not None:
        seeds = np.repeat(rng.integers(2**32, size=len(images) // 2), 2)
        images = np.stack([augment(image, np.random.default_rng(seed), scale=(0.9, 1.1), brightness=0)
                           for image, seed in zip(images, seeds)])
    return np.stack([preprocess(image, PREPROCESSING) for image in images])


def twin_loss(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean of two cross-entropies: does this slice bleed, and which of the two twins does?

    The second compares the evidence z = logit(bleed) - logit(normal) within each pair: softmax over (z normal twin,
    z bleeding twin), of which the second is true. It does not care how bright or how old the head is.

    Shapes: logits (2 pairs, 2), labels (2 pairs,) = 0, 1, 0, 1, ...; returns the loss and dlogits.
    """
    loss, dlogits = cross_entropy(logits, labels)
    z = logits[:, 1] - logits[:, 0]
    pair_loss, dz = cross_entropy(z.reshape(-1, 2), labels.reshape(-1, 2)[:, 1])  # (pairs, 2)
    dlogits += dz.reshape(-1, 1) * np.array([-1, 1], dtype=dz.dtype)
    return (loss + pair_loss) / 2, dlogits / 2
