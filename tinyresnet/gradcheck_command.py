"""python -m tinyresnet.gradcheck: every layer of the library in a table, and two figures.

    python -m tinyresnet.gradcheck                     # exit code 1 if a gradient is wrong
    python -m tinyresnet.gradcheck --plot figures      # also figures/v-curve.png and figures/maps.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray as Array

from tinyresnet.files import replacing
from tinyresnet.gradcheck import (BOUND, NETWORK_BOUND, Errors, H, directional_errors, gradient_errors, moved,
                                  numerical_gradient, prepared)
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.layers import (BatchNorm2d, Conv2d, GlobalAvgPool, Layer, Linear, MaxPool2d, PaddedIdentity, ReLU,
                               Sequential)
from tinyresnet.loss import cross_entropy
from tinyresnet.resnet import BasicBlock, Bottleneck, small_resnet

BLUE, ORANGE, GREY = "#0072bd", "#d95319", "#6b6b6b"
STEPS = np.logspace(-1, -10, 37)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tinyresnet.gradcheck", description="Check every gradient here.")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="also draw v-curve.png and maps.png there")
    options = parser.parse_args(arguments)
    with one_thread():
        wrong = print_table()
        if options.plot:
            options.plot.mkdir(parents=True, exist_ok=True)
            for name, figure in (("v-curve.png", v_curve_figure(*v_curve())), ("maps.png", maps_figure())):
                with replacing(options.plot / name) as beside:
                    figure.savefig(beside)
                print(f"wrote {options.plot / name}")
    return 1 if wrong else 0


@contextmanager
def one_thread() -> Iterator[None]:
    """The arrays of a check are tiny: to wake a second thread takes ten times as long as the work it would share."""
    if KERNELS == "reference":
        yield
        return
    import numba
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def print_table() -> int:
    """One line a layer; returns how many are wrong."""
    wrong = 0
    print(f"{'worst error':>11}  {'of':32}layer")
    for name, errors, bound in library_errors():
        worst = max(errors, key=lambda gradient: errors[gradient])
        bad = not errors[worst] < bound
        wrong += bad
        print(f"{errors[worst]:11.1e}  {worst:32}{name}{'   WRONG' if bad else ''}")
        if bad:
            print(errors)
    print(f"{wrong or 'none'} wrong: layers below {BOUND:.0e}, blocks and networks below {NETWORK_BOUND:.0e}")
    return wrong


def library_errors() -> Iterator[tuple[str, Errors, float]]:
    """What, its errors, and the bound they must stay below."""
    for layer, shape in plain_layers():
        yield f"{layer}, x {shape}", gradient_errors(prepared(layer), sample(layer, shape)), BOUND
    frozen = BatchNorm2d(3).freeze()
    yield f"{frozen}, frozen, x (2, 7, 8, 3)", gradient_errors(prepared(frozen), normal(2, 7, 8, 3)), BOUND
    yield "cross_entropy with label smoothing, logits (4, 5)", gradient_errors(LossLayer(), normal(4, 5), np.ones(1)), BOUND
    for block in (BasicBlock(4, 4), BasicBlock(3, 4, stride=2), Bottleneck(8, 2), Bottleneck(3, 2, stride=2),
                  Bottleneck(3, 2, stride=2, stride_in_1x1=True)):
        x = normal(2, 5, 6, block.conv1.weight.shape[2], seed=3)
        yield f"{block}, x {x.shape}", gradient_errors(prepared(block), x, bound=NETWORK_BOUND), NETWORK_BOUND
    network, x = prepared(small_resnet(3, width=4)), normal(2, 33, 40, 3)
    yield f"{network.name}, x {x.shape}, along random directions", directional_errors(network, x), NETWORK_BOUND


def plain_layers() -> list[tuple[Layer, tuple[int, ...]]]:
    """Layers, and the shapes of their x: never square, a remainder wherever there is a stride."""
    image = (2, 7, 8, 3)
    geometries = ((7, 2, 3), (1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1))  # ResNet-50's
    return [*((Conv2d(3, 4, K, stride=stride, padding=padding, bias=True), image) for K, stride, padding in geometries),
            (BatchNorm2d(3), image), (ReLU(), image), (MaxPool2d(3, 2, 1), image), (PaddedIdentity(3, 6, stride=2), image),
            (GlobalAvgPool(), image), (Linear(5, 3), (4, 5)),
            (Sequential(Conv2d(3, 4, 3), ReLU(), GlobalAvgPool(), Linear(4, 2)), image)]


class LossLayer(Layer):
    """cross_entropy as a layer, so that the same check fits it."""

    def forward(self, x: Array) -> Array:
        loss, dlogits = cross_entropy(x, np.arange(len(x)) % x.shape[1], label_smoothing=0.1)
        self.save(dlogits)
        return np.array([loss])

    def backward(self, dy: Array) -> Array:
        return self.saved()[0] * dy


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def sample(layer: Layer, shape: tuple[int, ...]) -> Array:
    """Random x off the layer's kinks: away from zero, or, for a maximum, no two values near each other."""
    if isinstance(layer, MaxPool2d):
        return np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) / 10
    x = normal(*shape)
    return x + 0.1 * np.sign(x)


def v_curve() -> tuple[Array, Array]:
    """Relative error of central differences on a residual block for each of STEPS, in float64 and in float32.

    The error over some sixty elements of dx, against backward in float64, whose own is 1e-15.
    """
    block, x = prepared(BasicBlock(4, 4)), normal(2, 5, 6, 4, seed=3)
    dy = normal(*x.shape, seed=1)
    block.forward(x)
    right = block.backward(dy)
    places = [tuple(int(i) for i in place) for place in np.argwhere(right)[::4]]
    curves = []
    for dtype in (np.float64, np.float32):
        block.astype(dtype)
        loss = product_in(block, x.astype(dtype), dy.astype(dtype))
        curves.append(np.array([quotient_error(loss, places, right, float(h)) for h in STEPS]))
    return curves[0], curves[1]


def product_in(block: Layer, x: Array, dy: Array) -> tuple[Callable[[], float], Array]:
    return lambda: np.sum(block.forward(x) * dy), x


def quotient_error(loss_and_x: tuple[Callable[[], float], Array], places: list[tuple[int, ...]], right: Array,
                   h: float) -> float:
    loss, x = loss_and_x
    differences = [float(moved(loss, x, place, h)) - float(moved(loss, x, place, -h)) for place in places]
    quotients = np.array(differences) / (2 * h)
    expected = np.array([right[place] for place in places])
    return float(np.linalg.norm(quotients - expected) / (np.linalg.norm(quotients) + np.linalg.norm(expected)))


def v_curve_figure(float64: Array, float32: Array) -> Figure:
    figure = Figure(figsize=(7.2, 4.6), dpi=110, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(STEPS, float32, "o-", color=ORANGE, markersize=3.5, linewidth=1.6)
    axes.loglog(STEPS, float64, "o-", color=BLUE, markersize=3.5, linewidth=1.6)
    axes.axvline(H, color=GREY, linewidth=1, linestyle=":")
    axes.axhline(BOUND, color=GREY, linewidth=1, linestyle="--")
    for text, x, y, color in (
            ("float32", 2e-10, 0.15, ORANGE), ("rounding: 1e-7 / h", 3e-5, 5e-2, ORANGE),
            ("float64", 2e-10, 3e-5, BLUE), ("rounding: 1e-16 / h", 2e-8, 2e-7, BLUE),
            ("curvature: h * h", 5e-4, 1e-10, BLUE), ("kinks", 8e-3, 2e-3, BLUE),
            ("h = 1e-5", 1.2 * H, 2e-12, GREY), ("a right layer stays below", 1e-10, 1.3 * BOUND, GREY)):
        axes.text(x, y, text, color=color, fontsize=10, va="bottom")
    axes.set(xlabel="step h", ylabel="relative error of the quotient", ylim=(1e-12, 2))
    axes.set_title("Central differences on a residual block", fontsize=12)
    axes.grid(color="0.92", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def maps_figure() -> Figure:
    """dx of a strided convolution as backward and as differences give it, and what lies between them."""
    layer, x = prepared(Conv2d(1, 4, 3, stride=2, padding=1)), normal(1, 16, 22, 1)
    y = layer.forward(x)
    dy = normal(*y.shape, seed=1)
    analytic = layer.backward(dy)[0, :, :, 0]
    numerical = numerical_gradient(lambda: np.sum(layer.forward(x) * dy), x)[0, :, :, 0]
    figure = Figure(figsize=(10, 2.8), dpi=110, facecolor="white", layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, 3), (("analytic", analytic), ("numerical", numerical),
                                                             ("difference", analytic - numerical))):
        largest = abs(values).max()
        image = axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set_title(title, fontsize=11)
        axes.set(xticks=(), yticks=())
        figure.colorbar(image, ax=axes, format="%.1g", ticks=(-largest, 0, largest), shrink=0.85)
    figure.suptitle("dx of a 3x3 convolution with stride 2", fontsize=12)
    return figure


if __name__ == "__main__":
    sys.exit(main())
