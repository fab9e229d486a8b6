"""The cases of the report: which they are, who explains them, and by what they are surrounded."""

import io

import numpy as np
import pytest
from PIL import Image
from small_run import small_run, small_slices

from tinyresnet.ich import looks as module
from tinyresnet.ich.experiment import Fold, Outcome
from tinyresnet.ich.looks import NEIGHBOURS, RIGHT, WRONG, drawn, looks, worth_a_look
from tinyresnet.ich.recipes import Fit

NOTE = "Synthetic head-CT phantoms. Research and teaching only, not for diagnosis."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("run"), splits=("grouped", "plain"), repeats=2)


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are left as what would be drawn, and a map is the number of the head that would be asked."""
    monkeypatch.setattr(module, "drawn", lambda draw: draw)
    monkeypatch.setattr(module, "grad_cams", lambda classifier, image, head: {"head": head})
    monkeypatch.setattr(module, "covered", lambda classifier, image, head: head)


def answered(run, probabilities):
    """The run's outcomes, as if these (24,) had been answered in every repeat and split."""
    return [Outcome(fold, fit._replace(probabilities=probabilities[fold.valid_rows])) for fold, fit, _ in run.outcomes]


def names_of(found):
    return [look.title.partition(":")[0] for look in found]


@pytest.fixture
def found(run, undrawn):
    """Rows 0 and 2 are wrong, 2 more surely; the others are right, the surer the later."""
    labels = run.slices.labels
    p = np.where(labels, 0.6, 0.4) + np.where(labels, 1, -1) * np.arange(24) * 0.01
    p[0], p[2] = 0.7, 0.1
    return list(looks(run.classifier, run.slices, run.images, answered(run, p), NOTE))


def test_wrong_ones_come_first_and_the_surest_of_them_before_the_others(found):
    assert names_of(found)[:2] == ["002.png", "000.png"]
    assert [look.right for look in found] == [False] * 2 + [True] * RIGHT


def test_right_ones_are_of_both_classes_and_from_the_surest_to_the_least_sure(found, run):
    numbers = [int(name[:3]) for name in names_of(found)[2:]]
    assert numbers == sorted(numbers, reverse=True) and {23, 21, 1, 3} <= set(numbers)  # ends of both classes
    assert run.slices.labels[numbers].sum() == RIGHT // 2


def test_a_case_tells_its_probability_and_true_label(found):
    assert found[0].title == "002.png: hemorrhage 0.10, true label hemorrhage"
    assert found[0].maps.keywords["probability"] == pytest.approx(0.1) and found[0].maps.keywords["label"] == "hemorrhage"
    assert found[1].title == "000.png: hemorrhage 0.70, true label normal"


def test_each_is_explained_by_the_head_of_the_fold_of_the_first_split_that_tested_it(found, run):
    for look in found:
        row = int(look.title[:3])
        head = look.maps.args[1]["head"]
        fold = run.outcomes[head - 1].fold
        assert look.maps.args[1] == {"head": head, "occlusion": head}
        assert (fold.split, fold.repeat) == ("grouped", 0) and row in fold.valid_rows and row not in fold.train_rows
        np.testing.assert_array_equal(run.classifier.weight[head], run.outcomes[head - 1].fit.head.weight)


def test_neighbours_are_of_other_scans_in_grouped_folds(found):
    for look in found:
        case, neighbours, similarities = look.nearest.args
        assert len(neighbours) == len(similarities) == NEIGHBOURS
        assert case.group not in [near.group for near in neighbours]


def test_neighbours_have_been_learned_from_also_in_plain_folds(run, undrawn):
    """There the sibling may be one of them, which shows what plain folds leak."""
    plain = [outcome for outcome in run.outcomes if outcome.fold.split == "plain"]
    for look in looks(run.classifier, run.slices, run.images, plain, NOTE):
        row = int(look.title[:3])
        fold = next(fold for fold, *_ in plain if row in fold.valid_rows)
        learned = [run.classifier.shown(run.images[i]) for i in fold.train_rows]
        assert all(any(np.array_equal(near.image, image) for image in learned) for near in look.nearest.args[1])


def test_where_only_the_final_head_was_kept_it_explains_and_the_title_says_that_it_knows_the_slice(run, undrawn):
    final = run.classifier._replace(weight=run.classifier.weight[:1], bias=run.classifier.bias[:1])
    found = list(looks(final, run.slices, run.images, run.outcomes, NOTE))
    assert {look.maps.args[1]["head"] for look in found} == {0}
    assert all(look.title.endswith("by the final network, which has learned from this slice") for look in found)


def test_a_single_division_is_its_own_final_fit_and_knows_no_slice_that_it_tests(run, undrawn):
    rows = np.arange(24)
    single = [Outcome(Fold("own_input", 0, 0, rows[:18], rows[18:]), Fit(np.full(6, 0.8), [], None))]
    final = run.classifier._replace(weight=run.classifier.weight[:1], bias=run.classifier.bias[:1])
    found = list(looks(final, run.slices, run.images, single, NOTE))
    assert len(found) == 5 and {int(look.title[:3]) for look in found} <= set(range(18, 24))
    assert not any("has learned" in look.title for look in found)


def test_where_the_truth_is_known_it_is_outlined_at_the_size_of_the_slice(run, undrawn):
    def mask_of(row):
        mask = np.zeros((20, 20), bool)
        mask[5:10, :10] = row >= 3
        return mask

    for look in looks(run.classifier, run.slices, run.images, run.outcomes, NOTE, mask_of):
        mask, (H, W, _) = look.maps.keywords["mask"], look.maps.args[0].shape
        if int(look.title[:3]) < 3:
            assert mask is None, "nothing to outline"
        else:
            assert mask.shape == (H, W) and mask.mean() == pytest.approx(1 / 8, abs=0.03)
            assert mask[int(0.37 * H), int(0.25 * W)] and not mask[int(0.75 * H)].any()


def test_fewer_training_images_than_neighbours_are_all_shown(run, undrawn):
    rows = np.arange(24)
    single = [Outcome(Fold("grouped", 0, 0, rows[:2], rows[2:]), Fit(np.full(22, 0.8), [], None))]
    assert {len(look.nearest.args[1]) for look in looks(run.classifier, run.slices, run.images, single, NOTE)} == {2}


def test_what_the_pictures_are_of_stands_below_each(found):
    assert {picture.keywords["note"] for look in found for picture in (look.maps, look.nearest)} == {NOTE}


@pytest.mark.parametrize("labels, p, expected", [
    ([0, 1], [0.2, 0.9], [1, 0]), ([0, 1], [0.8, 0.4], [0, 1]), ([1, 1, 1], [0.9, 0.6, 0.7], [0, 2, 1]), ([1], [0.5], [0])],
    ids=["no mistakes", "nothing right", "one class right", "one half is positive"])
def test_of_few_cases_each_is_shown_once(labels, p, expected):
    assert worth_a_look(np.array(labels), np.array(p)) == expected


def test_of_many_cases_so_many_are_shown():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 500), rng.random(500)
    shown = worth_a_look(labels, p)
    right = (p >= 0.5) == labels
    assert right[shown].tolist() == [False] * WRONG + [True] * RIGHT
    assert abs(p[shown[:WRONG]] - 0.5).min() >= np.sort(abs(p[~right] - 0.5))[-WRONG]


def test_a_picture_is_a_jpeg_smaller_than_its_png_and_no_wider_than_a_page(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "worth_a_look", lambda labels, p: [3])
    look = next(looks(run.classifier, run.slices, run.images, run.outcomes, NOTE))
    for picture in (look.maps, look.nearest):
        image = Image.open(io.BytesIO(picture))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        assert image.format == "JPEG" and image.width <= 1200 and len(picture) < len(buffer.getvalue()) / 2


def test_a_dollar_in_a_name_begins_no_formula(run, monkeypatch):
    monkeypatch.setattr(module, "worth_a_look", lambda labels, p: [3])
    slices = run.slices._replace(classes=("$x$", "$\\frac$"))
    assert next(looks(run.classifier, slices, run.images, run.outcomes, "$\\nothing$")).maps


def test_the_images_are_as_they_were(run, found):
    for image, expected in zip(run.images, small_slices()[1]):
        np.testing.assert_array_equal(image, expected)


def test_what_cannot_be_drawn_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fails(path):
        path.write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        drawn(fails)
    assert not list(tmp_path.iterdir())
