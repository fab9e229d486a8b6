"""Convolution as one matrix product."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import conv_backward_input, conv_backward_weight, conv_finish, out_size
from tinyresnet.layers.base import Layer, check_gradient, check_images


class Conv2d(Layer):
    """2-D convolution.

        y[n, p, q, o] = sum_{u, v, c} x_padded[n, p*stride + u, q*stride + v, c] * weight[u, v, c, o]  (+ bias[o])

    Like every framework we do not flip the kernel, so this is a cross-correlation. No bias unless asked for: the
    batch norm that follows would subtract it; networks with folded batch norm have one.

    Shapes: x (N, H, W, C), weight (K, K, C, O), bias (O,), y (N, P, Q, O) with P = out_size(H, K, stride, padding).
    Weights begin as He's normal distribution over the fan-out, arXiv:1502.01852 eq. 14, drawn from `rng`.
    Raises ValueError if x does not have the C channels or the dtype the weight was made for.
    """

    param_names: tuple[str, ...] = ("weight",)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0,
                 bias: bool = False, rng: np.random.Generator | None = None):
        super().__init__()
        if min(in_channels, out_channels, kernel_size, stride) < 1 or padding < 0:
            raise ValueError(f"channels, kernel_size and stride must be at least 1 and padding at least 0, got "
                             f"Conv2d({in_channels}, {out_channels}, {kernel_size}, stride={stride}, padding={padding})")
        self.stride, self.padding = stride, padding
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        std = np.sqrt(2 / (kernel_size * kernel_size * out_channels), dtype=np.float32)
        self.weight = (rng or np.random.default_rng(0)).standard_normal(shape, dtype=np.float32) * std
        if bias:
            self.bias = np.zeros(out_channels, dtype=np.float32)
            self.param_names = ("weight", "bias")

    def forward(self, x: Array) -> Array:
        self.check(x)
        # cols = im2col(x, K, stride, padding)  # (N*P*Q, K*K*C): one row an output pixel
        # y = cols @ weight.reshape(-1, O)  # (N*P*Q, O), then (N, P, Q, O)
        y = conv_finish(x, self.weight, self.stride, self.padding, self.bias if self.has_bias else None)
        self.save(x)  # not cols: they are K*K times larger, and quick to rebuild
        return y

    def backward(self, dy: Array) -> Array:
        return self.propagate(dy)

    def propagate(self, dy: Array, *, add: Array | None = None) -> Array:
        """Backward: dx, plus what is to be added to it."""
        (x,) = self.saved()
        K, _, _, O = self.weight.shape
        check_gradient(dy, self.output_shape(x.shape), x.dtype)
        if not self.frozen:
            # dweight = cols.T @ dy, with dy (N*P*Q, O)
            self.grads["weight"] = conv_backward_weight(x, dy, K, self.stride, self.padding)
            if self.has_bias:
                self.grads["bias"] = dy.sum(axis=(0, 1, 2), dtype=np.float64).astype(dy.dtype)
        # dcols = dy @ weight.reshape(-1, O).T  # (N*P*Q, K*K*C)
        # dx = col2im(dcols, x.shape, K, stride, padding)
        return conv_backward_input(dy, self.weight, x.shape, self.stride, self.padding, add)

    @property
    def has_bias(self) -> bool:
        return "bias" in self.param_names

    def check(self, x: Array) -> None:
        """Raise ValueError for an x that forward does not take."""
        check_images(x, self.weight.shape[2], self.weight.dtype)
        self.output_shape(x.shape)  # raises for an image smaller than the kernel

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        N, H, W, _ = shape
        K, _, _, O = self.weight.shape
        return N, out_size(H, K, self.stride, self.padding), out_size(W, K, self.stride, self.padding), O

    def __repr__(self) -> str:
        K, _, C, O = self.weight.shape
        return f"{type(self).__name__}({C}, {O}, kernel_size={K}, stride={self.stride}, padding={self.padding})"
