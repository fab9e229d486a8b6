"""The sections of benchmark.py: each measures one thing and returns it as plain data, every single timing included."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import benchmark_measure as measure
import numpy as np
from benchmark_measure import OURS, PRODUCT, Job, Plan, alternate, say
from benchmark_peers import PEERS, meet
from benchmark_samples import samples

from tinyresnet import fold_batch_norm, kernels
from tinyresnet.kernels import winograd
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.kernels.threads import launch
from tinyresnet.layers import BatchNorm2d, Conv2d

COLD_STARTS = 3  # at most: compiling takes long, and varies little
AFTER_A_STEP = 0.2  # of the largest logit: it moves them by 0.7; Adam divides by the gradient's size, so that rounding
# becomes a step where there is little gradient, and PyTorch's two layouts differ by 0.08
PASSES = 3  # before the peak of memory is read: the optimiser's averages, and a library's workspaces, are there by then


def step(plan: Plan) -> dict:
    """One training step of everybody, in turns."""
    model, (x, labels) = plan.model(), samples(plan.batch, plan.size)
    torch, missing = meet("PyTorch")
    jobs: dict[str, Job] = {OURS: measure.training_step(model, x, labels)}
    for layout in torch.LAYOUTS if torch else ():
        jobs[f"PyTorch {layout}"] = torch.training_step(torch.twin(model), x, labels, layout, plan.threads)
    differences = {"logits": measure.check_same(jobs), "logits after a step": measure.check_same(jobs, AFTER_A_STEP)}
    jobs[PRODUCT] = measure.matrix_product(plan.product)
    return {"batch": plan.batch, "flop": 3 * measure.forward_flop(model, plan.batch, plan.size),
            "product_flop": measure.product_flop(plan), "missing": missing, "differences": differences,
            "seconds": alternate(jobs, plan.repeats, label=f"training step, batch {plan.batch}")}


def inference(plan: Plan) -> dict:
    """Answers by everybody, in turns, for one image and for a batch."""
    model = plan.model().eval()
    folded = fold_batch_norm(model)
    (torch, no_torch), (onnx, no_onnx) = map(meet, PEERS)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in dict.fromkeys((1, plan.batch)):
            x, _ = samples(batch, plan.size)
            jobs: dict[str, Job] = {OURS: partial(folded.forward, x)}
            for way in torch.WAYS if torch else ():
                jobs[f"PyTorch {way}"] = torch.inference(torch.twin(model), x, way, plan.threads)
            if onnx:
                onnx.write_graph(folded, path := f"{folder}/model.onnx", plan.size)
                jobs["ONNX Runtime"] = onnx.inference(path, x, plan.threads)
            differences = {"logits": measure.check_same({**jobs, "tinyresnet, not folded": partial(model.forward, x)})}
            jobs[PRODUCT] = measure.matrix_product(plan.product)
            results[str(batch)] = {
                "batch": batch, "flop": measure.forward_flop(model, batch, plan.size),
                "product_flop": measure.product_flop(plan), "missing": no_torch + no_onnx, "differences": differences,
                "seconds": alternate(jobs, plan.repeats, label=f"inference, batch {batch}")}
    return results


def memory(plan: Plan) -> dict:
    """Peak memory of each library, one process for each task."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        told, missing = tasks_in(folder, plan)
        for task, batch in dict.fromkeys((("step", plan.batch), ("inference", plan.batch), ("inference", 1))):
            for name, words in told[task].items():
                say(f"  memory: {task}, batch {batch}, {name}")
                report = measure.fresh(*words, batch, plan.size, plan.threads, PASSES)
                rows.append({"task": task, "batch": batch, "name": name, **report["memory"]})
    return {"rows": rows, "missing": missing}


def tasks_in(folder: str, plan: Plan) -> tuple[dict[str, dict[str, tuple[str, str, str]]], list[str]]:
    """For each task who is weighed, and what the fresh process is told: library, task, source; and who is missing."""
    told = {task: {OURS: ("tinyresnet", task, plan.network)} for task in ("step", "inference")}
    (torch, no_torch), (onnx, no_onnx) = map(meet, PEERS)
    if torch:
        torch.save(torch.twin(plan.model()), path := f"{folder}/model.pt")
        for task, ways in (("step", torch.LAYOUTS), ("inference", torch.WAYS)):
            told[task] |= {f"PyTorch {way}": ("torch", f"{task}/{way}", path) for way in ways}
    if onnx:
        onnx.write_graph(fold_batch_norm(plan.model()), path := f"{folder}/model.onnx", plan.size)
        told["inference"]["ONNX Runtime"] = ("onnxruntime", "inference", path)
    return told, no_torch + no_onnx


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
    """Every distinct convolution of the network as a training step runs it: forward, dx and dw, all in turns."""
    found: dict[tuple, dict] = {}
    for conv, shape in measure.convolutions(plan.model(), (plan.batch, plan.size, plan.size, 3)):
        key = (shape, conv.weight.shape, conv.stride, conv.padding)
        row = {"input": shape[1:], "kernel": key[1][0], "stride": conv.stride, "outputs": key[1][3], "count": 0,
               "flop": measure.convolution_flop(conv, shape), "method": method(conv, shape)}
        found.setdefault(key, row)["count"] += 1
    jobs = [layer_jobs(*key) for key in found]
    flat = {f"{number} {what}": job for number, parts in enumerate(jobs) for what, job in parts.items()}
    seconds = alternate(flat, plan.repeats, rest=0.0, label=f"{len(found)} layers, batch {plan.batch}")
    for number, (row, parts) in enumerate(zip(found.values(), jobs)):
        row["seconds"] = {what: seconds[f"{number} {what}"] for what in parts}
    product = {PRODUCT: measure.matrix_product(plan.product)}  # apart: its threads spin for a while after it
    return {"batch": plan.batch, "rows": list(found.values()), **alternate(product, plan.repeats, label="the peak")}


def method(conv: Conv2d, shape: tuple[int, ...]) -> str:
    """How the kernels go about forward, and about dx where that is another way; dw is like forward."""
    K, stride = conv.weight.shape[0], conv.stride
    if KERNELS == "reference":
        return "reference"
    if winograd.suits(np.empty(shape, np.float32), conv.output_shape(shape), K, stride, conv.padding):
        return "Winograd"
    return "tiles, dx scattered" if stride > 1 else "1x1" if K == 1 else "tiles"


def layer_jobs(shape: tuple, weight_shape: tuple, stride: int, padding: int) -> dict[str, Job]:
    """What training runs of a convolution that a batch norm follows, on random numbers."""
    rng, fused = np.random.default_rng(0), KERNELS == "numba"
    x, w = (rng.standard_normal(s, dtype=np.float32) for s in (shape, weight_shape))
    z = kernels.conv_forward(x, w, stride, padding)
    dy, mean = rng.standard_normal(z.shape, dtype=np.float32), z.mean((0, 1, 2))
    factors = np.ones((3, len(mean)), np.float32)
    forward = kernels.conv_moments if fused else kernels.conv_forward
    jobs: dict[str, Job] = {"forward": lambda: forward(x, w, stride, padding)[0]}
    if fused and (len(w), stride, padding) == (1, 1, 0):
        return jobs | {"dx + dw": lambda: kernels.pointwise_backward(dy, z, mean, factors, x, w)[0]}
    return jobs | {"dx": lambda: kernels.conv_backward_input(dy, w, x.shape, stride, padding),
                   "dw": lambda: kernels.conv_backward_weight(x, dy, len(w), stride, padding)}


def kernel_times(plan: Plan) -> dict:
    """Where training steps spend their time."""
    job = measure.training_step(plan.model(), *samples(plan.batch, plan.size))
    say(f"  kernels: {measure.WARM_UP} + {plan.repeats} training steps, batch {plan.batch}")
    for _ in range(measure.WARM_UP):
        job()
    return {"batch": plan.batch, "steps": [profile(job) for _ in range(plan.repeats)]}


def profile(job: Job) -> dict:
    """Seconds of one call, and of every kernel in it."""
    with timed_kernels() as rows:
        begin = time.perf_counter()
        job()
        return {"total": time.perf_counter() - begin, "kernels": rows}


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
    model, (x, labels) = plan.model(), samples(batch, size)
    jobs: dict[str, Job] = {"forward": partial(fold_batch_norm(model).forward, x),
                            "step": measure.training_step(model, x, labels), PRODUCT: measure.matrix_product(plan.product)}
    return {"batch": batch, "size": size, "flop": measure.forward_flop(model, batch, size),
            "seconds": alternate(jobs, plan.repeats, label=f"growth, batch {batch}, {size} pixels")}


def frozen(plan: Plan) -> dict:
    """What it saves that a part of the network does not learn."""
    model, (x, labels) = plan.model().eval(), samples(plan.batch, plan.size)
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
