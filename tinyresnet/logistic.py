"""Logistic regression: the smallest network, one linear layer, whose loss has a single minimum.

    p[n] = 1 / (1 + exp(-(x[n] @ weight + bias)))
    loss = sum over n of cross_entropy(p[n], label[n])  +  strength / 2 * sum over j of (std[j] weight[j])**2

The same as scikit-learn's LogisticRegression(C=1 / strength) behind a StandardScaler. Because there is one minimum,
nothing is left to choose or to draw at random, which is what one wants of a yardstick. Newton's method finds it: each
step jumps to the minimum of the parabola that has the loss's value, slope and curvature where it stands.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from scipy.special import expit

STEPS = 100  # some ten are needed; more means that numbers are not what they should be
LEAST = 1e-9  # with less, the minimum for separable classes is too flat for float64


def fit_logistic(x: Array, labels: Array, strength: float) -> tuple[Array, float]:
    """The weight and bias of least loss, for x as it is: columns are standardised inside, and that is undone.

    A column that does not vary gets weight 0. Shapes: x (n, d), any d, labels (n,) of 0 and 1 -> weight (d,), bias.
    Raises ValueError for other shapes or values, one class alone, or a strength below LEAST.
    """
    x, labels = _checked(x, labels, strength)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std <= 1e-9 * np.abs(mean)] = np.inf  # constant, but for rounding
    z = (x - mean) / std  # (n, d)
    # The best weight is a sum of rows, so with Q (d, k), an orthonormal basis of the rows, it is Q @ v: k <= n unknowns
    # in the place of d, and |v| = |Q @ v|. From z @ z.T = U S**2 U.T follows Q = z.T @ U / S, and z @ Q = U S.
    squares, U = np.linalg.eigh(z @ z.T)  # (n,), (n, n)
    kept = squares > 1e-12 * squares[-1]
    S, U = np.sqrt(squares[kept]), U[:, kept]  # (k,), (n, k)
    solution = _newton(np.column_stack([U * S, np.ones(len(z))]), labels, strength)  # (k + 1,)
    weight = z.T @ (U @ (solution[:-1] / S)) / std  # (d,)
    return weight, float(solution[-1] - mean @ weight)


def probabilities(x: Array, weight: Array, bias: float) -> Array:
    """Of class 1. Shapes: x (n, d), weight (d,) -> (n,)."""
    return expit(x @ weight + bias)


def _newton(z: Array, labels: Array, strength: float) -> Array:
    """The v of least loss, of which the last, the bias, costs nothing. Shapes: z (n, k), labels (n,) -> (k,)."""
    penalty = np.full(z.shape[1], float(strength))
    penalty[-1] = 0

    def loss(v: Array) -> float:
        logits = z @ v
        return penalty @ v ** 2 / 2 + (np.logaddexp(0, logits) - labels * logits).sum()

    v = np.zeros(z.shape[1])
    for _ in range(STEPS):
        p = expit(z @ v)
        slope = z.T @ (p - labels) + penalty * v
        curvature = (z.T * (p * (1 - p))) @ z + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        if slope @ step < 1e-16 * len(z) + 1e-14 * loss(v):  # twice what the loss would fall; less is rounding
            return v - step
        while loss(v - step) > loss(v):  # the parabola fits badly so far away
            step /= 2
        v = v - step
    raise ValueError(f"no minimum found in {STEPS} steps; the columns of x differ too much in size, or strength is tiny")


def _checked(x: Array, labels: Array, strength: float) -> tuple[Array, Array]:
    x, labels = np.asarray(x, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ValueError(f"expected x (n, d) and labels (n,), got {x.shape} and {labels.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"expected finite numbers, got {np.count_nonzero(~np.isfinite(x))} NaN or infinite in x")
    if not np.array_equal(np.unique(labels), [0, 1]):
        raise ValueError(f"expected labels of both classes, 0 and 1, got {np.unique(labels)[:5].tolist()}")
    if not LEAST <= strength < np.inf:
        raise ValueError(f"expected a strength of at least {LEAST:g}, got {strength}")
    return x, labels
