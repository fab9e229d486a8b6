"""split_noise.py: one method, many splits; what it says is what the splits gave."""

import re

import numpy as np
import pytest
from PIL import Image
from run_examples import example
from small_run import small_slices, thin_network

from tinyresnet import save_weights
from tinyresnet.ich.splits import stratified_split


@pytest.fixture
def data(tmp_path):
    """24 slices of 12 scans on disk, and weights."""
    slices, images = small_slices()
    folder = tmp_path / "data"
    (folder / "head_ct").mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "head_ct" / f"{number:03}.png")
    rows = list(enumerate(zip(slices.labels, slices.groups)))
    (folder / "labels.csv").write_text("id,hemorrhage\n" + "".join(f"{i},{label}\n" for i, (label, _) in rows))
    (folder / "groups.csv").write_text("id,group\n" + "".join(f"{i},{group}\n" for i, (_, group) in rows))
    save_weights(thin_network(), tmp_path / "weights.npz")
    return slices, ["--data-path", folder, "--weights", tmp_path / "weights.npz"]


def test_it_tells_the_spread_of_the_splits_and_how_many_test_images_have_siblings(data, tmp_path, capsys):
    slices, arguments = data
    assert example("split_noise", *arguments, "--splits", 6, "--plot", tmp_path / "splits.png") == 0
    said = capsys.readouterr().out
    numbers = re.search(r"6 random splits: accuracy (\S+) on average, from (\S+) to (\S+),", said)
    mean, low, high = map(float, numbers.groups())
    assert 0 <= low <= mean <= high <= 1
    splits = [stratified_split(slices.labels, 0.2, seed) for seed in range(6)]
    siblings = np.mean([np.isin(slices.groups[test], slices.groups[train]).mean() for train, test in splits])
    assert f"{siblings:.0%} of the test images have a sibling" in said
    assert "32 of 40 is 0.80, with a 95 % interval of 0.644 to 0.909" in said and "not for diagnosis" in said
    with Image.open(tmp_path / "splits.png") as picture:
        assert picture.width > 500


@pytest.mark.parametrize("change, words", [(["--splits", "0"], "expected at least 1, got 0"),
                                           (["--data-path", "nowhere"], "nowhere: no such folder")])
def test_what_cannot_be_used_is_refused_in_one_line(change, words, data, capsys):
    assert example("split_noise", *data[1], *change) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_refused_before_the_work(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tinyresnet.ich.features.features_of", None)
    for name in ("nowhere/splits.png", "splits.xyz"):
        assert example("split_noise", *data[1], "--plot", tmp_path / name) == 2
        assert "--plot: expected a FILE.png" in capsys.readouterr().err


def test_interrupted_it_says_so(data, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyresnet.ich.features.features_of", interrupt)
    assert example("split_noise", *data[1]) == 130 and "interrupted" in capsys.readouterr().err
