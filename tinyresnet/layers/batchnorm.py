"""Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167), with the conventions of PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import gradient_sums, input_gradient, moments, normalise, relu_backward
from tinyresnet.layers.base import Layer, check_gradient, check_images


class SecondPass(NamedTuple):
    """dx = factors[0] * dz + factors[1] * (x - mean) + factors[2], once the sums over the batch are known."""

    x: Array
    mean: Array
    factors: Array  # (3, C)


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
        if not (channels >= 1 and 0 <= eps < np.inf and 0 <= momentum <= 1):
            raise ValueError(f"expected at least 1 channel, eps >= 0, momentum in 0..1, got {channels}, {eps}, {momentum}")
        self.eps, self.momentum = eps, momentum
        self.weight = np.ones(channels, dtype=np.float32)
        self.bias = np.zeros(channels, dtype=np.float32)
        self.running_mean = np.zeros(channels, dtype=np.float32)
        self.running_var = np.ones(channels, dtype=np.float32)

    def forward(self, x: Array) -> Array:
        check_images(x, len(self.weight), self.weight.dtype)
        return normalise(x, *self.constants(x, moments(x) if self.uses_batch else None))

    def backward(self, dy: Array) -> Array:
        return self.input_gradient(*self.parameter_gradients(dy))

    @property
    def uses_batch(self) -> bool:
        """Whether mean and variance are the batch's own."""
        return self.training and not self.frozen

    def constants(self, x: Array, batch: tuple[Array, Array] | None) -> tuple[Array, Array, Array]:
        """Mean, scale and shift of y = (x - mean) * scale + shift; saves what backward needs, updates the running moments.

        batch: mean and variance of x where `uses_batch`.
        """
        if batch is None:
            self.save(x.shape)
            return self.running_mean, self._scale(self.running_var), self.bias.copy()
        M = x.size // x.shape[3]  # values a channel
        if M == 1:
            raise ValueError(f"batch norm in training needs more than one value a channel, got x of shape {x.shape}")
        mean, var = (moment.astype(x.dtype) for moment in batch)
        self._update_running(mean, var * (M / (M - 1)))
        self.save(x.shape, x, mean, var)
        return mean, self._scale(var), self.bias.copy()  # as it is now, should it change before backward

    def parameter_gradients(self, dy: Array, y: Array | None = None) -> tuple[Array, SecondPass | None]:
        """The first pass of backward; returns dz and what the second pass needs, nothing where mean and var are constants.

        dz is dy; where y = relu(z) of this layer's output z is given, it is the gradient of z.
        """
        shape, *batch = self.saved()
        check_gradient(dy, shape, self.weight.dtype)
        if not batch:
            return dy if y is None else relu_backward(dy, y), None
        x, mean, var = batch  # with x_hat = (x - mean) / std
        M = x.size // x.shape[3]
        std = np.sqrt(var + self.eps, dtype=dy.dtype)
        dz, *sums = gradient_sums(dy, x, mean, y)
        dbias, dots = (total.astype(dy.dtype) for total in sums)
        dweight = dots / std  # the sum of dz * x_hat
        if not self.frozen:
            self.grads = {"weight": dweight, "bias": dbias}
        # x moves y directly, through the variance and through the mean:
        # dx = weight / std * (dz - x_hat * dweight / M - dbias / M)
        factors = np.stack([np.ones_like(std), -dweight / (M * std), -dbias / M]) * self._scale(var)  # (3, C)
        return dz, SecondPass(x, mean, factors)

    def input_gradient(self, dz: Array, second: SecondPass | None) -> Array:
        """The second pass: dx."""
        return dz * self._scale(self.running_var) if second is None else input_gradient(dz, *second)

    def _scale(self, var: Array) -> Array:
        """What x - mean is multiplied by."""
        return self.weight / np.sqrt(var + self.eps, dtype=self.weight.dtype)

    def _update_running(self, mean: Array, unbiased_var: Array) -> None:
        keep = 1 - self.momentum
        self.running_mean = (keep * self.running_mean + self.momentum * mean).astype(self.weight.dtype)
        self.running_var = (keep * self.running_var + self.momentum * unbiased_var).astype(self.weight.dtype)

    def __repr__(self) -> str:
        return f"BatchNorm2d({len(self.weight)})"
