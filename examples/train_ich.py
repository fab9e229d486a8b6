"""Intracranial hemorrhage or not: transfer learning on head-CT slices, with an honest answer.

    python examples/train_ich.py
        draws head-CT phantoms and trains a small residual network on them, offline, in about two minutes

    python examples/train_ich.py --data-path head_ct --weights resnet50.npz
        real slices and published weights: frozen features and linear heads, judged by cross-validation, plain and, if
        groups.csv tells which slices are of one scan, with no scan trained on and tested on at once; --recipe finetune
        trains the last stage, too, --recipe paper repeats a published experiment

Results go to runs/<time>: report.html to read, results.json, predictions.csv, summary.csv, args.json, figures, and for
predict_ich.py backbone.npz, head.npz and cases.npz.
Research and teaching only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from train_ich_jobs import DEFAULTS, NETWORKS, Job, cross_validated, paper, phantoms

from tinyresnet.files import explain
from tinyresnet.ich.analysis import analyse, exploratory, published
from tinyresnet.ich.baselines import compared
from tinyresnet.ich.cases import Cases
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.experiment import run
from tinyresnet.ich.features import Features
from tinyresnet.ich.folder import begin_run, check_folder, check_outside, end_run
from tinyresnet.ich.looks import Look, looks
from tinyresnet.ich.phantom import make_phantom
from tinyresnet.ich.pointing import PATIENTS, score_pointing
from tinyresnet.ich.recipes import Settings
from tinyresnet.ich.report import DISCLAIMER, table, write_figures, write_json, write_tables
from tinyresnet.ich.report_page import write_report

RECIPES = ("features", "finetune", "paper")
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
    model.add_argument("--recipe", choices=RECIPES, help="features (default): frozen network, linear heads; finetune: "
                       "train from a stage on; paper: the published experiment, as written and with the weights' own input")
    model.add_argument("--unfreeze-from", metavar="STAGE", help="with finetune: first stage that trains "
                       "(default layer4; conv1 trains everything)")
    add_settings(parser)
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """How it learns, how that is judged, and where the results go."""
    how = parser.add_argument_group(f"how (defaults of {' / '.join(DEFAULTS)}; features has none of these)", "; ".join(
        f"{name.replace('_', '-')} {' / '.join(f'{getattr(settings, name):g}' for settings in DEFAULTS.values())}"
        for name in Settings._fields))
    how.add_argument("--epochs", type=int, metavar="N")
    how.add_argument("-b", "--batch-size", type=int, metavar="N")
    how.add_argument("--lr", type=float, metavar="LR", help="highest rate of Adam, along a cosine; paper: constant")
    how.add_argument("--weight-decay", type=float, metavar="W")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="for phantoms, folds and training (default 0)")
    judge = parser.add_argument_group("how it is judged")
    judge.add_argument("--split", choices=("grouped", "plain", "both"),
                       help="cross-validation by scan, by image, or both (default both, with finetune grouped)")
    judge.add_argument("--folds", type=int, default=5, metavar="N", help="default 5")
    judge.add_argument("--repeats", type=int, metavar="N", help="with other folds each time (default 5, with finetune 1)")
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
        return "--unfreeze-from: only with --recipe finetune; features trains no stage, paper all of them"
    given = [name for name in Settings._fields if getattr(args, name) is not None]
    if given and args.data_path and args.recipe in (None, "features"):
        return f"--{given[0].replace('_', '-')}: not with --recipe features, whose heads are fitted exactly"
    if args.recipe == "paper" and (args.split or args.repeats):
        return "--split, --repeats: not with --recipe paper, which divides the images once"
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
    start, begun = time.perf_counter(), args.resume
    try:
        check_folder(directory, resume=args.resume, overwrite=args.overwrite)
        if args.data_path:
            check_outside(directory, args.data_path)
        jobs = jobs_of(args)  # nothing is written before the data are known to be good
        begin(args, directory, jobs)
        begun = True
        experiment(args, directory, jobs, start)
    except KeyboardInterrupt:
        then = f"to go on: the same command without --overwrite, with --output-dir {directory} --resume"
        print(f"\ninterrupted; {then if begun else 'nothing was written'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train_ich: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def jobs_of(args: argparse.Namespace) -> dict[str, Job]:
    """What is to be done, by the name of its folder in that of the run."""
    return paper(args) if args.recipe == "paper" else {"": cross_validated(args) if args.data_path else phantoms(args)}


def begin(args: argparse.Namespace, directory: Path, jobs: dict[str, Job]) -> None:
    """Make the folder, or see that it is the right one to go on with."""
    facts = next(iter(jobs.values())).facts
    given = {name: value for name, value in vars(args).items() if name not in ("output_dir", "resume", "overwrite")}
    inputs = {"images": facts["data"]["sha256"], "weights": facts["model"]["sha256"]}
    begin_run(directory, given, inputs, resume=args.resume)


def experiment(args: argparse.Namespace, directory: Path, jobs: dict[str, Job], start: float) -> None:
    """Recipe, folds, numbers, figures, in this order. start: of the clock."""
    if args.resume and (directory / "results.json").exists():
        print(f"this run has come to its end; its results are in {directory}")
        return
    results, shown = {}, {}
    for name, job in jobs.items():
        results[name], shown[name] = learn_and_judge(job, directory / name, args.seed)
    whole = merged(results) if len(results) > 1 else results[""]
    whole["seconds"] = round(time.perf_counter() - start, 1)
    note = note_of(next(iter(jobs.values())))
    write_report(directory / "report.html", "Intracranial hemorrhage or not?", whole,
                 {name: directory / name for name in jobs}, shown, note)
    write_json(directory / "results.json", whole)
    end_run(directory)
    print(f"{table(whole['metrics'])}\n(95 % intervals)  {whole['seconds']:.0f} s")
    print("".join(f"warning: {warning}\n" for warning in whole.get("warnings", [])), end="")
    print(f"the mistakes and more: {directory / 'report.html'}\n{note}{'' if args.data_path else REAL}")


def note_of(job: Job) -> str:
    """What stands below every figure."""
    return f"{'Synthetic head-CT phantoms. ' if job.facts['data']['synthetic'] else ''}{DISCLAIMER}"


def learn_and_judge(job: Job, directory: Path, seed: int) -> tuple[dict, list[Look]]:
    """Fit all folds, write what a run leaves, and give what results.json holds and the cases for the report."""
    directory.mkdir(exist_ok=True)
    protocol = job.facts["protocol"]
    print(f"recipe {protocol['recipe']!r}, {len(job.plan)} to fit, results in {directory}", flush=True)
    recipe = job.new_recipe()
    others = job.baselines(recipe.backbone)  # before it learns anything
    outcomes, heads = run(recipe, job.plan, job.slices, directory, seed)
    independent = protocol["recipe"] == "paper"  # single images were divided
    results = {**job.facts, **analyse(job.slices, outcomes, independent=independent),
               **compared(others, job.slices, job.beside, outcomes, independent=independent)}
    if isinstance(recipe, Features):
        results["exploratory"] = exploratory(recipe, job.slices, job.plan, seed)
    refer = results["referral"][job.plan[0].split][-1]["half_width"]
    recipe.save(directory, job.slices.classes, {**job.facts, "refer_half_width": refer}, heads)
    write_tables(directory, job.slices, outcomes)
    write_figures(directory, job.slices, outcomes, note_of(job),
                  protocol["batch_size"] if protocol["recipe"] == "paper" else None)
    classifier = Classifier.load(directory)
    learned = job.plan[0].train_rows if len(job.plan) == 1 else np.arange(len(job.images))
    Cases.of(classifier, job.slices, job.images, learned).save(directory / "cases.npz")
    if job.drawn:
        results["pointing_game"] = pointing(job, classifier)
    masks = partial(mask_of, job) if job.drawn else None
    return results, list(looks(classifier, job.slices, job.images, outcomes, note_of(job), masks))


def pointing(job: Job, classifier: Classifier) -> dict:
    """Of phantoms, where the blood is known: do the maps find it? One bleeding slice of each test patient."""
    bleeding = [row for row in job.plan[0].valid_rows if job.slices.labels[row]]
    _, first = np.unique(job.slices.groups[bleeding], return_index=True)
    rows = np.array(bleeding)[first[:PATIENTS]]
    return score_pointing(classifier, [job.images[row] for row in rows], np.stack([mask_of(job, row) for row in rows]))


def mask_of(job: Job, row: int) -> np.ndarray:
    """The blood of a phantom, drawn once more: (size, size) bool, with the field of view of its image."""
    return make_phantom(*(job.drawn[row][name] for name in ("seed", "kind", "level"))).mask


def merged(results: dict[str, dict]) -> dict:
    """Of the paper's arms one result, beside what was published."""
    first, *others = results.values()
    whole = {**first, "metrics": {"published": published(), **first["metrics"]},
             "protocol": {**first["protocol"], "arm": list(results)}}
    for other in others:
        for part in ("metrics", "calibration", "referral"):
            whole[part] = {**whole[part], **other[part]}
        for part in ("baselines", "ahead"):
            whole[part] = {name: {**of, **other[part][name]} for name, of in whole[part].items()}
        whole["warnings"] = whole["warnings"] + other["warnings"]
    return whole


if __name__ == "__main__":
    sys.exit(main())
