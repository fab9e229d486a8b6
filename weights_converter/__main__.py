"""python -m weights_converter convert resnet50.pth resnet50.npz
python -m weights_converter inspect resnet50.pth
python -m weights_converter convert backbone.safetensors backbone.npz --partial
python -m weights_converter verify resnet50.npz photographs/*.jpg
python -m weights_converter list
python -m weights_converter download resnet50
python -m weights_converter download head_ct
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from numpy import ndarray as Array

from tinyresnet.files import explain
from tinyresnet.weights import load_model
from weights_converter.catalogue import as_rows, as_table, published
from weights_converter.conversion import convert, own_facts, sha256_of, translate
from weights_converter.download import GOES_ON, cache_folder, fetch, find
from weights_converter.head_ct import LICENCE, download_head_ct
from weights_converter.read import read_tensors
from weights_converter.verify import Verdict, verify


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 2, with one line on stderr, for a file that cannot be used.

    It is 1 if `verify` finds that something is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="weights_converter", description="Reads published weights safely, and converts them for tinyresnet."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_converting(commands)
    add_downloading(commands)
    options = parser.parse_args(arguments)
    try:
        result = COMMANDS[options.command](options)
        encoding = sys.stdout.encoding or "utf-8"  # a name in a file may have letters that the terminal has not
        print(str(result).encode(encoding, "backslashreplace").decode(encoding))
    except KeyboardInterrupt:
        hint = f"; {GOES_ON}" if options.command == "download" else ""
        print(f"\nweights_converter: interrupted{hint}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"weights_converter: {explain(error)}", file=sys.stderr)
        return 2
    return int(isinstance(result, Verdict) and not result.fits)


def add_converting(commands) -> None:
    """The commands that read a file of weights."""
    command = commands.add_parser("convert", help="write an .npz that tinyresnet.load_model reads")
    command.add_argument("path", metavar="IN", type=Path)
    command.add_argument("out", metavar="OUT.npz", type=Path)
    command.add_argument("--partial", action="store_true",
                         help="also if the head or the last stages are missing: what is there, and a head of zeros")
    command.add_argument("--json", action="store_true", help="the summary for machines")
    command = commands.add_parser("inspect", help="list the arrays and name the network")
    command.add_argument("path", metavar="IN", type=Path)
    command.add_argument("--json", action="store_true", help="the same for machines")
    command = commands.add_parser("verify", help="do the numbers fit the facts? photographs tell; exit code 1 if not")
    command.add_argument("path", metavar="FILE.npz", type=Path)
    command.add_argument("images", metavar="IMAGE", type=Path, nargs="+",
                         help="natural photographs, ten or more: pictures unlike those of training make all look wrong")


def add_downloading(commands) -> None:
    """The commands that know what is published, and where."""
    command = commands.add_parser("list", help="what can be downloaded, with licence, size and published accuracy")
    command.add_argument("--json", action="store_true", help="all that is known, for machines")
    command = commands.add_parser("download", help="fetch published weights and convert them, or fetch the head-CT slices")
    command.add_argument("name", metavar="NAME", help="as in `list`, or head_ct")
    command.add_argument("out", metavar="OUT", type=Path, nargs="?",
                         help="the .npz to write (default NAME.npz); of head_ct the folder (default head_ct)")
    command.add_argument("--zip", metavar="FILE", type=Path, help="the head-CT slices in a zip file fetched by hand")


def list_published(options: argparse.Namespace) -> str:
    """What can be downloaded."""
    if options.json:
        return json.dumps(as_rows(), indent=1)
    return (f"{as_table()}\nper cent of ImageNet's validation images, as torchvision publishes it; "
            "download head_ct fetches 200 head-CT slices")


def download(options: argparse.Namespace) -> str:
    """Fetch, convert, and tell where everything is; what takes long is announced before."""
    if options.name == "head_ct":
        print(LICENCE, flush=True)
        folder = download_head_ct(options.out or Path("head_ct"), options.zip)
        return f"{folder}: 200 slices, 100 with hemorrhage, for examples/train_ich.py --data-path {folder}"
    entry, out = published(options.name), options.out or Path(f"{options.name}.npz")
    if out.suffix != ".npz" or options.zip:
        raise ValueError(f"expected OUT to end in .npz, and --zip with head_ct alone, got {str(out)!r}")
    path = find(entry.file, entry.sha256)
    if path is None:
        path = fetch(entry.address, cache_folder() / entry.file, sha256=entry.sha256, limit=entry.limit)
    print(f"{path}: as published, licence {entry.licence}", flush=True)
    summary = convert(path, out)
    return f"{out}: {summary}\npublished accuracy: top-1 {entry.top1} %, top-5 {entry.top5} % ({entry.source})"


def convert_command(options: argparse.Namespace) -> str:
    """Convert, and say what; with --json the keys of Summary.as_dict, and `file` and `out`."""
    summary = convert(options.path, options.out, partial=options.partial)
    if options.json:
        return json.dumps({"file": str(options.path), "out": str(options.out)} | summary.as_dict(), indent=1)
    return str(summary)


def inspect(options: argparse.Namespace) -> str:
    """A table of names, shapes and dtypes as stored, and below it the network they belong to, or why to none.

    With --json the keys of Summary.as_dict, and `file` and `tensors`; where `network` is null, `reason` says why.
    """
    tensors = read_tensors(options.path)
    table = [{"name": name, "shape": array.shape, "dtype": str(array.dtype)} for name, array in tensors.items()]
    network, lines = network_in(options.path, tensors)
    if options.json:
        return json.dumps({"file": str(options.path)} | network | {"tensors": table}, indent=1)
    width = max(len(row["name"]) for row in table)
    return "\n".join([*(f"{row['name']:{width}}  {str(row['shape']):20}  {row['dtype']}" for row in table),
                      f"{len(table)} arrays", *lines])


def network_in(path: Path, tensors: dict[str, Array]) -> tuple[dict, list[str]]:
    """The network for machines, and in lines to read; for a file of tinyresnet's own all that its facts tell."""
    if facts := own_facts(path):
        shown = dict(facts)
        if isinstance(facts.get("classes"), list) and facts["classes"]:
            shown["classes"] = f"{len(facts['classes'])}, {facts['classes'][0]!r} to {facts['classes'][-1]!r}"
        lines = [f"  {printable(name)}: {printable(fact)}" for name, fact in shown.items()]
        return own_summary(path), ["network: in tinyresnet's own layout, with these facts", *lines]
    try:
        summary = translate(path, tensors, partial=True)[1]
        return summary.as_dict(), [f"network: {summary}"]
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return {"network": None, "reason": reason}, [f"network: none: {reason}"]


def printable(value: object) -> str:
    """As it is, or without what would command the terminal: a file may hold anything."""
    return str(value) if str(value).isprintable() else ascii(value)


def own_summary(path: Path) -> dict:
    """Of a file that tinyresnet wrote, what Summary.as_dict tells of others."""
    try:
        model = load_model(path)
    except ValueError as error:
        return {"network": None, "reason": str(error).removeprefix(f"{path}: ")}
    missing = model.origin.get("missing", []) if isinstance(model.origin, dict) else []
    facts, parameters = model.facts(), model.named_params()
    return {"network": model.name, "missing": missing, "scheme": "tinyresnet", "config": facts["config"],
            "preprocessing": facts["preprocessing"], "changes": [], "arrays": len(model.state_dict()),
            "parameters": sum(array.size for _, array in parameters), "sha256": sha256_of(path)}


COMMANDS: dict[str, Callable[[argparse.Namespace], object]] = {
    "convert": convert_command,
    "inspect": inspect,
    "verify": lambda options: verify(options.path, options.images),
    "list": list_published,
    "download": download,
}

if __name__ == "__main__":
    sys.exit(main())
