"""What a fresh process does for benchmark.py: one library, one task, and a line of JSON on how long and how large.

    python examples/benchmark_child.py LIBRARY TASK SOURCE BATCH SIZE THREADS PASSES

SOURCE is a network's name for tinyresnet, a file for the others; PyTorch's tasks name its way, too, as "step/NCHW" does.
Each library is imported alone: what a process weighs depends on it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def peak_memory() -> int:
    """Bytes: the most that this process ever held in memory.

    getrusage would do, but on Linux a process begins with its parent's peak; the kernel's VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def import_library(library: str) -> None:
    if library == "tinyresnet":
        import tinyresnet  # noqa: F401
    elif library == "torch":
        import torch  # noqa: F401
    else:
        import numpy  # noqa: F401
        import onnxruntime  # noqa: F401


def build(library: str, task: str, source: str, batch: int, size: int, threads: int) -> Any:
    """The task as a function without arguments."""
    from benchmark_samples import samples

    x, labels = samples(batch, size)
    if library == "tinyresnet":
        import benchmark_measure as measure
        from tinyresnet import fold_batch_norm

        model = measure.Plan(source).model()
        if task == "step":
            return measure.training_step(model, x, labels)
        model = fold_batch_norm(model)  # the old network goes
        return lambda: model.forward(x)
    if library == "onnxruntime":
        import benchmark_onnx

        return benchmark_onnx.inference(source, x, threads)
    import benchmark_torch

    twin, (task, way) = benchmark_torch.load(source), task.split("/")
    if task == "step":
        return benchmark_torch.training_step(twin, x, labels, way, threads)
    return benchmark_torch.inference(twin, x, way, threads)


def main(library: str, task: str, source: str, *numbers: str) -> None:
    batch, size, threads, passes = map(int, numbers)
    marks, memory = [time.perf_counter()], {}
    import_library(library)
    marks.append(time.perf_counter())
    memory["after import"] = peak_memory()
    if passes:
        job = build(library, task, source, batch, size, threads)
        marks.append(time.perf_counter())
        job()
        marks.append(time.perf_counter())
        for _ in range(passes - 1):
            job()
        memory["peak"] = peak_memory()
    seconds = dict(zip(("import", "build", "first call"), (end - begin for begin, end in zip(marks, marks[1:]))))
    print(json.dumps({"seconds": seconds, "memory": memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
