"""Dividing images into folds so that no patient is in the training and the test part at once.

Two slices of one head resemble each other more than two heads do. If one of them trains and the other tests, the
network is asked about somebody it has met, and the accuracy says little about the next patient.
"""

from __future__ import annotations

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
