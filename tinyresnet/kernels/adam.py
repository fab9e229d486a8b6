"""Adam's update in one pass over a parameter and its two averages."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.jit import KERNELS, compiled, expect_shapes
from tinyresnet.kernels.threads import launch

TILE = 1 << 16  # numbers


def adam_step_reference(param: Array, g: Array, m: Array, v: Array, lr: float, beta1: float, beta2: float, eps: float,
                        t: int) -> None:
    """Algorithm 1 of arXiv:1412.6980 for one parameter's t-th gradient g; changes param, m and v, all of one shape."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * (g * g)
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    param -= lr * m_hat / (np.sqrt(v_hat) + eps)


def adam_step(param, g, m, v, lr, beta1, beta2, eps, t):
    """Same as adam_step_reference, to the last bit."""
    expect_shapes(g=(g, param.shape), m=(m, param.shape), v=(v, param.shape))
    arrays = (param, g, m, v)
    alike = param.dtype in (np.float32, np.float64) and all(a.dtype == param.dtype for a in arrays)
    if KERNELS == "reference" or not alike or not all(a.flags.c_contiguous and a.flags.writeable for a in arrays):
        return adam_step_reference(param, g, m, v, lr, beta1, beta2, eps, t)
    numbers = np.array([lr, beta1, 1 - beta1, beta2, 1 - beta2, 1 - beta1**t, 1 - beta2**t, eps], dtype=param.dtype)
    return launch(adam_tiles, -(-param.size // TILE), *(a.reshape(-1) for a in arrays), numbers)


@compiled
def adam_tiles(first, last, param, g, m, v, numbers):
    """adam_step for TILE numbers of each array, a tile."""
    lr, beta1, rest1, beta2, rest2, correction1, correction2, eps = numbers
    tile = slice(first * TILE, last * TILE)
    param, g, m, v = param[tile], g[tile], m[tile], v[tile]
    for i in range(len(param)):
        m[i] = m[i] * beta1 + rest1 * g[i]
        v[i] = v[i] * beta2 + rest2 * (g[i] * g[i])
        param[i] -= lr * (m[i] / correction1) / (np.sqrt(v[i] / correction2) + eps)
