"""Two pages of head-CT phantoms: sixty slices to read, and the same ones with their blood outlined.

    python examples/show_phantoms.py
        writes runs/phantoms.png and runs/phantoms_outlined.png

    python examples/show_phantoms.py --windows
        fewer slices, each in the brain, the subdural and the bone window

A row is a kind of bleed, two slices beside each other are one patient. Above each stand what the phantom knows of itself:
site, volume and mean HU of the blood, and the level, from 0 at the skull base to 15 near the vertex. The outline is the
phantom's mask. Everything is synthetic, and no statement about patients.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from tinyresnet.files import explain, replacing
from tinyresnet.ich.phantom import KINDS, LEVELS, WINDOWS, Phantom, make_phantom, shows_blood, window
from tinyresnet.plots import BLACK, GREY, ORANGE

NAMES = {"normal": "no bleed", "IPH": "in the brain (IPH)", "IVH": "in the ventricles (IVH)", "SDH": "subdural (SDH)",
         "SAH": "subarachnoid (SAH)", "EDH": "epidural (EDH)"}
PATIENTS, PATIENTS_IN_WINDOWS = 5, 2  # of each kind, with two slices each
SIZE = 192  # pixels a side


def main(arguments: list[str] | None = None) -> int:
    """Draw both pages; exit code 2 if they cannot be written."""
    parser = argparse.ArgumentParser(prog="show_phantoms.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other patients (default 0)")
    parser.add_argument("--output", type=Path, metavar="FILE.png", default=Path("runs/phantoms.png"),
                        help="the first page (default %(default)s); the second is FILE_outlined.png")
    parser.add_argument("--windows", action="store_true", help="each slice in three windows")
    args = parser.parse_args(arguments)
    if args.seed < 0 or args.output.suffix != ".png":
        parser.error(f"expected a seed from 0 on and a FILE.png, got {args.seed} and {args.output}")
    outlined = args.output.with_stem(f"{args.output.stem}_outlined")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        rows = [cases(kind, PATIENTS_IN_WINDOWS if args.windows else PATIENTS, args.seed)
                for kind in tqdm(KINDS, "drawing phantoms", leave=False, disable=None)]
        draw(rows, args.output, outlined, list(WINDOWS) if args.windows else ["brain"])
    except KeyboardInterrupt:
        print("\ninterrupted; at most the first page was written", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"show_phantoms: {explain(error)}", file=sys.stderr)
        return 2
    print(f"{args.output}: {sum(map(len, rows))} synthetic slices\n{outlined}: the same, blood outlined")
    return 0


def cases(kind: str, patients: int, seed: int) -> list[Phantom]:
    """Two slices, the lower first, of each of some patients whose bleed shows on that many."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    found: list[Phantom] = []
    while len(found) < 2 * patients:
        number, in_any_order = int(rng.integers(2**62)), rng.permutation(LEVELS).tolist()
        showing = (level for level in in_any_order if kind == "normal" or shows_blood(number, kind, level, size=SIZE))
        levels = sorted(islice(showing, 2))  # looks no further than it must
        if len(levels) == 2:
            found += [make_phantom(number, kind, level, size=SIZE) for level in levels]
    return found


def draw(rows: list[list[Phantom]], path: Path, outlined: Path, names: list[str]) -> None:
    """Both pages: a row a kind, each slice in these windows side by side."""
    columns = len(rows[0]) * len(names)
    figure = Figure(figsize=(1.5 * columns, 1.8 * len(rows) + 0.6), dpi=120, facecolor="white")
    panes = figure.subplots(len(rows), columns)
    figure.subplots_adjust(left=0.02, right=0.995, bottom=0.035, top=0.93, wspace=0.03, hspace=0.25)
    cells = [(phantom, name) for row in rows for phantom in row for name in names]
    for axes, (phantom, name) in zip(panes.flat, cells):
        axes.imshow(window(phantom.hu, *WINDOWS[name]), cmap="gray", vmin=0, vmax=255)
        axes.set_title(caption(phantom.facts) if name == names[0] else f"\n{name} window", fontsize=7, color=BLACK)
        axes.set(xticks=[], yticks=[], frame_on=False)
    for axes, kind in zip(panes[:, 0], KINDS):
        axes.set_ylabel(NAMES[kind], fontsize=10, color=BLACK)
    figure.suptitle("Head-CT phantoms", fontsize=13, y=0.99)
    figure.supxlabel("Synthetic: drawn from random numbers, no patients. Window width and level in HU: " + "; ".join(
        f"{name} {WINDOWS[name][0]}, {WINDOWS[name][1]}" for name in names), fontsize=9, color=GREY, style="italic", y=0.006)
    with replacing(path) as beside:
        figure.savefig(beside)
    for axes, (phantom, _) in zip(panes.flat, cells):
        if phantom.mask.any():
            axes.contour(phantom.mask, [0.5], colors=ORANGE, linewidths=0.7)
    with replacing(outlined) as beside:
        figure.savefig(beside)


def caption(facts: dict) -> str:
    """Two lines about a slice."""
    if facts["kind"] == "normal":
        return f"\nlevel {facts['level']}"
    return f"{facts['site']}, level {facts['level']}\n{facts['volume_ml']:.2g} mL, {facts['lesion_hu']:.0f} HU"


if __name__ == "__main__":
    sys.exit(main())
