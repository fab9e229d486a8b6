"""The fully connected layer."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import conv_backward_input, conv_backward_weight, conv_finish
from tinyresnet.layers.base import Layer, check_gradient


class Linear(Layer):
    """y = x @ weight + bias.

    Shapes: x (N, C), weight (C, O), bias (O,), y (N, O). Both begin uniform in +-1/sqrt(C), drawn from `rng`.
    Raises ValueError if x is not (N, C) of the weight's dtype.
    """

    param_names = ("weight", "bias")

    def __init__(self, in_features: int, out_features: int, *, rng: np.random.Generator | None = None):
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ValueError(f"expected at least one feature in and out, got Linear({in_features}, {out_features})")
        rng = rng or np.random.default_rng(0)
        bound = 1 / np.sqrt(in_features)
        self.weight = rng.uniform(-bound, bound, (in_features, out_features)).astype(np.float32)
        self.bias = rng.uniform(-bound, bound, out_features).astype(np.float32)

    def forward(self, x: Array) -> Array:
        C = len(self.weight)
        if not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != C or len(x) == 0 or x.dtype != self.weight.dtype:
            raise ValueError(f"expected x (N, {C}) of dtype {self.weight.dtype}, not empty, got shape {np.shape(x)} "
                             f"of {getattr(x, 'dtype', type(x).__name__)}")
        self.save(x)
        # y = x @ weight + bias, as a 1x1 convolution of images of one pixel: NumPy's product would wake threads of its own
        return conv_finish(x[:, None, None], self.weight[None, None], 1, 0, self.bias)[:, 0, 0]

    def backward(self, dy: Array) -> Array:
        (x,) = self.saved()
        check_gradient(dy, self.output_shape(x.shape), x.dtype)
        if not self.frozen:
            # dweight = x.T @ dy
            dweight = conv_backward_weight(x[:, None, None], dy[:, None, None], 1, 1, 0)[0, 0]
            self.grads = {"weight": dweight, "bias": dy.sum(axis=0, dtype=np.float64).astype(dy.dtype)}
        # dx = dy @ weight.T
        return conv_backward_input(dy[:, None, None], self.weight[None, None], (len(x), 1, 1, x.shape[1]), 1, 0)[:, 0, 0]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], self.weight.shape[1]

    def __repr__(self) -> str:
        return f"Linear({self.weight.shape[0]}, {self.weight.shape[1]})"
