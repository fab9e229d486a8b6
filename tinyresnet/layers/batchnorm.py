"""Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167), with the conventions of PyTorch."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import channel_dots, channel_sums
from tinyresnet.layers.base import Layer, check_gradient, check_images


class BatchNorm2d(Layer):
    """Normalise each channel over the batch and both sides of the image, then scale and shift it.

        x_hat = (x - mean) / sqrt(var + eps),    y = weight * x_hat + bias        (arXiv:1502.03167, algorithm 1)

    In training mean and var are the batch's; otherwise, and when frozen, they are the running statistics. `momentum` is
    the share of the new batch, as in PyTorch: running = (1 - momentum) * running + momentum * batch. The batch is
    normalised by its biased variance (divided by M = N*H*W); running_var collects the unbiased one (M - 1).

    Shapes: x, y (N, H, W, C); weight (gamma), bias (beta), running_mean, running_var (C,).
    Raises ValueError in training for one value a channel: its variance would be zero, its output a constant.
    """

    param_names = ("weight", "bias")
    buffer_names = ("running_mean", "running_var")

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = np.ones(channels, dtype=np.float32)
        self.bias = np.zeros(channels, dtype=np.float32)
        self.running_mean = np.zeros(channels, dtype=np.float32)
        self.running_var = np.ones(channels, dtype=np.float32)

    def forward(self, x: Array) -> Array:
        check_images(x, len(self.weight), self.weight.dtype)
        if not self.training or self.frozen:
            self.save(x.shape)
            scale, shift = self._scale_and_shift()
            return x * scale + shift
        M = x.size // x.shape[3]  # values a channel
        if M == 1:
            raise ValueError(f"batch norm in training needs more than one value a channel, got x of shape {x.shape}")
        mean = (channel_sums(x) / M).astype(x.dtype)
        centred = x - mean
        var = (channel_dots(centred, centred) / M).astype(x.dtype)  # of the centred values: E[x*x] - mean*mean cancels
        self._update_running(mean, var * (M / (M - 1)))
        x_hat = centred / np.sqrt(var + self.eps, dtype=x.dtype)
        self.save(x.shape, x_hat, var)
        return x_hat * self.weight + self.bias

    def backward(self, dy: Array) -> Array:
        shape, *batch = self.saved()
        check_gradient(dy, shape, self.weight.dtype)
        if not batch:  # frozen: mean and variance are constants
            return dy * self._scale_and_shift()[0]
        x_hat, var = batch
        M = dy.size // dy.shape[3]
        dweight = channel_dots(dy, x_hat).astype(dy.dtype)
        dbias = channel_sums(dy).astype(dy.dtype)
        self.grads = {"weight": dweight, "bias": dbias}
        # x moves y directly, through the mean and through the variance, in this order:
        dx_hat = dy - dbias / M - x_hat * (dweight / M)
        return dx_hat * (self.weight / np.sqrt(var + self.eps, dtype=dy.dtype))

    def _scale_and_shift(self) -> tuple[Array, Array]:
        """With constant statistics batch norm is y = x * scale + shift."""
        scale = self.weight / np.sqrt(self.running_var + self.eps, dtype=self.weight.dtype)
        return scale, self.bias - self.running_mean * scale

    def _update_running(self, mean: Array, unbiased_var: Array) -> None:
        keep = 1 - self.momentum
        self.running_mean = (keep * self.running_mean + self.momentum * mean).astype(self.weight.dtype)
        self.running_var = (keep * self.running_var + self.momentum * unbiased_var).astype(self.weight.dtype)

    def __repr__(self) -> str:
        return f"BatchNorm2d({len(self.weight)})"
