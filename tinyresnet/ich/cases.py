"""The cases that a classifier has learned from, kept beside it: a new slice is shown with those that resemble it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from PIL import Image, ImageOps

from tinyresnet.explain import nearest
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.experiment import Slices
from tinyresnet.overlays import Case
from tinyresnet.weights import WeightsFileError, read_arrays, write_arrays

SIDE = 128  # pixels of a thumbnail
MOST = 500  # cases kept
LONGEST = 13  # letters of a name below a picture


class Cases(NamedTuple):
    """Shapes: features (n, C), thumbnails (n, SIDE, SIDE, 3) uint8 of the first view, labels (n,); n names and groups."""

    features: Array
    thumbnails: Array
    labels: Array
    names: list[str]
    groups: list[str]
    classes: list[str]

    @classmethod
    def of(cls, classifier: Classifier, slices: Slices, images: Sequence[Array], rows: Array) -> Cases:
        """Of these rows of the images (H, W, 3) uint8, all or, of more than MOST, so many evenly from the first to the last:
        data sets are often in the order of their labels.
        """
        rows = rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(int)]
        chosen = [images[row] for row in rows]
        return cls(classifier.features_of_view(chosen), np.stack([thumbnail(classifier.shown(image)) for image in chosen]),
                   slices.labels[rows], [slices.names[row] for row in rows], [str(slices.groups[row]) for row in rows],
                   list(slices.classes))

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        write_arrays(path, {"features": self.features, "thumbnails": self.thumbnails, "labels": self.labels},
                     {"names": self.names, "groups": self.groups, "classes": self.classes})

    @classmethod
    def load(cls, path: Path) -> Cases:
        """Raises WeightsFileError naming a file that is not what `save` wrote."""
        arrays, facts = read_arrays(path)
        try:
            result = cls(arrays["features"], arrays["thumbnails"], arrays["labels"], facts["names"], facts["groups"],
                         facts["classes"])
            check(result)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsFileError(f"{path}: not the cases that a run of train_ich.py leaves ({error!r})") from error
        return result

    def strangeness(self, features: Array) -> float:
        """How far features (C,) lie from those of the cases, 1 = as far as the farthest of these.

            r = root of the mean over C of ((f - mean) / std)^2,    mean and std over the cases

        Of 200 real slices, each measured without its own scan, none lay beyond 1.23; film without a head began at 1.6,
        photographs at 2.2 (features of a published ResNet-50; a small network trained on phantoms does not tell).
        """
        mean, std = self.features.mean(axis=0), self.features.std(axis=0) + 1e-6  # a dead channel has no deviation
        own, new = (np.sqrt((((f - mean) / std) ** 2).mean(axis=-1)) for f in (self.features, features))
        return float(new / own.max()) if own.max() > 0 else 0.0

    def nearest(self, features: Array, count: int) -> tuple[list[Case], list[float]]:
        """The cases most like one of features (C,), and their similarity, -1 to 1."""
        rows, similarities = nearest(features[None], self.features, min(count, len(self.features)))
        return [Case(self.thumbnails[row], self.classes[self.labels[row]],
                     shortened(f"{self.groups[row]}, {self.names[row]}")) for row in rows[0]], similarities[0].tolist()


def shortened(name: str) -> str:
    """Of a name as much as fits below a picture, beside a similarity: its end, which tells it from others."""
    return name if len(name) <= LONGEST else f"\u2026{name[1 - LONGEST:]}"


def thumbnail(image: Array) -> Array:
    """The picture (H, W, 3) uint8 in its proportions on a black square, (SIDE, SIDE, 3)."""
    return np.asarray(ImageOps.pad(Image.fromarray(image), (SIDE, SIDE)))


def check(cases: Cases) -> None:
    """Raise ValueError or TypeError where the parts do not go together."""
    features, thumbnails, labels, names, groups, classes = cases
    n = len(names)
    shapes = features.shape[:-1], thumbnails.shape, labels.shape, len(groups), len(classes)
    if not n or shapes != ((n,), (n, SIDE, SIDE, 3), (n,), n, 2):
        raise ValueError(f"expected features, thumbnails, labels and groups of {n} names, and two classes, got {shapes}")
    if not np.isfinite(features).all() or thumbnails.dtype != np.uint8 or labels.dtype.kind not in "iu" or not (
            np.isin(labels, (0, 1)).all()):
        raise ValueError("expected finite features, thumbnails of uint8 and labels of 0 and 1")
