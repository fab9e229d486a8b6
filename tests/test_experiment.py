"""An experiment: which images learn and which test, what is kept of a fold, and what is collected."""

import numpy as np
import pytest
from toy_slices import toy_network, toy_slices

from tinyresnet.calibration import fit_temperature
from tinyresnet.ich import experiment
from tinyresnet.ich.experiment import (INNER_FOLDS, Fold, Outcome, Slices, cross_validation, inner_temperature, keep,
                                       measure, out_of_fold, recall, rng_of, run, siblings)
from tinyresnet.ich.features import Features
from tinyresnet.ich.recipes import Fit, Head, Recipe
from tinyresnet.metrics import MEASURES, binary_measures, exact_intervals, with_intervals

N = 48
SLICES = toy_slices(N)
BOTH_SPLITS = cross_validation(SLICES, ["plain", "grouped"], 4, 2, 0)


def features_of_toys(seed=0):
    """(V, 2, n, C): the classes overlap, and slices of a scan resemble each other."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(2, 2, N, 6)) + rng.normal(size=(N, 6))[SLICES.groups]
    found[..., 0] += 1.5 * SLICES.labels
    return found.astype(np.float32)


@pytest.fixture
def recipe():
    return Features(toy_network(), features_of_toys(), SLICES.labels.copy())


class Told(Recipe):
    """Answers with the number of the fit, and leaves what it was asked."""

    def __init__(self, keeps_backbone=False):
        self.keeps_backbone, self.asked = keeps_backbone, []

    def fit(self, train_rows, valid_rows, rng, *, checkpoint=None, description="training"):
        self.asked.append((train_rows.tolist(), valid_rows.tolist(), rng.random(), checkpoint, description))
        number = float(len(self.asked))
        if checkpoint:
            assert not checkpoint.exists(), "left by another fold"
            checkpoint.write_text("as far as it went")
        return Fit(np.full(len(valid_rows), number / 100), [{"epoch": 1}], Head(np.full((1, 2), number), np.zeros(1)))


# Which images learn and which test ------------------------------------------------------------------------------------


def test_every_image_is_tested_once_a_repeat_and_learns_in_all_other_folds():
    for split in ("plain", "grouped"):
        for repeat in (0, 1):
            folds = [fold for fold in BOTH_SPLITS if (fold.split, fold.repeat) == (split, repeat)]
            assert [fold.fold for fold in folds] == [0, 1, 2, 3]
            assert sorted(row for fold in folds for row in fold.valid_rows) == list(range(N))
            assert all(sorted([*fold.train_rows, *fold.valid_rows]) == list(range(N)) for fold in folds)


def test_no_scan_learns_and_tests_in_a_grouped_fold_and_some_do_in_a_plain_one():
    shared = {split: [np.intersect1d(SLICES.groups[fold.train_rows], SLICES.groups[fold.valid_rows]).size
                      for fold in BOTH_SPLITS if fold.split == split] for split in ("plain", "grouped")}
    assert not any(shared["grouped"]) and all(shared["plain"])


def test_repeats_and_seeds_divide_otherwise_and_the_same_seed_the_same():
    def plan(seed):
        return [fold.valid_rows.tolist() for fold in cross_validation(SLICES, ["grouped"], 4, 2, seed)]

    assert plan(0) == plan(0) and plan(0) != plan(1) and plan(0)[:4] != plan(0)[4:]


def test_splits_come_in_the_order_in_which_they_were_asked_for():
    assert [fold.split for fold in BOTH_SPLITS] == ["plain"] * 8 + ["grouped"] * 8


def test_every_fold_has_random_numbers_of_its_own_which_the_seed_decides():
    folds = [*BOTH_SPLITS, Fold("final", 0, 0, np.arange(N), np.arange(0))]
    numbers = [rng_of(fold, seed).random() for fold in folds for seed in (0, 1)]
    assert len(set(numbers)) == 2 * len(folds)
    assert rng_of(folds[3], 1).random() == numbers[7]


# A run ----------------------------------------------------------------------------------------------------------------


def test_every_fold_is_fitted_once_and_then_all_images(tmp_path):
    recipe = Told()
    outcomes, heads = run(recipe, BOTH_SPLITS, SLICES, tmp_path, 0)
    asked = [(fold.train_rows.tolist(), fold.valid_rows.tolist()) for fold in BOTH_SPLITS] + [(list(range(N)), [])]
    assert [what[:2] for what in recipe.asked] == asked
    assert [outcome.fold for outcome in outcomes] == BOTH_SPLITS
    assert [outcome.fit.probabilities[0] for outcome in outcomes] == [number / 100 for number in range(1, 17)]
    assert [head.weight[0, 0] for head in heads] == [17], "of folds with a backbone of their own there is no head to save"


def test_the_first_head_is_that_of_all_images_and_then_come_the_first_splits_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "inner_temperature", lambda *arguments: None)
    _, heads = run(Told(keeps_backbone=True), BOTH_SPLITS, SLICES, tmp_path, 0)
    assert [head.weight[0, 0] for head in heads] == [17, 1, 2, 3, 4, 5, 6, 7, 8]


def test_the_heads_of_folds_know_nothing_of_what_their_folds_test(recipe, tmp_path):
    plan = cross_validation(SLICES, ["grouped"], 3, 1, 0)
    outcomes, heads = run(recipe, plan, SLICES, tmp_path, 0)
    assert len(heads) == 1 + 3
    for head, outcome in zip(heads[1:], outcomes):
        again = recipe.fit(outcome.fold.train_rows, outcome.fold.valid_rows, np.random.default_rng(0))
        assert (head.weight == again.head.weight).all()
        assert (outcome.fit.probabilities == again.probabilities).all()
    assert (heads[0].weight == recipe.fit(np.arange(N), np.arange(0), np.random.default_rng(0)).head.weight).all()


def test_a_single_fold_is_its_own_final_fit(tmp_path):
    recipe, fold = Told(), Fold("as_written", 0, 0, np.arange(40), np.arange(40, N))
    outcomes, heads = run(recipe, [fold], SLICES, tmp_path, 0)
    assert len(recipe.asked) == 1 and outcomes[0].fold is fold and len(heads) == 1
    assert recipe.asked[0][3] == tmp_path / "checkpoint.npz"


def test_a_fold_has_a_checkpoint_of_its_own_which_goes_when_it_is_done(tmp_path):
    recipe = Told()
    run(recipe, BOTH_SPLITS, SLICES, tmp_path, 0)
    checkpoints = [what[3] for what in recipe.asked]
    assert len(set(checkpoints)) == len(BOTH_SPLITS) + 1
    assert [path for path in checkpoints if path.exists()] == [tmp_path / "checkpoint.npz"]  # of the last; the run ends it


def test_a_finished_fold_is_not_fitted_again(tmp_path):
    run(Told(), BOTH_SPLITS, SLICES, tmp_path, 0)
    (tmp_path / "checkpoint.npz").unlink()
    (tmp_path / "folds" / "plain-1-2.npz").unlink()
    recipe = Told()
    outcomes, _ = run(recipe, BOTH_SPLITS, SLICES, tmp_path, 0)
    assert len(recipe.asked) == 2 and recipe.asked[0][1] == BOTH_SPLITS[6].valid_rows.tolist()
    assert outcomes[5].fit.probabilities[0] == 0.06 and outcomes[6].fit.probabilities[0] == 0.01


def test_what_ran_before_a_fold_does_not_matter_to_it(tmp_path):
    whole, alone = Told(), Told()
    run(whole, BOTH_SPLITS, SLICES, tmp_path, 0)
    (tmp_path / "checkpoint.npz").unlink()
    (tmp_path / "folds" / "grouped-1-3.npz").unlink()
    run(alone, BOTH_SPLITS, SLICES, tmp_path, 0)
    assert [what[:4] for what in alone.asked] == [what[:4] for what in whole.asked[-2:]]


# What is kept ---------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_fold_comes_back_with_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    odd = np.array([0.0, 5e-324, 0.1 + 0.2, np.nextafter(1, 0), 1 / 3])
    history = [{"epoch": 1, "lr": 1e-4 / 3, "train_loss": 0.1 + 0.2, "valid_loss": None}]
    for dtype, temperature in ((np.float32, None), (np.float64, 1 / 3)):
        head = Head(rng.normal(size=(2, 7)).astype(dtype), rng.normal(size=2).astype(dtype))
        keep(tmp_path / "fold.npz", Outcome(BOTH_SPLITS[0], Fit(odd, history, head), temperature))
        fold, fit, T = recall(tmp_path / "fold.npz", BOTH_SPLITS[0])
        assert fold is BOTH_SPLITS[0] and T == temperature and fit.history == history
        for kept, written in zip((fit.probabilities, *fit.head), (odd, *head)):
            assert kept.dtype == written.dtype and kept.tobytes() == written.tobytes()


# The temperature of a fold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["plain", "grouped"])
def test_the_test_part_has_no_say_in_the_temperature(recipe, split):
    fold = next(fold for fold in BOTH_SPLITS if fold.split == split)
    T = inner_temperature(recipe, SLICES, fold, 0)
    assert 0.1 < T < 10, "neither end: something was learned"
    labels = SLICES.labels.copy()
    labels[fold.valid_rows] = 1 - labels[fold.valid_rows]
    recipe.labels = labels
    recipe.features[:, :, fold.valid_rows] = 1e3
    assert inner_temperature(recipe, SLICES._replace(labels=labels), fold, 0) == T
    labels[fold.train_rows[0]] ^= 1
    assert inner_temperature(recipe, SLICES._replace(labels=labels), fold, 0) != T


def test_no_answer_from_which_the_temperature_comes_was_given_by_a_fit_to_its_scan(recipe, monkeypatch):
    asked, fit = [], recipe.fit
    monkeypatch.setattr(recipe, "fit", lambda *arguments: asked.append(arguments[:2]) or fit(*arguments))
    fold = BOTH_SPLITS[8]
    T = inner_temperature(recipe, SLICES, fold, 0)
    assert len(asked) == INNER_FOLDS
    assert sorted(row for _, valid in asked for row in valid) == fold.train_rows.tolist()
    for train, valid in asked:
        assert not np.intersect1d(SLICES.groups[train], SLICES.groups[valid]).size
        assert not np.intersect1d([*train, *valid], fold.valid_rows).size
    answers = np.concatenate([fit(*rows, None).probabilities for rows in asked])
    assert T == pytest.approx(fit_temperature(SLICES.labels[np.concatenate([valid for _, valid in asked])], answers))


def test_where_fits_take_long_there_is_no_temperature():
    recipe = Told()
    assert inner_temperature(recipe, SLICES, BOTH_SPLITS[0], 0) is None and not recipe.asked


def test_a_training_part_too_small_to_be_divided_once_more_has_no_temperature(recipe, tmp_path):
    few = SLICES._replace(groups=np.arange(N) % 6)  # three scans of each class
    plan = cross_validation(few, ["grouped"], 3, 1, 0)
    outcomes, _ = run(recipe, plan, few, tmp_path, 0)
    assert [outcome.temperature for outcome in outcomes] == [None] * 3
    assert all(np.isfinite(outcome.fit.probabilities).all() for outcome in outcomes)


# What is collected ----------------------------------------------------------------------------------------------------


def outcome(split, repeat, fold, rows, probabilities):
    return Outcome(Fold(split, repeat, fold, np.arange(0), np.array(rows)), Fit(np.array(probabilities), [], None))


SIX = [outcome("grouped", 0, 0, [4, 0], [0.4, 0.1]), outcome("plain", 0, 0, [0, 4, 2], [0.9, 0.9, 0.9]),
       outcome("grouped", 0, 1, [2], [0.7]), outcome("grouped", 1, 1, [0, 2], [0.2, 0.3]),
       outcome("grouped", 1, 0, [4], [0.8])]


def test_answers_are_collected_by_image_with_a_row_a_repeat():
    rows, probabilities = out_of_fold(SIX, "grouped")
    assert rows.tolist() == [0, 2, 4] and probabilities.tolist() == [[0.1, 0.7, 0.4], [0.2, 0.3, 0.8]]
    assert out_of_fold(SIX, "plain")[1].tolist() == [[0.9, 0.9, 0.9]]


def test_a_measure_is_the_mean_over_repeats_and_no_image_counts_once_per_repeat():
    slices = Slices(list("abcde"), np.array([0, 1, 1, 0, 1]), np.arange(5), True, ("normal", "hemorrhage"))
    found = measure(slices, SIX)
    assert list(found) == ["grouped", "plain"] and tuple(found["grouped"]) == MEASURES
    for name in MEASURES:
        repeats = [binary_measures([0, 1, 1], answers)[name] for answers in ([0.1, 0.7, 0.4], [0.2, 0.3, 0.8])]
        assert found["grouped"][name]["value"] == pytest.approx(np.mean(repeats))
    twice = [item._replace(fold=item.fold._replace(repeat=repeat)) for repeat in range(9) for item in SIX[1:2]]
    assert measure(slices, twice)["plain"] == found["plain"], "nine repeats of the same say no more than one"


def told(seed):
    """Outcomes of both splits with answers at random."""
    rng = np.random.default_rng(seed)
    return [Outcome(fold, Fit(rng.random(len(fold.valid_rows)), [], None)) for fold in BOTH_SPLITS]


@pytest.mark.parametrize("split", ["plain", "grouped"])
def test_measures_and_differences_of_a_split_are_of_its_own_answers_and_drawn_by_scan(split):
    mine, other = told(0), told(1)
    (_, p), (_, q) = (out_of_fold(outcomes, split) for outcomes in (mine, other))
    assert measure(SLICES, mine)[split] == with_intervals(SLICES.labels, p, SLICES.groups)
    assert measure(SLICES, mine, other)[split] == with_intervals(SLICES.labels, p, SLICES.groups, less=q)
    singly = measure(SLICES, mine, independent=True)[split]
    assert singly["roc_auc"] == with_intervals(SLICES.labels, p, None)["roc_auc"] != measure(SLICES, mine)[split]["roc_auc"]
    assert singly["accuracy"] == exact_intervals(SLICES.labels, p[0])["accuracy"]


def test_siblings_are_counted_among_the_tested():
    slices = SLICES._replace(groups=np.array([0, 0, 1, 1] + list(range(2, N - 2))))
    plan = [Fold("plain", 0, 0, np.array([0, 2, 3, 6, 7]), np.array([1, 4, 5])),
            Fold("grouped", 0, 0, np.arange(4), np.arange(4, 9))]
    assert siblings(slices, plan) == {"plain": pytest.approx(1 / 3), "grouped": 0}
