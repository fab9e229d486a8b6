"""Dividing images into folds so that no patient is in the training and the test part at once.

Two slices of one head resemble each other more than two heads do. If one of them trains and the other tests, the
network is asked about somebody it has met, and the accuracy says little about the next patient.

The paper and most notebooks divide once and by image: `stratified_split` repeats such a split, to compare with theirs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray


def stratified_group_folds(labels: ArrayLike, groups: ArrayLike, folds: int, rng: np.random.Generator) -> Array:
    """The fold, 0 to folds - 1, of each image: whole groups stay together, and folds have about equal class counts.

    Greedy: groups in random order, the largest first, each to the fold f where it adds least to the unevenness

        sum over folds f, classes c of (n[f, c] / n[c])**2,     n[f, c] images of class c in fold f so far,

    which is smallest when every class is spread evenly. Large groups go first because small ones can still level out
    what they upset. With groups=np.arange(n) this is plain stratified k-fold, and class counts differ by one at most.

    Shapes: labels (n,), groups (n,) of any kind -> (n,). Every fold, and all others together, contain every class.
    Raises ValueError if that cannot be: fewer than two classes or folds, or a class with fewer images or groups than
    folds.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    if labels.ndim != 1 or labels.shape != groups.shape:
        raise ValueError(f"expected labels (n,) and one group an image, got {labels.shape} and {groups.shape}")
    classes, of_class = np.unique(labels, return_inverse=True)
    _, of_group = np.unique(groups, return_inverse=True)
    members = np.zeros((of_group.max(initial=-1) + 1, classes.size), dtype=np.int64)  # (groups, classes)
    np.add.at(members, (of_group, of_class), 1)
    _check_enough(classes, members, folds)
    fold_of_group = _assign(members, folds, rng)
    fold = fold_of_group[of_group]  # (n,)
    for f in range(folds):
        missing = np.setdiff1d(classes, labels[fold == f])
        if missing.size:
            raise ValueError(f"fold {f} of {folds} got no image of class {missing[0]}, expected both classes in every "
                             "fold; the groups are too large to be spread, use fewer folds")
    return fold


def _check_enough(classes: Array, members: Array, folds: int) -> None:
    if folds < 2:
        raise ValueError(f"expected at least 2 folds, got {folds}")
    if classes.size < 2:
        raise ValueError(f"expected images of two classes, got {classes.size} ({', '.join(map(str, classes))})")
    for name, column in zip(classes, members.T):
        if np.count_nonzero(column) < folds:
            images = members.sum(axis=1).max() == 1  # every image is its own group
            have = f"{column.sum()}" if images else f"{column.sum()} images in {np.count_nonzero(column)} groups"
            raise ValueError(f"expected at least {folds} {'images' if images else 'groups'} of class {name}, one for each "
                             f"fold, got {have}; use fewer folds")


def _assign(members: Array, folds: int, rng: np.random.Generator) -> Array:
    """The fold of each group. Shapes: members (groups, classes) counts images -> (groups,)."""
    of_class = members.sum(axis=0)  # (classes,)
    counts = np.zeros((folds, members.shape[1]))
    fold_of_group = np.empty(len(members), dtype=np.int64)
    shuffled = rng.permutation(len(members))
    largest_first = shuffled[np.argsort(-members[shuffled].sum(axis=1), kind="stable")]
    for group in largest_first:
        added = ((2 * counts + members[group]) * members[group] / of_class ** 2).sum(axis=1)  # (folds,): to the sum
        best = np.lexsort((counts.sum(axis=1), added))[0]  # of equally good folds the one with fewest images
        counts[best] += members[group]
        fold_of_group[group] = best
    return fold_of_group


def stratified_split(labels: ArrayLike, test_fraction: float, seed: int) -> tuple[Array, Array]:
    """(train_rows, test_rows): one split by image, every class divided alike, and the rows that scikit-learn draws in

        train_test_split(np.arange(n), test_size=test_fraction, stratify=labels, random_state=seed)

    The test part has ceil(test_fraction n) images. Slices of one scan may be in both parts: the paper's split, for
    comparison with published figures. Its seed is not published, and another seed gives another accuracy.

    The same rows need the same random numbers, those of NumPy's old RandomState; this is its only use here.

    Shapes: labels (n,) -> (n - tests,), (tests,), in random order.
    Raises ValueError unless every class has two images and both parts have room for an image of each.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not 0 < test_fraction < 1:
        raise ValueError(f"expected labels (n,) and a test fraction between 0 and 1, got {labels.shape}, {test_fraction}")
    classes, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    tests = math.ceil(test_fraction * labels.size)
    if counts.min(initial=2) < 2 or min(tests, labels.size - tests) < max(classes.size, 1):
        raise ValueError(f"expected two images of each class, and room for every class in both parts, got classes of "
                         f"{counts.tolist()} images and parts of {labels.size - tests} and {tests}")
    random = np.random.RandomState(seed)
    train_counts = _shares(counts, labels.size - tests, random)
    _shares(counts - train_counts, tests, random)  # all the rest, but where that was rounded down it costs a random number
    mixed = [random.permutation(np.flatnonzero(of_class == c)) for c in range(classes.size)]
    train = np.concatenate([members[:count] for members, count in zip(mixed, train_counts)])
    test = np.concatenate([members[count:] for members, count in zip(mixed, train_counts)])
    return random.permutation(train), random.permutation(test)


def _shares(counts: Array, total: int, random: np.random.RandomState) -> Array:
    """How many of `total` images each class gives: its exact share without the fraction; what is missing then goes to
    the largest fractions, one each, in random order where they are equal. Shapes: counts (classes,) -> (classes,).
    """
    exact = counts / counts.sum() * total
    shares = np.floor(exact).astype(np.int64)
    fractions = exact - shares
    for fraction in np.unique(fractions)[::-1]:
        tied, missing = np.flatnonzero(fractions == fraction), total - shares.sum()
        if missing:
            shares[random.choice(tied, min(tied.size, missing), replace=False)] += 1
    return shares
