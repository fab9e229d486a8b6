"""Softmax and cross-entropy: how surprised the network is by the true class."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array


def softmax(logits: Array) -> Array:
    """p[n, k] = exp(logits[n, k]) / sum_j exp(logits[n, j]).

    The row's maximum is subtracted first: it cancels in the fraction, and exp never overflows.

    Shapes: logits, p (N, classes).
    """
    _check_logits(logits)
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, labels: Array, *, label_smoothing: float = 0.0) -> tuple[float, Array]:
    """Mean over the batch of -sum_k target[n, k] log p[n, k], and its gradient (p - target) / N.

    The target is 1 for the true class and 0 elsewhere; label smoothing mixes it with the uniform distribution,
    target = (1 - s) * one_hot + s / classes (Szegedy et al., arXiv:1512.00567, section 7).

    Shapes: logits (N, classes), labels (N,) integers; returns the loss and dlogits (N, classes).
    Raises ValueError if labels do not fit the logits.
    """
    _check_logits(logits)
    N, classes = logits.shape
    labels = np.asarray(labels)
    if labels.shape != (N,) or labels.dtype.kind not in "iu":
        raise ValueError(f"expected {N} integer labels, one a row of logits, got {labels.dtype} of shape {labels.shape}")
    if N == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"expected at least one label, all in 0..{classes - 1}, got {labels}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in 0..1, got {label_smoothing}")
    target = np.full_like(logits, label_smoothing / classes)
    target[np.arange(N), labels] += 1 - label_smoothing
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # never the log of a p that rounded to zero
    loss = -np.multiply(target, log_p, where=target > 0, out=np.zeros_like(log_p)).sum() / N  # 0 * log 0 is 0
    return float(loss), (np.exp(log_p) - target) / N


def _check_logits(logits: Array) -> None:
    if np.ndim(logits) != 2 or np.asarray(logits).dtype.kind != "f":
        raise ValueError(f"expected logits (N, classes) of floating-point numbers, got shape {np.shape(logits)} "
                         f"of {np.asarray(logits).dtype}")
