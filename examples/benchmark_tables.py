"""What benchmark.py prints: each section's data as aligned text, and a sentence on how to read it.

A section's function takes its data, and the FLOP/s of the large matrix product, which is the run's measure of speed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import nan
from operator import itemgetter

from benchmark_measure import OURS, PRODUCT, best, ratio
from benchmark_peers import PEERS

LAYERS = ("Input: height x width x channels. GFLOP: of one forward; dx and dw have as many each. Forward takes the sums\n"
          "for batch norm, too. Where dx and dw have no times of their own, one pass makes both together with batch norm's\n"
          "backward, whose time is in, but not its work. All: each kind n times.")


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns as wide as they must be; the first `left` ones begin at the left, the others end at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) if column < left else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def number(value: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ms(times: Sequence[float]) -> str:
    return number(1000 * statistics.median(times))


def spread(times: Sequence[float]) -> str:
    return f"{number(1000 * min(times))}..{number(1000 * max(times))}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"


def products(data: object) -> Iterator[Sequence[float]]:
    """All timings of the large matrix product in the sections' data, wherever they lie."""
    if isinstance(data, list):
        data = dict(enumerate(data))
    if isinstance(data, dict):
        for key, value in data.items():
            yield from [value] if key == PRODUCT else products(value)


def peak(sections: dict, flop: float) -> float:
    """The best FLOP/s of the large matrix product, by the medians of the sections that measured it; NaN if none did."""
    return max((flop / statistics.median(times) for times in products(sections)), default=nan)


def comparison(title: str, section: dict, most: float) -> str:
    """Everybody's time for the same work, and how many times as fast ours is."""
    seconds = section["seconds"]
    rows = [("", "median ms", "min..max", "images/s", "GFLOP/s", "of product", "theirs / ours")]
    for name, times in seconds.items():
        speed = (section["product_flop"] if name == PRODUCT else section["flop"]) / statistics.median(times)
        images = "" if name == PRODUCT else number(section["batch"] / statistics.median(times))
        times_as_fast = "" if name in (OURS, PRODUCT) else f"{ratio(seconds, name):.2f}"
        rows.append((name, ms(times), spread(times), images, number(speed / 1e9), percent(speed, most), times_as_fast))
    same = [f"All give the same {what} to {max(errors.values()):.0e} of the largest."
            for what, errors in section["differences"].items() if errors]
    reading = "Theirs / ours: of the medians; above 1, tinyresnet is faster."
    return "\n".join([title, aligned(rows), reading, *against(seconds), *section["missing"], *same])


def against(values: dict) -> list[str]:
    """A line on the best way of each peer; theirs / ours."""
    ends = [f"{name} {ratio(values, name):.2f}" for peer in PEERS if (name := best(values, peer))]
    return [f"Against the best of each: {'; '.join(ends)}."] if ends else []


def step(section: dict, most: float) -> str:
    return comparison(f"Training step, batch {section['batch']}: forward, cross-entropy, backward, Adam", section, most)


def inference(sections: dict, most: float) -> str:
    title = ("Batch norm is folded into the convolutions, but for PyTorch's first two ways.\n"
             "TorchScript: PyTorch frozen, which folds, and optimised for inference, which lays everything as oneDNN likes.")
    return "\n\n".join(comparison(f"Inference, batch {section['batch']}. {title}", section, most)
                       for section in sections.values())


def memory(section: dict, most: float) -> str:
    rows = [("task", "", "after import, MB", "peak, MB", "theirs / ours")]
    ends = []
    for (task, batch), group in groupby(section["rows"], key=itemgetter("task", "batch")):
        found, title = list(group), f"{task}, batch {batch}"
        peaks = {row["name"]: [row["peak"]] for row in found}
        rows += [(title, row["name"], number(row["after import"] / 1e6), number(row["peak"] / 1e6),
                  "" if row["name"] == OURS else f"{ratio(peaks, row['name']):.2f}") for row in found]
        ends += [f"{title.capitalize()}. {end}" for end in against(peaks)]
    return "\n".join(["Peak memory, one process each, measured once (all that it ever held, libraries included)",
                      aligned(rows, left=2), "After import: the libraries alone.",
                      "Theirs / ours: of the peaks; above 1, tinyresnet needs less.", *ends, *section["missing"]])


def startup(section: dict, most: float) -> str:
    titles = {"import": "import tinyresnet", "inference": "first inference, batch 1, warm cache",
              "step, empty cache": f"first training step, batch {section['batch']}, empty cache"}
    rows: list[tuple[str, ...]] = [
        ("seconds, medians", "import", "build", "first call", "whole process", "min..max", "processes")]
    for name, runs in section["runs"].items():
        medians = [f"{statistics.median(run[part] for run in runs):.2f}" if part in runs[0] else ""
                   for part in ("import", "build", "first call", "whole process")]
        whole = [run["whole process"] for run in runs]
        rows.append((titles[name], *medians, f"{min(whole):.2f}..{max(whole):.2f}", str(len(runs))))
    return "\n".join(["Start-up, each time in a fresh process", aligned(rows),
                      "Whole process: from its start to its end, Python's own included. With an empty cache the first call",
                      "compiles the kernels."])


def layers(section: dict, most: float) -> str:
    heads = ("forward ms", "GFLOP/s", "of product", "dx ms", "dw ms", "dx + dw ms", "GFLOP/s", "of product")
    rows: list[tuple[str, ...]] = [("n", "input", "kernel", "stride", "out", "GFLOP", "method", *heads)]
    work, totals = 0.0, [0.0, 0.0]
    for row in section["rows"]:
        medians = {part: statistics.median(times) for part, times in row["seconds"].items()}
        parts = [number(1000 * medians[part]) if part in medians else "" for part in ("dx", "dw")]
        seconds = medians["forward"], sum(medians.values()) - medians["forward"]
        rows.append((str(row["count"]), "x".join(map(str, row["input"])), f"{row['kernel']}x{row['kernel']}",
                     str(row["stride"]), str(row["outputs"]), number(row["flop"] / 1e9), row["method"],
                     *speeds(row["flop"], seconds[0], most), *parts, *speeds(2 * row["flop"], seconds[1], most)))
        work += row["count"] * row["flop"]
        totals = [total + row["count"] * part for total, part in zip(totals, seconds)]
    rows.append((str(sum(row["count"] for row in section["rows"])), "all", "", "", "", number(work / 1e9), "",
                 *speeds(work, totals[0], most), "", "", *speeds(2 * work, totals[1], most)))
    return "\n".join([
        f"Convolutions of a training step, batch {section['batch']}: {len(section['rows'])} kinds, n of each; medians",
        aligned(rows, left=2), LAYERS])


def speeds(flop: float, seconds: float, most: float) -> tuple[str, str, str]:
    """Milliseconds, GFLOP/s and share of the peak."""
    return number(1000 * seconds), number(flop / seconds / 1e9), percent(flop / seconds, most)


def kernel_times(section: dict, most: float) -> str:
    steps = section["steps"]
    total = statistics.median(step["total"] for step in steps)
    outside = statistics.median(step["total"] - sum(row["seconds"] for row in step["kernels"].values()) for step in steps)
    found = [(statistics.median(step["kernels"][name]["seconds"] for step in steps), name, row)
             for name, row in steps[0]["kernels"].items()]
    rows = [("kernel", "file", "calls", "ms", "of the step")]
    rows += [(name, row["module"].rpartition(".")[2] + ".py", str(row["calls"]), number(1000 * seconds),
              f"{100 * seconds / total:.1f} %") for seconds, name, row in sorted(found, key=itemgetter(0), reverse=True)]
    rows += [("outside of kernels", "", "", number(1000 * outside), f"{100 * outside / total:.1f} %"),
             ("the whole step", "", "", number(1000 * total), "")]
    return "\n".join([
        f"Where the time of a training step goes, batch {section['batch']}: medians of {len(steps)} steps",
        aligned(rows, left=2), "A kernel's time is that of its launches. Outside of them: Python, NumPy and its BLAS,",
        "memory used for the first time, and compiled code without a launch, such as what adds up the sums of tiles."])


def growth(section: dict, most: float) -> str:
    heads = [head for part in ("forward", "step") for head in (f"{part} ms", "min..max", "images/s", "of product")]
    rows: list[tuple[str, ...]] = [("images", "pixels", *heads)]
    for point in (*section["batches"], *section["sizes"]):
        cells = []
        for part, flop in (("forward", point["flop"]), ("step", 3 * point["flop"])):
            times = point["seconds"][part]
            median = statistics.median(times)
            cells += [ms(times), spread(times), number(point["batch"] / median), percent(flop / median, most)]
        rows.append((str(point["batch"]), f"{point['size']}x{point['size']}", *cells))
    return "\n".join(["How the cost grows with images and pixels: forward (folded) and training step", aligned(rows, left=0),
                      "Where images/s stay the same, time grows in proportion to the images."])


def frozen(section: dict, most: float) -> str:
    rows = [("", "median ms", "min..max", "images/s", "row below / this")]
    for pair, titles in ((section["features"], ("features, folded network", "features, network in eval mode")),
                         (section["steps"], ("training step from layer4 on, cached input", "training step of everything"))):
        quick, slow = pair.values()
        times_as_fast = statistics.median(slow) / statistics.median(quick)
        rows += [(title, ms(times), spread(times), number(section["batch"] / statistics.median(times)), cell)
                 for title, times, cell in zip(titles, (quick, slow), (f"{times_as_fast:.2f}", ""))]
    return "\n".join([f"What a frozen part saves, batch {section['batch']}", aligned(rows),
                      "Row below / this: of the medians, how many times as fast as the row below."])


TABLES: dict[str, Callable[[dict, float], str]] = {
    "step": step, "inference": inference, "memory": memory, "startup": startup, "layers": layers,
    "kernels": kernel_times, "growth": growth, "frozen": frozen}


def report(sections: dict, product_flop: float) -> Iterator[str]:
    """Every section's table; last, what their shares are shares of."""
    most = peak(sections, product_flop)
    for name, section in sections.items():
        yield TABLES[name](section, most)
    if most > 0:
        yield (f"Of product: against the best of this run's large matrix products in NumPy, {number(most / 1e9)} GFLOP/s.\n"
               "Work is counted as the definition of convolution has it. Winograd's method needs fewer multiplications,\n"
               "and a kernel may be better than that product: more than 100 % is possible.")
