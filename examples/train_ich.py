"""Intracranial hemorrhage or not: transfer learning on head-CT slices, with an honest answer.

    python examples/train_ich.py
        draws head-CT phantoms and trains a small residual network on them, offline, in two minutes

    python examples/train_ich.py --data-path head_ct --weights resnet50.npz
        real slices and published weights: frozen features and a linear head, judged by cross-validation in which no
        scan is trained on and tested on at once

Results go to runs/<time>: results.json, predictions.csv, summary.csv, args.json, three figures, backbone.npz, head.npz.
Research and teaching only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinyresnet
from tinyresnet.ich.dataset import crop_to_head, load_dataset, read_images
from tinyresnet.ich.experiment import Fold, Slices, cross_validation, measure, run
from tinyresnet.ich.recipes import Features, Finetune, Recipe, Scratch, Settings
from tinyresnet.ich.report import DISCLAIMER, table, versions, write_figures, write_json, write_tables
from tinyresnet.ich.twins import PREPROCESSING, make_twins

PHANTOM_PATIENTS = 640, 120  # that learn, and that test
NETWORKS = ("small_resnet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DEFAULTS = {  # what --epochs, --batch-size, --lr and --weight-decay are if not given
    "scratch": Settings(epochs=12, batch_size=16, lr=4e-3, weight_decay=0.0),
    "features": Settings(epochs=30, batch_size=16, lr=1e-3, weight_decay=0.0),
    "finetune": Settings(epochs=10, batch_size=16, lr=1e-4, weight_decay=0.0),
}
REAL = """
These were phantoms: synthetic, and no statement about patients. For real slices:
  1. the 200 slices of kaggle.com/datasets/felipekitamura/head-ct-hemorrhage, unpacked to a folder head_ct
  2. published weights, for example resnet50-0676ba61.pth from download.pytorch.org/models, then
       python -m weights_converter convert resnet50-0676ba61.pth resnet50.npz
  3. python examples/train_ich.py --data-path head_ct --weights resnet50.npz"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line. Flags are spelled as in torchvision's reference scripts and timm."""
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
    model.add_argument("--unfreeze-from", default="layer4", metavar="STAGE", help="with finetune: first stage that "
                       "trains (default layer4; conv1 trains everything)")
    how = parser.add_argument_group("how (defaults depend on the recipe)")
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
    args = parser.parse_args(arguments)
    if args.resume and not args.output_dir:
        parser.error("--resume needs --output-dir, the folder of the run to go on with")
    if args.data_path and not args.weights:
        parser.error("--data-path needs --weights: a few hundred slices are not enough to learn from nothing; "
                     "run without arguments to see how to get weights")
    if args.data_path is None and (args.weights or args.recipe):
        parser.error("--weights and --recipe need --data-path; the phantoms are learned from nothing")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; the exit code is 2, with one line on stderr, for input that cannot be used."""
    args = parse(arguments)
    try:
        begin = time.perf_counter()
        directory = prepare_folder(args)
        experiment(args, directory, begin)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with the same command and --output-dir {directory} --resume", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train_ich: {error}", file=sys.stderr)
        return 2
    return 0


def experiment(args: argparse.Namespace, directory: Path, begin: float) -> None:
    """Data, recipe, folds, numbers, figures, in this order."""
    slices, recipe, plan, facts = phantoms(args) if args.data_path is None else real_slices(args)
    synthetic = facts["data"]["synthetic"]
    print(f"recipe {facts['protocol']['recipe']!r}, {len(plan)} to fit, results in {directory}", flush=True)
    outcomes = run(recipe, plan, len(slices.labels), directory, args.seed)
    recipe.save(directory, slices.classes)
    metrics = measure(slices, outcomes)
    note = f"{'Synthetic head-CT phantoms. ' if synthetic else ''}{DISCLAIMER}"
    write_tables(directory, slices, outcomes)
    write_figures(directory, slices, outcomes, note)
    seconds = round(time.perf_counter() - begin, 1)
    write_json(directory / "results.json", {**facts, "seconds": seconds, "metrics": metrics})
    (directory / "checkpoint.npz").unlink(missing_ok=True)
    print(f"{table(metrics)}\n(95 % intervals: bootstrap over groups)  {seconds:.0f} s\n{note}{REAL if synthetic else ''}")


def phantoms(args: argparse.Namespace) -> tuple[Slices, Recipe, list[Fold], dict]:
    """The embedded default: patients that learn and other patients that test, all drawn from the seed."""
    learn, test = PHANTOM_PATIENTS
    if args.limit:  # four images a patient
        test = max(1, args.limit // 20)
        learn = max(1, args.limit // 4 - test)
    print(f"drawing head-CT phantoms of {learn + test} patients, each before and after a bleed", flush=True)
    twins = make_twins(learn + test, seed=args.seed)
    slices = Slices([f"patient{g:04}-{i:04}" for i, g in enumerate(twins.groups)], twins.labels, twins.groups, True,
                    ("normal", "hemorrhage"))
    network = getattr(tinyresnet, args.model or "small_resnet")

    def new_backbone(rng: np.random.Generator) -> tinyresnet.ResNet:
        model = network(2, rng=rng)
        model.preprocessing, model.classes = PREPROCESSING, list(slices.classes)
        return model

    settings = settings_of(args, "scratch")
    recipe = Scratch(new_backbone, twins.images, twins.labels, settings)
    plan = [Fold("grouped", 0, 0, np.flatnonzero(twins.groups < learn), np.flatnonzero(twins.groups >= learn))]
    facts = facts_of(args, slices, settings, "scratch", recipe.backbone, source="phantoms", synthetic=True)
    return slices, recipe, plan, facts


def real_slices(args: argparse.Namespace) -> tuple[Slices, Recipe, list[Fold], dict]:
    """Slices from a folder, published weights, cross-validation."""
    dataset = load_dataset(args.data_path, positive_class=args.positive_class, limit=args.limit, seed=args.seed)
    backbone = tinyresnet.load_model(args.weights)
    if args.model and args.model != backbone.name:
        raise ValueError(f"{args.weights} holds weights of {backbone.name}, --model asks for {args.model}")
    dataset, images = read_images(dataset, skip_bad=args.skip_bad_images,
                                  progress=lambda paths: tqdm(paths, desc="reading", leave=False, disable=None))
    for path, reason in dataset.skipped:
        print(f"left out: {path}: {reason}")
    slices = Slices([path.relative_to(dataset.source).as_posix() for path in dataset.paths], dataset.labels,
                    dataset.groups, dataset.grouped, dataset.classes)
    plan = cross_validation(slices, splits_of(args, slices), args.folds, args.repeats, args.seed)
    x = ct_input(images, backbone)
    name = args.recipe or "features"
    settings = settings_of(args, name)
    recipe = (Features(backbone, x, slices.labels, settings) if name == "features" else
              Finetune(backbone, x, slices.labels, settings, args.unfreeze_from))
    facts = facts_of(args, slices, settings, name, backbone, source=str(args.data_path), synthetic=False)
    facts["data"]["skipped"] = [f"{path}: {reason}" for path, reason in dataset.skipped]
    return slices, recipe, plan, facts


def ct_input(images: list[np.ndarray], backbone: tinyresnet.ResNet) -> np.ndarray:
    """Cropped to the head, stretched to the square the weights ask for, normalised as they ask: (n, size, size, 3)."""
    size = backbone.preprocessing.crop or 224
    backbone.preprocessing = replace(backbone.preprocessing, resize=(size, size), crop=None)
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
    settings = DEFAULTS[recipe]._replace(**given)
    if min(settings.epochs, settings.batch_size) < 1 or settings.lr <= 0 or settings.weight_decay < 0:
        raise ValueError(f"expected positive --epochs, --batch-size and --lr, and --weight-decay >= 0, got {settings}")
    return settings


def facts_of(args: argparse.Namespace, slices: Slices, settings: Settings, recipe: str, backbone: tinyresnet.ResNet, *,
             source: str, synthetic: bool) -> dict:
    """What results.json says of the experiment beside its numbers."""
    sha256 = hashlib.sha256(args.weights.read_bytes()).hexdigest() if args.weights else None
    protocol = {"recipe": recipe, **settings._asdict(), "seed": args.seed, "split": "hold-out by patient", "folds": 1,
                "repeats": 1}
    if not synthetic:
        protocol |= {"split": splits_of(args, slices), "folds": args.folds, "repeats": args.repeats}
    if recipe == "finetune":
        protocol["unfreeze_from"] = args.unfreeze_from
    return {"data": {"source": source, "images": len(slices.labels), "positive": int(slices.labels.sum()),
                     "groups": len(np.unique(slices.groups)), "synthetic": synthetic},
            "model": {"name": backbone.name, "weights": str(args.weights) if args.weights else None, "sha256": sha256},
            "protocol": protocol}


def prepare_folder(args: argparse.Namespace) -> Path:
    """The output folder, new or empty unless the user says otherwise, with args.json in it."""
    directory = args.output_dir or Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S")
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()
             if name not in ("output_dir", "resume", "overwrite")}
    if args.resume:
        check_same(directory / "args.json", given)
    elif directory.is_dir() and any(directory.iterdir()):
        if not args.overwrite:
            raise ValueError(f"{directory} is not empty: go on with its run by --resume, or replace it by --overwrite")
        for leftover in (directory / "checkpoint.npz", *(directory / "folds").glob("*")):
            leftover.unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "args.json", {"args": given, "versions": versions()})
    return directory


def check_same(path: Path, given: dict) -> None:
    """Raise ValueError unless the run that is to go on was begun with the same arguments."""
    if not path.exists():
        raise ValueError(f"{path.parent} holds no run to go on with (no args.json); leave --resume out")
    before = json.loads(path.read_text())["args"]
    changed = [f"{name} was {before.get(name)!r}, now {value!r}" for name, value in given.items()
               if before.get(name) != value]
    if changed:
        raise ValueError(f"--resume needs the arguments of the interrupted run: {'; '.join(changed)}")


if __name__ == "__main__":
    sys.exit(main())
