"""Slices from a folder: cross-validation, what is written, at which size slices come."""

import csv
import shutil

import numpy as np
import pytest
from run_examples import results, train_ich

import tinyresnet
from tinyresnet.ich.dataset import crop_to_head
from tinyresnet.ich.splits import stratified_split
from tinyresnet.images import Preprocessing
from tinyresnet.metrics import clopper_pearson, exact_intervals
from tinyresnet.weights import read_arrays

OUTPUTS = ["args.json", "backbone.npz", "cases.npz", "confusion_matrix.png", "head.npz", "predictions.csv", "referral.png",
           "reliability.png", "report.html", "results.json", "roc.png", "summary.csv"]


def test_real_slices_are_judged_by_both_cross_validations(small, tmp_path, capsys):
    assert train_ich(*small) == 0
    found, printed = results(tmp_path / "run"), capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == OUTPUTS
    assert list(found["metrics"]) == ["grouped", "plain"]
    assert list(found["baselines"]) == list(found["ahead"]) == ["metadata", "brain_blanked", "bright_blob", "majority"]
    assert found["data"] | {"images": 24, "positive": 12, "groups": 12, "synthetic": False} == found["data"]
    assert found["model"]["name"] == "BasicBlock-1-1-1-1" and len(found["model"]["sha256"]) == 64
    assert found["metrics"]["plain"]["roc_auc"]["value"] > 0.8, "the bright square is easy"
    assert "grouped" in printed and "plain" in printed and "not for diagnosis" in printed
    assert "24 images, 12 of them positive ('hemorrhage'), the others 'normal'" in printed


def test_every_image_is_answered_once_a_repeat_and_no_scan_straddles_a_grouped_fold(finished, tmp_path):
    with open(tmp_path / "run" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 24
    for split in ("grouped", "plain"):
        for repeat in ("0", "1"):
            images = [row["image"] for row in rows if (row["split"], row["repeat"]) == (split, repeat)]
            assert len(set(images)) == len(images) == 24
    folds_of_scan = {}
    for row in rows:
        if row["split"] == "grouped":
            folds_of_scan.setdefault((row["repeat"], row["group"]), set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in folds_of_scan.values())


def test_the_summary_has_a_row_an_epoch_of_every_fold(tuned, tmp_path):
    train_ich(*tuned)
    with open(tmp_path / "run" / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2
    assert list(rows[0])[:4] == ["split", "repeat", "fold", "epoch"]


def test_the_saved_network_and_heads_answer_without_the_training_code(finished, slices, tmp_path):
    backbone, (head, facts) = tinyresnet.load_model(tmp_path / "run/backbone.npz"), read_arrays(tmp_path / "run/head.npz")
    assert facts["classes"] == ["normal", "hemorrhage"] and facts["views"] == ["head", "interior"]
    assert head["weight"].shape[:2] == (1 + 6, 2), "of all images and of each grouped fold, in two views"
    answers = []
    for number in (0, 23):
        image = tinyresnet.read_image(slices / "head_ct" / "head_ct" / f"{number:03}.png")
        x = tinyresnet.preprocess(crop_to_head(image), backbone.preprocessing)[None]
        answers.append(float(backbone.features(x, facts["at"])[0] @ head["weight"][0, 0] + head["bias"][0, 0]))
    assert answers[0] > 0 > answers[1]


def test_finetuning_runs_and_its_training_loss_falls(tuned, tmp_path):
    assert train_ich(*tuned, "--epochs", 6, "--lr", 1e-3) == 0
    with open(tmp_path / "run" / "summary.csv") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["fold"] == "0"]
    assert losses[-1] < losses[0]
    assert results(tmp_path / "run")["protocol"] | {"unfreeze_from": "layer3", "split": ["grouped"], "repeats": 1} == \
        results(tmp_path / "run")["protocol"]
    model = tinyresnet.load_model(tmp_path / "run" / "backbone.npz")
    assert model.classes == ["normal", "hemorrhage"] and model.origin["before"] == "random initialisation"


def test_class_folders_work_without_groups_and_say_what_that_means(slices, small, tmp_path, capsys):
    for number in range(24):
        folder = tmp_path / "folders" / ("with hemorrhage" if number < 12 else "healthy")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(slices / "head_ct" / "head_ct" / f"{number:03}.png", folder)
    assert train_ich(*small, "--data-path", tmp_path / "folders") == 0
    assert "no groups.csv" in capsys.readouterr().out
    assert list(results(tmp_path / "run")["metrics"]) == ["plain"]


def test_unreadable_images_are_left_out_and_listed_only_when_asked(slices, small, tmp_path, capsys):
    shutil.copytree(slices, tmp_path / "damaged")
    broken = tmp_path / "damaged" / "head_ct" / "head_ct" / "005.png"
    broken.write_bytes(broken.read_bytes()[:300])
    assert train_ich(*small, "--data-path", tmp_path / "damaged") == 2
    assert "005.png" in capsys.readouterr().err
    assert train_ich(*small, "--data-path", tmp_path / "damaged", "--skip-bad-images", "--overwrite") == 0
    found = results(tmp_path / "run")["data"]
    assert found["images"] == 23 and len(found["skipped"]) == 1 and "005.png" in found["skipped"][0]


@pytest.mark.parametrize("preprocessing, size", [(Preprocessing((40, 48)), (40, 48)), (Preprocessing(), (224, 224)),
                                                 (Preprocessing(40, 32), (32, 32))])
def test_slices_come_at_the_size_the_weights_ask_for(small, preprocessing, size, tmp_path):
    model = tinyresnet.small_resnet(5, width=4, depths=(1, 1))  # fewer stages than published networks have
    model.preprocessing = preprocessing
    tinyresnet.save_weights(model, tmp_path / "tiny.npz")
    assert train_ich(*small, "--weights", tmp_path / "tiny.npz", "--split", "plain", "--repeats", 1) == 0
    assert tinyresnet.load_model(tmp_path / "run" / "backbone.npz").preprocessing.size == size
    assert read_arrays(tmp_path / "run" / "head.npz")[1]["at"] == ["layer1", "layer2"]


def test_the_band_to_refer_that_is_saved_is_that_of_20_percent(finished, tmp_path):
    entry = results(tmp_path / "run")["referral"]["grouped"][-1]
    assert entry["fraction"] == 0.2
    assert read_arrays(tmp_path / "run" / "head.npz")[1]["refer_half_width"] == entry["half_width"]


def test_siblings_are_warned_of_in_plain_folds_alone(finished, tmp_path):
    assert [warning.split(":")[0] for warning in results(tmp_path / "run")["warnings"] if "sibling" in warning] == ["plain"]


def test_both_arms_of_the_paper_are_asked_about_the_fifth_that_did_not_learn(slices, weights, tmp_path):
    assert train_ich("--data-path", slices, "--weights", weights, "--recipe", "paper", "--epochs", 1, "--batch-size", 8,
                     "--output-dir", tmp_path / "run") == 0
    labels, found = (np.arange(24) < 12).astype(int), results(tmp_path / "run")
    _, tested = stratified_split(labels, 0.2, 0)
    for arm in ("as_written", "own_input"):
        with open(tmp_path / "run" / arm / "predictions.csv") as file:
            rows = list(csv.DictReader(file))
        assert sorted(int(row["image"][-7:-4]) for row in rows) == sorted(tested.tolist())
        exact = exact_intervals(labels[[int(row["image"][-7:-4]) for row in rows]],
                                np.array([float(row["probability"]) for row in rows]))
        assert {name: found["metrics"][arm][name] for name in exact} == exact
        assert all(arm in of[name] for of in (found["baselines"], found["ahead"]) for name in of)
        assert f"{arm.replace('_', ' ')}: 100% of the tested slices have a sibling" in " ".join(found["warnings"])
    majority = found["baselines"]["majority"]["own_input"]["accuracy"]
    assert (majority["low"], majority["high"]) == clopper_pearson(round(majority["value"] * len(tested)), len(tested))
    assert "Saraswathi" in (tmp_path / "run" / "report.html").read_text()
