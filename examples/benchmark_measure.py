"""What the sections of benchmark.py share: fair timing, counting of work, and fresh processes."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmark_samples import CLASSES
from numpy import ndarray as Array
from tqdm import tqdm

import tinyresnet
from tinyresnet import Adam, ResNet, cross_entropy
from tinyresnet.files import explain
from tinyresnet.layers import Conv2d, Layer, Sequential
from tinyresnet.resnet import ResidualBlock

Timings = dict[str, list[float]]  # seconds of every call, by name
Job = Callable[[], Array | None]

OURS, PRODUCT = "tinyresnet", "large matrix product in NumPy"
WARM_UP = 2  # rounds that do not count: compilation, first use of memory, a library's search for its fastest kernel
SHORT = 1.0  # seconds: if all jobs are shorter they are called before they are timed: a rested processor begins slowly
AWAKE = 0.15  # seconds of calls, after which it runs as fast as it can
REST = 0.1  # seconds before each call: threads of the one before, which may still wait for work by spinning, fall asleep


class Plan(NamedTuple):
    """What is measured."""

    network: str = "resnet50"
    batch: int = 16
    size: int = 224  # pixels, both ways
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)  # how the cost grows with the images, at `size`
    sizes: tuple[int, ...] = (128, 160, 192, 224, 256, 288, 320)  # and with their pixels, at `batch_of_sizes`
    batch_of_sizes: int = 4
    product: int = 4096  # rows and columns of the matrices that show what the machine can do
    repeats: int = 7
    threads: int = 1

    def model(self) -> ResNet:
        return getattr(tinyresnet, self.network)(CLASSES, rng=np.random.default_rng(0))


def one_line(error: Exception) -> str:
    """What went wrong, for a person at the command line."""
    reason = f"not enough memory: {error}" if isinstance(error, MemoryError) else explain(error)
    return (reason.splitlines() or [type(error).__name__])[0]


def say(text: str) -> None:
    """Progress, for whoever waits; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)


def alternate(jobs: Mapping[str, Job], repeats: int, *, rest: float = REST, label: str = "") -> Timings:
    """Seconds of each job, by name: all jobs once, all jobs again, and so on, first WARM_UP rounds that do not count.

    A machine's speed drifts. What is measured in turns meets the same weather, so the ratio of two medians holds even
    where the medians do not. Each round begins with the next job.
    """
    say(f"  {label}: {', '.join(jobs) if len(jobs) < 8 else f'{len(jobs)} jobs'}, {WARM_UP} + {repeats} rounds")
    seconds: Timings = {name: [] for name in jobs}
    elapsed: dict[str, float] = {}
    order = list(jobs)
    for number in tqdm(range(WARM_UP + repeats), desc=label, unit=" rounds", leave=False, disable=None):
        first, longest = number % len(order), max(elapsed.values(), default=0.0)
        for name in order[first:] + order[:first]:
            time.sleep(rest)
            if rest and number and longest < SHORT:
                call_for(AWAKE, jobs[name])
            begin = time.perf_counter()
            jobs[name]()
            elapsed[name] = time.perf_counter() - begin
            if number >= WARM_UP:
                seconds[name].append(elapsed[name])
    return seconds


def call_for(seconds: float, job: Job) -> None:
    """Call the job until so many seconds have passed, at least once."""
    end = time.perf_counter() + seconds
    job()
    while time.perf_counter() < end:
        job()


def best(seconds: Timings, peer: str) -> str | None:
    """The peer's way with the lowest median; None if the peer is not there."""
    ways = {name: statistics.median(times) for name, times in seconds.items() if name.startswith(peer)}
    return min(ways, key=ways.__getitem__, default=None)


def ratio(seconds: Timings, name: str) -> float:
    """How many times as fast as this one ours is, by the medians; above 1, tinyresnet is faster."""
    return statistics.median(seconds[name]) / statistics.median(seconds[OURS])


def check_same(jobs: Mapping[str, Job], tolerance: float = 1e-3) -> dict[str, float]:
    """Call each job once; the largest difference of its logits from ours, relative to our largest number.

    Raises ValueError where it exceeds the tolerance: a comparison of different networks would be void.
    """
    results = {name: np.asarray(job()) for name, job in jobs.items()}
    ours = results.pop(OURS)
    errors = {name: float(np.abs(theirs - ours).max() / np.abs(ours).max()) for name, theirs in results.items()}
    for name, error in errors.items():
        if not error <= tolerance:  # nor NaN
            raise ValueError(f"the comparison is void: logits of {name} differ from ours by {error:.1e} of the largest, "
                             f"expected at most {tolerance:.0e}")
    return errors


def training_step(model: Layer, x: Array, labels: Array, **options) -> Job:
    """Forward, cross-entropy, backward, Adam; each call returns the logits before the step."""
    adam = Adam(model, lr=1e-3, **options)

    def step() -> Array:
        logits = model.forward(x)
        _, dlogits = cross_entropy(logits, labels)
        model.backward(dlogits)
        adam.step()
        return logits

    return step


def matrix_product(size: int) -> Job:
    """What a good program makes of the machine: a large float32 product by NumPy's BLAS."""
    a = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    out = np.empty((size, size), dtype=np.float32)
    return lambda: np.matmul(a[0], a[1], out=out)


def product_flop(plan: Plan) -> float:
    return 2.0 * plan.product**3


def convolutions(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[Conv2d, tuple[int, ...]]]:
    """Every convolution of a network, with the shape of what enters it."""
    if isinstance(layer, Conv2d):
        yield layer, shape
    elif isinstance(layer, ResidualBlock):
        yield from one_after_another(layer.branch, shape)
        yield from convolutions(layer.downsample, shape)
    elif isinstance(layer, Sequential):
        yield from one_after_another((part for _, part in layer.children()), shape)


def one_after_another(layers: Iterable[Layer], shape: tuple[int, ...]) -> Iterator[tuple[Conv2d, tuple[int, ...]]]:
    for layer in layers:
        yield from convolutions(layer, shape)
        shape = layer.output_shape(shape)


def convolution_flop(conv: Conv2d, shape: tuple[int, ...]) -> float:
    """Two for each multiplication and addition of the definition; Winograd's method needs fewer."""
    N, P, Q, O = conv.output_shape(shape)
    return 2.0 * N * P * Q * conv.weight.size


def forward_flop(model: ResNet, batch: int, size: int) -> float:
    """Of all convolutions and the linear head. Backward needs twice as many: for dx, and for dw."""
    shape = (batch, size, size, 3)
    return sum(convolution_flop(*pair) for pair in convolutions(model, shape)) + 2.0 * batch * model.fc.weight.size


def fresh(*arguments: object, cache: str | None = None) -> dict:
    """What benchmark_child.py reports of these arguments, and the seconds of the whole process; see there.

    cache: the folder where Numba keeps what it compiled, if not the usual one. Raises RuntimeError if it fails.
    """
    places = [str(Path(tinyresnet.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    if cache:
        environment["NUMBA_CACHE_DIR"] = cache
    command = [sys.executable, str(Path(__file__).with_name("benchmark_child.py")), *map(str, arguments)]
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} {end_of(done)}")
    report = json.loads(done.stdout.splitlines()[-1])
    report["seconds"]["whole process"] = seconds
    return report


def end_of(process: subprocess.CompletedProcess) -> str:
    """How a process that failed came to its end: the signal or the exit code, and its last word."""
    code = process.returncode
    end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{end}: {(process.stderr.strip() or 'no message').splitlines()[-1]}"
