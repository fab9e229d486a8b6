"""What should be known of a data set of head-CT slices before anything is trained on it.

    python examples/audit_dataset.py head_ct
        the same slice twice, two labels for one slice, shortcuts in sizes and margins, odd images

DIR holds labels.csv and its images, or two class folders. Results go to runs/<time>: audit.html to read, audit.json with
all numbers, and groups.csv, a proposal which images belong together: review it, then copy it beside labels.csv.
Research and teaching only, not for diagnosis.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tinyresnet.files import explain, printable, replacing_folder
from tinyresnet.ich.audit import agreement, audit, write_groups, write_page
from tinyresnet.ich.dataset import load_dataset, read_images
from tinyresnet.ich.folder import check_outside
from tinyresnet.ich.report import DISCLAIMER, write_json


def command_line() -> argparse.ArgumentParser:
    """Flags are spelled as in train_ich.py."""
    parser = argparse.ArgumentParser(prog="audit_dataset.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR", help="labels.csv and its images, or two class folders")
    parser.add_argument("--positive-class", metavar="NAME", help="folder or column that is the positive class")
    parser.add_argument("--skip-bad-images", action="store_true", help="leave out unreadable images, and list them")
    parser.add_argument("--output-dir", type=Path, metavar="OUT", help="a new folder; default runs/<time>")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Audit; the exit code is 2, with one line on stderr, for input that cannot be used."""
    args = command_line().parse_args(arguments)
    out = args.output_dir or Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        check_output(out, args.directory)
        print(run(args, out))
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"audit_dataset: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def check_output(out: Path, source: Path) -> None:
    """Raise ValueError unless the results go to a new folder outside the data: a groups.csv of the user's is never lost."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and not an empty folder; give a new one as --output-dir")
    check_outside(out, source)


def run(args: argparse.Namespace, out: Path) -> str:
    """Read, audit, write; returns the summary."""
    bar = partial(tqdm, leave=False, disable=None)
    everything = load_dataset(args.directory, positive_class=args.positive_class)
    dataset, images = read_images(everything, skip_bad=args.skip_bad_images, progress=partial(bar, desc="reading"))
    facts = audit(dataset, images, everything, progress=partial(bar, desc="comparing"))
    with replacing_folder(out) as beside:
        write_json(beside / "audit.json", facts)
        write_groups(beside / "groups.csv", everything, facts["pairs"])
        write_page(beside / "audit.html", facts, images)
    return summary(facts, out)


def summary(facts: dict, out: Path) -> str:
    """What matters most, for the terminal."""
    counts = ", ".join(f"{count} {name!r}" for name, count in facts["classes"].items())
    worst = facts["shortcuts"][0]
    lines = [f"{facts['images']} images: {counts}; {len(facts['odd']['unreadable'])} unreadable left out",
             f"{len(facts['pairs'])} pairs show the same slice, {facts['different_labels']} of them with different labels; "
             f"{facts['groups']['proposed']} groups proposed", *agreement(facts["groups"])[:1],
             f"worst shortcut: {worst['name']}, ROC-AUC {worst['roc_auc']:.2f}, {worst['direction']}"
             f"{' (warning: a network can be right without seeing a bleed)' if worst['warning'] else ''}",
             f"the page to read: {out / 'audit.html'}; to review: {out / 'groups.csv'}", DISCLAIMER]
    return "\n".join(map(printable, lines))


if __name__ == "__main__":
    sys.exit(main())
