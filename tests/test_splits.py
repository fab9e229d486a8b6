"""Folds: groups stay whole, classes stay balanced. A single split: the rows of scikit-learn."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tinyresnet.ich.splits import stratified_group_folds, stratified_split

HEAD_CT = Path(__file__).parents[1].parent / "shared" / "data" / "head_ct"
SEEDS = range(10)


def grouped_images(seed):
    """About 200 images in groups of very different size, of which some hold both classes."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 1, 1, 2, 2, 3, 6, 12], size=90)
    groups = np.repeat(np.arange(90), sizes)
    labels = (rng.random(90) < 0.4).astype(int)[groups]
    mixed = np.isin(groups, [3, 4])
    labels[mixed] = rng.integers(0, 2, mixed.sum())
    return labels, groups


def real_images():
    with open(HEAD_CT / "labels.csv", encoding="utf-8") as file:
        labels = np.array([int(row[1]) for row in list(csv.reader(file))[1:]])
    with open(HEAD_CT / "groups.csv", encoding="utf-8") as file:
        groups = np.array([row["group"] for row in csv.DictReader(file)])
    return labels, groups


def worst_imbalance(labels, fold, folds=5):
    """By how many images the count of a class in a fold is off its fair share, at worst."""
    return max(abs(np.sum(labels[fold == f] == c) - np.sum(labels == c) / folds)
               for f in range(folds) for c in np.unique(labels))


def folds_of_sklearn(labels, groups, seed):
    fold = np.empty(len(labels), int)
    splitter = pytest.importorskip("sklearn.model_selection").StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for f, (_, test) in enumerate(splitter.split(labels, labels, groups)):
        fold[test] = f
    return fold


@pytest.mark.parametrize("seed", SEEDS)
def test_no_group_straddles_folds(seed):
    labels, groups = grouped_images(seed)
    fold = stratified_group_folds(labels, groups, 5, np.random.default_rng(seed))
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fold_and_the_rest_hold_both_classes(seed):
    labels, groups = grouped_images(seed)
    fold = stratified_group_folds(labels, groups, 5, np.random.default_rng(seed))
    assert all(set(labels[part]) == {0, 1} for f in range(5) for part in (fold == f, fold != f))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_image_has_a_fold(seed):
    labels, groups = grouped_images(seed)
    assert set(stratified_group_folds(labels, groups, 4, np.random.default_rng(seed))) == {0, 1, 2, 3}


@pytest.mark.parametrize("n, folds", [(200, 5), (203, 5), (37, 3), (20, 10)])
def test_plain_folds_differ_by_at_most_one_image_of_a_class(n, folds):
    labels = (np.random.default_rng(0).permutation(n) < n // 2).astype(int)
    fold = stratified_group_folds(labels, np.arange(n), folds, np.random.default_rng(0))
    assert all(np.ptp(np.bincount(fold[labels == c], minlength=folds)) <= 1 for c in (0, 1))


def test_plain_folds_are_of_equal_size_when_that_is_possible():
    labels = np.array([0] * 103 + [1] * 97)
    fold = stratified_group_folds(labels, np.arange(200), 5, np.random.default_rng(0))
    assert np.bincount(fold).tolist() == [40] * 5


def test_one_class_may_be_rare():
    labels = np.array([1] * 10 + [0] * 190)
    fold = stratified_group_folds(labels, np.arange(200), 5, np.random.default_rng(0))
    assert np.bincount(fold[:10]).tolist() == [2] * 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rare_class_counts_as_much_as_a_common_one(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), rng.integers(5, 16, 40))
    labels = np.zeros(groups.size, int)
    for group in range(0, 40, 2):
        labels[np.flatnonzero(groups == group)[:rng.integers(1, 3)]] = 1  # one or two among five to fifteen
    fold = stratified_group_folds(labels, groups, 5, rng)
    assert np.ptp(np.bincount(fold[labels == 1])) <= 3  # without the division by n[c] it reaches 7


def test_the_balance_is_at_least_that_of_sklearn():
    ours, theirs = [], []
    for seed in SEEDS:
        labels, groups = grouped_images(seed)
        ours.append(worst_imbalance(labels, stratified_group_folds(labels, groups, 5, np.random.default_rng(seed))))
        theirs.append(worst_imbalance(labels, folds_of_sklearn(labels, groups, seed)))
    assert np.mean(ours) <= np.mean(theirs), (ours, theirs)


def test_the_same_seed_gives_the_same_folds():
    first, second = (stratified_group_folds(*grouped_images(0), 5, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_other_folds():
    first, second = (stratified_group_folds(*grouped_images(0), 5, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.mean(first != second) > 0.5


def test_repeated_splits_from_one_generator_differ():
    rng = np.random.default_rng(0)
    first, second = (stratified_group_folds(*grouped_images(0), 5, rng) for _ in range(2))
    assert np.mean(first != second) > 0.5


def test_groups_may_have_names():
    labels, groups = grouped_images(0)
    named = np.array([f"patient {group:03d}" for group in groups])
    by_name, by_number = (stratified_group_folds(labels, g, 5, np.random.default_rng(0)) for g in (named, groups))
    np.testing.assert_array_equal(by_name, by_number)


def test_a_group_larger_than_a_fair_fold_has_a_fold_to_itself_as_far_as_it_can():
    labels = np.array([0] * 60 + [0, 1] * 20)
    groups = np.append(np.zeros(60, int), np.arange(1, 41))
    fold = stratified_group_folds(labels, groups, 4, np.random.default_rng(0))
    assert np.sum(labels[fold == fold[0]] == 0) == 60  # no further normal image joins the 60


@pytest.mark.parametrize("labels, groups, folds, message", [
    ([0, 1, 0, 1], [0, 1, 2, 3], 1, "at least 2 folds, got 1"),
    ([0, 0, 0], [0, 1, 2], 2, "two classes, got 1"),
    ([], [], 2, "two classes, got 0"),
    ([0, 0, 0, 1], [0, 1, 2, 2], 2, "at least 2 groups of class 1.*got 1 images in 1 groups"),
    ([0, 0, 1, 1, 1], [0, 1, 2, 2, 2], 2, "at least 2 groups of class 1.*got 3 images in 1 groups"),
    ([0, 1, 0, 1], [0, 0, 1, 1], 3, "at least 3 groups of class 0.*2 groups; use fewer folds"),
    ([0, 1, 0, 1], [0, 1, 2, 3], 3, "at least 3 images of class 0, one for each fold, got 2; use"),
    ([0, 1], [0, 1, 2], 2, "one group an image"),
    ([[0, 1]], [[0, 1]], 2, "one group an image")])
def test_what_cannot_be_divided_is_refused_with_the_numbers(labels, groups, folds, message):
    with pytest.raises(ValueError, match=message):
        stratified_group_folds(labels, groups, folds, np.random.default_rng(0))


@pytest.mark.shared
@pytest.mark.skipif(not HEAD_CT.is_dir(), reason=f"{HEAD_CT} is not there")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_real_slices_are_divided_within_one_image_of_an_even_split(seed):
    labels, groups = real_images()
    fold = stratified_group_folds(labels, groups, 5, np.random.default_rng(seed))
    assert worst_imbalance(labels, fold) <= 1  # of 20 images a class in each fold


@pytest.mark.shared
@pytest.mark.skipif(not HEAD_CT.is_dir(), reason=f"{HEAD_CT} is not there")
def test_the_real_slices_are_divided_as_evenly_as_by_sklearn():
    labels, groups = real_images()
    ours = [worst_imbalance(labels, stratified_group_folds(labels, groups, 5, np.random.default_rng(seed)))
            for seed in SEEDS]
    theirs = [worst_imbalance(labels, folds_of_sklearn(labels, groups, seed)) for seed in SEEDS]
    assert np.mean(ours) <= np.mean(theirs), (ours, theirs)


# One split -------------------------------------------------------------------------------------------------------------


def mixed_labels(seed):
    """Up to 300 images of two to four classes, some rare, and a test fraction; both parts have room for all."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 5))
    labels = rng.permutation(np.append(np.repeat(np.arange(classes), 2),
                                       rng.choice(classes, rng.integers(20, 290), p=rng.dirichlet(np.ones(classes)))))
    return labels, rng.choice([0.15, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.8])


@pytest.mark.parametrize("seed", range(40))
def test_the_split_is_that_of_sklearn_row_by_row(seed):
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    for case in range(10 * seed, 10 * seed + 10):
        labels, fraction = mixed_labels(case)
        expected = split(np.arange(labels.size), test_size=fraction, stratify=labels, random_state=case)
        for rows, theirs in zip(stratified_split(labels, fraction, case), expected):
            np.testing.assert_array_equal(rows, theirs, f"case {case}")


def test_rounding_that_costs_sklearn_a_random_number_costs_us_one():
    labels = np.repeat([0, 1, 2], [64, 64, 78])  # of the 103 to test, class 0 gets 32 / 103 * 103, a hair below 32
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    for seed in range(5):
        expected = split(np.arange(206), test_size=0.5, stratify=labels, random_state=seed)
        np.testing.assert_array_equal(stratified_split(labels, 0.5, seed), expected)


def test_the_split_most_notebooks_make_has_the_rows_that_were_recorded():
    train, test = stratified_split([1] * 100 + [0] * 100, 0.2, seed=42)  # by scikit-learn 1.9.1
    assert train.tolist()[:10] == [154, 75, 178, 0, 58, 85, 116, 143, 173, 157]
    assert test.tolist() == [
        137, 40, 95, 96, 123, 4, 129, 80, 61, 186, 7, 97, 101, 27, 191, 114, 71, 152, 187, 34, 171, 47, 22, 6, 43, 72, 11,
        184, 33, 120, 36, 192, 174, 182, 160, 102, 163, 151, 32, 121]


def test_the_rows_of_both_parts_are_all_rows_once():
    assert sorted(np.concatenate(stratified_split(*mixed_labels(1), 1))) == list(range(mixed_labels(1)[0].size))


def test_eighty_twenty_of_the_papers_slices_tests_twenty_of_each_class():
    labels = np.repeat([1, 0], 100)
    _, test = stratified_split(labels, 0.2, seed=7)
    assert np.bincount(labels[test]).tolist() == [20, 20]


def test_another_seed_gives_another_split():
    first, second = (stratified_split(np.arange(200) % 2, 0.2, seed)[1] for seed in (1, 2))
    assert len(set(first) & set(second)) < 20


def test_a_split_leaves_the_global_random_numbers_alone():
    before = np.random.get_state()[1].copy()
    stratified_split(np.arange(20) % 2, 0.2, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("labels, fraction, message", [
    ([0, 1, 0, 1], 1.0, "between 0 and 1, got .*1.0"), ([0, 1, 0, 1], 0, "between 0 and 1"),
    ([[0, 1]], 0.5, r"expected labels \(n,\).*got \(1, 2\)"), ([0, 0, 0, 1], 0.5, r"two images.*got classes of \[3, 1\]"),
    ([0, 1] * 5, 0.05, "room for every class in both parts.*parts of 9 and 1"), ([0, 1] * 5, 0.9, "parts of 1 and 9"),
    ([], 0.2, "parts of 0 and 0")])
def test_a_split_that_cannot_be_is_refused_with_the_numbers(labels, fraction, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(labels, fraction, 0)
