"""A residual network in plain NumPy, channels first, as its source defines it: to compare converted networks with.

Nothing is renamed, transposed for good or folded: it works on the arrays of the file under the file's names, with the
biases, factors, strides, epsilon and pooling of the framework that they come from.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def convolution(x, kernel, stride, padding):
    """x (N, C, H, W), kernel (O, C, K, K) -> (N, O, P, Q)"""
    K = kernel.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(x, (K, K), axis=(2, 3))[:, :, ::stride, ::stride]  # (N, C, P, Q, K, K)
    return np.tensordot(windows, kernel, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def pooling(x, rule):
    """The largest of 3x3 at every other pixel; x is behind a ReLU, hence a zero is as good as nothing"""
    H, W = x.shape[2:]
    if rule == "torch":  # and Keras: a border of one pixel around
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    elif rule == "caffe":  # as many windows as begin inside, from the first pixel on
        x = np.pad(x, ((0, 0), (0, 0), (0, (H - 3) % 2), (0, (W - 3) % 2)))
    else:
        assert rule == "unpadded"
    return sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(4, 5))


class PlainResNet:
    """names: of each unit's arrays, and of the head's, as in other_names.py."""

    def __init__(self, arrays, names, *, v1, eps=1e-5, pool="torch", channels_last=False, dtype=np.float64):
        self.arrays = {name: array.astype(dtype) for name, array in arrays.items()}
        self.units, self.head = names
        self.v1, self.eps, self.pool, self.channels_last = v1, eps, pool, channels_last
        self.statistics = {}  # of what entered each batch norm: mean and variance, and those that the file has

    def unit(self, x, unit, stride=1):
        """The convolution and its batch norm"""
        weight, bias, gamma, beta, mean, variance, *factor = self.units[unit]
        kernel = self.arrays[weight]
        kernel = kernel.transpose(3, 2, 0, 1) if self.channels_last else kernel
        y = convolution(x, kernel, stride, kernel.shape[2] // 2)
        if bias in self.arrays:
            y = y + self.arrays[bias][:, None, None]
        mean, variance = self.arrays[mean], self.arrays[variance]
        if factor:
            mean, variance = mean / self.arrays[factor[0]], variance / self.arrays[factor[0]]
        self.statistics[unit] = y.mean((0, 2, 3)), y.var((0, 2, 3)), mean, variance
        scale = self.arrays[gamma] / np.sqrt(variance + self.eps)
        return (y - mean[:, None, None]) * scale[:, None, None] + self.arrays[beta][:, None, None]

    def features(self, x):
        """x (N, 3, H, W) in the source's own units -> what the last stage gives"""
        stem, *units = sorted(self.units)
        x = pooling(np.maximum(self.unit(x, stem, 2), 0), self.pool)
        for stage, block in sorted({unit[:2] for unit in units}):
            x = self.block(x, [unit for unit in units if unit[:2] == (stage, block)])
        return x

    def block(self, x, units):
        body = [unit for unit in units if unit.number]
        stride = 2 if units[0].stage > 1 and units[0].block == 0 else 1
        strides = [stride, 1, 1] if self.v1 or len(body) == 2 else [1, stride, 1]
        y = x
        for unit, step in zip(body, strides):
            y = self.unit(np.maximum(y, 0), unit, step)  # x is positive already
        if len(units) > len(body):
            x = self.unit(x, units[0], stride)
        return np.maximum(x + y, 0)

    def logits(self, x):
        weight, bias = (self.arrays[name] for name in self.head)
        return self.features(x).mean(axis=(2, 3)) @ (weight if self.channels_last else weight.T) + bias
