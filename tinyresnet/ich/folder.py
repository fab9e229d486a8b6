"""The folder a run writes to: refused, begun, gone on with, tidied up. Nothing of other people's is ever removed.

    check_folder    before anything is read: may it be used?
    begin_run       when the input is known to be good: args.json, with what the run is about
    end_run         what only an interrupted run needs goes
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinyresnet.ich.paper import ARMS
from tinyresnet.ich.report import OUTPUTS, versions, write_json

FOLD_FILE = re.compile(r"(grouped|plain)-\d+-\d+(\.part)?\.npz")  # what experiment.run keeps of a fold
PARTS = ("", *ARMS)  # folders of a run: its own, and one an arm of the paper's experiment


def check_outside(directory: Path, source: Path) -> None:
    """Raise ValueError for an output folder in the data set: what is written there would be taken for data."""
    if directory.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{directory} lies in the data set {source} and would be taken for data; give another --output-dir")


def check_folder(directory: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise ValueError if the output folder may not be used; changes nothing."""
    if resume and not (directory / "args.json").exists():
        raise ValueError(f"{directory} holds no run to go on with (no args.json); leave --resume out")
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; give a folder as --output-dir")
    if directory.is_dir() and any(directory.iterdir()) and not (resume or overwrite):
        raise ValueError(f"{directory} is not empty: go on with its run by --resume, or replace it by --overwrite")


def begin_run(directory: Path, args: Mapping, inputs: Mapping, *, resume: bool) -> None:
    """Make the folder, with arguments and inputs in args.json; then what an overwritten run left goes.

    inputs: SHA-256 of images and weights. Raises ValueError if the run to go on with was begun with others.
    """
    told = {name: str(value) if isinstance(value, Path) else value for name, value in args.items()}
    if resume:
        check_same(directory / "args.json", told | dict(inputs))
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "args.json", {"args": told, "inputs": dict(inputs), "versions": versions()})
    if not resume:
        for part in PARTS:
            for leftover in [*(directory / part / name for name in OUTPUTS), *fold_files(directory / part)]:
                leftover.unlink(missing_ok=True)


def check_same(path: Path, now: Mapping) -> None:
    """Raise ValueError unless the run that is to go on was begun with the same arguments, images and weights."""
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        before = begun["args"] | begun["inputs"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what a run leaves there ({error!r}); begin anew with --overwrite") from error
    changed = [f"{name} was {before.get(name)!r}, now {value!r}" for name, value in now.items()
               if before.get(name) != value]
    if changed:
        raise ValueError(f"--resume needs the arguments, images and weights of the interrupted run: {'; '.join(changed)}")


def end_run(directory: Path) -> None:
    """Remove the checkpoint and the single folds, which are all in predictions.csv and summary.csv now."""
    for part in (directory / part for part in PARTS):
        for leftover in [part / "checkpoint.npz", *fold_files(part)]:
            leftover.unlink(missing_ok=True)
        if (part / "folds").is_dir() and not any((part / "folds").iterdir()):
            (part / "folds").rmdir()


def fold_files(directory: Path) -> Iterator[Path]:
    return (path for path in (directory / "folds").glob("*") if FOLD_FILE.fullmatch(path.name))
