"""Ask what train_ich.py has learned about new slices.

    python examples/predict_ich.py slice.png --model runs/today
    python examples/predict_ich.py folder --model runs/today --output-dir answers

For each slice the probability of a hemorrhage; how far the heads of the folds, which learned from fewer slices, disagree;
whether it lies in the band that should be referred to a person; where the network looked, which training cases
resemble the slice, and whether it is one of them. What does not look like a slice at all is referred, too.
Research and teaching only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinyresnet.calibration import is_doubtful
from tinyresnet.files import explain, printable, write_csv
from tinyresnet.ich.brain import brain_mask
from tinyresnet.ich.cases import Cases
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.dataset import crop_to_head, images_in
from tinyresnet.ich.looks import NEIGHBOURS, covered, grad_cams
from tinyresnet.ich.paper import ARMS
from tinyresnet.ich.report import DISCLAIMER
from tinyresnet.images import ImageFileError, read_image
from tinyresnet.overlays import Case, plot_maps, plot_nearest

SAME = 0.9999  # similarity from which on two slices are one
LONGEST = 200  # bytes of the name of a picture
STRANGE = 1.4  # times as far from the middle of the cases as the farthest of them: see Cases.strangeness


class Answer(NamedTuple):
    """A row of predictions.csv. low and high: of the heads of all folds; known: the slice, or one that looks the same to
    the network, is among the cases that were learned from; problem: why there is no answer, or it is worth nothing.
    """

    image: str
    probability: float | str = ""
    low: float | str = ""
    high: float | str = ""
    answer: str = ""
    refer: bool | str = ""
    known: bool | str = ""
    problem: str = ""

    def __str__(self) -> str:
        if self.probability == "":
            return f"{self.image}: {self.problem}"
        around = f" ({self.low:.2f} to {self.high:.2f} by the heads of the folds)" if self.low != "" else ""
        refer = f", refer to a person{': ' if self.problem else ''}{self.problem}" if self.refer else ""
        known = " (it has learned from this slice, so that is no test)" if self.known else ""
        return f"{self.image}: {self.probability:.2f}{around}, {self.answer}{refer}{known}"


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="predict_ich.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, metavar="IMAGE|FOLDER", help="a slice, or a folder of slices")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of a run of train_ich.py")
    parser.add_argument("--output-dir", type=Path, metavar="DIR",
                        help="for predictions.csv and pictures (default predictions/<time>)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Answer; the exit code is 2, with one line on stderr, for a model or a path that cannot be used."""
    args = command_line().parse_args(arguments)
    directory = args.output_dir or Path("predictions") / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ValueError(f"{directory} is there already and not an empty folder; give a new one as --output-dir")
        paths = images_in(args.image) if args.image.is_dir() else [args.image]
        if not paths:
            raise ValueError(f"{args.image} holds no images")
        if not args.image.is_dir():
            read_image(args.image)  # of a single image a problem is an error, of many a row in the table
        answers = write_answers(directory, *what_was_learned(args.model), paths)
        if all(answer.probability == "" for answer in answers):
            raise ValueError(f"none of the {len(answers)} images could be read; the reasons are in {directory}")
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was answered, if anything, is in {directory}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"predict_ich: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def what_was_learned(model: Path) -> tuple[Classifier, Cases]:
    """What a finished run left in its folder. Raises ValueError for a folder that is none."""
    missing = [name for name in ("backbone.npz", "head.npz", "cases.npz") if not (model / name).is_file()]
    if missing:
        arms = [str(model / arm) for arm in ARMS if (model / arm).is_dir()]
        hint = f"; of the paper's arms give one, {' or '.join(arms)}" if arms else ""
        raise ValueError(f"{model} is not the folder of a finished run of train_ich.py, {missing[0]} is missing{hint}")
    classifier, cases = Classifier.load(model), Cases.load(model / "cases.npz")
    if cases.features.shape[1] != classifier.weight.shape[2]:
        raise ValueError(f"{model}: cases.npz and head.npz are not of one run, features differ in number")
    return classifier, cases


def write_answers(directory: Path, classifier: Classifier, cases: Cases, paths: list[Path]) -> list[Answer]:
    """predictions.csv, a row as soon as it is known, and two pictures of each slice; the answers are printed, too."""
    directory.mkdir(parents=True, exist_ok=True)
    answers: list[Answer] = []
    for path in tqdm(paths, desc="answering", unit=" slices", leave=False, disable=None if len(paths) > 1 else True):
        answers.append(answer_for(path, classifier, cases, directory))
        write_csv(directory / "predictions.csv", Answer._fields, answers)
    print("\n".join(map(str, answers)))
    print(f"{directory}: predictions.csv, and of each slice where the network looked and what it resembles\n{DISCLAIMER}")
    return answers


def answer_for(path: Path, classifier: Classifier, cases: Cases, directory: Path) -> Answer:
    """The answer for one slice; its pictures go to the directory."""
    name = printable(path.name)
    try:
        image = read_image(path)
    except (ImageFileError, OSError) as error:
        return Answer(name, problem=printable(explain(error).removeprefix(f"{path}: ")))
    features = classifier.features([image])  # (V, M, 1, C)
    p, *of_folds = classifier.probabilities(features)[:, 0].tolist()
    synthetic = "Learned from synthetic phantoms. " if classifier.facts["data"]["synthetic"] else ""
    near = cases.nearest(features[0, 0, 0], NEIGHBOURS)
    draw(directory / shortened(path.name), image, p, classifier, near, f"{name}. {synthetic}{DISCLAIMER}")
    low, high = (round(min(of_folds), 4), round(max(of_folds), 4)) if of_folds else ("", "")
    problem = doubt(image, cases, features[0, 0, 0])
    refer = bool(problem) or bool(is_doubtful(p, classifier.facts["refer_half_width"]))
    return Answer(name, round(p, 4), low, high, answer_of(classifier, p), refer, near[1][0] > SAME, problem)


def doubt(image: np.ndarray, cases: Cases, features: np.ndarray) -> str:
    """Why a picture (H, W, 3) with these features (C,) may be no slice at all; "" if nothing speaks against it."""
    if brain_mask(crop_to_head(image)).all():
        return "no brain was found in the picture"
    if cases.strangeness(features) > STRANGE:
        return "it is unlike all slices that were learned from"
    return ""


def shortened(name: str) -> str:
    """A name to which `_nearest.png` can be added: file systems allow 255 bytes."""
    if len(os.fsencode(name)) <= LONGEST:
        return name
    return f"{name[:LONGEST // 4]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def answer_of(classifier: Classifier, p: float) -> str:
    """The class, for the probability of the positive one."""
    return classifier.facts["classes"][int(p >= 0.5)]


def draw(path: Path, image: np.ndarray, p: float, classifier: Classifier, near: tuple[list[Case], list[float]],
         note: str) -> None:
    """PATH_maps.png and PATH_nearest.png: the whole name, for a.png and a.jpg may be two slices."""
    shown = classifier.shown(image)
    maps = {**grad_cams(classifier, image), "occlusion": covered(classifier, image)}
    answer = answer_of(classifier, p)
    plot_maps(shown, maps, f"{path}_maps.png", class_name=classifier.facts["classes"][1], probability=p, label="unknown",
              note=note)
    plot_nearest(Case(shown, answer, "unknown"), *near, f"{path}_nearest.png",
                 note=f"The test case's label is the answer. {note}")


if __name__ == "__main__":
    sys.exit(main())
