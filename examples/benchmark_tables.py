"""What benchmark.py prints: each section's data as aligned text, and a sentence on how to read it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmark_measure import OURS, PRODUCT, ratio

PEERS = ("PyTorch", "ONNX Runtime")
SHARES = ("Of peak: the work as the definition of convolution counts it, against a large float32 matrix product in the\n"
          "same run. Winograd's method needs less work, so more than 100 % is possible.")


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


def peak(section: dict, times: Sequence[float]) -> float:
    """What the machine can do, in FLOP/s."""
    return section["product_flop"] / statistics.median(times)


def comparison(title: str, section: dict) -> str:
    """Everybody's time for the same work, and how many times as fast ours is."""
    seconds, most = section["seconds"], peak(section, section["seconds"][PRODUCT])
    rows = [("", "median ms", "min..max", "images/s", "GFLOP/s", "of peak", "ratio")]
    for name, times in seconds.items():
        speed = (section["product_flop"] if name == PRODUCT else section["flop"]) / statistics.median(times)
        images = "" if name == PRODUCT else number(section["batch"] / statistics.median(times))
        times_as_fast = ratio(seconds, name) if name not in (OURS, PRODUCT) else None
        rows.append((name, ms(times), spread(times), images, number(speed / 1e9), percent(speed, most),
                     f"{times_as_fast:.2f}" if times_as_fast else ""))
    ends = [f"Against {peer}{better(seconds, peer)}: {value:.2f}." for peer in PEERS if (value := ratio(seconds, peer))]
    worst = max(section["differences"].values(), default=0)
    same = [f"All give the same logits to {worst:.0e} of the largest."] if section["differences"] else []
    reading = ["Ratio: their median / ours; above 1, tinyresnet is faster.", *ends, *section["missing"], *same]
    return "\n".join([title, aligned(rows), *reading, SHARES])


def better(seconds: dict, peer: str) -> str:
    """Which of a peer's layouts is the faster one, where it has several."""
    layouts = {name: statistics.median(times) for name, times in seconds.items() if name.startswith(peer)}
    return f" ({min(layouts, key=layouts.__getitem__).removeprefix(peer).strip()})" if len(layouts) > 1 else ""


def step(section: dict) -> str:
    return comparison(f"Training step, batch {section['batch']}: forward, cross-entropy, backward, Adam", section)


def inference(sections: dict) -> str:
    return "\n\n".join(comparison(f"Inference, batch {section['batch']}, batch norm folded into convolutions", section)
                       for section in sections.values())


def memory(section: dict) -> str:
    rows = [("task", "", "after import, MB", "peak, MB", "ours / theirs")]
    for row in section["rows"]:
        ours = next(other for other in section["rows"] if other["name"] == OURS
                    and (other["task"], other["batch"]) == (row["task"], row["batch"]))
        rows.append((f"{row['task']}, batch {row['batch']}", row["name"], number(row["after import"] / 1e6),
                     number(row["peak"] / 1e6), "" if row is ours else f"{ours['peak'] / row['peak']:.2f}"))
    return "\n".join(["Peak memory, each task in a process of its own (all that the process ever held, libraries included)",
                      aligned(rows, left=2), "Below 1, tinyresnet needs less. After import: the libraries alone.",
                      *section["missing"]])


def startup(section: dict) -> str:
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


def layers(section: dict) -> str:
    parts = ("forward", "dx", "dw")
    most = peak(section, section["product"])
    heads = [head for part in parts for head in (f"{part} ms", "GFLOP/s", "of peak")]
    rows: list[tuple[str, ...]] = [("n", "input", "kernel", "stride", "out", "GFLOP", "method", *heads)]
    for row in section["rows"]:
        cells = [cell for part in parts for cell in speeds(row["flop"], statistics.median(row["seconds"][part]), most)]
        rows.append((str(row["count"]), "x".join(map(str, row["input"])), f"{row['kernel']}x{row['kernel']}",
                     str(row["stride"]), str(row["outputs"]), number(row["flop"] / 1e9), row["method"], *cells))
    flop = sum(row["count"] * row["flop"] for row in section["rows"])
    totals = [sum(row["count"] * statistics.median(row["seconds"][part]) for row in section["rows"]) for part in parts]
    rows.append((str(sum(row["count"] for row in section["rows"])), "all", "", "", "", number(flop / 1e9), "",
                 *(cell for total in totals for cell in speeds(flop, total, most))))
    return "\n".join([
        f"Convolutions, batch {section['batch']}: {len(section['rows'])} different ones, n of each kind; medians",
        aligned(rows, left=2), "Input: height x width x channels. GFLOP: of one forward; dx and dw have as many each.",
        f"All: each kind n times. The peak was {number(most / 1e9)} GFLOP/s.", SHARES])


def speeds(flop: float, seconds: float, most: float) -> tuple[str, str, str]:
    """Milliseconds, GFLOP/s and share of the peak."""
    return number(1000 * seconds), number(flop / seconds / 1e9), percent(flop / seconds, most)


def kernel_times(section: dict) -> str:
    total = section["total"]
    rows = [("kernel", "file", "calls", "ms", "of the step")]
    for name, row in sorted(section["kernels"].items(), key=lambda item: -item[1]["seconds"]):
        rows.append((name, row["module"].rpartition(".")[2] + ".py", str(row["calls"]), number(1000 * row["seconds"]),
                     f"{100 * row['seconds'] / total:.1f} %"))
    rest = total - sum(row["seconds"] for row in section["kernels"].values())
    rows += [("outside of kernels", "", "", number(1000 * rest), f"{100 * rest / total:.1f} %"),
             ("the whole step", "", "", number(1000 * total), "")]
    return "\n".join([f"Where the time of one training step goes, batch {section['batch']}", aligned(rows, left=2),
                      "Outside of kernels: Python, NumPy, and memory used for the first time."])


def growth(section: dict) -> str:
    heads = [head for part in ("forward", "step") for head in (f"{part} ms", "min..max", "images/s", "of peak")]
    rows: list[tuple[str, ...]] = [("images", "pixels", *heads)]
    for point in (*section["batches"], *section["sizes"]):
        most = peak(point, point["seconds"][PRODUCT])
        cells = []
        for part, flop in (("forward", point["flop"]), ("step", 3 * point["flop"])):
            times = point["seconds"][part]
            median = statistics.median(times)
            cells += [ms(times), spread(times), number(point["batch"] / median), percent(flop / median, most)]
        rows.append((str(point["batch"]), f"{point['size']}x{point['size']}", *cells))
    return "\n".join(["How the cost grows with images and pixels: forward (folded) and training step", aligned(rows, left=0),
                      "Where images/s stay the same, time grows in proportion to the images.", SHARES])


def frozen(section: dict) -> str:
    rows = [("", "median ms", "min..max", "images/s", "ratio")]
    for pair, titles in ((section["features"], ("features, folded network", "features, network in eval mode")),
                         (section["steps"], ("training step from layer4 on, cached input", "training step of everything"))):
        quick, slow = pair.values()
        times_as_fast = statistics.median(slow) / statistics.median(quick)
        rows += [(title, ms(times), spread(times), number(section["batch"] / statistics.median(times)), cell)
                 for title, times, cell in zip(titles, (quick, slow), (f"{times_as_fast:.2f}", ""))]
    return "\n".join([f"What a frozen part saves, batch {section['batch']}", aligned(rows),
                      "Ratio: how many times as fast as the row below."])


TABLES: dict[str, Callable[[dict], str]] = {
    "step": step, "inference": inference, "memory": memory, "startup": startup, "layers": layers,
    "kernels": kernel_times, "growth": growth, "frozen": frozen}
