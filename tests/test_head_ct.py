"""The main job on the 200 real slices with published weights: bounds some points below the figures the README gives."""

import json

import numpy as np
import pytest
from run_examples import train_ich

from tinyresnet import load_model
from tinyresnet.ich.experiment import cross_validation, measure, run
from tinyresnet.ich.features import Features
from tinyresnet.ich.finetune import Finetune
from tinyresnet.ich.recipes import Settings

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("split, accuracy, auc", [("grouped", 0.84, 0.92), ("plain", 0.90, 0.96)])
def test_features_of_the_published_network_find_hemorrhages(split, accuracy, auc, published, real_slices, real_features,
                                                            tmp_path):
    recipe = Features(load_model(published), real_features, real_slices.labels)
    outcomes, _ = run(recipe, cross_validation(real_slices, [split], 5, 1, 0), real_slices, tmp_path, 0)
    found = measure(real_slices, outcomes)[split]
    assert found["accuracy"]["value"] >= accuracy and found["roc_auc"]["value"] >= auc, found


def test_the_whole_command_runs_on_real_slices(shared, published, tmp_path, monkeypatch):
    monkeypatch.setattr("tinyresnet.ich.looks.RIGHT", 2)
    monkeypatch.setattr("tinyresnet.ich.looks.WRONG", 1)
    assert train_ich("--data-path", shared / "data" / "head_ct", "--weights", published, "--output-dir", tmp_path,
                     "--limit", 8, "--folds", 2, "--repeats", 1, "--split", "plain") == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["data"] | {"images": 8, "positive": 4} == found["data"] and (tmp_path / "report.html").exists()


@pytest.mark.parametrize("stage", ["layer4", "conv1"])
def test_finetuning_the_published_network_lowers_its_loss(stage, published, real_slices, real_images):
    rows = np.r_[:6, 194:200]
    backbone, settings = load_model(published), Settings(epochs=2, batch_size=12, lr=1e-4, weight_decay=0.01)
    recipe = Finetune(backbone, [real_images[row] for row in rows], real_slices.labels[rows], settings, stage)
    first, second = recipe.fit(np.arange(12), np.arange(0), np.random.default_rng(0)).history
    assert second["train_loss"] < first["train_loss"]
