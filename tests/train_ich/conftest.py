"""A small data set and a thin network for train_ich.py, and a run that has come to its end."""

import shutil

import numpy as np
import pytest
from PIL import Image
from run_examples import train_ich

import tinyresnet
from tinyresnet.images import Preprocessing


@pytest.fixture(autouse=True)
def few_and_small_pictures(monkeypatch):
    """They are most of the time of a run, and looked at elsewhere: test_looks.py, test_plots.py."""
    monkeypatch.setattr("tinyresnet.ich.looks.RIGHT", 2)
    for module in ("plots", "plots_calibration", "overlays"):
        monkeypatch.setattr(f"tinyresnet.{module}.DPI", 30)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.npz"
    model = tinyresnet.small_resnet(5, width=4)
    model.preprocessing = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    tinyresnet.save_weights(model, path)
    return path


@pytest.fixture(scope="session")
def slices(tmp_path_factory):
    """24 slices in Kaggle's layout, of 12 scans; a bright square is a bleed."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "head_ct" / "head_ct").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(24):
        image = rng.integers(60, 120, (48, 40), dtype=np.uint8)
        if number < 12:
            image[10:25, 12:28] += 110
        Image.fromarray(image).save(folder / "head_ct" / "head_ct" / f"{number:03}.png")
    (folder / "labels.csv").write_text("id, hemorrhage\n" + "".join(f"{i},{int(i < 12)}\n" for i in range(24)))
    (folder / "groups.csv").write_text("id,group\n" + "".join(f"{i},{i // 2}\n" for i in range(24)))
    return folder


def arguments(slices, weights, folder):
    return ["--data-path", slices, "--weights", weights, "--folds", 3, "--repeats", 2, "--output-dir", folder]


@pytest.fixture
def small(slices, weights, tmp_path):
    return arguments(slices, weights, tmp_path / "run")


@pytest.fixture(scope="session")
def kept_run(slices, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train_ich(*arguments(slices, weights, folder)) == 0
    return folder


@pytest.fixture
def finished(kept_run, small, tmp_path):
    """What the arguments `small` leave when they have come to their end."""
    shutil.copytree(kept_run, tmp_path / "run")
    return small


@pytest.fixture
def tuned(slices, weights, tmp_path):
    """Fine-tuning, small"""
    return ["--data-path", slices, "--weights", weights, "--folds", 3, "--recipe", "finetune", "--unfreeze-from", "layer3",
            "--epochs", 2, "--output-dir", tmp_path / "run"]
