"""Do a file's numbers fit its facts? A photograph tells, without a right network to compare with.

Each batch norm has stored the mean and variance that its input had in training. Those of a photograph through the same
network lie near them: a sample of the same pictures. Where a fact is wrong, channels exchanged or the input scaled
otherwise, they lie far off from the first layer that is wrong. For each layer

    misfit = median over channels of |mean - running_mean| / sqrt(running_var)
           + median over channels of |log(var / running_var)|

and for a network the mean of its layers'. Measured on 50 photographs, drawn 40 times, through two published networks
(ResNet-50, and MSRA's to res4f), n of them at a time:

                                        n = 1        3            5            10           20
    as it should be, at most            0.87         0.49         0.37         0.26         0.18
    pixels 0..1, times that             1.5 to 7.3   2.2 to 13    3.0 to 17    3.9 to 23    5.4 to 30
    the other stride, times that        0.8 to 1.5   0.8 to 2.0   1.1 to 2.3   1.2 to 2.9   1.6 to 3.8
    transposed, times that              2.9 or more  5.0 or more  6.3 or more  9.2 or more  13 or more

So chance stays below 1 / sqrt(n), and what lowers the misfit to 3/4 is none of chance: no wrong change came below 0.8.
Three faults cannot be seen so: another epsilon (0.9 to 1.1 times), unless variances are small; another padding of the
stem's pooling (0.9 to 1.1); and blue for red (0.9 to 1.3). Colours turned round make the answers less sure instead: with
the right order ten photographs' mean entropy was lower by 0.1 in 95 draws of 100, with the wrong one in none of them.
Ten pictures of CIFAR-10 do not suffice for that, and a network without its head has no answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.images import IMAGENET, preprocess, read_image
from tinyresnet.kernels import moments
from tinyresnet.layers import BatchNorm2d
from tinyresnet.loss import softmax
from tinyresnet.weights import load_model
from weights_converter.wrong import (Weights, colours_reversed, gamma_and_beta_swapped, kernels_transposed, other_epsilon,
                                     other_stride, statistics_ignored, watching, with_input)

MUCH_BETTER = 0.75  # of the misfit before
LESS_UNSURE = 0.1  # of entropy, in nats
ENOUGH = 10  # pictures from which entropy tells the order of colours
WORST_LAYER = 3  # times the misfit that chance allows the whole network; measured 2.4
TINY = 1e-12  # for channels that never vary
INPUTS = {  # mean and std, where black is 0 and white is 1
    "pixels from 0 to 1": ((0.0,) * 3, (1.0,) * 3),
    "pixels from 0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
    "pixels from -1 to 1": ((0.5,) * 3, (0.5,) * 3),
    "pixels less ImageNet's mean, divided by its deviation": (IMAGENET.mean, IMAGENET.std),
    "pixels from 0 to 255 less ImageNet's mean": (IMAGENET.mean, (1 / 255,) * 3),
}


class Fit(NamedTuple):
    """How a network takes some pictures."""

    misfits: dict[str, float]  # by batch norm, in the order in which they run
    entropy: float  # of the answer, in nats, mean over the pictures: 0 if sure

    @property
    def misfit(self) -> float:
        return float(np.mean(list(self.misfits.values())))


class Change(NamedTuple):
    """One fact changed, or the arrays as another mistake would have left them."""

    said: str  # by the file, in words
    instead: str
    weights: Weights
    makes_sure: bool = False  # seen by entropy, too


class Verdict(NamedTuple):
    """Whether a file's numbers fit its facts, and why."""

    fits: bool
    words: str

    def __str__(self) -> str:
        return self.words


def verify(path: Path, images: Sequence[Path]) -> Verdict:
    """Run the images through the network in an .npz of tinyresnet's, as its facts say and otherwise: what fits?

    Raises ValueError naming a file that cannot be used.
    """
    model = load_model(path)
    return judge(Weights.of(model), [read_image(image) for image in images])


def judge(weights: Weights, pictures: Sequence[Array]) -> Verdict:
    """The same of weights and pictures (H, W, 3). A file may have several faults: they are undone one after the other."""
    before = fit = measure(weights, pictures)
    undone, steps, told_by_entropy = weights, [], False
    while not told_by_entropy and (better := best_change(undone, fit, pictures)):
        change, new = better
        told_by_entropy = new.misfit >= MUCH_BETTER * fit.misfit  # so it comes last: the misfit might call it back
        steps.append(f"  the file's facts say {change.said}, the numbers say {change.instead}: "
                     f"misfit {fit.misfit:.3g} -> {new.misfit:.3g}, entropy {fit.entropy:.2f} -> {new.entropy:.2f}")
        undone, fit = change.weights, new
    many, limit = f"{len(pictures)} picture{'s' * (len(pictures) > 1)}", chance(pictures)
    scale = f"misfit {before.misfit:.3g}, and up to {limit:.2f} may be chance with {many}"
    if fit.misfit >= limit:  # what helps a little is no fact
        return Verdict(False, f"nothing fits: {scale}\n{words_of_misfit(weights, before, limit)}")
    lines = [f"fits much better when changed: {scale}", *steps] if steps else [f"fits: {scale}"]
    if not steps and weights.facts["config"]["num_classes"] == 1:
        lines.append("  blue for red cannot be seen: there is no head, whose answers would be less sure")
    elif not steps and len(pictures) < ENOUGH:
        lines.append(f"  small faults, such as blue for red, are seen with {ENOUGH} photographs or more")
    return Verdict(not steps, "\n".join(lines))


def chance(pictures: Sequence[Array]) -> float:
    """The misfit that a right network may have, because these pictures are not those of its training."""
    return 1 / math.sqrt(len(pictures))


def measure(weights: Weights, pictures: Sequence[Array]) -> Fit:
    """Misfit and entropy of the network, in eval mode; one picture after the other, for they may be of any size."""
    model = weights.model()
    norms = {name: layer for name, layer in model.named_layers() if isinstance(layer, BatchNorm2d)}
    sums = {name: np.zeros((2, len(norm.weight))) for name, norm in norms.items()}  # of x and of its square

    def see(name: str, x: Array, y: Array) -> None:
        if name in norms:
            mean, var = moments(x)  # (C,)
            sums[name] += mean, var + mean**2

    entropies = []
    with watching(model, see), np.errstate(all="ignore"):  # wrong networks overflow
        for picture in pictures:
            p = softmax(model.forward(preprocess(picture, model.preprocessing)[None]))  # (1, classes)
            entropies.append(-(p * np.log(p + TINY)).sum())
        misfits = {name: misfit(norm, *sums[name] / len(pictures)) for name, norm in norms.items()}
    return Fit(misfits, float(np.mean(entropies)))


def misfit(norm: BatchNorm2d, mean: Array, square: Array) -> float:
    """How far the moments of the norm's input are from the stored; infinite where they overflow.

    Shapes: mean and square, of x and x * x, (C,).
    """
    running_var = norm.running_var + TINY
    shift = np.abs(mean - norm.running_mean) / np.sqrt(running_var)
    spread = np.abs(np.log((square - mean**2 + TINY) / running_var))
    return float(np.nan_to_num(np.median(shift) + np.median(spread), nan=np.inf, posinf=np.inf))


def best_change(weights: Weights, fit: Fit, pictures: Sequence[Array]) -> tuple[Change, Fit] | None:
    """The change with which the pictures fit best, if that is much better than as it is."""
    tried = [(change, measure(change.weights, pictures)) for change in changes(weights)]
    best = min(tried, key=lambda pair: pair[1].misfit)
    if best[1].misfit < MUCH_BETTER * fit.misfit:
        return best
    sure = [(change, new) for change, new in tried if change.makes_sure and new.entropy < fit.entropy - LESS_UNSURE]
    enough = len(pictures) >= ENOUGH and fit.misfit < chance(pictures)
    return sure[0] if sure and enough and sure[0][1].misfit < chance(pictures) else None


def changes(weights: Weights) -> Iterator[Change]:
    """What else a file might mean."""
    config, preprocessing = weights.facts["config"], weights.facts["preprocessing"]
    mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
    said = next((words for words, values in INPUTS.items() if values == (mean, std)), f"mean {mean} and deviation {std}")
    for words, values in INPUTS.items():
        if words != said:
            yield Change(said, words, with_input(weights, *values))
    yield Change("red, green, blue", "blue, green, red", colours_reversed(weights), makes_sure=True)
    if weights.has_strides:
        strides = "the stride in the 3x3 convolution (v1.5)", "the stride in the first 1x1 convolution (v1)"
        said, instead = strides[::-1] if config["stride_in_1x1"] else strides
        yield Change(said, instead, other_stride(weights))
    other = other_epsilon(weights)
    yield Change(f"epsilon {config['eps']:g}", f"epsilon {other.facts['config']['eps']:g}", other)
    yield Change("square kernels as they are", "their inputs and outputs exchanged", kernels_transposed(weights))
    yield Change("gamma and beta as they are", "gamma for beta", gamma_and_beta_swapped(weights))


def words_of_misfit(weights: Weights, fit: Fit, limit: float) -> str:
    """Where a network goes wrong for which nothing better was found."""
    far = min(WORST_LAYER * limit, max(fit.misfits.values()))
    first = next(name for name, value in fit.misfits.items() if value >= far)
    words = f"  the first layer that does not fit is {first}: misfit {fit.misfits[first]:.3g}"
    new = statistics_ignored(weights).arrays
    if all(np.array_equal(weights.arrays[name], new[name]) for name in new):
        return f"{words}\n  all running means are 0 and variances 1, as in a network that was never trained"
    return f"{words}\n  or the pictures are not of the kind that it was trained on"
