"""What train_ich.py works on: data, a recipe that is not prepared yet, folds, and the facts that results.json tells."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import tinyresnet
from tinyresnet.ich.baselines import baseline_features, sighted
from tinyresnet.ich.dataset import Dataset, load_dataset, read_images
from tinyresnet.ich.experiment import Fold, Slices, cross_validation
from tinyresnet.ich.features import STRENGTH, Features, features_of
from tinyresnet.ich.finetune import Finetune, check_stage
from tinyresnet.ich.paper import ARMS, TEST_FRACTION, Paper, arm_preprocessing
from tinyresnet.ich.recipes import Recipe, Scratch, Settings
from tinyresnet.ich.splits import stratified_split
from tinyresnet.ich.twins import PREPROCESSING, make_twins
from tinyresnet.ich.views import stretched

PHANTOM_PATIENTS = 720, 160  # that learn, and that test
SMALL = partial(tinyresnet.small_resnet, depths=(1, 1, 1), width=24)  # learns from phantoms
NETWORKS = ("small_resnet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DEFAULTS = {  # what --epochs, --batch-size, --lr and --weight-decay are if not given
    "scratch": Settings(epochs=11, batch_size=16, lr=4e-3, weight_decay=0.0),
    "finetune": Settings(epochs=10, batch_size=16, lr=1e-4, weight_decay=0.01),
    "paper": Settings(epochs=30, batch_size=16, lr=1e-4, weight_decay=0.0),
}


class Job(NamedTuple):
    """One thing to learn and to judge. The recipe is made late: it may compute for minutes."""

    slices: Slices
    images: list[np.ndarray]  # (H, W, 3) uint8, of any size
    new_recipe: Callable[[], Recipe]
    plan: list[Fold]
    facts: dict
    baselines: Callable[[tinyresnet.ResNet], dict[str, np.ndarray]]  # features, one by name, given the recipe's backbone
    beside: list[Fold]  # what baselines learn from, and the tests of the plan
    drawn: list[dict]  # of phantoms what make_phantom told


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
    new_backbone = partial(untrained, getattr(tinyresnet, args.model) if args.model else SMALL)
    settings = settings_of(args, "scratch")
    images, test_rows = list(twins.images), np.flatnonzero(twins.groups >= learn)
    plan, beside = ([Fold("grouped", 0, 0, np.flatnonzero(twins.groups < patients), test_rows)]
                    for patients in (learn, min(learn, 1 + test // 2)))  # a rule of four numbers needs no more
    facts = {"data": data_facts("phantoms", slices, twins.images, synthetic=True),
             "model": {"name": args.model or "small_resnet", "weights": None, "sha256": None},
             "protocol": {"recipe": "scratch", **settings._asdict(), "seed": args.seed, "split": ["hold-out by patient"],
                          "folds": 1, "repeats": 1, "test_time_flip": True}}
    return Job(slices, images, partial(Scratch, new_backbone, twins.images, twins.labels, settings), plan, facts,
               lambda _: sighted(images, np.append(beside[0].train_rows, test_rows)), beside, twins.facts)


def untrained(network: Callable[..., tinyresnet.ResNet], rng: np.random.Generator) -> tinyresnet.ResNet:
    """A network for phantoms, with random weights."""
    model = network(2, rng=rng)
    model.preprocessing = PREPROCESSING
    return model


class Real(NamedTuple):
    """Slices from a folder and published weights."""

    backbone: tinyresnet.ResNet
    dataset: Dataset
    images: list[np.ndarray]
    slices: Slices
    facts: dict


def real_data(args: argparse.Namespace) -> Real:
    """What --data-path and --weights hold, read, and a line about it."""
    backbone = tinyresnet.load_model(args.weights)
    if args.model and args.model != backbone.name:
        raise ValueError(f"{args.weights} holds weights of {backbone.name}, --model asks for {args.model}")
    dataset = load_dataset(args.data_path, positive_class=args.positive_class, limit=args.limit, seed=args.seed)
    dataset, images = read_images(dataset, skip_bad=args.skip_bad_images,
                                  progress=lambda paths: tqdm(paths, desc="reading", leave=False, disable=None))
    for _, reason in dataset.skipped:
        print(f"left out: {reason}")
    negative, positive = dataset.classes
    print(f"{len(images)} images, {dataset.labels.sum()} of them positive ({positive!r}), the others {negative!r}")
    slices = Slices([path.relative_to(dataset.source).as_posix() for path in dataset.paths], dataset.labels,
                    dataset.groups, dataset.grouped, dataset.classes)
    facts = {"data": data_facts(str(args.data_path), slices, images, synthetic=is_synthetic(args.data_path)),
             "model": {"name": backbone.name, "weights": str(args.weights),
                       "sha256": hashlib.sha256(args.weights.read_bytes()).hexdigest()}}
    facts["data"]["skipped"] = [reason for _, reason in dataset.skipped]
    return Real(backbone, dataset, images, slices, facts)


def is_synthetic(folder: Path) -> bool:
    """Whether make_phantoms.py drew the slices: its facts.json lies beside them."""
    path = folder / "facts.json"
    try:
        return path.exists() and json.loads(path.read_text(encoding="utf-8"))["synthetic"] is True
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not what make_phantoms.py writes ({error!r}); move it away") from error


def cross_validated(args: argparse.Namespace) -> Job:
    """Slices from a folder, published weights, cross-validation: the recipes features and finetune."""
    backbone, dataset, images, slices, facts = real_data(args)
    name = args.recipe or "features"
    splits, repeats = splits_of(args, slices, name), args.repeats or (5 if name == "features" else 1)
    plan = cross_validation(slices, splits, args.folds, repeats, args.seed)
    backbone.preprocessing = stretched(backbone.preprocessing)
    protocol = {"recipe": name, "seed": args.seed, "split": splits, "folds": args.folds, "repeats": repeats}
    new_recipe: Callable[[], Recipe]
    if name == "features":
        protocol["penalty"] = STRENGTH
        new_recipe = partial(frozen, backbone, images, slices.labels)
    else:
        settings, stage = settings_of(args, name), args.unfreeze_from or "layer4"
        check_stage(backbone, stage)
        protocol |= settings._asdict() | {"unfreeze_from": stage}
        new_recipe = partial(Finetune, backbone, images, slices.labels, settings, stage)
    return Job(slices, images, new_recipe, plan, facts | {"protocol": protocol},
               partial(baseline_features, dataset.paths, images), plan, [])


def frozen(backbone: tinyresnet.ResNet, images: list[np.ndarray], labels: np.ndarray) -> Features:
    """The recipe features, with its features."""
    return Features(backbone, features_of(backbone, images), labels)


def paper(args: argparse.Namespace) -> dict[str, Job]:
    """The paper's experiment, an arm a job: one split of single images, and the whole network trains."""
    backbone, dataset, images, slices, facts = real_data(args)
    train_rows, test_rows = stratified_split(slices.labels, TEST_FRACTION, args.seed)
    settings, jobs = settings_of(args, "paper"), {}
    for arm in ARMS:
        def new_recipe(arm=arm):
            model = tinyresnet.load_model(args.weights)
            model.preprocessing = arm_preprocessing(arm, backbone.preprocessing)
            return Paper(model, images, slices.labels, settings)
        protocol = {"recipe": "paper", "arm": arm, **settings._asdict(), "seed": args.seed,
                    "split": ["one stratified split by image"], "folds": 1, "repeats": 1}
        plan = [Fold(arm, 0, 0, train_rows, test_rows)]
        jobs[arm] = Job(slices, images, new_recipe, plan, facts | {"protocol": protocol},
                        partial(baseline_features, dataset.paths, images), plan, [])
    return jobs


def splits_of(args: argparse.Namespace, slices: Slices, recipe: str) -> list[str]:
    """Which cross-validations to run; grouped ones need to know the groups."""
    if slices.grouped:
        split = args.split or ("both" if recipe == "features" else "grouped")
        return ["grouped", "plain"] if split == "both" else [split]
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
