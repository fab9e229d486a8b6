"""What anyone should know of a data set of head-CT slices before training on it.

    duplicates    the same slice twice; worst, with two different labels
    shortcuts     what tells the label although nobody looks at the brain
    odd images    of another size, coloured, transparent, blank, unreadable

Nothing is decided here: the audit proposes, a person looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from tinyresnet.files import write_csv
from tinyresnet.ich.dataset import Dataset, crop_to_head
from tinyresnet.ich.duplicates import SAME, Pair, find_pairs, join
from tinyresnet.ich.metadata import METADATA, metadata_features
from tinyresnet.ich.report import DISCLAIMER
from tinyresnet.images import resize
from tinyresnet.metrics import binary_measures
from tinyresnet.page import Page

Array = NDArray

WARN = 0.65  # ROC-AUC of a number that knows nothing of the brain
SHOWN, NEXT = 40, 8  # pairs with pictures on the page: found, and the most alike of those below SAME
COLOURED = 16  # difference between the channels of a pixel, of 255; 5 % of such pixels make a coloured image
DIRECTION = {True: "larger", False: "smaller"}


def audit(dataset: Dataset, images: Sequence[Array], everything: Dataset,
          progress: Callable[[Sequence], Iterable] = iter) -> dict:
    """All numbers, as JSON can hold them. everything: the dataset before unreadable images left it.

    Shapes: images[i] (H, W, 3) uint8 is dataset.paths[i].
    """
    names = names_of(dataset)
    pairs = [_pair_facts(pair, names, dataset) for pair in find_pairs(images, progress)]
    found = [pair for pair in pairs if pair["correlation"] >= SAME]
    features = np.array([metadata_features(path, image) for path, image in zip(dataset.paths, images)])  # (n, metadata)
    _, sizes = np.unique(features[:, :2], axis=0, return_counts=True)
    negative, positive = dataset.classes
    return {"source": str(dataset.source), "images": len(images), "sizes": len(sizes),
            "classes": {negative: int((dataset.labels == 0).sum()), positive: int(dataset.labels.sum())},
            "same": SAME, "pairs": found, "different_labels": sum(p["labels"][0] != p["labels"][1] for p in found),
            "next": [pair for pair in pairs if pair["correlation"] < SAME][:NEXT],
            "groups": group_facts(everything, found),
            "shortcuts": shortcuts(dataset.labels, dict(zip(METADATA, features.T)) | corner_means(images), positive),
            "chance": round(0.5 + 3 * chance(dataset.labels), 3),
            "order": file_order(dataset), "sizes_by_class": size_facts(dataset, features),
            "odd": {"unreadable": [str(reason) for _, reason in dataset.skipped], **odd_images(names, images, features)}}


def corner_means(images: Sequence[Array]) -> dict[str, Array]:
    """The brightness of the four corners, where panels of a figure have their letters, by name: (n,) each, 0..255.

    Squares of an eighth of the shorter side: larger ones reach the head, smaller ones miss a letter.
    """
    means = []
    for image in images:
        side = max(1, min(image.shape[:2]) // 8)
        means.append([image[rows, columns].mean() for rows in (slice(side), slice(-side, None))
                      for columns in (slice(side), slice(-side, None))])
    names = [f"{height} {width} corner" for height in ("upper", "lower") for width in ("left", "right")]
    return dict(zip(names, np.array(means).T))


def names_of(dataset: Dataset) -> list[str]:
    """The id of each image in groups.csv: its file name, with its folder where folders are the classes."""
    if (dataset.source / "labels.csv").exists():
        return [path.name for path in dataset.paths]
    return [f"{path.parent.name}/{path.name}" for path in dataset.paths]


# Duplicates -----------------------------------------------------------------------------------------------------------


def _pair_facts(pair: Pair, names: list[str], dataset: Dataset) -> dict:
    how = "equal pixels" if pair.equal else "mirrored" if pair.mirrored else "same slice"
    both = [pair.first, pair.second]
    return {"rows": both, "ids": [names[i] for i in both], "labels": dataset.labels[both].tolist(),
            "correlation": round(pair.correlation, 4), "how": how if pair.correlation >= SAME else "alike"}


def proposed_groups(everything: Dataset, pairs: Sequence[dict]) -> Array:
    """(n,) the lowest number in the group of each image: joined by the pairs found and by the groups that were known."""
    names = names_of(everything)
    number = {name: i for i, name in enumerate(names)}
    links = [(number[first], number[second]) for first, second in (pair["ids"] for pair in pairs)]
    _, first, inverse = np.unique(everything.groups, return_index=True, return_inverse=True)
    return join(len(names), [*links, *enumerate(first[inverse].tolist())])


def group_facts(everything: Dataset, pairs: Sequence[dict]) -> dict:
    """What the pairs make of the groups; and if groups were known, how far both agree."""
    proposed = proposed_groups(everything, pairs)
    facts: dict[str, object] = {"proposed": len(np.unique(proposed)), "known": None}
    if everything.grouped:
        group = dict(zip(names_of(everything), everything.groups.tolist()))
        across = [pair["ids"] for pair in pairs if group[pair["ids"][0]] != group[pair["ids"][1]]]
        joined = [np.unique(everything.groups[proposed == g]).tolist() for g in np.unique(proposed)]
        facts |= {"known": len(np.unique(everything.groups)), "pairs_inside": len(pairs) - len(across),
                  "pairs_across": across, "straddling": [groups for groups in joined if len(groups) > 1]}
    return facts


def write_groups(path: Path, everything: Dataset, pairs: Sequence[dict]) -> None:
    """Write the proposal, "id,group" as load_dataset reads it; a group is called by its first image."""
    names = names_of(everything)
    write_csv(path, ("id", "group"), zip(names, (names[first] for first in proposed_groups(everything, pairs))))


# Shortcuts ------------------------------------------------------------------------------------------------------------


def separation(labels: Array, values: ArrayLike) -> tuple[float, bool]:
    """ROC-AUC of the values or their opposite, 0.5 to 1, and whether positives have the larger ones. Shapes: (n,), (n,)."""
    auc = binary_measures(labels, rankdata(values, method="dense") / len(labels))["roc_auc"]
    return round(max(auc, 1 - auc), 4), auc >= 0.5


def chance(labels: Array) -> float:
    """Standard deviation of the ROC-AUC of numbers that know nothing: sqrt((n0 + n1 + 1) / (12 n0 n1)), Mann, Whitney."""
    positives = int(labels.sum())
    return float(np.sqrt((len(labels) + 1) / (12 * positives * (len(labels) - positives))))


def shortcuts(labels: Array, features: dict[str, Array], positive: str) -> list[dict]:
    """How well each number alone tells the label, the best first. Shapes: labels (n,), features (n,) each."""
    rows = []
    for name, values in features.items():
        auc, larger = separation(labels, values)
        medians = [float(f"{np.median(values[labels == c]):.4g}") for c in (0, 1)]
        rows.append({"name": name, "roc_auc": auc, "direction": f"{DIRECTION[larger]} if {positive}",
                     "medians": medians, "warning": auc > WARN})
    return sorted(rows, key=lambda row: -row["roc_auc"])


def file_order(dataset: Dataset) -> float:
    """ROC-AUC of the place in the alphabet of names: at 1 all of one class come first, and a split by place holds one."""
    places = np.argsort(np.argsort([path.name for path in dataset.paths], kind="stable"))
    return separation(dataset.labels, places)[0]


# Sizes and odd images -------------------------------------------------------------------------------------------------


def size_facts(dataset: Dataset, features: Array) -> list[list]:
    """A row a class: its name, images, median width and height, smallest and largest sides. Shapes: features (n, k)."""
    rows = []
    for c, name in enumerate(dataset.classes):
        sides = features[dataset.labels == c, :2]
        rows.append([name, len(sides), *np.median(sides, axis=0).tolist(), int(sides.min()), int(sides.max())])
    return rows


def odd_images(names: Sequence[str], images: Sequence[Array], features: Array) -> dict[str, list[str]]:
    """The names of images unlike most, by reason. Shapes: features (n, len(METADATA))."""
    column = dict(zip(METADATA, features.T))
    odd = {"more than four times or less than a quarter of the median area": _far(column["area"], 4),
           "far from the median aspect": _far(column["aspect"], 1.5),
           "coloured, not grey": np.array([np.mean(np.ptp(image, axis=2) > COLOURED) > 0.05 for image in images]),
           "transparency in the file": column["alpha"] == 1,
           "blank": np.array([image.std() < 1 for image in images])}
    return {reason: [names[i] for i in np.flatnonzero(which).tolist()] for reason, which in odd.items()}


def _far(values: Array, factor: float) -> Array:
    return np.abs(np.log(values / np.median(values))) > np.log(factor)


# The page -------------------------------------------------------------------------------------------------------------


def write_page(path: Path, facts: dict, images: Sequence[Array]) -> None:
    """The audit for people, in one file. Shapes: images (H, W, 3) uint8, of which pairs show the heads."""
    page = Page(f"Audit of {facts['source']}")
    page.paragraph(DISCLAIMER)
    if facts["different_labels"]:
        page.paragraph(f"Warning: {facts['different_labels']} pairs show one slice with two different labels, see below.",
                       warning=True)
    page.table(("class", "images"), list(facts["classes"].items()))
    _write_shortcuts(page, facts)
    page.heading("Sizes")
    page.paragraph(f"{facts['sizes']} different sizes among {facts['images']} images, in pixels.")
    page.table(("class", "images", "median width", "median height", "shortest side", "longest side"),
               [(name, *map(_short, row)) for name, *row in facts["sizes_by_class"]])
    page.heading("Odd images")
    page.table(("what", "images", "which"), [(reason, len(names), ", ".join(names[:SHOWN]) + " ..." * (len(names) > SHOWN))
                                             for reason, names in facts["odd"].items()])
    _write_pairs(page, facts, images)
    page.write(path)


def _write_pairs(page: Page, facts: dict, images: Sequence[Array]) -> None:
    pairs = sorted(facts["pairs"], key=lambda pair: pair["labels"][0] == pair["labels"][1])  # stable: most alike first
    page.heading("The same slice twice")
    page.paragraph(f"{len(pairs)} pairs correlate {SAME} or more inside the skull, {facts['different_labels']} of them with "
                   f"different labels. The groups proposed in groups.csv join them ({facts['groups']['proposed']} groups): "
                   "review it, then copy it beside labels.csv or the class folders. Slices of one scan that merely "
                   "resemble each other are not found; add them if you know them.")
    for text in agreement(facts["groups"]):
        page.paragraph(text)
    for pair in pairs[:SHOWN]:
        _write_pair(page, pair, list(facts["classes"]), images)
    if len(pairs) > SHOWN:
        page.paragraph(f"and {len(pairs) - SHOWN} more, in audit.json")
    page.heading("Not quite")
    page.paragraph(f"The most alike pairs below {SAME}, which are in no group: neighbouring slices of one scan, perhaps.")
    for pair in facts["next"]:
        _write_pair(page, pair, list(facts["classes"]), images)


def _write_pair(page: Page, pair: dict, classes: list[str], images: Sequence[Array]) -> None:
    told = [f"{name} ({classes[label]})" for name, label in zip(pair["ids"], pair["labels"])]
    differ = pair["labels"][0] != pair["labels"][1]
    picture = np.hstack([resize(crop_to_head(images[row]), (192, 160)) for row in pair["rows"]])
    page.figure(picture, f"{told[0]} beside {told[1]}", f"{' and '.join(told)}: {pair['how']}, {pair['correlation']:.3f}",
                warning="Different labels!" if differ else "")


def agreement(groups: dict) -> list[str]:
    """How the pairs found agree with the groups that were known, in sentences; none if none were known."""
    if groups["known"] is None:
        return []
    across, straddling = groups["pairs_across"], groups["straddling"]
    return [f"groups.csv knew {groups['known']} groups, and the proposal keeps what it joined. {groups['pairs_inside']} of "
            f"the pairs lie inside one of its groups and {len(across)} across two; {len(straddling)} proposed groups "
            "straddle several of its groups.", *(f"Across: {first} and {second}" for first, second in across[:SHOWN])]


def _write_shortcuts(page: Page, facts: dict) -> None:
    page.heading("Shortcuts")
    page.paragraph("How well a single number tells the label although nobody looks at the brain: ROC-AUC, 0.5 is "
                   f"nothing, 1 everything. With that many images chance alone reaches {facts['chance']:.2f} now and then.")
    worst = [row["name"] for row in facts["shortcuts"] if row["warning"]]
    if worst:
        page.paragraph(f"Warning: above {WARN}: {', '.join(worst)}. A network can be right without seeing a bleed.",
                       warning=True)
    page.table(("number", "ROC-AUC", "direction", *(f"median {name}" for name in facts["classes"]), ""),
               [(row["name"], f"{row['roc_auc']:.3f}", row["direction"], *map(_short, row["medians"]),
                 "warning" * row["warning"]) for row in facts["shortcuts"]])
    if facts["order"] > WARN:
        page.paragraph(f"Warning: the labels follow the order of the files (ROC-AUC {facts['order']:.2f}); shuffle before "
                       "any split.", warning=True)


def _short(value: float) -> float:
    """262.0 as 262."""
    return int(value) if value == int(value) else value
