"""Calibration against scikit-learn and scipy, on cases worked by hand, and at the edges."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tinyresnet.calibration import (TEMPERATURES, brier, brier_with_interval, fit_temperature, half_width, is_doubtful,
                                    referred, reliability, with_temperature)
from tinyresnet.metrics import binary_measures, clopper_pearson

SEEDS = range(8)


def case(seed, n=120, sure=1.0):
    """Labels drawn from probabilities, which are then made more (or less) sure; every second seed has many ties."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    labels[:2] = 0, 1
    probabilities = 1 / (1 + np.exp(-sure * z))
    return labels, np.round(probabilities, 1) if seed % 2 else probabilities


def cross_entropy_at(T, labels, probabilities):
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    s = np.where(labels == 1, 1, -1) * np.log(p / (1 - p)) / T
    return np.logaddexp(0, -s).mean()


# Brier score ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_brier_score_is_that_of_sklearn(seed):
    sk = pytest.importorskip("sklearn.metrics")
    labels, probabilities = case(seed)
    weights = np.random.default_rng(seed).random(labels.size)
    expected = [sk.brier_score_loss(labels, probabilities, sample_weight=w) for w in (None, weights)]
    assert [brier(labels, probabilities), brier(labels, probabilities, weights)] == pytest.approx(expected)


def test_always_saying_one_half_has_a_brier_score_of_one_quarter():
    assert brier([0, 1, 1], [0.5] * 3) == 0.25


def test_the_brier_score_of_repeats_is_their_mean():
    labels, rows = [0, 1], [[0.0, 1.0], [0.5, 0.5]]
    assert brier(labels, rows) == 0.125


def test_many_sets_of_weights_give_the_brier_score_of_each():
    labels, probabilities = case(0)
    weights = np.random.default_rng(0).integers(0, 3, (4, labels.size))
    assert brier(labels, probabilities, weights) == pytest.approx([brier(labels, probabilities, w) for w in weights])


def test_the_interval_of_the_brier_score_is_that_of_a_plain_loop_over_draws():
    labels, first = case(0)
    rows, groups = np.array([first, first ** 2]), np.arange(labels.size) // 3
    rng = np.random.default_rng(1)
    values = []
    for _ in range(1500):
        drawn = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 40, 40)])
        values.append(np.mean((rows[:, drawn] - labels[drawn]) ** 2))
    entry = brier_with_interval(labels, rows, groups)
    # different random draws; the quantiles of 1500 draws scatter by about 0.001 here
    np.testing.assert_allclose([entry["low"], entry["high"]], np.quantile(values, [0.025, 0.975]), atol=0.005)


# Reliability ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [3, 8, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_bins_are_those_of_sklearn(seed, bins):
    sk = pytest.importorskip("sklearn.calibration")
    labels, probabilities = case(seed)
    observed, predicted = sk.calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    found = reliability(labels, probabilities, bins)
    np.testing.assert_allclose([[b.observed, b.predicted] for b in found], np.transpose([observed, predicted]))


def test_every_bin_has_the_same_number_of_images():
    assert [b.images for b in reliability(*case(0), bins=8)] == [15] * 8


def test_equal_probabilities_are_in_one_bin():
    found = reliability([0, 1, 0, 1, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.2, 0.9], bins=3)
    assert [(b.images, b.observed) for b in found] == [(5, 0.6), (1, 1.0)]


def test_independent_images_have_the_exact_interval():
    labels, probabilities = case(0)
    for b in reliability(labels, probabilities, bins=4):
        assert (b.low, b.high) == pytest.approx(clopper_pearson(b.observed * 30, 30))


def test_copies_in_a_group_make_no_interval_narrower():
    labels, probabilities = case(0)
    once = reliability(labels, probabilities, 6)
    copied = reliability(labels.repeat(4), probabilities.repeat(4), 6, np.arange(labels.size).repeat(4))
    np.testing.assert_allclose([b[1:] for b in copied], [b[1:] for b in once])


def test_repeats_make_no_interval_narrower():
    labels, probabilities = case(0)
    np.testing.assert_allclose(reliability(labels, [probabilities] * 5, 6), reliability(labels, probabilities, 6))


def test_a_bin_of_one_patient_is_worth_one_image():
    (only,) = reliability([1, 1, 1, 1], [0.6, 0.7, 0.8, 0.9], 1, ["a"] * 4)
    assert (only.low, only.high) == clopper_pearson(1, 1)


def test_groups_of_unequal_size_are_worth_fewer_images_than_there_are_groups():
    (only,) = reliability([1, 1, 1, 0, 0], [0.5] * 5, 1, [0, 0, 0, 1, 2])
    worth = 25 / 11  # (3 + 1 + 1)**2 / (9 + 1 + 1)
    assert (only.low, only.high) == pytest.approx(clopper_pearson(0.6 * worth, worth))


def test_a_bin_of_one_class_still_has_an_interval():
    lowest = reliability(*case(0, n=400), bins=20)[0]
    assert lowest.observed == 0 and lowest.low == 0 and 0.1 < lowest.high < 0.2  # 20 images: 1 - 0.025 ** (1 / 20)


def test_intervals_of_calibrated_predictions_hold_the_truth_though_siblings_share_a_label():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.choice([1, 1, 2, 6], 60))
    held = []
    for _ in range(60):
        z = rng.normal(0, 2, 60)
        labels = (rng.random(60) < 1 / (1 + np.exp(-z))).astype(int)[groups]
        found = reliability(labels, 1 / (1 + np.exp(-z))[groups], 6, groups)
        held += [b.low <= b.predicted <= b.high for b in found]
    assert np.mean(held) >= 0.95  # 0.99; with every image for itself 0.86


def test_less_than_one_bin_is_refused():
    with pytest.raises(ValueError, match="at least one bin, got 0"):
        reliability(*case(0), bins=0)


def test_groups_of_another_number_are_refused():
    with pytest.raises(ValueError, match="one group an image"):
        reliability([0, 1], [0.1, 0.9], 1, [0])


# Temperature ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sure", [0.5, 1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_temperature_has_the_least_cross_entropy(seed, sure):
    labels, probabilities = case(seed, sure=sure)
    best = minimize_scalar(cross_entropy_at, args=(labels, probabilities), bounds=TEMPERATURES, method="bounded",
                           options={"xatol": 1e-7})
    assert fit_temperature(labels, probabilities) == pytest.approx(best.x, rel=1e-4)  # flat at its least: half the digits


def test_the_temperature_of_a_network_three_times_too_sure_is_three():
    assert fit_temperature(*case(0, n=20_000, sure=3)) == pytest.approx(3, rel=0.05)  # two standard errors


def test_one_temperature_is_fitted_to_all_repeats():
    labels, probabilities = case(0)
    rows = np.array([probabilities, probabilities[::-1]])
    assert fit_temperature(labels, rows) == pytest.approx(fit_temperature(np.tile(labels, 2), rows.ravel()))


@pytest.mark.parametrize("probabilities", [[0.1, 0.9], [0.49, 0.51], [0.0, 1.0]])
def test_where_all_are_right_the_temperature_is_the_lowest(probabilities):
    assert fit_temperature([0, 1], probabilities) == TEMPERATURES[0]


def test_where_the_network_is_worse_than_chance_the_temperature_is_the_highest():
    assert fit_temperature([1, 0, 1], [0.1, 0.9, 0.2]) == TEMPERATURES[1]


def test_a_single_certain_error_has_a_finite_temperature():
    T = fit_temperature([0, 1, 1, 0, 1, 0, 1, 0], [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    # all are equally sure, so the best answer is 7 / 8 for each: logit(1 - 1e-7) / T = log(7)
    assert T == pytest.approx(np.log(1e7 - 1) / np.log(7))


def test_a_temperature_of_one_changes_nothing():
    _, probabilities = case(0)
    np.testing.assert_allclose(with_temperature(probabilities, 1), probabilities, rtol=1e-12)  # rounding of log and exp


def test_a_temperature_of_two_halves_the_logit():
    assert with_temperature([[0.9]], 2) == pytest.approx(np.array([[0.75]]))  # odds of 9 become odds of 3


def test_temperature_keeps_the_order_and_the_side():
    labels, probabilities = case(0)
    measures = [binary_measures(labels, p) for p in (probabilities, with_temperature(probabilities, 2.5))]
    assert measures[0] == pytest.approx(measures[1])


def test_probabilities_of_zero_and_one_become_less_sure():
    low, high = with_temperature([0, 1], 4)
    assert 0.01 < low < 0.02 and high == pytest.approx(1 - low)  # 1e-7 ** (1 / 4) = 0.018


@pytest.mark.parametrize("T", [0, -1, np.inf, np.nan])
def test_a_temperature_that_makes_no_sense_is_refused(T):
    with pytest.raises(ValueError, match="temperature above 0"):
        with_temperature([0.5], T)


def test_logits_are_not_taken_for_probabilities():
    with pytest.raises(ValueError, match="within 0..1, got -3 to 4; apply softmax"):
        with_temperature([-3, 4], 1)


# Referral -------------------------------------------------------------------------------------------------------------


def test_the_least_certain_are_referred_and_the_rest_is_measured():
    labels, probabilities = [0, 0, 0, 1, 1], [0.1, 0.2, 0.55, 0.4, 0.9]  # 0.55 and 0.4 are wrong, and least certain
    (entry,) = referred(labels, probabilities, [0.4])
    assert [entry[name]["value"] for name in ("referred", "accuracy", "sensitivity", "specificity")] == [0.4, 1, 1, 1]
    assert entry["fraction"] == 0.4 and entry["half_width"] == pytest.approx(0.3)


def test_without_referral_the_measures_are_those_of_all_images():
    labels, probabilities = case(0)
    (entry,) = referred(labels, probabilities, [0])
    expected = binary_measures(labels, probabilities)
    assert all(entry[name]["value"] == expected[name] for name in ("accuracy", "sensitivity", "specificity"))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.29, 0.9])
@pytest.mark.parametrize("n", [10, 100, 200])
def test_as_many_are_within_the_band_as_the_fraction_allows(n, fraction):
    _, probabilities = case(0, n=n)
    inside = np.count_nonzero(is_doubtful(probabilities, half_width(probabilities, fraction)))
    assert inside == int(round(100 * fraction) * n // 100)


def test_a_later_prediction_is_doubtful_within_the_band_and_not_at_its_edge():
    assert is_doubtful([0.1, 0.3, 0.31, 0.5, 0.69, 0.7], half_width([0.7, 0.5], 0.5)).tolist() == [0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_the_images_does_not_matter(seed):
    labels, probabilities = case(1)  # many ties
    order = np.random.default_rng(seed).permutation(labels.size)
    before, after = (referred(labels[rows], probabilities[rows], [0.15])[0] for rows in (np.arange(labels.size), order))
    assert all(before[name]["value"] == after[name]["value"] for name in ("referred", "accuracy", "specificity"))


def test_equal_probabilities_at_the_edge_of_the_band_all_stay():
    (entry,) = referred([0, 1, 0, 1, 0], [0.5, 0.7, 0.3, 0.9, 0.1], [0.4])  # 0.3 is as uncertain as 0.7
    assert entry["referred"]["value"] == 0.2


def test_where_all_are_equal_nobody_is_referred():
    (entry,) = referred([0, 1], [0.6, 0.6], [0.5])
    assert entry["referred"]["value"] == 0 and entry["accuracy"]["value"] == 0.5


def test_referring_more_of_a_calibrated_network_leaves_fewer_errors():
    accuracies = [entry["accuracy"]["value"] for entry in referred(*case(0, n=400), (0, 0.2, 0.4, 0.6))]
    assert accuracies == sorted(accuracies)


def test_the_values_of_repeats_are_their_means():
    labels, probabilities = case(0)
    rows = [probabilities, probabilities[::-1]]
    both, *single = (referred(labels, p, [0.2])[0] for p in (rows, *rows))
    assert both["half_width"] == pytest.approx(np.mean([entry["half_width"] for entry in single]))
    assert both["accuracy"]["value"] == pytest.approx(np.mean([entry["accuracy"]["value"] for entry in single]))


def test_the_interval_is_that_of_the_observed_band_met_by_other_patients():
    labels, probabilities = case(0)
    groups = np.arange(labels.size) // 3
    kept = ~is_doubtful(probabilities, half_width(probabilities, 0.3))
    rng = np.random.default_rng(1)
    values = []
    for _ in range(1500):
        drawn = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 40, 40)])
        left = drawn[kept[drawn]]
        values.append((np.mean(labels[left] == (probabilities[left] >= 0.5)), 1 - np.mean(kept[drawn])))
    entry = referred(labels, probabilities, [0.3], groups)[0]
    found = [[entry[name][end] for name in ("accuracy", "referred")] for end in ("low", "high")]
    # different random draws; the quantiles of 1500 draws scatter by about 0.005 here
    np.testing.assert_allclose(found, np.quantile(values, [0.025, 0.975], axis=0), atol=0.02)


@pytest.mark.parametrize("fraction", [-0.1, 1, np.nan])
def test_a_fraction_that_makes_no_sense_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction to refer"):
        referred([0, 1], [0.2, 0.8], [fraction])


@pytest.mark.parametrize("function", [brier, reliability, fit_temperature, referred])
@pytest.mark.parametrize("labels, probabilities, message", [
    ([0, 1], [0.5], "one probability a label"), ([0, 2], [0.1, 0.9], "expected labels"), ([0, 1], [-3, 4], "within 0..1"),
    ([0, 1], [0.1, np.nan], "1 NaN"), ([0, 1], np.zeros((1, 1, 2)), r"\(n,\) or \(R, n\)"),
    ([0, 1], np.zeros((0, 2)), r"\(n,\) or \(R, n\)")])
def test_wrong_arguments_are_refused_with_what_was_expected(function, labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        function(labels, probabilities)
