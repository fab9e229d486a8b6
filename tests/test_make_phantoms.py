"""Phantoms on disk: read as real slices are, half of the patients bleed, the truth beside them, all of it or nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_examples import make_phantoms

from tinyresnet.ich.audit import separation
from tinyresnet.ich.dataset import load_dataset, read_images
from tinyresnet.ich.phantom import make_phantom, window

SMALL = "--patients", 4, "--slices", 2, "--size", 64


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, and the same with a letter on every bleed."""
    folders = [tmp_path_factory.mktemp("made") / name for name in ("plain", "stamped")]
    assert [make_phantoms(folder, *SMALL, "--shortcut", p) for folder, p in zip(folders, (0, 1))] == [0, 0]
    return folders


def read(folder):
    """Dataset, images, and the facts image by image."""
    return *read_images(load_dataset(folder)), json.loads((folder / "facts.json").read_text())["images"]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_read_as_real_slices_are(made):
    dataset, images, _ = read(made[0])
    assert [path.name for path in dataset.paths] == [f"{n:03d}.png" for n in range(8)] and dataset.grouped
    assert {image.shape for image in images} == {(64, 64, 3)} and dataset.classes == ("normal", "hemorrhage")


def test_half_of_the_patients_bleed_on_all_their_slices_and_the_others_on_none(made):
    dataset, _, facts = read(made[0])
    assert dataset.labels.tolist() == [1, 1, 0, 0, 1, 1, 0, 0] and dataset.groups.tolist() == list("00112233")
    assert [fact["area_mm2"] > 0 for fact in facts] == (dataset.labels == 1).tolist()


def test_a_patient_is_one_head_cut_at_different_levels(tmp_path):
    make_phantoms(tmp_path / "new", *SMALL, "--slices", 4)
    facts = read(tmp_path / "new")[2]
    assert len({(fact["patient"], fact["seed"]) for fact in facts}) == len({fact["seed"] for fact in facts}) == 4
    assert len({(fact["patient"], fact["level"]) for fact in facts}) == 16


def test_neither_level_nor_size_nor_place_in_the_folder_tells_the_label(made):
    dataset, _, facts = read(made[0])
    assert separation(dataset.labels, [fact["level"] for fact in facts])[0] == 0.5  # cut in pairs at the same levels
    assert 0.5 <= separation(dataset.labels, np.arange(8))[0] <= 0.75  # in turns: .75 for four patients, .525 for forty


def test_a_picture_is_the_phantom_of_its_facts_in_the_window_of_that_scan(made):
    _, images, facts = read(made[0])
    for image, fact in zip(images, facts):
        hu = make_phantom(fact["seed"], fact["kind"], fact["level"], size=64).hu
        np.testing.assert_array_equal(image[..., 0], window(hu, *fact["window"]))


def test_a_picture_is_grey_and_says_itself_that_it_is_synthetic(made):
    for path in (made[0] / "head_ct").iterdir():
        with Image.open(path) as picture:
            assert picture.mode == "L" and picture.text["Description"].startswith("Synthetic")


def test_the_folder_says_that_it_is_synthetic_and_how_it_was_made(made):
    told = (made[1] / "README.txt").read_text().splitlines()
    assert len(told) == 2 and told[0].startswith("Synthetic") and "--patients 4 --slices 2 --shortcut 1.0" in told[1]
    facts = json.loads((made[1] / "facts.json").read_text())
    assert facts["synthetic"] and all(fact["synthetic"] for fact in facts["images"])


def test_a_shortcut_of_one_stamps_every_bleed_in_its_corner_and_changes_nothing_else(made):
    (dataset, plain, without), (_, stamped, facts) = map(read, made)
    assert [fact["letter"] is not None for fact in facts] == (dataset.labels == 1).tolist()
    assert [fact | {"letter": None} for fact in facts] == without
    difference = np.array(plain) != np.array(stamped)
    np.testing.assert_array_equal(difference.any(axis=(1, 2, 3)), dataset.labels == 1)
    assert not difference[:, 64 // 5:].any() and not difference[:, :, 64 // 5:].any()


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_patients(made, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    assert make_phantoms(again, *SMALL) == make_phantoms(other, *SMALL, "--seed", 1) == 0
    assert content(again) == content(made[0])
    assert not {fact["seed"] for fact in read(again)[2]} & {fact["seed"] for fact in read(other)[2]}


@pytest.mark.parametrize("arguments, told", [
    (("--patients", 3), "even number, half with a bleed and half without, got 3"), (("--patients", 0), "2 to 1000, got 0"),
    (("--slices", 6), "1 to 5, got 6"), (("--shortcut", 1.5), "0 to 1, got 1.5"), (("--shortcut", "nan"), "got nan"),
    (("--size", 8), "64 to 1024, got 8"), (("--seed", -1), "got -1")])
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, told, tmp_path, capsys):
    assert make_phantoms(tmp_path / "new", *arguments) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "empty", "file", "none/new", "file/new"])
def test_only_a_new_folder_in_one_that_is_there_is_written_to(name, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert make_phantoms(tmp_path / name, *SMALL) == 2
    assert "expected the name of a new folder" in capsys.readouterr().err
    assert content(tmp_path) == {Path("file"): b"mine"} and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt, 130), (OSError(28, "No space left on device"), 2)])
def test_what_ends_in_the_middle_leaves_nothing_behind(error, code, tmp_path, monkeypatch, capsys):
    save, saved = Image.Image.save, []

    def save_three(picture, path, **options):
        if len(saved) == 3:
            raise error
        saved.append(path)
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", save_three)
    assert make_phantoms(tmp_path / "new", *SMALL) == code
    assert len(saved) == 3 and not any(tmp_path.iterdir())
    assert ("interrupted; nothing was written" if code == 130 else "No space left") in capsys.readouterr().err
