"""The rectifier."""

from __future__ import annotations

from numpy import ndarray as Array

from tinyresnet.kernels import relu, relu_backward
from tinyresnet.layers.base import Layer, check_gradient


class ReLU(Layer):
    """y = max(x, 0), elementwise; its derivative is 1 where x > 0, else 0."""

    def forward(self, x: Array) -> Array:
        y = relu(x)
        self.save(y)  # positive just where x is; the next layer most likely keeps y as well, so it costs nothing
        return y

    def backward(self, dy: Array) -> Array:
        (y,) = self.saved()
        check_gradient(dy, y.shape, y.dtype)
        return relu_backward(dy, y)  # dy * (y > 0)
