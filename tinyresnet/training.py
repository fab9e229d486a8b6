"""The training loop in full view, and the checkpoints that let it go on where it stopped.

    for x, labels in batches(train_set, batch_size, rng):
        logits = model.forward(x)
        loss, dlogits = cross_entropy(logits, labels)
        model.backward(dlogits)
        optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array
from tqdm import tqdm

from tinyresnet.layers import Layer
from tinyresnet.loss import cross_entropy, softmax
from tinyresnet.optim import Optimizer, constant
from tinyresnet.weights import WeightsFileError, read_arrays, write_arrays


Loss = Callable[[Array, Array], tuple[float, Array]]  # of logits and labels: the loss and dlogits


class Samples(NamedTuple):
    """Inputs with their labels. `transform(x, rng)` turns a batch of inputs into what the network reads; training
    passes a generator, so that it can augment, evaluation passes None. Rows come in blocks that no batch divides.

    Shapes: inputs (n, ...), labels (n,) int64; n a multiple of block.
    """

    inputs: Array
    labels: Array
    transform: Callable[[Array, np.random.Generator | None], Array] = lambda x, rng: x
    block: int = 1


def batches(samples: Samples, batch_size: int, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Every sample once, in random order, blocks of neighbours together."""
    blocks = np.arange(len(samples.labels)).reshape(-1, samples.block)  # (n / block, block)
    order = rng.permutation(blocks).ravel()
    batch_size = in_whole_blocks(batch_size, samples)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield samples.transform(samples.inputs[rows], rng), samples.labels[rows]


def in_whole_blocks(batch_size: int, samples: Samples) -> int:
    """The largest batch of whole blocks that is no larger, but at least one block."""
    return max(samples.block, batch_size // samples.block * samples.block)


def train(model: Layer, optimizer: Optimizer, train_set: Samples, valid_set: Samples | None = None, *, epochs: int,
          batch_size: int, rng: np.random.Generator, schedule: Callable[[int, int], float] = constant,
          loss_function: Loss = cross_entropy, checkpoint: Path | None = None,
          description: str = "training") -> list[dict]:
    """Train for so many epochs; returns a row an epoch: epoch, lr, and loss and accuracy of both sets.

    With `checkpoint` the state is written there after every epoch; if the file exists, training goes on from it, to
    the same bits as if it had never stopped. The progress bar shows only on a terminal.
    Raises FloatingPointError as soon as the loss is not finite.
    """
    begun = {"epochs": epochs, "batch_size": batch_size, "samples": len(train_set.labels), "lr": optimizer.lr}
    history = load_checkpoint(checkpoint, model, optimizer, rng, begun) if checkpoint and checkpoint.exists() else []
    base_lr = optimizer.lr
    steps = epochs * math.ceil(len(train_set.labels) / in_whole_blocks(batch_size, train_set))
    progress = tqdm(total=epochs * len(train_set.labels), initial=len(history) * len(train_set.labels), unit=" images",
                    leave=False, disable=None)
    with progress:
        for epoch in range(len(history) + 1, epochs + 1):
            progress.set_description(f"{description}, epoch {epoch} of {epochs}", refresh=False)
            row = train_one_epoch(model, optimizer, batches(train_set, batch_size, rng), loss_function,
                                  lambda: base_lr * schedule(optimizer.t, steps), progress)
            valid_loss, valid_accuracy = evaluate(model, valid_set, batch_size) if valid_set else (None, None)
            history.append({"epoch": epoch, **row, "valid_loss": valid_loss, "valid_accuracy": valid_accuracy})
            if checkpoint:
                save_checkpoint(checkpoint, model, optimizer, rng, history, begun)
    optimizer.lr = base_lr
    return history


def train_one_epoch(model: Layer, optimizer: Optimizer, data: Iterable[tuple[Array, Array]], loss_function: Loss,
                    lr: Callable[[], float], progress: tqdm) -> dict:
    """The loop. Returns lr of the last step, and train_loss and train_accuracy of the epoch as it went by."""
    model.train()
    seen, total_loss, correct = 0, 0.0, 0
    for x, labels in data:
        optimizer.lr = lr()
        logits = model.forward(x)  # (N, classes)
        loss, dlogits = loss_function(logits, labels)  # mean over the batch
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} in step {optimizer.t + 1}: try a smaller learning rate")
        model.backward(dlogits)
        optimizer.step()
        seen += len(labels)
        total_loss += cross_entropy(logits, labels)[0] * len(labels)  # what validation reports, too
        correct += int((logits.argmax(axis=1) == labels).sum())
        progress.set_postfix_str(f"loss={loss:.3f}", refresh=False)
        progress.update(len(labels))
    return {"lr": optimizer.lr, "train_loss": total_loss / seen, "train_accuracy": correct / seen}


def predict(model: Layer, samples: Samples, batch_size: int) -> Array:
    """Probabilities (n, classes) in eval mode, in which the model is left."""
    model.eval()
    return np.concatenate([
        softmax(model.forward(samples.transform(samples.inputs[start : start + batch_size], None)))
        for start in range(0, len(samples.labels), batch_size)])


def evaluate(model: Layer, samples: Samples, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in eval mode, in which the model is left."""
    p = predict(model, samples, batch_size)
    p_true = p[np.arange(len(p)), samples.labels]
    return float(-np.log(np.maximum(p_true, 1e-12)).mean()), float((p.argmax(axis=1) == samples.labels).mean())


def save_checkpoint(path: Path, model: Layer, optimizer: Optimizer, rng: np.random.Generator, history: list[dict],
                    begun: dict) -> None:
    """Everything the next epoch depends on, in one file that is complete or not there: weights, optimiser, randomness.

    begun: with what the training began, as it must begin again to go on.
    """
    arrays = {f"model/{name}": a for name, a in model.state_dict().items()}
    arrays |= {f"optimizer/{name}": a for name, a in optimizer.state_dict().items()}
    write_arrays(path, arrays, {"begun": begun, "history": history, "random state": rng.bit_generator.state})


def load_checkpoint(path: Path, model: Layer, optimizer: Optimizer, rng: np.random.Generator, begun: dict) -> list[dict]:
    """Bring model, optimiser and generator to the state in the file; returns the history up to there.

    Raises WeightsFileError if the file is damaged or belongs to another training.
    """
    arrays, facts = read_arrays(path)
    parts: dict[str, dict[str, Array]] = {"model": {}, "optimizer": {}}
    try:
        if facts["begun"] != begun:
            raise ValueError(f"it began with {facts['begun']}, this one with {begun}")
        for key, array in arrays.items():
            part, name = key.split("/", 1)
            parts[part][name] = array
        model.load_state_dict(parts["model"])
        optimizer.load_state_dict(parts["optimizer"])
        rng.bit_generator.state = facts["random state"]
        return facts["history"]
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsFileError(f"{path}: not a checkpoint of this training ({error}); delete it to begin anew") from error
