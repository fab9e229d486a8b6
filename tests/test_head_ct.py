"""The main job on the 200 real slices with published weights: bounds some points below the figures the README gives."""

import csv
import json

import pytest
from run_examples import train_ich

pytestmark = pytest.mark.shared


def test_features_of_the_published_network_find_hemorrhages(shared, published, tmp_path):
    assert train_ich("--data-path", shared / "data" / "head_ct", "--weights", published, "--output-dir", tmp_path) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["data"] | {"images": 200, "positive": 100, "groups": 110} == found["data"]
    measured = {split: [found["metrics"][split][name]["value"] for name in ("accuracy", "roc_auc")]
                for split in ("plain", "grouped")}
    assert measured["plain"][0] >= 0.90 and measured["plain"][1] >= 0.96, measured
    assert measured["grouped"][0] >= 0.84 and measured["grouped"][1] >= 0.92, measured


@pytest.mark.parametrize("stage", ["layer4", "conv1"])
def test_finetuning_the_published_network_lowers_its_loss(shared, published, tmp_path, stage):
    assert train_ich("--data-path", shared / "data" / "head_ct", "--weights", published, "--output-dir", tmp_path,
                     "--recipe", "finetune", "--unfreeze-from", stage, "--limit", 20, "--folds", 2, "--repeats", 1,
                     "--split", "plain", "--epochs", 2, "--batch-size", 16) == 0
    with open(tmp_path / "summary.csv") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["fold"] == "0"]
    assert losses[1] < losses[0]
