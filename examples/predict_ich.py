"""Ask what train_ich.py has learned about new slices.

    python examples/predict_ich.py slice.png --model runs/today
    python examples/predict_ich.py folder --model runs/today --output-dir answers

For each slice the probability of a hemorrhage; how far the heads of the folds, which learned from fewer slices, disagree;
whether it lies in the band that should be referred to a person; where the network looked, and which training cases
resemble the slice. Research and teaching only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinyresnet.calibration import is_doubtful
from tinyresnet.files import explain, replacing
from tinyresnet.ich.cases import Cases
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.dataset import images_in
from tinyresnet.ich.looks import NEIGHBOURS, covered, grad_cams
from tinyresnet.ich.report import DISCLAIMER
from tinyresnet.ich.views import VIEWS
from tinyresnet.images import ImageFileError, read_image
from tinyresnet.overlays import Case, plot_maps, plot_nearest


class Answer(NamedTuple):
    """A row of predictions.csv. low and high: of the heads of all folds; problem: why there is no answer."""

    image: str
    probability: float | str = ""
    low: float | str = ""
    high: float | str = ""
    answer: str = ""
    refer: bool | str = ""
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.image}: {self.problem}"
        around = f" ({self.low:.2f} to {self.high:.2f} by the heads of the folds)" if self.low != "" else ""
        return f"{self.image}: {self.probability:.2f}{around}, {self.answer}{', refer to a person' if self.refer else ''}"


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
        if directory.is_dir() and any(directory.iterdir()):
            raise ValueError(f"{directory} is not empty; give a new folder as --output-dir")
        paths = images_in(args.image) if args.image.is_dir() else [args.image]
        if not paths:
            raise ValueError(f"{args.image} holds no images")
        if not args.image.is_dir():
            read_image(args.image)  # of a single image a problem is an error, of many a row in the table
        write_answers(directory, args.model, paths)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was answered is in {directory}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"predict_ich: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def write_answers(directory: Path, model: Path, paths: list[Path]) -> None:
    """predictions.csv, a row as soon as it is known, and two pictures of each slice; the answers are printed, too."""
    classifier, cases = Classifier.load(model), Cases.load(model / "cases.npz")
    directory.mkdir(parents=True, exist_ok=True)
    answers = []
    for path in tqdm(paths, desc="answering", unit=" slices", leave=False, disable=None if len(paths) > 1 else True):
        answers.append(answer_for(path, classifier, cases, directory))
        write_csv(directory / "predictions.csv", answers)
    print("\n".join(map(str, answers)))
    print(f"{directory}: predictions.csv, and of each slice where the network looked and what it resembles\n{DISCLAIMER}")


def answer_for(path: Path, classifier: Classifier, cases: Cases, directory: Path) -> Answer:
    """The answer for one slice; its pictures go to the directory."""
    try:
        image = read_image(path)
    except ImageFileError as error:
        return Answer(path.name, problem=str(error).removeprefix(f"{path}: "))
    p, *of_folds = classifier.probabilities(classifier.features([image]))[:, 0].tolist()
    negative, positive = classifier.facts["classes"]
    note = f"{path.name}. {'Learned from synthetic phantoms. ' if classifier.facts['data']['synthetic'] else ''}{DISCLAIMER}"
    draw(path.name.replace(".", "_"), image, p, classifier, cases, directory, note)
    low, high = (round(min(of_folds), 4), round(max(of_folds), 4)) if of_folds else ("", "")
    return Answer(path.name, round(p, 4), low, high, positive if p >= 0.5 else negative,
                  bool(is_doubtful(p, classifier.facts["refer_half_width"])))


def draw(name: str, image: np.ndarray, p: float, classifier: Classifier, cases: Cases, directory: Path, note: str) -> None:
    """NAME_maps.png and NAME_nearest.png."""
    view = VIEWS[classifier.views[0]](image)
    maps = {**grad_cams(classifier, image), "occlusion": covered(classifier, image)}
    plot_maps(view, maps, directory / f"{name}_maps.png", class_name=classifier.facts["classes"][1], probability=p,
              label="unknown", note=note)
    near, similarities = cases.nearest(classifier.features_of_view([image])[0], NEIGHBOURS)
    plot_nearest(Case(view, "asked about", "unknown"), near, similarities, directory / f"{name}_nearest.png", note=note)


def write_csv(path: Path, answers: list[Answer]) -> None:
    """The table so far, complete or as it was before."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Answer._fields)
        writer.writerows(answers)


if __name__ == "__main__":
    sys.exit(main())
