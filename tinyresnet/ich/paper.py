"""The paper's experiment: the whole ResNet-50 trains on 160 slices, and is asked about the other 40.

Saraswathi and Leela Lakshmi, "Identification of intracranial hemorrhage from CT images using convolutional neural
networks": 80/20 split, 224x224 pixels, Adam, batches of 16, learning rate 1e-4, 30 epochs, cross-entropy; batch norms
learn and take the batch's statistics, nothing is augmented or frozen. It says that pixels are scaled to (0, 1).
Published weights expect another scale, so there are two arms: as written, and with the weights' own preprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from tinyresnet.ich.recipes import Fit, Head, Recipe, Settings, last_stages
from tinyresnet.ich.views import BATCH, seen, stretched
from tinyresnet.images import Preprocessing
from tinyresnet.optim import Adam
from tinyresnet.resnet import ResNet
from tinyresnet.training import Samples, predict, train

TEST_FRACTION = 0.2
PUBLISHED = 16, 20  # right answers, and images, of each class: 80 % in all six measures (it calls balanced accuracy AUC)
ARMS = {"as_written": "pixels from 0 to 1", "own_input": "pixels normalised as the weights expect"}
EXPERIMENT = ("The experiment of Saraswathi and Leela Lakshmi (Identification of intracranial hemorrhage from CT images "
              "using convolutional neural networks): the whole network trains on four fifths of the slices and is asked "
              "about the rest. Published is what they report of 40 slices; "
              + "; ".join(f"{arm.replace('_', ' ')}: {told}" for arm, told in ARMS.items()) + ".")


def arm_preprocessing(arm: str, preprocessing: Preprocessing) -> Preprocessing:
    """What the whole slice goes through: stretched to the size of the weights' input, then scaled as the arm says."""
    own = stretched(preprocessing)
    return replace(own, mean=(0.0,) * 3, std=(1.0,) * 3) if arm == "as_written" else own


class Paper(Recipe):
    """One arm. Every fit begins with the published weights and a new head."""

    mirrored = False

    def __init__(self, backbone: ResNet, images: Sequence[Array], labels: Array, settings: Settings):
        super().__init__(backbone, settings)
        self.labels, self.at = labels, last_stages(backbone, 1)
        self.x = seen(images, "slice", backbone.preprocessing)  # (n, 224, 224, 3)
        self.published = backbone.part(to="avgpool").state_dict()

    def fit(self, train_rows: Array, valid_rows: Array, rng: np.random.Generator, *, checkpoint: Path | None = None,
            description: str = "training") -> Fit:
        """From the published weights and a new head; the answer is for the slice as it is, as in the paper."""
        model = self.backbone
        model.replace_head(2, rng=rng)
        model.load_state_dict(self.published, strict=False)
        epochs, batch_size, lr, weight_decay = self.settings
        train_set, valid_set = (Samples(self.x[rows], self.labels[rows]) for rows in (train_rows, valid_rows))
        history = train(model, Adam(model, lr, weight_decay=weight_decay), train_set, valid_set, epochs=epochs,
                        batch_size=batch_size, rng=rng, checkpoint=checkpoint, description=description)
        return Fit(predict(model, valid_set, BATCH)[:, 1], history, Head.of(model.fc))
