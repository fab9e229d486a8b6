"""Is the same slice in the data set twice? Then a network that has learned one copy is asked about the other.

A copy comes back cropped, larger, brighter, compressed again, turned a little or mirrored, so comparing files finds few.
Two steps find the others:

    sieve      a fingerprint of 144 bits for each head, and nine of it turned and zoomed a little; each image meets the
               NEAREST images by them, straight and mirrored. n * n * 18 comparisons of bits are matrix products
    decide     lay one head upon the other and correlate what is seen inside the skull: at most 2 * NEAREST * n
               registrations of about 15 ms. 200 images take half a minute, 2,000 some five minutes

From afar all heads look alike, so the correlation is one of details: a band of sizes, coarser than the noise that
compression leaves and finer than the ventricles. How well it divides the same slice from others, in measured figures:

                                        200 real slices           phantoms (256 pixels, 10 patients)
    copies                              .95 to 1.00, 14 pairs     .88 and more, whatever was done to them
    one slice in two windows, by eye    .54, .82 and .85          -
    neighbouring slices, one scan       .82, .77, others < .59    half < .41, highest .73
    other people at about that level    highest .47               half < .19, highest .68

SAME lies at .80. A copy of less than about SIDE pixels keeps too little detail and may be missed: of phantoms of 128
pixels, halved copies correlate .63 to .90. Skull bases of different phantoms reach .84: they resemble each other more than
people's do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tinyresnet.ich.dataset import crop_to_head
from tinyresnet.images import resize

Array = NDArray

SAME = 0.8
NEAREST = 8
BITS = 12  # a side of the fingerprint
VIEWS = [(turn, zoom) for turn in (0, -8, 8) for zoom in (1, 0.9, 1.1)]  # degrees; the first is the head as it is
SIDE = 96  # pixels of the square to which a head is stretched; all blurs are standard deviations in these pixels
BLURS = (4.5, 1.5)  # registration begins with what is coarse, so that it does not stop at the first fold that fits
BAND = (0.5, 2.0)  # details are what the first blur leaves and the second takes away
STEPS = 8  # of the registration at each blur; about four are enough
LONGEST = 0.1  # step of the registration, of half the square
Y, X = np.mgrid[-1:1:SIDE * 1j, -1:1:SIDE * 1j]
INSIDE = np.hypot(Y, X) < 0.75  # of the skull, once the head fills the square
GRID = np.stack([np.ones(SIDE * SIDE), Y.ravel(), X.ravel()])  # (3, SIDE * SIDE): 1, y, x of each pixel, -1..1


class Pair(NamedTuple):
    """Images number first < second, of which the second may be mirrored; correlation is 1 if their pixels are equal."""

    first: int
    second: int
    correlation: float
    mirrored: bool
    equal: bool


def find_pairs(images: Sequence[Array], progress: Callable[[Sequence], Iterable] = iter) -> list[Pair]:
    """The pairs that passed the sieve, the most alike first; those with a correlation of SAME or more show one slice.

    Of images with equal pixels the first stands for all, and each other is paired with it.
    Shapes: images (H, W, 3) uint8 of any sizes; progress may be tqdm.
    """
    first_with: dict[bytes, int] = {}
    stands_for = [first_with.setdefault(_digest(image), i) for i, image in enumerate(images)]
    pairs = [Pair(first, i, 1.0, False, True) for i, first in enumerate(stands_for) if first != i]
    different = list(first_with.values())
    codes, views = zip(*[_look_at(images[i]) for i in different])
    best: dict[tuple[int, int], Pair] = {}
    for a, b, mirrored in progress(sieve(np.stack(codes))):
        correlation = registered_correlation(views[a], views[b][:, :, ::-1] if mirrored else views[b])
        pair = Pair(different[a], different[b], correlation, mirrored, False)
        best[a, b] = max(pair, best.get((a, b), pair), key=lambda pair: pair.correlation)
    return sorted([*pairs, *best.values()], key=lambda pair: (-pair.correlation, pair))


def _digest(image: Array) -> bytes:
    return sha256(repr(image.shape).encode() + image.tobytes()).digest()


def _look_at(image: Array) -> tuple[Array, Array]:
    """The head's fingerprints (len(VIEWS), BITS, BITS), and its views (3, SIDE, SIDE): coarse, fine, details."""
    grey = resize(crop_to_head(image), (SIDE, SIDE)).mean(axis=2, dtype=np.float32)
    coarse, fine, inner, outer = (gaussian_filter(grey, blur) for blur in (*BLURS, *BAND))
    return np.stack([_fingerprint(coarse, *view) for view in VIEWS]), np.stack([coarse, fine, inner - outer])


def _fingerprint(coarse: Array, turn: float, zoom: float) -> Array:
    """(BITS, BITS) of 1 and -1, the difference hash: does the head's inner part become brighter to the right?"""
    y, x = np.mgrid[-0.7:0.7:BITS * 1j, -0.7:0.7:(BITS + 1) * 1j] * zoom
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    pixels = (np.stack([c * y + s * x, c * x - s * y]) + 1) * (SIDE - 1) / 2  # (2, BITS, BITS + 1)
    return np.where(np.diff(map_coordinates(coarse, pixels, order=1, mode="nearest"), axis=1) > 0, 1, -1)


def sieve(codes: Array) -> list[tuple[int, int, bool]]:
    """Who meets whom: (i, j, is j mirrored) with i < j, for each image the NEAREST others by bits that agree at best.

    Shapes: codes (n, views, bits, bits) of 1 and -1, of which view 0 is the image as it is. A mirrored head grows
    brighter where it grew darker, at the mirrored place.
    """
    n, codes = len(codes), codes.astype(np.float32)
    met = set()
    for mirrored, others in ((False, codes[:, 0]), (True, -codes[:, 0, :, ::-1])):
        others = others.reshape(n, -1).T  # (bits * bits, n)
        agreement = np.max([view.reshape(n, -1) @ others for view in codes.swapaxes(0, 1)], axis=0)  # (n, n)
        np.fill_diagonal(agreement, -np.inf)
        nearest = np.argsort(-np.maximum(agreement, agreement.T), axis=1, kind="stable")[:, :min(NEAREST, n - 1)]
        met |= {(min(i, j), max(i, j), mirrored) for i, row in enumerate(nearest.tolist()) for j in row}
    return sorted(met)


def registered_correlation(still: Array, moving: Array) -> float:
    """The correlation of the details inside the skull, when moving lies upon still as well as an affine map can.

    Shapes: still, moving (3, SIDE, SIDE): coarse, fine, details. 0 if they cannot be laid upon each other.
    """
    place = np.eye(3)
    for target, picture in zip(still[:-1], moving[:-1]):
        for _ in range(STEPS):
            step = _step(target, _at(picture, place))
            place = place @ step
            if np.abs(step - np.eye(3)).max() < 1e-3:
                break
    a, b = still[-1][INSIDE], _at(moving[-1], place)[INSIDE]
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-6))


def _at(picture: Array, place: Array) -> Array:
    """What picture shows at place @ (1, y, x) for each pixel (y, x); beyond its edge it goes on as at the edge."""
    pixels = ((place @ GRID)[1:] + 1) * (SIDE - 1) / 2  # (2, SIDE * SIDE)
    return map_coordinates(picture, pixels.reshape(2, SIDE, SIDE), order=1, mode="nearest")


def _step(target: Array, picture: Array) -> Array:
    """The small affine map (3, 3) that brings picture nearer to target, by one linear regression (Gauss and Newton).

        target(y, x)  ~  gain * picture(y + dy, x + dx) + offset
                      ~  gain * picture + offset + gain * (dy * d picture / dy + dx * d picture / dx)

    in which dy and dx are linear in 1, y, x. Gain and offset are in it because copies differ in brightness.
    """
    slopes = np.gradient(picture, 2 / (SIDE - 1))  # d picture / dy, d picture / dx
    grid = GRID[:, INSIDE.ravel()]
    terms = np.concatenate([picture[None, INSIDE], grid[:1], slopes[0][INSIDE] * grid, slopes[1][INSIDE] * grid])
    normal = terms @ terms.T + 1e-6 * np.eye(8)  # (8, 8); a blank picture has no slopes, and the normal equations no rank
    gain, _, *moves = np.linalg.solve(normal, terms @ target[INSIDE])
    step = np.eye(3)
    if gain > 0.01:  # else bright meets dark, and a step would lead away
        step[1:] += np.clip(np.reshape(moves, (2, 3)) / gain, -LONGEST, LONGEST)
    return step


def join(n: int, links: Iterable[tuple[int, int]]) -> Array:
    """(n,) the group of each image: its lowest number. Images are in one group if a chain of links leads from one to the
    other."""
    rows, columns = np.array(list(links), dtype=np.int64).reshape(-1, 2).T
    _, group = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n)), directed=False)
    lowest = np.unique(group, return_index=True)[1]
    return lowest[group]
