"""Intracranial hemorrhage or not: transfer learning on head-CT slices, with an honest answer.

    python examples/train_ich.py
        draws head-CT phantoms and trains a small residual network on them, offline, in under two minutes

    python examples/train_ich.py --data-path head_ct --weights resnet50.npz
        real slices and published weights: frozen features and a linear head, judged by cross-validation, plain and, if
        groups.csv tells which slices are of one scan, with no scan trained on and tested on at once

Results go to runs/<time>: results.json, predictions.csv, summary.csv, args.json, three figures, backbone.npz, head.npz.
Research and teaching only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinyresnet
from tinyresnet.files import explain
from tinyresnet.ich.dataset import Dataset, crop_to_head, load_dataset, read_images
from tinyresnet.ich.experiment import Fold, Slices, cross_validation, measure, run
from tinyresnet.ich.folder import begin_run, check_folder, end_run
from tinyresnet.ich.recipes import Features, Finetune, Recipe, Scratch, Settings, check_stage
from tinyresnet.ich.report import DISCLAIMER, table, write_figures, write_json, write_tables
from tinyresnet.ich.twins import PREPROCESSING, make_twins

PHANTOM_PATIENTS = 720, 160  # that learn, and that test
SMALL = partial(tinyresnet.small_resnet, depths=(1, 1, 1), width=24)  # learns from phantoms
NETWORKS = ("small_resnet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DEFAULTS = {  # what --epochs, --batch-size, --lr and --weight-decay are if not given
    "scratch": Settings(epochs=11, batch_size=16, lr=4e-3, weight_decay=0.0),
    "features": Settings(epochs=30, batch_size=16, lr=1e-3, weight_decay=0.0),
    "finetune": Settings(epochs=10, batch_size=16, lr=1e-4, weight_decay=0.0),
}
REAL_ONLY = ("positive_class", "skip_bad_images", "weights", "recipe", "unfreeze_from", "split", "folds", "repeats")
LEAST = {"limit": 8, "epochs": 1, "batch_size": 1, "weight_decay": 0, "seed": 0, "folds": 2, "repeats": 1}
REAL = """
These were phantoms: synthetic, and no statement about patients. For real slices:
  1. python -m weights_converter download head_ct       (200 slices; says how to fetch them by hand, too)
  2. python -m weights_converter download resnet50      (or convert weights that you have)
  3. python examples/train_ich.py --data-path head_ct --weights resnet50.npz
     with groups.csv (id,group: which slices are of one scan) beside labels.csv, for the honest half of the table"""


def command_line() -> argparse.ArgumentParser:
    """Flags are spelled as in torchvision's reference scripts and timm."""
    parser = argparse.ArgumentParser(prog="train_ich.py", description=__doc__.split("\n\nResults")[0],
                                     epilog=__doc__.split("\n\n")[-1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("what to learn from")
    data.add_argument("--data-path", type=Path, metavar="DIR", help="labels.csv and its images, or two class folders; "
                      "groups.csv (columns id, group) keeps the slices of a scan together")
    data.add_argument("--positive-class", metavar="NAME", help="folder or column that is the positive class")
    data.add_argument("--limit", type=int, metavar="N", help="use only N images, half of each class")
    data.add_argument("--skip-bad-images", action="store_true", help="leave out unreadable images, and list them")
    model = parser.add_argument_group("what learns")
    model.add_argument("--weights", type=Path, metavar="FILE", help=".npz of `python -m weights_converter convert`")
    model.add_argument("--model", choices=NETWORKS, help="network to train from scratch, or to expect in --weights")
    model.add_argument("--recipe", choices=("features", "finetune"),
                       help="features (default): frozen network, linear head; finetune: train from a stage on")
    model.add_argument("--unfreeze-from", metavar="STAGE", help="with finetune: first stage that trains "
                       "(default layer4; conv1 trains everything)")
    add_settings(parser)
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """How it learns, how that is judged, and where the results go."""
    how = parser.add_argument_group("how (defaults of phantoms / features / finetune)", "; ".join(
        f"{name.replace('_', '-')} {' / '.join(f'{getattr(settings, name):g}' for settings in DEFAULTS.values())}"
        for name in Settings._fields))
    how.add_argument("--epochs", type=int, metavar="N")
    how.add_argument("-b", "--batch-size", type=int, metavar="N")
    how.add_argument("--lr", type=float, metavar="LR", help="highest learning rate of Adam; it falls along a cosine")
    how.add_argument("--weight-decay", type=float, metavar="W")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="for phantoms, folds and training (default 0)")
    judge = parser.add_argument_group("how it is judged")
    judge.add_argument("--split", choices=("grouped", "plain", "both"), default="both",
                       help="cross-validation by scan, by image, or both (default, where groups are known)")
    judge.add_argument("--folds", type=int, default=5, metavar="N", help="default 5")
    judge.add_argument("--repeats", type=int, default=5, metavar="N", help="with other folds each time (default 5)")
    out = parser.add_argument_group("where it goes")
    out.add_argument("--output-dir", type=Path, metavar="DIR", help="default runs/<time>")
    out.add_argument("--resume", action="store_true", help="go on with the interrupted run in --output-dir")
    out.add_argument("--overwrite", action="store_true", help="write into --output-dir although it is not empty")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments, if they go together; else argparse's error."""
    parser = command_line()
    args = parser.parse_args(arguments)
    problem = problem_with(args, [name for name in REAL_ONLY if getattr(args, name) != parser.get_default(name)])
    if problem:
        parser.error(problem)
    return args


def problem_with(args: argparse.Namespace, real_only: list[str]) -> str | None:
    """What is wrong with the command line itself, if anything. real_only: options given that phantoms do not have."""
    if args.resume and not args.output_dir:
        return "--resume needs --output-dir, the folder of the run to go on with"
    if args.resume and args.overwrite:
        return "--resume goes on with a run and --overwrite begins anew: give one of them"
    if args.data_path and not args.weights:
        return ("--data-path needs --weights: a few hundred slices are not enough to learn from nothing; "
                "run without arguments to see how to get weights")
    if args.data_path is None and real_only:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in real_only)
        return f"{flags}: only with --data-path; the phantoms are learned from nothing, and tested on other patients"
    if args.unfreeze_from and args.recipe != "finetune":
        return "--unfreeze-from: only with --recipe finetune; features trains no stage"
    for name, least in LEAST.items():
        value = getattr(args, name)
        if value is not None and not least <= value < math.inf:
            return f"--{name.replace('_', '-')}: expected at least {least:g}, got {value}"
    if args.lr is not None and not 0 < args.lr < math.inf:
        return f"--lr: expected a positive number, got {args.lr}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; the exit code is 2, with one line on stderr, for input that cannot be used."""
    args = parse(arguments)
    directory = args.output_dir or Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        check_folder(directory, resume=args.resume, overwrite=args.overwrite)
        experiment(args, directory)
    except KeyboardInterrupt:
        print(f"\ninterrupted; to go on: the same command without --overwrite, with --output-dir {directory} --resume",
              file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train_ich: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def experiment(args: argparse.Namespace, directory: Path) -> None:
    """Data, recipe, folds, numbers, figures, in this order; nothing is written before the data are known to be good."""
    begin = time.perf_counter()
    slices, new_recipe, plan, facts = phantoms(args) if args.data_path is None else real_slices(args)
    given = {name: value for name, value in vars(args).items() if name not in ("output_dir", "resume", "overwrite")}
    inputs = {"images": facts["data"]["sha256"], "weights": facts["model"]["sha256"]}
    begin_run(directory, given, inputs, resume=args.resume)
    if args.resume and (directory / "results.json").exists():
        print(f"this run has come to its end; its results are in {directory}")
        return
    print(f"recipe {facts['protocol']['recipe']!r}, {len(plan)} to fit, results in {directory}", flush=True)
    recipe = new_recipe()
    outcomes = run(recipe, plan, len(slices.labels), directory, args.seed)
    recipe.save(directory, slices.classes, facts)
    metrics = measure(slices, outcomes)
    synthetic = facts["data"]["synthetic"]
    note = f"{'Synthetic head-CT phantoms. ' if synthetic else ''}{DISCLAIMER}"
    write_tables(directory, slices, outcomes)
    write_figures(directory, slices, outcomes, note)
    seconds = round(time.perf_counter() - begin, 1)
    write_json(directory / "results.json", {**facts, "seconds": seconds, "metrics": metrics})
    end_run(directory)
    print(f"{table(metrics)}\n(95 % intervals: bootstrap over groups)  {seconds:.0f} s\n{note}{REAL if synthetic else ''}")


Job = tuple[Slices, Callable[[], Recipe], list[Fold], dict]  # the recipe is made later: it may compute for minutes


def phantoms(args: argparse.Namespace) -> Job:
    """The embedded default: patients that learn and other patients that test, all drawn from the seed."""
    learn, test = PHANTOM_PATIENTS
    if args.limit:  # four images a patient, one patient in five tests
        test = min(test, max(1, args.limit // 20))
        learn = min(learn, args.limit // 4 - test)
    print(f"drawing head-CT phantoms of {learn + test} patients, each before and after a bleed", flush=True)
    twins = make_twins(learn + test, seed=args.seed)
    slices = Slices([f"patient{g:04}-{i:04}" for i, g in enumerate(twins.groups)], twins.labels, twins.groups, True,
                    ("normal", "hemorrhage"))
    network = getattr(tinyresnet, args.model) if args.model else SMALL

    def new_backbone(rng: np.random.Generator) -> tinyresnet.ResNet:
        model = network(2, rng=rng)
        model.preprocessing = PREPROCESSING
        return model

    settings = settings_of(args, "scratch")
    plan = [Fold("grouped", 0, 0, np.flatnonzero(twins.groups < learn), np.flatnonzero(twins.groups >= learn))]
    facts = {"data": data_facts("phantoms", slices, twins.images, synthetic=True),
             "model": {"name": args.model or "small_resnet", "weights": None, "sha256": None},
             "protocol": {"recipe": "scratch", **settings._asdict(), "seed": args.seed, "split": ["hold-out by patient"],
                          "folds": 1, "repeats": 1, "test_time_flip": True}}
    return slices, partial(Scratch, new_backbone, twins.images, twins.labels, settings), plan, facts


def real_slices(args: argparse.Namespace) -> Job:
    """Slices from a folder, published weights, cross-validation."""
    backbone = tinyresnet.load_model(args.weights)
    if args.model and args.model != backbone.name:
        raise ValueError(f"{args.weights} holds weights of {backbone.name}, --model asks for {args.model}")
    dataset, images = labelled_images(args)
    slices = Slices([path.relative_to(dataset.source).as_posix() for path in dataset.paths], dataset.labels,
                    dataset.groups, dataset.grouped, dataset.classes)
    splits, name = splits_of(args, slices), args.recipe or "features"
    plan = cross_validation(slices, splits, args.folds, args.repeats, args.seed)
    settings = settings_of(args, name)
    recipe: Callable[..., Recipe] = Features
    facts = {"data": data_facts(str(args.data_path), slices, images, synthetic=False),
             "model": {"name": backbone.name, "weights": str(args.weights),
                       "sha256": hashlib.sha256(args.weights.read_bytes()).hexdigest()},
             "protocol": {"recipe": name, **settings._asdict(), "seed": args.seed, "split": splits, "folds": args.folds,
                          "repeats": args.repeats, "input": "crop_to_head, then the backbone's preprocessing"}}
    facts["data"]["skipped"] = [reason for _, reason in dataset.skipped]
    if name == "finetune":
        stage = args.unfreeze_from or "layer4"
        check_stage(backbone, stage)
        recipe, facts["protocol"]["unfreeze_from"] = partial(Finetune, unfreeze_from=stage), stage
    return slices, partial(recipe, backbone, ct_input(images, backbone), slices.labels, settings), plan, facts


def labelled_images(args: argparse.Namespace) -> tuple[Dataset, list[np.ndarray]]:
    """What --data-path holds, read, and a line about it."""
    dataset = load_dataset(args.data_path, positive_class=args.positive_class, limit=args.limit, seed=args.seed)
    dataset, images = read_images(dataset, skip_bad=args.skip_bad_images,
                                  progress=lambda paths: tqdm(paths, desc="reading", leave=False, disable=None))
    for _, reason in dataset.skipped:
        print(f"left out: {reason}")
    negative, positive = dataset.classes
    print(f"{len(images)} images, {dataset.labels.sum()} of them positive ({positive!r}), the others {negative!r}")
    return dataset, images


def ct_input(images: list[np.ndarray], backbone: tinyresnet.ResNet) -> np.ndarray:
    """Cropped to the head, stretched to the size the weights ask for, normalised as they ask: (n, height, width, 3)."""
    size = backbone.preprocessing.size or (224, 224)
    backbone.preprocessing = replace(backbone.preprocessing, resize=size, crop=None)
    return np.stack([tinyresnet.preprocess(crop_to_head(image), backbone.preprocessing) for image in images])


def splits_of(args: argparse.Namespace, slices: Slices) -> list[str]:
    """Which cross-validations to run; grouped ones need to know the groups."""
    if slices.grouped:
        return ["grouped", "plain"] if args.split == "both" else [args.split]
    if args.split == "grouped":
        raise ValueError(f"{args.data_path}: --split grouped needs groups.csv (columns id, group) beside the images")
    print("no groups.csv: slices of one scan may be trained on and tested on at once, and the result be too good")
    return ["plain"]


def settings_of(args: argparse.Namespace, recipe: str) -> Settings:
    """What was given on the command line, and the recipe's defaults for the rest."""
    given = {name: getattr(args, name) for name in Settings._fields if getattr(args, name) is not None}
    return DEFAULTS[recipe]._replace(**given)


def data_facts(source: str, slices: Slices, images: Iterable[np.ndarray], *, synthetic: bool) -> dict:
    """What results.json says of the data; the hash is of names, labels, groups and pixels."""
    told = [list(slices.names), slices.labels.tolist(), slices.groups.tolist()]
    digest = hashlib.sha256(json.dumps(told).encode())
    for image in images:
        digest.update(np.ascontiguousarray(image).data)
    return {"source": source, "images": len(slices.labels), "positive": int(slices.labels.sum()),
            "groups": len(np.unique(slices.groups)), "synthetic": synthetic, "sha256": digest.hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
