"""Where the brain is on a CT slice, found without any learning, and what is left with only it, or all but it.

A network that reads the brain alone cannot lean on letters, film and skull; one that reads everything else can lean on
nothing but them, and what it still gets right is no medicine. The two views add up to the image.

    bone       nearly as bright as the brightest
    interior   soft parts of the head that stay together when thin things (scalp, gaps of the skull) are worn away
    blood      may be as bright as bone, and where it touches the skull seems to be skull: but it lies deeper than that
               is thick. Of thin blood along the skull, in a narrow window, about a third is lost nevertheless.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from scipy import ndimage

from tinyresnet.images import resize

SIDE = 160  # pixels of the longer side where the brain is looked for; all distances below are in these pixels
LEVEL = 0.65  # of the way from the middle of the head to the brightest: lower, and more blood is taken for bone
THIN = 5  # what is thinner than twice this is no brain: scalp, gaps of the skull
DENT = 80  # radius of a disc that fits into no dent of a brain's outline: all but a convex hull
PART = 0.2  # of the largest part: smaller ones are no brain (orbits, ears); bone divides low slices into several
LEAST = 0.15  # of the image; if less is found, it was something else


def brain_mask(image: Array) -> Array:
    """The interior of the skull, (H, W) bool, of a CT slice (H, W, 3) uint8, best after crop_to_head.

    True everywhere if none is found: then nothing is known to lie outside.
    """
    H, W, _ = image.shape
    brain = interior(small_grey(image))
    h, w = brain.shape
    return brain[np.arange(H)[:, None] * h // H, np.arange(W) * w // W]  # (H, W)


def brain_interior(image: Array) -> Array:
    """The brain alone, on black, cropped to its bounding box: (H, W, 3) uint8 -> (h, w, 3).

    Black, because it is what a slice shows outside the head: the outline stays that of a head, whatever the film.
    """
    mask = brain_mask(image)
    return np.where(mask[:, :, None], image, np.uint8(0))[ndimage.find_objects(mask.astype(int))[0]]


def brain_blanked(image: Array) -> Array:
    """All but the brain, which is black: border, film, letters, skull. Shapes: (H, W, 3) uint8 in and out."""
    return np.where(brain_mask(image)[:, :, None], np.uint8(0), image)


def small_grey(image: Array) -> Array:
    """(H, W, 3) uint8 -> (h, w) float, the longer side SIDE, smoothed: in noise single pixels are as bright as bone."""
    H, W, _ = image.shape
    h, w = (max(1, round(side * SIDE / max(H, W))) for side in (H, W))
    return ndimage.gaussian_filter(resize(image, (h, w)).mean(axis=2), 1)


def interior(grey: Array) -> Array:
    """The brain_mask of a small_grey, (h, w) both."""
    air, bright = np.percentile(grey, [1, 99])
    head = _largest(opened(ndimage.binary_fill_holes(grey > air + 0.15 * (bright - air)), THIN), 1)
    deep = depth_in(head)
    middle = np.median(grey[deep >= 0.4 * deep.max()])
    bone = grey > middle + LEVEL * (bright - middle)
    brain = ndimage.binary_fill_holes(_largest(opened(head & ~bone, THIN), PART))
    if brain.mean() < LEAST:
        return np.ones_like(brain)
    deep = depth_in(_largest(ndimage.binary_fill_holes(bone | brain), 1))  # below the outer surface of the skull
    edge = brain & ~ndimage.binary_erosion(brain)
    return brain | _closed(brain, DENT) & (deep > 1.15 * np.median(deep[edge]))


def depth_in(mask: Array) -> Array:
    """How far each pixel lies inside; the image ends outside."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def _grown(mask: Array, radius: float) -> Array:
    """With what lies no farther from it; of nothing, nothing."""
    return mask.any() & (ndimage.distance_transform_edt(~mask) <= radius)


def opened(mask: Array, radius: float) -> Array:
    """Without what a disc of this radius does not fit into."""
    return _grown(depth_in(mask) > radius, radius)


def _closed(mask: Array, radius: int) -> Array:
    """With what a disc of this radius outside the mask does not reach."""
    around = np.pad(mask, radius + 1)  # discs may lie beyond the image
    return (depth_in(_grown(around, radius)) > radius)[radius + 1:-radius - 1, radius + 1:-radius - 1]


def _largest(mask: Array, share: float) -> Array:
    """The connected regions with at least this share of the largest one's pixels."""
    regions, _ = ndimage.label(mask)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # what lies between the regions
    return mask & (sizes >= share * sizes.max())[regions]
