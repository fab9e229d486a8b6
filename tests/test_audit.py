"""Copies of a slice are found and mere resemblance is not; shortcuts are told; nothing of the user's is overwritten."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
from html_reader import assert_stands_alone
from PIL import Image
from run_examples import example

from tinyresnet.ich.audit import chance, corner_means, separation, shortcuts
from tinyresnet.ich.dataset import load_dataset
from tinyresnet.ich.duplicates import NEAREST, SAME, _look_at, find_pairs, join, sieve
from tinyresnet.ich.phantom import make_phantom, window
from tinyresnet.ich.report import DISCLAIMER

SAME_SLICE = ("188/189; 4/57; 5/22/58; 9/65; 10/66; 11/61; 12/30; 73/95; 97/98; 104/186; 105/187; 145/148; 146/149; "
              "147/150; 198/199")  # judged by eye


def audit_dataset(*arguments):
    return example("audit_dataset", *arguments)


def slice_of(patient, level, kind="normal"):
    phantom = make_phantom(patient, kind, level, size=224)
    return np.repeat(window(phantom.hu, *phantom.facts["window"])[:, :, None], 3, axis=2)


def compressed(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def resized(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


CHANGES = {
    "nothing": lambda image: image.copy(), "shifted": lambda image: np.pad(image, ((30, 4), (8, 50), (0, 0))),
    "cut": lambda image: image[14:-6, 18:-18], "larger": lambda image: resized(image, 330, 330),
    "smaller and stretched": lambda image: resized(image, 150, 170), "compressed": compressed,
    "brighter": lambda image: np.clip(image * 1.2, 0, 255).astype(np.uint8), "mirrored": lambda image: image[:, ::-1],
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "turned": lambda image: np.asarray(Image.fromarray(image).rotate(8, Image.Resampling.BILINEAR))}


@pytest.fixture(scope="module")
def others():
    """Ten people at two neighbouring levels: twenty slices, all different."""
    return [slice_of(patient, level) for patient in range(10) for level in (7, 8)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_slice_that_was_changed_and_comes_back_is_found(others, change):
    pair = find_pairs([*others[4:10], CHANGES[change](others[6])])[0]
    assert (pair.first, pair.second) == (2, 6) and pair.correlation >= SAME
    assert (pair.mirrored, pair.equal) == (change == "mirrored", change == "nothing")


def test_the_same_level_of_other_people_and_the_next_slice_of_one_are_not(others):
    pairs = find_pairs(others)
    assert pairs and pairs[0].correlation < SAME, pairs[0]


def test_blank_and_tiny_images_are_compared_without_an_error():
    images = [np.zeros((40, 30, 3), np.uint8), np.full((50, 50, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8)]
    assert all(pair.correlation < SAME for pair in find_pairs(images))


def test_a_hundred_equal_images_are_a_chain_and_crowd_nobody_out(others):
    pairs = find_pairs([others[0]] * 100 + [others[2], CHANGES["compressed"](others[0])])
    found = [pair for pair in pairs if pair.correlation >= SAME]
    assert len(found) == 100 and set(join(102, [pair[:2] for pair in found])) == {0, 100}


def test_the_sieve_meets_each_pair_once_and_no_image_with_itself():
    met = sieve(np.random.default_rng(0).choice([-1, 1], (30, 9, 12, 12)))
    assert len(set(met)) == len(met) <= 2 * NEAREST * 30 and all(first < second for first, second, _ in met)


@pytest.mark.parametrize("change", CHANGES)
def test_the_sieve_lets_a_changed_copy_through(others, change):
    looks = [_look_at(image)[0] for image in [*others, CHANGES[change](others[6])]]
    assert (6, len(others), change == "mirrored") in sieve(np.stack(looks))


def test_groups_are_chains_of_links():
    assert join(6, [(4, 2), (2, 5), (0, 0)]).tolist() == [0, 1, 2, 3, 2, 2] and join(2, []).tolist() == [0, 1]


def test_a_number_separates_in_either_direction():
    labels = np.array([0, 0, 1, 1])
    assert separation(labels, [1, 2, 30, 40]) == (1, True) and separation(labels, [4, 3, 2, 1]) == (1, False)
    assert separation(labels, [7, 7, 7, 7]) == (0.5, True)


def test_chance_is_the_spread_of_numbers_that_know_nothing():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 30)
    drawn = [separation(labels, rng.random(60))[0] - 0.5 for _ in range(500)]
    assert np.sqrt(np.mean(np.square(drawn))) == pytest.approx(chance(labels), rel=0.1)  # 500 draws: 3 % and less


@pytest.fixture
def folder(tmp_path, others):
    """Six slices, bleeds larger; 005 is 000 compressed, with the other label; 001 and 003 are known to be one scan."""
    images = [others[0], others[2], others[4], *(resized(others[k], 260, 280) for k in (6, 8)), compressed(others[0])]
    directory = tmp_path / "data"
    directory.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(directory / f"{i:03}.png")
    (directory / "labels.csv").write_text("id,hemorrhage\n" + "".join(f"{i},{int(i > 2)}\n" for i in range(6)))
    (directory / "groups.csv").write_text("id,group\n0,a\n1,scan\n2,c\n3,scan\n4,e\n5,f\n")
    return directory


def facts_in(out):
    return json.loads((out / "audit.json").read_text())


def test_it_tells_what_matters_and_ends_with_the_sentence(folder, tmp_path, capsys):
    assert audit_dataset(folder, "--output-dir", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == DISCLAIMER and str(tmp_path / "out" / "audit.html") in lines[-2]
    assert "1 pairs show the same slice, 1 of them with different labels" in lines[1] and "warning" in lines[3]
    assert sorted(os.listdir(tmp_path / "out")) == ["audit.html", "audit.json", "groups.csv"]


def test_the_numbers_say_how_the_pairs_agree_with_the_groups(folder, tmp_path):
    audit_dataset(folder, "--output-dir", tmp_path / "out")
    facts = facts_in(tmp_path / "out")
    assert [pair["ids"] for pair in facts["pairs"]] == [["000.png", "005.png"]] == facts["groups"]["pairs_across"]
    assert facts["groups"] | {"proposed": 4, "known": 5, "pairs_inside": 0, "straddling": [["a", "f"]]} == facts["groups"]
    assert facts["order"] == 1 and facts["classes"] == {"normal": 3, "hemorrhage": 3}
    assert [row["roc_auc"] for row in facts["shortcuts"]] == sorted((r["roc_auc"] for r in facts["shortcuts"]), reverse=True)


def test_the_groups_can_be_copied_beside_the_labels_and_keep_what_was_known(folder, tmp_path):
    audit_dataset(folder, "--output-dir", tmp_path / "out")
    shutil.copy(tmp_path / "out" / "groups.csv", folder / "groups.csv")
    assert load_dataset(folder).groups.tolist() == ["000.png", "001.png", "002.png", "001.png", "004.png", "000.png"]


def test_two_labels_for_one_slice_come_first_and_in_words(folder, tmp_path):
    audit_dataset(folder, "--output-dir", tmp_path / "out")
    text = (tmp_path / "out" / "audit.html").read_text()
    assert_stands_alone(text)
    first = text[text.index("<figcaption>"):]
    assert first.startswith('<figcaption><span class="warning">Different labels!</span> 000.png (normal) and 005.png')


def test_a_hostile_name_is_text_on_the_page_and_the_terminal(folder, tmp_path, capsys):
    name = "<img src=x onerror=alert(1)>\x1b[2J.png"
    (folder / "005.png").rename(folder / name)
    labels = (folder / "labels.csv").read_text().replace("5,1", f"{name},1")
    (folder / "labels.csv").write_text(labels)
    (folder / "groups.csv").unlink()
    assert audit_dataset(folder, "--output-dir", tmp_path / "out") == 0
    assert_stands_alone((tmp_path / "out" / "audit.html").read_text())
    assert "&lt;img src=x" in (tmp_path / "out" / "audit.html").read_text() and "\x1b" not in capsys.readouterr().out


def test_class_folders_have_their_folder_in_the_id(folder, tmp_path):
    for kind, numbers in (("normal", (0, 1, 2)), ("hemorrhage", (3, 4, 5))):
        (tmp_path / "two" / kind).mkdir(parents=True)
        for i in numbers:
            shutil.copy(folder / f"{i:03}.png", tmp_path / "two" / kind)
    assert audit_dataset(tmp_path / "two", "--output-dir", tmp_path / "out") == 0
    shutil.copy(tmp_path / "out" / "groups.csv", tmp_path / "two")
    groups = load_dataset(tmp_path / "two").groups
    assert groups[0] == groups[5] == "normal/000.png" and len(set(groups)) == 5


def test_an_unreadable_image_is_refused_or_left_out_with_its_reason_and_keeps_its_group(folder, tmp_path, capsys):
    (folder / "001.png").write_bytes(b"no image")
    assert audit_dataset(folder, "--output-dir", tmp_path / "out") == 2
    assert "--skip-bad-images" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert audit_dataset(folder, "--skip-bad-images", "--output-dir", tmp_path / "out") == 0
    assert "001.png: not an image" in facts_in(tmp_path / "out")["odd"]["unreadable"][0]
    with open(tmp_path / "out" / "groups.csv") as file:
        assert [row["group"] for row in csv.DictReader(file)][1:4:2] == ["001.png", "001.png"]


def test_odd_images_are_named_with_what_is_odd(folder, tmp_path):
    Image.new("RGBA", (150, 170), (9, 9, 9, 255)).save(folder / "001.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 300, 3), dtype=np.uint8)).save(folder / "002.png")
    audit_dataset(folder, "--output-dir", tmp_path / "out")
    odd = facts_in(tmp_path / "out")["odd"]
    assert odd["blank"] == odd["transparency in the file"] == ["001.png"]
    assert odd["coloured, not grey"] == odd["far from the median aspect"] == ["002.png"]
    assert odd["more than four times or less than a quarter of the median area"] == ["002.png"]


@pytest.mark.parametrize("out", ["data", "data/audit", "full"])
def test_results_never_go_where_something_is_or_among_the_data(folder, tmp_path, capsys, out):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "groups.csv").write_text("mine")
    before = (folder / "groups.csv").read_bytes()
    assert audit_dataset(folder, "--output-dir", tmp_path / out) == 2
    assert "--output-dir" in capsys.readouterr().err
    assert (folder / "groups.csv").read_bytes() == before and (tmp_path / "full" / "groups.csv").read_text() == "mine"


def test_interrupted_between_two_files_it_leaves_none(folder, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyresnet.ich.audit.write_page", interrupt)
    assert audit_dataset(folder, "--output-dir", tmp_path / "out") == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_folder_that_is_missing_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert audit_dataset(tmp_path / "nowhere", "--output-dir", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("audit_dataset: ") and not (tmp_path / "out").exists()


@pytest.mark.shared
def test_of_the_200_slices_those_that_are_there_twice_are_found_and_no_others(shared, tmp_path):
    data = shared / "data" / "head_ct"
    assert audit_dataset(data, "--output-dir", tmp_path / "out") == 0
    with open(data / "groups.csv") as file:
        loose = [row["group_loose"] for row in csv.DictReader(file)]
    facts = facts_in(tmp_path / "out")
    pairs = [[int(name[:3]) for name in pair["ids"]] for pair in facts["pairs"]]
    group = join(200, pairs)
    found = [text for text in SAME_SLICE.split(";") if len({group[int(i)] for i in text.split("/")}) == 1]
    false = [pair for pair in pairs if loose[pair[0]] != loose[pair[1]]]
    assert len(found) >= 12 and len(false) <= 3, (found, false)
    assert facts["shortcuts"][0]["roc_auc"] > 0.75 and facts["groups"]["pairs_inside"] + len(false) >= len(pairs)


def test_the_corners_are_told_apart_and_a_letter_in_one_is_a_shortcut():
    images = [np.zeros((80, 100, 3), np.uint8) for _ in range(8)]
    for image in images[:4]:
        image[2:8, 2:8] = 255  # in the square of 10 pixels at the upper left
        image[-11, -11] = 255  # in none
    means = corner_means(images)
    assert means["upper left corner"].tolist() == pytest.approx([0.36 * 255] * 4 + [0] * 4)
    assert not any(means[name].any() for name in ("upper right corner", "lower left corner", "lower right corner"))
    rows = shortcuts(np.repeat([1, 0], 4), means, "hemorrhage")
    assert rows[0]["name"] == "upper left corner" and rows[0]["roc_auc"] == 1 and rows[0]["warning"]
