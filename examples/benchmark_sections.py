"""The sections of benchmark.py: each measures one thing and returns it as plain data, every single timing included."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import benchmark_measure as measure
import numpy as np
from benchmark_measure import OURS, PRODUCT, Job, Plan, alternate, say

from tinyresnet import fold_batch_norm, kernels
from tinyresnet.kernels import winograd
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.kernels.threads import launch
from tinyresnet.layers import BatchNorm2d, Conv2d

PEERS = {"PyTorch": ("torch",), "ONNX Runtime": ("onnxruntime", "onnx")}  # and the modules that each needs
TENSOR_LAYOUTS = ("NCHW", "channels last")  # of PyTorch
COLD_STARTS = 3  # at most: compiling takes long, and varies little
PASSES = 3  # before the peak of memory is read: the optimiser's averages, and a library's workspaces, are there by then


def missing_modules(peer: str) -> list[str]:
    return [name for name in PEERS[peer] if importlib.util.find_spec(name) is None]


def absent(*peers: str) -> list[str]:
    """A line for each peer that cannot be compared with."""
    return [f"{peer} is not compared with: not installed ({', '.join(names)})" for peer in peers
            if (names := missing_modules(peer))]


def peer_module(peer: str) -> ModuleType | None:
    """benchmark_torch or benchmark_onnx, imported only where the peer is installed."""
    return None if missing_modules(peer) else importlib.import_module(f"benchmark_{PEERS[peer][-1]}")


def step(plan: Plan) -> dict:
    """One training step of everybody, in turns."""
    model, (x, labels) = plan.model(), measure.samples(plan.batch, plan.size)
    jobs: dict[str, Job] = {}
    if torch := peer_module("PyTorch"):
        twin = torch.twin(model)
        for layout in TENSOR_LAYOUTS:
            jobs[f"PyTorch {layout}"] = torch.training_step(twin, x, labels, layout, plan.threads)
    jobs = {OURS: measure.training_step(model, x, labels), **jobs}
    differences = measure.check_same(jobs)
    jobs[PRODUCT] = measure.matrix_product(plan.product)
    return {"batch": plan.batch, "flop": 3 * measure.forward_flop(model, plan.batch, plan.size),
            "product_flop": measure.product_flop(plan), "missing": absent("PyTorch"), "differences": differences,
            "seconds": alternate(jobs, plan.repeats, label=f"training step, batch {plan.batch}")}


def inference(plan: Plan) -> dict:
    """Answers by everybody, in turns, for one image and for a batch."""
    model = plan.model().eval()
    folded = fold_batch_norm(model)
    torch, onnx = peer_module("PyTorch"), peer_module("ONNX Runtime")
    twin = torch.twin(model) if torch else None
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in dict.fromkeys((1, plan.batch)):
            x, _ = measure.samples(batch, plan.size)
            jobs: dict[str, Job] = {OURS: partial(folded.forward, x)}
            for layout in TENSOR_LAYOUTS if torch else ():
                jobs[f"PyTorch {layout}"] = torch.inference(twin, x, layout, plan.threads)  # type: ignore[union-attr]
            if onnx:
                onnx.write_graph(folded, path := f"{folder}/model.onnx", plan.size)
                jobs["ONNX Runtime"] = onnx.inference(path, x, plan.threads)
            differences = measure.check_same({**jobs, "tinyresnet, not folded": partial(model.forward, x)})
            jobs[PRODUCT] = measure.matrix_product(plan.product)
            results[str(batch)] = {
                "batch": batch, "flop": measure.forward_flop(model, batch, plan.size),
                "product_flop": measure.product_flop(plan), "missing": absent(*PEERS), "differences": differences,
                "seconds": alternate(jobs, plan.repeats, label=f"inference, batch {batch}")}
    return results


def memory(plan: Plan) -> dict:
    """Peak memory of each library, each task in a process of its own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sources = sources_in(folder, plan)
        for task, batch in dict.fromkeys((("step", plan.batch), ("inference", plan.batch), ("inference", 1))):
            for name, (library, source, suffix) in sources.items():
                if (library, task) == ("onnxruntime", "step"):
                    continue
                say(f"  memory: {task}, batch {batch}, {name}")
                report = measure.fresh(library, task + suffix, source, batch, plan.size, plan.threads, PASSES)
                rows.append({"task": task, "batch": batch, "name": name, **report["memory"]})
    return {"rows": rows, "missing": absent(*PEERS)}


def sources_in(folder: str, plan: Plan) -> dict[str, tuple[str, str, str]]:
    """Who is weighed, and what the fresh process is told: library, source of the network, suffix of the task."""
    sources = {OURS: ("tinyresnet", plan.network, "")}
    if torch := peer_module("PyTorch"):
        torch.save(torch.twin(plan.model()), path := f"{folder}/model.pt")
        sources |= {f"PyTorch {layout}": ("torch", path, f"/{layout}") for layout in TENSOR_LAYOUTS}
    if onnx := peer_module("ONNX Runtime"):
        onnx.write_graph(fold_batch_norm(plan.model()), path := f"{folder}/model.onnx", plan.size)
        sources["ONNX Runtime"] = ("onnxruntime", path, "")
    return sources


def startup(plan: Plan) -> dict:
    """From the start of Python to the first result, each time in a fresh process."""
    def start(task: str, batch: int, passes: int, cache: str | None = None) -> dict:
        say(f"  start-up: {'import' if not passes else task}{', empty cache' if cache else ''}")
        report = measure.fresh("tinyresnet", task, plan.network, batch, plan.size, plan.threads, passes, cache=cache)
        return report["seconds"]

    start("inference", 1, 1)  # now the cache is warm
    result = {"import": [start("inference", 1, 0) for _ in range(plan.repeats)],
              "inference": [start("inference", 1, 1) for _ in range(plan.repeats)], "step, empty cache": []}
    for _ in range(min(COLD_STARTS, plan.repeats)):
        with tempfile.TemporaryDirectory() as cache:
            result["step, empty cache"].append(start("step", plan.batch, 1, cache))
    return {"batch": plan.batch, "runs": result}


def layers(plan: Plan) -> dict:
    """Every distinct convolution of the network: forward, dx and dw, all in turns."""
    found: dict[tuple, dict] = {}
    for conv, shape in measure.convolutions(plan.model(), (plan.batch, plan.size, plan.size, 3)):
        key = (shape, conv.weight.shape, conv.stride, conv.padding)
        row = {"input": shape[1:], "kernel": key[1][0], "stride": conv.stride, "outputs": key[1][3], "count": 0,
               "flop": measure.convolution_flop(conv, shape), "method": method(conv, shape)}
        found.setdefault(key, row)["count"] += 1
    jobs: dict[str, Job] = {PRODUCT: measure.matrix_product(plan.product)}
    for number, key in enumerate(found):
        jobs |= {f"{number} {what}": job for what, job in layer_jobs(*key).items()}
    seconds = alternate(jobs, plan.repeats, rest=0.0, label=f"{len(found)} layers, batch {plan.batch}")
    for number, row in enumerate(found.values()):
        row["seconds"] = {what: seconds[f"{number} {what}"] for what in ("forward", "dx", "dw")}
    return {"batch": plan.batch, "rows": list(found.values()), "product_flop": measure.product_flop(plan),
            "product": seconds[PRODUCT]}


def method(conv: Conv2d, shape: tuple[int, ...]) -> str:
    """How the kernels go about it; dx and dw do likewise."""
    K = conv.weight.shape[0]
    if KERNELS == "reference":
        return "reference"
    if winograd.suits(np.empty(shape, np.float32), conv.output_shape(shape), K, conv.stride, conv.padding):
        return "Winograd"
    return "1x1" if (K, conv.stride) == (1, 1) else "tiles"


def layer_jobs(shape: tuple, weight_shape: tuple, stride: int, padding: int) -> dict[str, Job]:
    """The three products of a convolution, on random numbers."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s, dtype=np.float32) for s in (shape, weight_shape))
    dy = rng.standard_normal(kernels.conv_forward(x, w, stride, padding).shape, dtype=np.float32)
    return {"forward": lambda: kernels.conv_forward(x, w, stride, padding),
            "dx": lambda: kernels.conv_backward_input(dy, w, x.shape, stride, padding),
            "dw": lambda: kernels.conv_backward_weight(x, dy, len(w), stride, padding)}


def kernel_times(plan: Plan) -> dict:
    """Where one training step spends its time."""
    job = measure.training_step(plan.model(), *measure.samples(plan.batch, plan.size))
    say(f"  kernels: {measure.WARM_UP} + 1 training steps, batch {plan.batch}")
    for _ in range(measure.WARM_UP):
        job()
    with timed_kernels() as rows:
        begin = time.perf_counter()
        job()
        total = time.perf_counter() - begin
    return {"batch": plan.batch, "total": total, "kernels": rows}


@contextmanager
def timed_kernels() -> Iterator[dict[str, dict]]:
    """While it is open, calls and seconds of every kernel that is launched, by its name."""
    rows: dict[str, dict] = {}

    def timed(kernel: Callable, tiles: int, *args) -> None:
        begin = time.perf_counter()
        launch(kernel, tiles, *args)
        row = rows.setdefault(kernel.__name__, {"module": kernel.__module__, "calls": 0, "seconds": 0.0})
        row["calls"] += 1
        row["seconds"] += time.perf_counter() - begin

    users = [module for name, module in sys.modules.items()
             if name.startswith("tinyresnet.kernels.") and getattr(module, "launch", None) is launch]
    for module in users:  # each has imported the function by its name
        setattr(module, "launch", timed)
    try:
        yield rows
    finally:
        for module in users:
            setattr(module, "launch", launch)


def growth(plan: Plan) -> dict:
    """Time against the number of images, and against their size."""
    return {"batches": [growth_point(plan, batch, plan.size) for batch in plan.batches],
            "sizes": [growth_point(plan, plan.batch_of_sizes, size) for size in plan.sizes]}


def growth_point(plan: Plan, batch: int, size: int) -> dict:
    """Each shape is measured alone: memory of another's arrays would be of no use to it."""
    model, (x, labels) = plan.model(), measure.samples(batch, size)
    jobs: dict[str, Job] = {"forward": partial(fold_batch_norm(model).forward, x),
                            "step": measure.training_step(model, x, labels), PRODUCT: measure.matrix_product(plan.product)}
    return {"batch": batch, "size": size, "flop": measure.forward_flop(model, batch, size),
            "product_flop": measure.product_flop(plan),
            "seconds": alternate(jobs, plan.repeats, label=f"growth, batch {batch}, {size} pixels")}


def frozen(plan: Plan) -> dict:
    """What it saves that a part of the network does not learn."""
    model, (x, labels) = plan.model().eval(), measure.samples(plan.batch, plan.size)
    features: dict[str, Job] = {"folded": partial(fold_batch_norm(model).features, x),
                                "not folded": partial(model.features, x)}
    entering = model.part(to="layer3").forward(x)
    whole, tail = plan.model(), plan.model().part(after="layer3")
    for _, layer in tail.named_layers():
        layer.frozen = isinstance(layer, BatchNorm2d)
    steps: dict[str, Job] = {"from layer4 on": measure.training_step(tail, entering, labels, lr_factors={"fc": 10.0}),
                             "everything": measure.training_step(whole, x, labels)}
    return {"batch": plan.batch, "features": alternate(features, plan.repeats, label="feature extraction"),
            "steps": alternate(steps, plan.repeats, label="fine-tuning")}


SECTIONS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "step": step, "inference": inference, "memory": memory, "startup": startup, "layers": layers,
    "kernels": kernel_times, "growth": growth, "frozen": frozen}
