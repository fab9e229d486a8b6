"""Measures against scikit-learn, on random labels with ties and weights, and at the edges."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from tinyresnet.metrics import (MEASURES, binary_measures, clopper_pearson, confusion_matrix, roc_curve,
                                with_intervals)

SEEDS = range(12)


def case(seed, n=60):
    """Labels, probabilities and weights; every second seed has many ties, some of them at the threshold itself."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    probabilities = np.clip(0.25 * labels + rng.random(n) * 0.75, 0, 1)
    if seed % 2:
        probabilities = np.round(probabilities * 8) / 8
    return labels, probabilities, rng.random(n) * (rng.random(n) > 0.2)


def measures_of_sklearn(labels, probabilities, weights=None):
    called = (probabilities >= 0.5).astype(int)
    return {
        "accuracy": sk.accuracy_score(labels, called, sample_weight=weights),
        "sensitivity": sk.recall_score(labels, called, sample_weight=weights),
        "specificity": sk.recall_score(labels, called, pos_label=0, sample_weight=weights),
        "precision": sk.precision_score(labels, called, sample_weight=weights, zero_division=0),
        "f1": sk.f1_score(labels, called, sample_weight=weights, zero_division=0),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called, sample_weight=weights),
        "roc_auc": sk.roc_auc_score(labels, probabilities, sample_weight=weights),
    }


# confusion_matrix -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_confusion_matrix_is_that_of_sklearn(seed):
    labels, probabilities, _ = case(seed)
    called = probabilities >= 0.5
    np.testing.assert_array_equal(confusion_matrix(labels, called), sk.confusion_matrix(labels, called))


def test_rows_of_the_confusion_matrix_are_true_classes():
    np.testing.assert_array_equal(confusion_matrix([0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 1]), [[2, 1], [1, 3]])


def test_the_confusion_matrix_of_one_class_is_still_two_by_two():
    np.testing.assert_array_equal(confusion_matrix([1, 1], [1, 0]), [[0, 0], [1, 1]])


@pytest.mark.parametrize("labels, predictions, message", [
    ([0, 1], [0], "one prediction a label"), ([0, 2], [0, 1], "expected labels"), ([0, 1], [0, 0.5], "predictions"),
    ([], [], "expected labels"), ([[0, 1]], [[0, 1]], "expected labels")])
def test_what_is_not_a_pair_of_classes_is_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(labels, predictions)


# binary_measures ------------------------------------------------------------------------------------------------------


def test_the_measures_come_in_the_order_of_the_report():
    labels, probabilities, _ = case(0)
    assert tuple(binary_measures(labels, probabilities)) == MEASURES == (
        "accuracy", "sensitivity", "specificity", "precision", "f1", "balanced_accuracy", "roc_auc")


def test_the_measures_of_a_case_worked_by_hand():
    # called positive: 0.9, 0.6, 0.5 -> TP 2, FP 1, FN 1, TN 2; pairs won by positives: 3 + 1.5 + 2 of 9, one tied
    measures = binary_measures([1, 0, 1, 1, 0, 0], [0.9, 0.6, 0.5, 0.4, 0.4, 0.1])
    expected = {"accuracy": 4 / 6, "sensitivity": 2 / 3, "specificity": 2 / 3, "precision": 2 / 3, "f1": 2 / 3,
                "balanced_accuracy": 2 / 3, "roc_auc": 6.5 / 9}
    assert measures == pytest.approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_measures_are_those_of_sklearn(seed):
    labels, probabilities, _ = case(seed)
    assert binary_measures(labels, probabilities) == pytest.approx(measures_of_sklearn(labels, probabilities))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_weighted_measures_are_those_of_sklearn(seed):
    labels, probabilities, weights = case(seed)
    expected = measures_of_sklearn(labels, probabilities, weights)
    assert binary_measures(labels, probabilities, weights) == pytest.approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_sets_of_weights_give_what_each_gives_alone(seed):
    labels, probabilities, _ = case(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (5, labels.size))
    together = binary_measures(labels, probabilities, weights)
    for b, row in enumerate(weights):
        assert {name: values[b] for name, values in together.items()} == pytest.approx(
            binary_measures(labels, probabilities, row))


def test_many_sets_of_weights_give_one_value_each():
    labels, probabilities, _ = case(0)
    measures = binary_measures(labels, probabilities, np.ones((3, labels.size)))
    assert {values.shape for values in measures.values()} == {(3,)}


def test_without_a_second_axis_of_weights_the_values_are_plain_floats():
    labels, probabilities, weights = case(0)
    assert {type(value) for value in binary_measures(labels, probabilities, weights).values()} == {float}


def test_a_weight_of_two_is_the_image_twice():
    labels, probabilities, _ = case(1)
    weights = np.random.default_rng(0).integers(0, 3, labels.size)
    repeated = binary_measures(labels.repeat(weights), probabilities.repeat(weights))
    assert binary_measures(labels, probabilities, weights) == pytest.approx(repeated)


def test_a_probability_at_the_threshold_is_called_positive():
    assert binary_measures([0, 1], [0.2, 0.5])["sensitivity"] == 1


def test_the_threshold_can_be_chosen():
    assert binary_measures([0, 1], [0.2, 0.4], threshold=0.3)["accuracy"] == 1


def test_the_threshold_does_not_touch_the_roc_auc():
    labels, probabilities, _ = case(1)
    low, high = (binary_measures(labels, probabilities, threshold=t)["roc_auc"] for t in (0.1, 0.9))
    assert low == high


def test_exchanging_the_classes_keeps_the_roc_auc():
    labels, probabilities, _ = case(1)
    exchanged = binary_measures(1 - labels, 1 - probabilities)["roc_auc"]
    assert exchanged == pytest.approx(binary_measures(labels, probabilities)["roc_auc"])


def test_equal_probabilities_have_a_roc_auc_of_one_half():
    assert binary_measures([0, 1, 1], [0.3, 0.3, 0.3])["roc_auc"] == 0.5


def test_precision_and_f1_are_zero_when_nothing_is_called_positive():
    measures = binary_measures([0, 1], [0.1, 0.2])
    assert (measures["precision"], measures["f1"]) == (0, 0)


@pytest.mark.parametrize("label, absent", [
    (0, {"sensitivity", "f1", "balanced_accuracy", "roc_auc"}), (1, {"specificity", "balanced_accuracy", "roc_auc"})])
@pytest.mark.parametrize("probabilities", [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]])
def test_what_needs_an_absent_class_is_not_a_number(label, absent, probabilities):
    measures = binary_measures([label, label], probabilities)
    assert {name for name, value in measures.items() if math.isnan(value)} == absent


def test_a_class_without_weight_counts_as_absent():
    measures = binary_measures([0, 1, 1], [0.1, 0.9, 0.3], weights=[0, 1, 1])
    assert math.isnan(measures["specificity"]) and measures["sensitivity"] == 0.5


def test_no_weight_at_all_leaves_no_accuracy():
    assert math.isnan(binary_measures([0, 1], [0.1, 0.9], weights=[0, 0])["accuracy"])


@pytest.mark.parametrize("labels, probabilities, weights, message", [
    ([0, 1], [0.5], None, "one probability a label"), ([0, 1], [0.5, math.nan], None, "1 NaN"),
    ([0, 1], [-3.0, 4.0], None, "within 0..1, got -3 to 4"), ([0, 1], [0.1, 0.2], [1, 2, 3], "expected weights"),
    ([0, 1], [0.1, 0.2], [1, -1], "weights >= 0"), ([0, 1], [0.1, 0.2], [1, math.nan], "finite weights"),
    ([0, 1], [0.1, 0.2], 1.0, "expected weights"), ([0, 3], [0.1, 0.2], None, "expected labels")])
def test_wrong_arguments_are_refused_with_what_was_expected(labels, probabilities, weights, message):
    with pytest.raises(ValueError, match=message):
        binary_measures(labels, probabilities, weights)


# roc_curve ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_roc_curve_is_that_of_sklearn(seed, which):
    labels, probabilities, _ = case(seed)
    expected = sk.roc_curve(labels, probabilities, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(labels, probabilities)[which], expected[which])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_area_under_the_roc_curve_is_the_roc_auc(seed):
    labels, probabilities, _ = case(seed)
    fpr, tpr, _ = roc_curve(labels, probabilities)
    assert sk.auc(fpr, tpr) == pytest.approx(binary_measures(labels, probabilities)["roc_auc"])


def test_equal_probabilities_are_one_step_of_the_curve():
    fpr, tpr, thresholds = roc_curve([0, 1, 1], [0.3, 0.3, 0.3])
    assert (fpr.tolist(), tpr.tolist(), thresholds.tolist()) == ([0, 1], [0, 1], [math.inf, 0.3])


@pytest.mark.parametrize("label", [0, 1])
def test_a_roc_curve_of_one_class_is_refused(label):
    with pytest.raises(ValueError, match=f"both classes, got 2 of class {label}"):
        roc_curve([label, label], [0.1, 0.2])


# with_intervals -------------------------------------------------------------------------------------------------------


def grouped_case(n=200, repeats=5, size=2):
    rng = np.random.default_rng(0)
    groups = np.arange(n) // size
    labels = groups % 2
    noise = rng.normal(size=(repeats, n)) * 0.5 + rng.normal(size=groups.max() + 1)[groups]
    return labels, 1 / (1 + np.exp(-(2 * labels - 1 + noise))), groups


def test_the_value_is_the_mean_over_repeats():
    labels, probabilities, groups = grouped_case()
    expected = np.mean([sk.roc_auc_score(labels, row) for row in probabilities])
    assert with_intervals(labels, probabilities, groups, draws=10)["roc_auc"]["value"] == pytest.approx(expected)


def test_every_measure_has_a_value_within_its_interval():
    result = with_intervals(*grouped_case())
    assert tuple(result) == MEASURES
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in result.values()), result


def test_the_interval_is_that_of_a_plain_loop_over_draws():
    labels, probabilities, groups = grouped_case(n=40, repeats=3)
    rng = np.random.default_rng(7)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(500):
        drawn = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        values.append(np.mean([sk.roc_auc_score(labels[drawn], row[drawn]) for row in probabilities]))
    auc = with_intervals(labels, probabilities, groups)["roc_auc"]
    # the two use different random draws; the quantiles of 500 draws scatter by about 0.01 here
    np.testing.assert_allclose([auc["low"], auc["high"]], np.quantile(values, [0.025, 0.975]), atol=0.02)


def test_images_of_a_group_are_drawn_together():
    labels, probabilities, groups = grouped_case(size=10)
    grouped, alone = (with_intervals(labels, probabilities, g)["accuracy"] for g in (groups, None))
    width = grouped["high"] - grouped["low"]
    assert width > 1.5 * (alone["high"] - alone["low"])  # ten resembling images are worth far fewer


def test_an_accuracy_of_independent_images_has_about_the_exact_interval():
    labels = np.arange(200) % 2
    probabilities = np.where(np.arange(200) < 160, labels, 1 - labels).astype(float)  # 160 of 200 right
    accuracy = with_intervals(labels, probabilities, None)["accuracy"]
    np.testing.assert_allclose([accuracy["low"], accuracy["high"]], clopper_pearson(160, 200), atol=0.01)


def test_equal_repeats_give_the_interval_of_one():
    labels, probabilities, groups = grouped_case()
    one, five = (with_intervals(labels, rows, groups) for rows in (probabilities[0], probabilities[[0] * 5]))
    for name in MEASURES:
        assert five[name] == pytest.approx(one[name])


def test_within_a_draw_the_measure_is_averaged_over_repeats():
    labels, probabilities, groups = grouped_case()
    opposite = np.stack([probabilities[0], 1 - probabilities[0]])  # where one is right the other is wrong
    accuracy = with_intervals(labels, opposite, groups)["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((0.5, 0.5))


def test_a_higher_level_gives_a_wider_interval():
    wide, narrow = (with_intervals(*grouped_case(), level=level)["f1"] for level in (0.99, 0.8))
    assert wide["low"] < narrow["low"] and narrow["high"] < wide["high"]


def test_the_same_seed_gives_the_same_interval():
    assert with_intervals(*grouped_case(), seed=4) == with_intervals(*grouped_case(), seed=4)


def test_as_many_groups_are_drawn_as_there_are():
    found = with_intervals([0, 1] * 4, [0.5] * 8, None, measures=lambda labels, row, weights: {
        "images": np.float64(8) if weights is None else weights.sum(axis=-1)})
    assert set(found["images"].values()) == {8}


def test_groups_may_have_names():
    labels, probabilities, groups = grouped_case(n=40)
    named = np.array([f"patient {group:03d}" for group in groups])
    assert with_intervals(labels, probabilities, named) == with_intervals(labels, probabilities, groups)


def test_draws_without_a_class_are_left_out():
    # three groups: a third of the draws misses one class, where sensitivity or specificity would be NaN
    result = with_intervals([0, 1, 1], [0.1, 0.9, 0.8], [0, 1, 2])
    assert all(entry == {"value": 1, "low": 1, "high": 1} for name, entry in result.items() if name != "precision")


def test_a_measure_without_its_class_has_no_interval():
    entry = with_intervals([1, 1], [0.1, 0.9], None)["specificity"]
    assert all(math.isnan(entry[key]) for key in ("value", "low", "high"))


def test_other_measures_get_their_intervals_from_the_same_draws():
    def half_accuracy(labels, row, weights):
        return {"half": binary_measures(labels, row, weights)["accuracy"] / 2}

    result = with_intervals(*grouped_case(), measures=half_accuracy)
    accuracy = with_intervals(*grouped_case())["accuracy"]
    assert result["half"] == pytest.approx({key: value / 2 for key, value in accuracy.items()}) and len(result) == 1


def test_a_difference_is_drawn_for_both_methods_at_once():
    labels, rows, groups = grouped_case()
    assert set(with_intervals(labels, rows, groups, less=rows)["f1"].values()) == {0}
    worse = rows + np.where(np.arange(200) < 20, 1 - 2 * labels, 0)  # the first twenty are turned round, if they were right
    ahead, mine, other = (with_intervals(labels, np.clip(a, 0, 1), groups, less=b)["accuracy"]
                          for a, b in ((rows, np.clip(worse, 0, 1)), (rows, None), (worse, None)))
    assert ahead["value"] == pytest.approx(mine["value"] - other["value"]) and ahead["value"] > 0.05
    paired, alone = (entry["high"] - entry["low"] for entry in (ahead, mine))
    assert ahead["low"] > 0 and paired < alone  # both find the same images hard


@pytest.mark.parametrize("options, message", [
    ({"draws": 0}, "draws >= 1"), ({"level": 95}, "level between 0 and 1"), ({"groups": [0, 1]}, "one group an image"),
    ({"probabilities": np.zeros((2, 3))}, "one probability a label"),
    ({"less": np.zeros((2, 40))}, "as many repeats to subtract, 5, got 2")])
def test_a_bootstrap_that_makes_no_sense_is_refused(options, message):
    labels, probabilities, groups = grouped_case(n=40)
    with pytest.raises(ValueError, match=message):
        with_intervals(**{"labels": labels, "probabilities": probabilities, "groups": groups, **options})


# clopper_pearson ------------------------------------------------------------------------------------------------------


def test_thirty_two_of_forty_has_the_interval_in_the_course():
    assert clopper_pearson(32, 40) == pytest.approx((0.644, 0.909), abs=0.0006)  # three printed digits


@pytest.mark.parametrize("successes, n, level", [(32, 40, 0.95), (1, 7, 0.9), (199, 200, 0.99)])
def test_at_the_ends_of_the_interval_what_was_seen_has_half_the_remaining_probability(successes, n, level):
    low, high = clopper_pearson(successes, n, level)

    def probability(p, counts):
        return sum(math.comb(n, k) * p ** k * (1 - p) ** (n - k) for k in counts)

    tails = [probability(low, range(successes, n + 1)), probability(high, range(successes + 1))]
    assert tails == pytest.approx([(1 - level) / 2] * 2)


def test_images_may_be_worth_a_number_that_is_not_whole():
    low, high = clopper_pearson(2.5, 5.5)
    assert clopper_pearson(2, 5)[0] < low < 2.5 / 5.5 < high < clopper_pearson(3, 6)[1]


@pytest.mark.parametrize("successes, end, value", [(0, 0, 0), (10, 1, 1)])
def test_none_and_all_reach_the_end_of_the_scale(successes, end, value):
    assert clopper_pearson(successes, 10)[end] == value


@pytest.mark.parametrize("arguments", [(-1, 10), (11, 10), (0, 0), (5, 10, 1.0), (5, 10, 95)])
def test_a_proportion_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
        clopper_pearson(*arguments)
