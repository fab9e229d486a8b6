"""Head-CT phantoms as a data set on disk, for the commands that read real slices.

    python examples/make_phantoms.py phantoms
        40 patients with 5 slices each, half of them with a bleed: phantoms/labels.csv, groups.csv, head_ct/000.png, ...

    python examples/make_phantoms.py stamped --shortcut 1
        the same slices, with a letter in the corner of every bleed and of no other: something to catch

    python examples/train_ich.py --data-path phantoms --weights resnet50.npz
    python examples/audit_dataset.py phantoms

As in the real set a patient either bleeds, on all slices, or does not; slices of one patient resemble each other, and
groups.csv tells which they are. Here the truth is known: facts.json holds it. Everything is synthetic, and no statement
about patients.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from tinyresnet.files import explain, replacing, replacing_folder, write_csv
from tinyresnet.ich.phantom import KINDS, Phantom, make_phantom, panel_letter, stamp, visible_levels, window
from tinyresnet.ich.report import write_json

RANGES = {"patients": (2, 1000), "slices": (1, 5), "shortcut": (0, 1), "size": (64, 1024), "seed": (0, 2**32 - 1)}
SYNTHETIC = "Synthetic: a head-CT phantom drawn from random numbers, no patient. Not for diagnosis."


def command_line() -> argparse.ArgumentParser:
    """What may be chosen."""
    parser = argparse.ArgumentParser(prog="make_phantoms.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--patients", type=int, default=40, metavar="N", help="an even number (default 40)")
    parser.add_argument("--slices", type=int, default=5, metavar="K",
                        help="of each patient, 1 to 5 (default 5); small bleeds show on few")
    parser.add_argument("--shortcut", type=float, default=0.0, metavar="P",
                        help="stamp a letter on this fraction of the slices with blood, 0 to 1 (default 0)")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="a side (default 256)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other patients (default 0)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Draw and write; the exit code is 2, with one line on stderr, for what cannot be drawn or written."""
    args = command_line().parse_args(arguments)
    try:
        check(args)
        write(args)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"make_phantoms: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{args.directory}: {args.patients * args.slices} synthetic slices of {args.patients} patients, half with a bleed")
    return 0


def check(args: argparse.Namespace) -> None:
    """Raise ValueError unless this can be drawn, into a folder that is not there yet."""
    for name, (least, most) in RANGES.items():
        if not least <= getattr(args, name) <= most:
            raise ValueError(f"--{name}: expected {least} to {most}, got {getattr(args, name)}")
    if args.patients % 2:
        raise ValueError(f"--patients: expected an even number, half with a bleed and half without, got {args.patients}")
    if args.directory.exists() or not args.directory.absolute().parent.is_dir():
        raise ValueError(f"{args.directory}: expected the name of a new folder in one that is there; nothing is overwritten")


def patients(count: int, slices: int, size: int, seed: int) -> Iterator[tuple[int, Phantom]]:
    """The slices patient by patient: 0 bleeds, 1 does not and is cut at the same levels, so that no level tells; and on.

    The bleeds take turns. One that shows on too few levels is replaced by another patient's: with five slices half of the
    IPH, seven IVH in ten, five SAH in six, few others. Large bleeds are what is left.
    """
    for pair in range(count // 2):
        rng = np.random.default_rng([seed, pair, 2])  # 2: other heads than those of make_twins with this seed
        kind = KINDS[1 + pair % 5]
        showing: tuple[int, ...] = ()
        while len(showing) < slices:
            bleeding, healthy = rng.integers(2**62, size=2).tolist()
            showing = visible_levels(bleeding, kind, size=size)
        levels = sorted(rng.choice(showing, slices, replace=False).tolist())
        for patient, number, bleed in (2 * pair, bleeding, kind), (2 * pair + 1, healthy, "normal"):
            yield from ((patient, make_phantom(number, bleed, level, size=size)) for level in levels)


def write(args: argparse.Namespace) -> None:
    """Everything into a folder beside, which takes its name when it is complete, and otherwise goes."""
    with replacing_folder(args.directory) as beside:
        (beside / "head_ct").mkdir()
        drawn = patients(args.patients, args.slices, args.size, args.seed)
        bar = tqdm(drawn, "drawing phantoms", args.patients * args.slices, unit=" slices", leave=False, disable=None)
        rows = [write_slice(beside / "head_ct" / f"{n:03d}.png", n, patient, phantom, args.shortcut)
                for n, (patient, phantom) in enumerate(bar)]
        write_csv(beside / "labels.csv", ("id", "hemorrhage"), ((row["id"], int(row["kind"] != "normal")) for row in rows))
        write_csv(beside / "groups.csv", ("id", "group"), ((row["id"], row["patient"]) for row in rows))
        chosen = {name: getattr(args, name) for name in RANGES}
        write_json(beside / "facts.json", {"synthetic": True, **chosen, "images": rows})
        command = " ".join(f"--{name} {value}" for name, value in chosen.items())
        (beside / "README.txt").write_text(f"{SYNTHETIC}\nMade by: python examples/make_phantoms.py DIR {command}\n")


def write_slice(path: Path, number: int, patient: int, phantom: Phantom, shortcut: float) -> dict:
    """A grey picture, in the brain window of that scan, that says itself that it is synthetic; returns what is known."""
    letter, told = panel_letter(phantom.facts, shortcut), PngInfo()
    told.add_text("Description", SYNTHETIC)
    grey = window(phantom.hu, *phantom.facts["window"])  # (size, size)
    with replacing(path) as beside:
        Image.fromarray(stamp(np.repeat(grey[..., None], 3, axis=-1), letter)[..., 0]).save(beside, pnginfo=told)
    return {"id": number, "patient": patient, **phantom.facts, "letter": letter, "synthetic": True}


if __name__ == "__main__":
    sys.exit(main())
