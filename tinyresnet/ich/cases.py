"""The cases that a classifier has learned from, kept beside it: a new slice is shown with those that resemble it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.explain import nearest
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.experiment import Slices
from tinyresnet.ich.views import VIEWS
from tinyresnet.images import resize
from tinyresnet.overlays import Case
from tinyresnet.weights import WeightsFileError, read_arrays, write_arrays

SIDE = 128  # pixels of a thumbnail
MOST = 500  # cases kept


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
        """The first of these rows, images (H, W, 3) uint8 of any size."""
        rows = rows[:MOST]
        shown = [images[row] for row in rows]
        view = VIEWS[classifier.views[0]]
        return cls(classifier.features_of_view(shown), np.stack([resize(view(image), (SIDE, SIDE)) for image in shown]),
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
            if not len(result.features) == len(result.thumbnails) == len(result.names) == len(result.groups):
                raise ValueError("not as many features as thumbnails and names")
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsFileError(f"{path}: not the cases that a run of train_ich.py leaves ({error!r})") from error
        return result

    def nearest(self, features: Array, count: int) -> tuple[list[Case], list[float]]:
        """The cases most like one of features (C,), and their similarity, -1 to 1."""
        rows, similarities = nearest(features[None], self.features, min(count, len(self.features)))
        return [Case(self.thumbnails[row], self.classes[self.labels[row]], f"{self.groups[row]}, {self.names[row]}")
                for row in rows[0]], similarities[0].tolist()
