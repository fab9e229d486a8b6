"""A folder of head-CT images with labels, as a list of files, classes and patients; and the images themselves.

DIR holds one of

    labels.csv        "id, hemorrhage" with 0 or 1; id 0 is 000.png, or id is a file name; the images are in
                      DIR/head_ct, DIR/head_ct/head_ct (as Kaggle packs them) or DIR
    two folders       one a class, each full of images

and may hold groups.csv, "id,group", which names the patient or scan of every image (id of class folders: folder/file).
A mistake in a label costs accuracy and raises no error later on, so nothing doubtful is accepted here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinyresnet.images import ImageFileError, read_image

Array = NDArray
Row = tuple[int, dict[str, str]]  # the row's number as a spreadsheet shows it, and its cells by column

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
NEGATION = re.compile(r"(no|non|not|without)(?![a-z])")  # at the beginning of a folder's name: no_hemorrhage
SHOWN = 5  # mistakes listed in a message; the rest are counted


class DatasetError(ValueError):
    """Images, labels and groups that do not fit together; the message names file and row, and says what to do."""


@dataclass
class Dataset:
    """Image i is the file paths[i] of class labels[i] (1 = positive), from the patient or scan groups[i].

    Shapes: labels (n,) int64, groups (n,). grouped is False if nobody told the groups: then each image is its own.
    """

    paths: list[Path]
    labels: Array
    groups: Array
    grouped: bool
    classes: tuple[str, str]  # negative, positive
    source: Path
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # unreadable images and why

    @property
    def positive(self) -> str:
        return self.classes[1]

    def subset(self, keep: Array) -> Dataset:
        """The images numbered in keep, in that order. Shapes: keep (k,) of int."""
        return replace(self, paths=[self.paths[i] for i in keep], labels=self.labels[keep], groups=self.groups[keep])


def load_dataset(directory: str | Path, *, positive_class: str | None = None, limit: int | None = None,
                 seed: int = 0) -> Dataset:
    """The dataset in `directory`; no image is opened yet. `limit` keeps that many images, half of each class.

    positive_class: the folder whose images are labelled 1 (otherwise the one with "hemorrhag" in its name), or with
    labels.csv the column that holds the labels (otherwise "hemorrhage").
    Raises DatasetError if labels, groups and images do not fit together.
    """
    source = Path(directory)
    if not source.is_dir():
        raise DatasetError(f"{source}: no such folder; expected a folder with labels.csv or two folders of images")
    if (source / "labels.csv").exists():
        images, labels, classes = _from_labels_csv(source, positive_class or "hemorrhage")
    else:
        images, labels, classes = _from_class_folders(source, positive_class)
    _check_both_classes(labels, classes, source)
    grouped = (source / "groups.csv").exists()
    groups = _read_groups(source / "groups.csv", images) if grouped else np.arange(len(images))
    dataset = Dataset(list(images.values()), labels, groups, grouped, classes, source)
    return dataset if limit is None else dataset.subset(_balanced(labels, limit, np.random.default_rng(seed)))


def _check_both_classes(labels: Array, classes: tuple[str, str], source: Path,
                        skipped: Sequence[tuple[Path, str]] = ()) -> None:
    positives = int(labels.sum())
    left_out = f"; {len(skipped)} unreadable images were left out, the first: {skipped[0][1]}" if skipped else ""
    if not len(labels):
        raise DatasetError(f"{source}: no image is left{left_out}")
    if positives in (0, len(labels)):
        there, missing = classes if positives == 0 else classes[::-1]
        raise DatasetError(f"{source}: all {len(labels)} images are {there!r} and none {missing!r}, expected images of "
                           f"both classes; add some of the other{left_out}")


def _balanced(labels: Array, limit: int, rng: np.random.Generator) -> Array:
    """The numbers of `limit` images drawn at random, as many of each class as there are, in their old order."""
    if limit < 2:
        raise DatasetError(f"expected a limit of at least 2 images, one a class, got {limit}")
    negative, positive = (rng.permutation(np.flatnonzero(labels == c)) for c in (0, 1))
    limit = min(limit, len(labels))
    positives = min(len(positive), max(limit // 2, limit - len(negative)))
    return np.sort(np.concatenate([positive[:positives], negative[:limit - positives]]))


# labels.csv -----------------------------------------------------------------------------------------------------------


def _from_labels_csv(source: Path, column: str) -> tuple[dict[str, Path], Array, tuple[str, str]]:
    """Files by name in the order of the rows, their labels, and the names of the classes."""
    table = source / "labels.csv"
    candidates = (source / "head_ct", source / "head_ct" / "head_ct", source)
    folder = next((candidate for candidate in candidates if images_in(candidate)), None)
    if folder is None:
        raise DatasetError(f"{source}: no images in {', '.join(map(str, candidates))}; put them beside labels.csv")
    there = {path.name: path for path in images_in(folder)}
    images: dict[str, Path] = {}
    labels, mistakes = [], []
    for number, row in _read_table(table, ("id", column)):
        name = _name_of(row["id"], there)
        mistake = None if name in there and name not in images else _mistake_in(row["id"], folder / name, images)
        if row[column] not in ("0", "1"):
            mistake = mistake or f"label {row[column]!r}, expected 0 or 1"
        if mistake:
            mistakes.append(f"row {number}: {mistake}")
        else:
            images[name] = there[name]
            labels.append(int(row[column]))
    if not mistakes:  # a row with a mistake leaves its image without a label, which is no second mistake
        mistakes = [f"image {path} has no row; label it or move it away" for path in there.values()
                    if path.name not in images]
    _raise_if_any(mistakes, table)
    return images, np.array(labels, dtype=np.int64), ("normal", column)


def images_in(folder: Path) -> list[Path]:
    """Hidden files are left out: macOS puts a ._000.png beside each 000.png."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")


def _name_of(entry: str, there: dict[str, Path]) -> str:
    """The name of the image that `entry` means: a file name as it is, and 7 or 007 for 007.png (or 7.png, 007.jpg)."""
    stems = [f"{int(entry):03d}", entry] if entry.isdecimal() else [entry]
    names = [f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES for stem in stems] + [entry]
    return next((name for name in names if name in there), names[0])


def _mistake_in(entry: str, expected: Path, known: dict[str, Path]) -> str:
    if "/" in entry or "\\" in entry:
        return f"id {entry!r} leaves the folder of the images; give the file name alone"
    if expected.name in known:
        return f"id {entry!r} occurs before; each image needs one row"
    return f"id {entry!r} has no image, looked for {expected}; add the image or remove the row"


# Class folders --------------------------------------------------------------------------------------------------------


def _from_class_folders(source: Path, positive_class: str | None) -> tuple[dict[str, Path], Array, tuple[str, str]]:
    """Files by folder/name, their labels, and the names of the classes."""
    folders = sorted(p.name for p in source.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX")
    if len(folders) != 2:
        raise DatasetError(f"{source}: expected labels.csv or two folders, one a class, got {len(folders)} folders "
                           f"({', '.join(folders[:SHOWN])}); add labels.csv or sort the images into two folders")
    candidates = [name for name in folders if "hemorrhag" in name.lower()]
    if any(NEGATION.match(name.lower()) for name in candidates):
        candidates = []  # the only bleed that is named is absent, so nobody knows what the other folder holds
    if positive_class is not None:
        candidates = [name for name in folders if name == positive_class]
    if len(candidates) != 1:
        raise DatasetError(f"{source}: which of the folders {folders[0]!r} and {folders[1]!r} is the positive class? "
                           f"pass --positive-class with one of these names (got {positive_class!r})")
    positive = candidates[0]
    negative = folders[1 - folders.index(positive)]
    for name in (negative, positive):
        if not images_in(source / name):
            raise DatasetError(f"{source / name}: empty, expected images ({', '.join(IMAGE_SUFFIXES)})")
    images = {f"{name}/{path.name}": path for name in (negative, positive) for path in images_in(source / name)}
    labels = np.array([path.parent.name == positive for path in images.values()], dtype=np.int64)
    return images, labels, (negative, positive)


# groups.csv -----------------------------------------------------------------------------------------------------------


def _read_groups(table: Path, images: dict[str, Path]) -> Array:
    """The group of each image, in the order of images. Shapes: (len(images),) of str."""
    groups: dict[str, str] = {}
    mistakes = []
    for number, row in _read_table(table, ("id", "group")):
        name = _name_of(row["id"], images)
        if name not in images:
            mistakes.append(f"row {number}: id {row['id']!r} is no image of this dataset; correct or remove the row")
        elif name in groups:
            mistakes.append(f"row {number}: id {row['id']!r} occurs before; each image needs one row")
        elif not row["group"]:
            mistakes.append(f"row {number}: no group; give the patient or scan of image {row['id']!r}")
        else:
            groups[name] = row["group"]
    if not mistakes:
        mistakes = [f"image {path} has no row; add it with its group" for name, path in images.items()
                    if name not in groups]
    _raise_if_any(mistakes, table)
    return np.array([groups[name] for name in images])


# Tables ---------------------------------------------------------------------------------------------------------------


def _read_table(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a CSV file whose header has at least these columns; empty lines and outer blanks are ignored."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # utf-8-sig: Excel writes a byte-order mark
            reader = csv.reader(file, strict=True)
            lines = [(number, [cell.strip() for cell in cells])
                     for number, cells in enumerate(reader, start=1) if "".join(cells).strip()]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 at byte {error.start}; save it again as CSV UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{path}: not a CSV table ({error}); save it again as CSV UTF-8") from error
    header = lines[0][1] if lines else []
    missing = [column for column in columns if column not in header]
    if missing:
        raise DatasetError(f"{path}: no column {missing[0]!r} in row 1, expected {','.join(columns)!r} (separated by "
                           f"commas), got {','.join(header)!r}; correct the header")
    if len(set(header)) < len(header):
        raise DatasetError(f"{path}: a column's name occurs twice in row 1, {','.join(header)!r}; correct the header")
    if len(lines) == 1:
        raise DatasetError(f"{path}: a header and no rows, expected one row an image")
    _raise_if_any([f"row {number}: {len(cells)} cells, expected {len(header)} as in row 1"
                   for number, cells in lines[1:] if len(cells) != len(header)], path)
    return [(number, dict(zip(header, cells))) for number, cells in lines[1:]]


def _raise_if_any(mistakes: list[str], path: Path) -> None:
    if mistakes:
        more = [f"... and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise DatasetError("\n  ".join([f"{path}: {count}", *mistakes[:SHOWN], *more]))


# Images ---------------------------------------------------------------------------------------------------------------


def read_images(dataset: Dataset, *, skip_bad: bool = False,
                progress: Callable[[Sequence[Path]], Iterable[Path]] = iter) -> tuple[Dataset, list[Array]]:
    """The images, (H, W, 3) uint8 of any size each, and the dataset they belong to; progress may be tqdm.

    With skip_bad an unreadable image leaves the dataset and is listed in its `skipped` with the reason.
    Raises ImageFileError for an unreadable image otherwise; DatasetError if skipping leaves fewer than two classes.
    """
    images, keep, skipped = [], [], list(dataset.skipped)
    for i, path in enumerate(progress(dataset.paths)):
        try:
            images.append(read_image(path))
            keep.append(i)
        except ImageFileError as error:
            if not skip_bad:
                raise ImageFileError(f"{error}; to leave out what cannot be read, pass --skip-bad-images") from error
            skipped.append((path, str(error)))
    read = replace(dataset.subset(np.array(keep, dtype=np.int64)), skipped=skipped)
    _check_both_classes(read.labels, read.classes, read.source, skipped)
    return read, images


def crop_to_head(image: Array) -> Array:
    """The part of a CT screenshot that shows the head, with a small margin; the image itself if no head stands out.

    The head is the largest bright region that is left when thin things (letters, the headrest, the film's edge) have
    been worn away. Brightness is judged between the corners, which show air, and the skull.
    Shapes: (H, W, 3) uint8 -> (h, w, 3), a view of image.
    """
    H, W, _ = image.shape
    step = max(1, max(H, W) // 128)  # 128 pixels are enough to find a head, and quick
    grey = image[::step, ::step].mean(axis=2)
    h, w = grey.shape
    ch, cw = max(1, h // 12), max(1, w // 12)
    air = np.median([np.median(c) for c in (grey[:ch, :cw], grey[:ch, -cw:], grey[-ch:, :cw], grey[-ch:, -cw:])])
    bright = ndimage.binary_fill_holes(grey > air + 0.15 * (np.percentile(grey, 99) - air))
    disc = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3.3
    solid = ndimage.binary_opening(bright, disc)
    regions, count = ndimage.label(solid)
    if count == 0:
        return image
    head = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    rows, columns = ndimage.find_objects(head.astype(int))[0]
    if head.mean() < 0.1 or not 0.5 < (rows.stop - rows.start) / (columns.stop - columns.start) < 2:
        return image
    top, bottom, left, right = rows.start - 2, rows.stop + 2, columns.start - 2, columns.stop + 2
    return image[max(top, 0) * step:bottom * step, max(left, 0) * step:right * step]
