"""From answers to numbers: which intervals, whose temperature, what is only exploratory."""

import json

import numpy as np
import pytest
from toy_slices import toy_network, toy_slices

from tinyresnet.calibration import brier, with_temperature
from tinyresnet.ich.analysis import analyse, exploratory
from tinyresnet.ich.experiment import Fold, Outcome, cross_validation, run
from tinyresnet.ich.features import Features
from tinyresnet.ich.recipes import Fit
from tinyresnet.metrics import MEASURES, binary_measures, clopper_pearson, exact_intervals, with_intervals

N = 40
SLICES = toy_slices(N)
PROPORTIONS = ("accuracy", "sensitivity", "specificity", "precision")
REST = tuple(name for name in MEASURES if name not in PROPORTIONS)


def answers(seed):
    """Right for most slices, and of the slices of a scan for all or none."""
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-(2 * SLICES.labels - 1) - rng.normal(0, 1.5, N)[SLICES.groups]))


def outcomes_of(split, repeats, temperatures=(None, None)):
    """Of two folds a repeat; each answers with the seed of its repeat."""
    halves = np.arange(N) < N // 2, np.arange(N) >= N // 2
    return [Outcome(Fold(split, repeat, fold, np.flatnonzero(~half), np.flatnonzero(half)),
                    Fit(answers(repeat)[half], [], None), T)
            for repeat in range(repeats) for fold, (half, T) in enumerate(zip(halves, temperatures))]


# Measures and their intervals -----------------------------------------------------------------------------------------


def test_measures_are_means_over_repeats_with_a_bootstrap_over_scans():
    found = analyse(SLICES, outcomes_of("grouped", 3))["metrics"]
    rows = np.stack([answers(repeat) for repeat in range(3)])
    assert found == {"grouped": with_intervals(SLICES.labels, rows, SLICES.groups)}
    mean = np.mean([binary_measures(SLICES.labels, row)["roc_auc"] for row in rows])
    assert found["grouped"]["roc_auc"]["value"] == pytest.approx(mean)


def test_splits_stand_side_by_side_each_from_its_own_folds():
    both = analyse(SLICES, outcomes_of("grouped", 1) + outcomes_of("plain", 2))
    for part in ("metrics", "calibration", "referral"):
        assert list(both[part]) == ["grouped", "plain"]
        assert both[part]["grouped"] == analyse(SLICES, outcomes_of("grouped", 1))[part]["grouped"]
        assert both[part]["plain"] == analyse(SLICES, outcomes_of("plain", 2))[part]["plain"]


def test_proportions_of_independent_images_have_exact_intervals_and_the_others_a_bootstrap_over_images():
    found = analyse(SLICES, outcomes_of("as_written", 1), independent=True)["metrics"]["as_written"]
    called, labels = answers(0) >= 0.5, SLICES.labels
    counts = {"accuracy": (called == labels, np.full(N, True)), "sensitivity": (called, labels == 1),
              "specificity": (~called, labels == 0), "precision": (labels == 1, called)}
    for name, (good, among) in counts.items():
        k, n = int((good & among).sum()), int(among.sum())
        low, high = clopper_pearson(k, n)
        assert found[name] == {"value": k / n, "low": low, "high": high}, name
    bootstrap = with_intervals(labels, answers(0), None)
    assert {name: found[name] for name in REST} == {name: bootstrap[name] for name in REST}
    assert tuple(found) == MEASURES


def test_where_scans_resemble_each_other_no_interval_is_exact():
    found = analyse(SLICES, outcomes_of("plain", 1))["metrics"]["plain"]
    exact = exact_intervals(SLICES.labels, answers(0))
    for name in PROPORTIONS:
        assert found[name]["value"] == pytest.approx(exact[name]["value"])
        assert found[name]["high"] - found[name]["low"] > exact[name]["high"] - exact[name]["low"], name


def test_from_one_half_on_an_image_is_called_positive():
    found = exact_intervals(np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.5, 0.5, 0.49, 0.9]))
    assert found["sensitivity"]["value"] == 2 / 3 and found["specificity"]["value"] == 1 / 2


def test_a_proportion_of_no_image_has_no_exact_interval():
    found = exact_intervals(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3]))
    assert list(found) == ["accuracy", "sensitivity", "specificity"] and found["sensitivity"]["value"] == 0


def test_only_the_images_that_were_tested_count():
    half = outcomes_of("as_written", 1)[:1]
    rows = half[0].fold.valid_rows
    found = analyse(SLICES, half, independent=True)
    assert found["metrics"]["as_written"]["accuracy"] == exact_intervals(SLICES.labels[rows], answers(0)[rows])["accuracy"]
    assert sum(bin_["images"] for bin_ in found["calibration"]["as_written"]["reliability"]) == len(rows)


def test_everything_fits_into_json():
    found = analyse(SLICES, outcomes_of("grouped", 2, (1.5, 2.0)))
    assert json.loads(json.dumps(found)) == found


# Calibration and referral ---------------------------------------------------------------------------------------------


def test_every_fold_is_cooled_with_its_own_temperature():
    found = analyse(SLICES, outcomes_of("grouped", 2, (0.5, 3.0)) + outcomes_of("plain", 1, (9.0, 9.0)))["calibration"]
    T = np.where(np.arange(N) < N // 2, 0.5, 3.0)
    cooled = [[float(with_temperature(p, t)) for p, t in zip(answers(repeat), T)] for repeat in (0, 1)]
    assert found["grouped"]["temperature"] == pytest.approx(1.75)
    assert found["grouped"]["brier"]["value"] == pytest.approx(brier(SLICES.labels, [answers(0), answers(1)]))
    assert found["grouped"]["brier_with_temperature"]["value"] == pytest.approx(brier(SLICES.labels, cooled))
    assert found["plain"]["temperature"] == 9


def test_a_temperature_of_one_changes_no_score():
    found = analyse(SLICES, outcomes_of("grouped", 1, (1.0, 1.0)))["calibration"]["grouped"]
    assert found["brier_with_temperature"]["value"] == pytest.approx(found["brier"]["value"])


@pytest.mark.parametrize("temperatures", [(None, None), (None, 2.0)])
def test_unless_every_fold_has_a_temperature_there_is_no_score_with_one(temperatures):
    found = analyse(SLICES, outcomes_of("grouped", 1, temperatures))["calibration"]["grouped"]
    assert list(found) == ["brier", "reliability"]


def test_what_referring_would_bring_is_told_for_10_and_20_percent():
    found = analyse(SLICES, outcomes_of("grouped", 1))["referral"]["grouped"]
    assert [band["fraction"] for band in found] == [0.1, 0.2]
    certain = np.sort(np.abs(answers(0) - 0.5))
    assert found[1]["half_width"] == pytest.approx(certain[N // 5])
    left = np.abs(answers(0) - 0.5) >= found[1]["half_width"]
    right = (answers(0) >= 0.5) == SLICES.labels
    assert found[1]["accuracy"]["value"] == pytest.approx(right[left].mean())


# Exploratory ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A recipe, its folds, its result and its variants'."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 2, N, 6)) + rng.normal(size=(N, 6))[SLICES.groups]
    features[..., 5] += 3 * SLICES.labels  # layer4 alone tells
    recipe = Features(toy_network(), features, SLICES.labels)
    plan = cross_validation(SLICES, ["grouped", "plain"], 3, 2, 0)
    outcomes, _ = run(recipe, plan, SLICES, tmp_path_factory.mktemp("run"), 0)
    return recipe, plan, analyse(SLICES, outcomes), exploratory(recipe, SLICES, plan, 0)


def test_every_variant_is_measured_through_the_folds_of_the_recipe(tried):
    recipe, plan, _, found = tried
    assert list(found) == [name for name, _ in recipe.variants()]
    for measures in found.values():
        assert list(measures) == ["grouped", "plain"] and tuple(measures["plain"]) == MEASURES
    auc = {name: measures["grouped"]["roc_auc"]["value"] for name, measures in found.items()}
    assert auc["layer3 alone"] < 0.65 < auc["layer4 alone"], "only the columns of layer4 tell anything"


def test_the_recipe_itself_is_no_variant(tried):
    _, _, result, found = tried
    assert all(measures["grouped"] != result["metrics"]["grouped"] for measures in found.values())


def test_the_temperature_of_a_run_stands_beside_its_score(tried):
    _, _, result, _ = tried
    for calibration in result["calibration"].values():
        assert calibration["temperature"] > 0 and calibration["brier_with_temperature"]["value"] < 0.25


def test_of_independent_images_what_is_left_when_some_are_referred_has_exact_intervals():
    tested = outcomes_of("as_written", 1)[:1]
    (fold, fit, _), = tested
    for entry in analyse(SLICES, tested, independent=True)["referral"]["as_written"]:
        rest = np.abs(fit.probabilities - 0.5) >= entry["half_width"]
        exact = exact_intervals(SLICES.labels[fold.valid_rows][rest], fit.probabilities[rest])
        assert {name: entry[name] for name in ("accuracy", "sensitivity", "specificity")} == {
            name: exact[name] for name in ("accuracy", "sensitivity", "specificity")}
        k, n = int((~rest).sum()), len(rest)
        assert entry["referred"] == dict(zip(("value", "low", "high"), (k / n, *clopper_pearson(k, n))))
