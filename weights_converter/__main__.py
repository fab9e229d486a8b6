"""python -m weights_converter convert resnet50.pth resnet50.npz
python -m weights_converter inspect resnet50.pth
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from numpy import ndarray as Array

from tinyresnet.files import explain
from weights_converter.conversion import convert, describe, own_facts
from weights_converter.names import recognise, unwrap
from weights_converter.read import read_tensors


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 2, with one line on stderr, for a file that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="weights_converter", description="Reads published weights safely, and converts them for tinyresnet."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help="write an .npz that tinyresnet.weights.load_model reads")
    command.add_argument("path", metavar="IN", type=Path)
    command.add_argument("out", metavar="OUT.npz", type=Path)
    command = commands.add_parser("inspect", help="list the arrays and name the network")
    command.add_argument("path", metavar="IN", type=Path)
    options = parser.parse_args(arguments)
    try:
        print(convert(options.path, options.out) if options.command == "convert" else inspect(options.path))
    except (ValueError, OSError) as error:
        print(f"weights_converter: {explain(error)}", file=sys.stderr)
        return 2
    return 0


def inspect(path: Path) -> str:
    """A table of names, shapes and dtypes as stored, and below it the network they belong to, or why to none."""
    tensors = read_tensors(path)
    width = max(map(len, tensors))
    lines = [f"{name:{width}}  {str(array.shape):20}  {array.dtype}" for name, array in tensors.items()]
    return "\n".join([*lines, f"{len(tensors)} arrays", *network_in(tensors, own_facts(path))])


def network_in(tensors: dict[str, Array], facts: dict) -> list[str]:
    """Lines that name the network; for a file of tinyresnet's, whose facts tell, what else they tell."""
    if facts:
        shown = dict(facts)
        if isinstance(facts.get("classes"), list) and facts["classes"]:
            shown["classes"] = f"{len(facts['classes'])}, {facts['classes'][0]!r} to {facts['classes'][-1]!r}"
        return ["network: in tinyresnet's own layout, with these facts", *(f"  {k}: {v}" for k, v in shown.items())]
    try:
        return [f"network: {describe(recognise(unwrap(tensors)))}"]
    except ValueError as error:
        return [f"network: none: {error}"]


if __name__ == "__main__":
    sys.exit(main())
