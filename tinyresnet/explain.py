"""Looking inside a network: which part of an image speaks for a class, and which known cases resemble it?

    grad_cam              what the network itself says: a backward pass, coarse as the stage's map, quick
    class_activation_map  the same after the last stage, read off the head's weights
    occlusion             what an experiment says: cover a part, ask again; no derivative, a forward for each part
    pointing_game         is it where it should be?
    randomised            does it depend on what was learned at all? If not, it is a picture of the image
    nearest               the training cases that look alike to the network

Maps are evidence about the network, not about the patient.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from tinyresnet.inference import fold_batch_norm
from tinyresnet.layers import Layer
from tinyresnet.resnet import ResNet

Array = NDArray

BATCH = 16  # covered images at a time


def grad_cam(model: ResNet, x: Array, class_index: ArrayLike, at: str = "layer4") -> Array:
    """Where the activations A of the stage `at` speak for a class, and (negative) where against it.

        alpha[n, c] = mean over i, j of  d logit[n, class] / d A[n, i, j, c]        (arXiv:1610.02391, equation 1)
        map[n, i, j] = sum_c alpha[n, c] A[n, i, j, c]                               (equation 2 before its ReLU)

    The ReLU is left to whoever draws: it hides what speaks against the class, and without it the map after the last
    stage adds up to the logit less its bias. The network runs as in eval mode and is left as it was, gradients too.

    Shapes: x (N, H, W, 3), class_index one for all images or (N,), map (N, h, w).
    Raises ValueError for an unknown class, or a stage that is none or has no map.
    """
    A = fold_batch_norm(model.part(to=at)).forward(x)  # (N, h, w, C)
    if A.ndim != 4:
        raise ValueError(f"expected a stage before the average, which has maps (N, h, w, C); {at} gives {A.shape}")
    rest = copy.deepcopy(model.part(after=at)).train().freeze()  # keeps what backward needs, with running statistics
    logits = rest.forward(A)  # (N, classes)
    dlogits = np.zeros_like(logits)
    dlogits[np.arange(len(x)), _classes(class_index, *logits.shape)] = 1
    alpha = rest.backward(dlogits).mean(axis=(1, 2))  # (N, C)
    return np.einsum("nijc,nc->nij", A, alpha)


def _classes(class_index: ArrayLike, N: int, classes: int) -> Array:
    """The class of each image, (N,)."""
    index = np.asarray(class_index)
    if index.dtype.kind not in "iu" or index.shape not in ((), (N,)) or not ((index >= 0) & (index < classes)).all():
        raise ValueError(f"expected one class for all or one for each of {N} images, in 0..{classes - 1}, got {index}")
    return np.broadcast_to(index, N)


def class_activation_map(model: ResNet, x: Array, class_index: ArrayLike) -> Array:
    """What each place of the last stage adds to the logit: the average and the linear head, in another order.

        map[n, i, j] = sum_c A[n, i, j, c] weight[c, class] / (h w)        (Zhou et al., arXiv:1512.04150, equation 2)
        logit[n, class] = sum_ij map[n, i, j] + bias[class]

    The head's weights are the derivative, so this is `grad_cam` at the last stage without a backward pass.
    Shapes: x (N, H, W, 3), class_index one for all images or (N,), map (N, h, w).
    Raises ValueError for an unknown class.
    """
    stages = [name for name, _ in model.children()]
    A = fold_batch_norm(model.part(to=stages[stages.index("avgpool") - 1])).forward(x)  # (N, h, w, C)
    N, h, w, _ = A.shape
    weight = model.fc.weight[:, _classes(class_index, N, model.fc.weight.shape[1])]  # (C, N)
    return np.einsum("nijc,cn->nij", A, weight) / (h * w)


def randomised(model: ResNet, stages: Iterable[str], rng: np.random.Generator) -> ResNet:
    """A copy whose parameters in these stages are shuffled: the same numbers and scale, nothing learned.

    From the head down, stage by stage, a map must lose its likeness to the original's: what survives does not explain
    the network (Adebayo et al., arXiv:1810.03292, cascading randomisation; they draw new weights).
    Raises ValueError for a stage that the network does not have.
    """
    result = copy.deepcopy(model)
    for stage in stages:
        for _, layer in result.part(to=stage)[-1].named_layers():
            for name in layer.param_names:
                array = getattr(layer, name)
                setattr(layer, name, rng.permutation(array.ravel()).reshape(array.shape))
    return result


def occlusion(model: Layer, x: Array, class_index: ArrayLike, *, size: int, stride: int,
              fill: float | None = None) -> Array:
    """How far the logit of the class falls when a square is covered (Zeiler and Fergus, arXiv:1311.2901, section 4.2).

        map[n, p, q] = logit(x[n]) - logit(x[n] with size x size pixels about the middle of cell (p, q) covered)

    The image is divided evenly into cells of about stride x stride pixels, so the map lies over the image like that of
    a stage. The logit, not the probability, as a sure network's hardly moves: from .9999 to .999 the logit falls by 2.3.
    Squares have the image's mean colour unless `fill` (in the units of x) is given: black would be a hole, which no
    head has, and the network might answer to its edge.

    Shapes: x (N, H, W, 3), class_index one for all images or (N,), map (N, about H / stride, about W / stride).
    A progress bar shows on a terminal only. Raises ValueError for an unknown class, or a size or stride below 1.
    """
    if size < 1 or stride < 1:
        raise ValueError(f"expected size and stride of at least 1 pixel, got {size} and {stride}")
    network, (N, H, W, _) = fold_batch_norm(model), x.shape
    rows, columns = _spans(H, size, stride), _spans(W, size, stride)
    squares = [(n, row, column) for n in range(N) for row in rows for column in columns]
    colours = x.mean(axis=(1, 2)) if fill is None else np.full((N, 3), fill, x.dtype)  # (N, 3)
    logits = network.forward(x)
    of_class = _classes(class_index, *logits.shape)
    falls = []
    with tqdm(total=len(squares), desc="covering", unit=" squares", leave=False, disable=None) as progress:
        for start in range(0, len(squares), BATCH):
            part = squares[start : start + BATCH]
            numbers = [n for n, _, _ in part]
            covered = x[numbers]  # a copy
            for image, (n, row, column) in zip(covered, part):
                image[row, column] = colours[n]
            change = logits[numbers] - network.forward(covered)  # (part, classes)
            falls.append(change[np.arange(len(part)), of_class[numbers]])
            progress.update(len(part))
    return np.concatenate(falls).reshape(N, len(rows), len(columns))


def _spans(length: int, size: int, stride: int) -> list[slice]:
    """So many pixels about the middle of each of the cells that a side is divided into, cut at the image's edge."""
    count = max(1, round(length / stride))
    middles = (np.arange(count) + 0.5) * length / count
    return [slice(max(0, round(middle - size / 2)), round(middle + size / 2)) for middle in middles]


def pointing_game(maps: Array, masks: Array, tolerance: float) -> Array:
    """Whether each map's maximum lies in the mask, or at most `tolerance` pixels of the mask away from it.

    The maximum of a map that is enlarged bilinearly lies where the map has it: in the middle of its largest cell. So a
    coarse map cannot score well: in a stage of stride 32 that middle is up to 16 pixels from what was found, each way.
    Chance is not zero: a point anywhere hits with the probability of the mask's share of the image, so widened.
    Source: Zhang et al., arXiv:1608.00507, section 4.1, with 15 pixels.

    Shapes: maps (n, h, w), masks (n, H, W) bool -> (n,) bool.
    Raises ValueError for other shapes, or a mask that is empty: it has no right answer.
    """
    maps, masks = np.asarray(maps), np.asarray(masks, dtype=bool)
    if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks):
        raise ValueError(f"expected maps (n, h, w) and as many masks (n, H, W), got {maps.shape} and {masks.shape}")
    if empty := np.flatnonzero(~masks.any(axis=(1, 2))).tolist():
        raise ValueError(f"masks {empty[:5]} are empty; only images that show something can be pointed at")
    cells = np.stack(np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[1:]), axis=1)  # (n, 2)
    points = ((cells + 0.5) * masks.shape[1:] / maps.shape[1:]).astype(int)  # (n, 2): row and column in the mask
    distances = [np.hypot(*(np.argwhere(mask) - point).T).min() for mask, point in zip(masks, points)]
    return np.array(distances) <= tolerance


def nearest(features: Array, train_features: Array, k: int, *, groups: ArrayLike | None = None,
            train_groups: ArrayLike | None = None) -> tuple[Array, Array]:
    """The k training cases most like each case, best first: their rows and their similarity, -1 to 1.

        z = (f - mean) / std over the training rows,        similarity(a, b) = z_a . z_b / (|z_a| |z_b|)

    Averaged activations are never negative, so all images would look alike before standardisation. Then the direction of
    z says in what way an image is unusual, its length how much so; the cosine asks for the first alone, while by distance
    the nearest to a striking case would be the dull ones. Cases of one group (scan, patient) are not each other's.

    Shapes: features (n, C), train_features (m, C), groups (n,), train_groups (m,) -> (n, k) int, (n, k).
    Raises ValueError for other shapes, or where fewer than k training cases are left.
    """
    n, m = len(features), len(train_features)
    if features.shape != (n, train_features.shape[1]) or (groups is None) != (train_groups is None):
        raise ValueError(f"expected features (n, C) and (m, C), and groups for both or none, got {features.shape}, "
                         f"{train_features.shape}")
    own = np.zeros((n, m), bool) if groups is None else np.asarray(groups)[:, None] == np.asarray(train_groups)
    if not 1 <= k <= (left := (~own).sum(axis=1).min(initial=m)):
        raise ValueError(f"expected k within 1..{left}, the training cases left without those of the same group, got {k}")
    mean, std = train_features.mean(axis=0), train_features.std(axis=0) + 1e-6  # a dead channel has no deviation
    similarity = _unit((features - mean) / std) @ _unit((train_features - mean) / std).T  # (n, m)
    order = np.argsort(np.where(own, np.inf, -similarity), axis=1, kind="stable")[:, :k]  # (n, k)
    return order, np.take_along_axis(similarity, order, axis=1)


def _unit(z: Array) -> Array:
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
