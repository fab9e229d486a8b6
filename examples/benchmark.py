"""How fast, how large: tinyresnet measured on this machine, in turns with PyTorch and ONNX Runtime where installed.

    python examples/benchmark.py                                all about ResNet-50: about a quarter of an hour on two cores
    python examples/benchmark.py --only step inference          some sections
    python examples/benchmark.py --json benchmark.json --plot growth.png

    step        a training step of 16 images, against PyTorch
    inference   answers for one image and for 16, against PyTorch and ONNX Runtime
    memory      the peak of each, one process a task
    startup     import, first answer, first training step with nothing compiled yet
    layers      every distinct convolution as training runs it: forward, dx, dw
    kernels     where the time of a training step goes
    growth      time against number and size of images; --plot draws it, on logarithmic axes
    frozen      what feature extraction and fine-tuning save

ResNet-50 has random weights, images are random, 224 x 224 pixels, float32. Times are medians of rounds in which all
contestants take turns, each with the same number of threads. Progress goes to stderr; the tables come last, on stdout,
because speeds are told as shares of the best large matrix product of the whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile

from benchmark_measure import Plan, one_line, product_flop, say
from benchmark_sections import SECTIONS
from benchmark_tables import report
from threadpoolctl import threadpool_info, threadpool_limits

import tinyresnet
from tinyresnet.files import replacing
from tinyresnet.kernels import winograd
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.kernels.threads import number_of_threads
from tinyresnet.plots import plot_growth

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "torch", "onnxruntime", "onnx")
FIGURES = (".png", ".pdf", ".svg")


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmark.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), metavar="SECTION", help="these sections alone")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="rounds that count (default 7)")
    parser.add_argument("--threads", type=int, metavar="N",
                        help="threads of every library (default TINYRESNET_NUM_THREADS, else all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, every single timing included")
    parser.add_argument("--plot", type=Path, metavar="FILE",
                        help="draw the section growth on logarithmic axes (.png, .pdf or .svg)")
    return parser


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments, if they can be used; else argparse's error."""
    parser = command_line()
    args = parser.parse_args(arguments)
    args.only = [name for name in SECTIONS if not args.only or name in args.only]
    for name in ("repeats", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name}: expected at least 1, got {value}")
    for name in ("json", "plot"):  # before anything is measured
        path = getattr(args, name)
        if path and not is_writable(path):
            parser.error(f"--{name}: {path} cannot be written: its folder is missing or read-only, or it is no file")
    if args.plot and "growth" not in args.only:
        parser.error("--plot draws the section growth: add it to --only")
    if args.plot and args.plot.suffix.lower() not in FIGURES:
        parser.error(f"--plot: expected a file that ends in {', '.join(FIGURES)}, got {args.plot}")
    args.json, args.plot = (path and path.resolve() for path in (args.json, args.plot))  # a symbolic link stays one
    return args


def is_writable(path: Path) -> bool:
    """Whether a file can be put there, found out by putting a nameless one into its folder."""
    try:
        with TemporaryFile(dir=path.resolve().parent):
            return path.is_file() or not path.exists()
    except (OSError, RuntimeError):  # a loop of symbolic links is the latter
        return False


def main(arguments: list[str] | None = None, plan: Plan = Plan()) -> int:
    """Measure and print; the exit code is 2, with one line on stderr, for what cannot be measured or written."""
    args = parse(arguments)
    written: list[str] = []
    try:
        if args.threads:
            os.environ["TINYRESNET_NUM_THREADS"] = str(args.threads)  # read when the first kernel runs; inherited, too
        plan = plan._replace(repeats=args.repeats, threads=number_of_threads())
        with threadpool_limits(plan.threads, user_api="blas"):
            run(args, plan, written)
    except KeyboardInterrupt:
        kept = f"; what was finished is in {args.json}" if written else ""
        print(f"\ninterrupted{kept}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        print(f"benchmark: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace, plan: Plan, written: list[str]) -> None:
    """Section by section; the JSON file grows with each, `written` with it. An interrupted run prints what it has."""
    facts, sections = machine(plan), {}
    print(heading(facts), flush=True)
    try:
        for name in args.only:
            say(f"{name}:")
            begin = time.perf_counter()
            found = SECTIONS[name](plan)
            say(f"  {time.perf_counter() - begin:.0f} s")
            sections[name] = found
            if args.json:
                write_json(args.json, {"machine": facts, "plan": plan._asdict(), "sections": sections})
                written.append(name)
            if args.plot and name == "growth":
                plot_growth(found["batches"], found["sizes"], args.plot, note=note(facts))
    finally:
        for table in report(sections, product_flop(plan)):
            print(f"\n{table}", flush=True)


def write_json(path: Path, everything: dict) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(everything, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def machine(plan: Plan) -> dict:
    """What the figures depend on."""
    found = {"tinyresnet": tinyresnet.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    keys = ("filepath", "internal_api", "version", "architecture")
    blas = [{key: library.get(key) for key in keys} for library in threadpool_info() if library["user_api"] == "blas"]
    return {"cpu": processor(), "system": platform.platform(), "cores": os.cpu_count(), "threads": plan.threads,
            "kernels": KERNELS, "winograd": winograd.ENABLED and KERNELS == "numba",
            "versions": found, "blas": blas, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def processor() -> str:
    """The name of the CPU, as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def note(facts: dict) -> str:
    """What stands below the figure."""
    return (f"Forward with batch norm folded in, float32, {facts['threads']} threads of {facts['cpu']}. "
            "Dotted: in proportion to the work.")


def heading(facts: dict) -> str:
    """What stands above the tables."""
    blas = ", ".join(dict.fromkeys(f"{b['internal_api']} {b['version']} for {b['architecture']}" for b in facts["blas"]))
    winograds = f", Winograd's method {'on' if facts['winograd'] else 'off'}" if facts["kernels"] == "numba" else ""
    return (f"{facts['cpu']}, {facts['threads']} threads on {facts['cores']} cores, {facts['system']}\n"
            f"{', '.join(f'{name} {number}' for name, number in facts['versions'].items())}\n"
            f"BLAS: {blas}; kernels: {facts['kernels']}{winograds}")


if __name__ == "__main__":
    sys.exit(main())
