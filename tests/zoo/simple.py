"""ReLU, pooling and the linear layer, each with one mistake."""

import numpy as np
from zoo import wrong

from tinyresnet.layers import GlobalAvgPool, Linear, MaxPool2d, ReLU


@wrong("ReLU", "ReLU backward that overwrites its argument", symptom="right alone; in a residual block the skip connection "
       "receives what the branch has already changed", cause="dy *= mask changes an array that belongs to another layer")
class OverwritesItsArgument(ReLU):
    def backward(self, dy):
        dy *= self.saved()[0]
        return dy


class Scattering(MaxPool2d):
    """backward window by window: `give` shares the gradient of one window out among its pixels."""

    def forward(self, x):
        y = super().forward(x)
        if self._saved:
            self.save(x, y)
        return y

    def backward(self, dy):
        x, y = self.saved()
        dx = np.zeros_like(x)
        for n, p, q, c in np.ndindex(dy.shape):
            i, j = p * self.stride - self.padding, q * self.stride - self.padding
            place = n, slice(max(i, 0), i + self.kernel_size), slice(max(j, 0), j + self.kernel_size), c
            self.give(dx[place], x[place] == y[n, p, q, c], dy[n, p, q, c])
        return dx


@wrong("MaxPool2d", "all of equal values win", symptom="right for random inputs; on flat background dx is multiplied",
       cause="the mask x == max is true for each of them")
class AllWin(Scattering):
    def give(self, window, winners, dy):
        window += dy * winners


@wrong("MaxPool2d", "padding with zeros", symptom="right after a ReLU; for negative inputs the border becomes zero",
       cause="np.pad's default wins against every negative number; padding counts as -infinity")
class ZeroPadding(MaxPool2d):
    def forward(self, x):
        y = super().forward(x)
        P, Q = y.shape[1:3]
        edge = np.zeros((P, Q, 1), bool)
        if self.padding:
            edge[0], edge[:, 0] = True, True
            for sides, size, windows in ((edge, x.shape[1], P), (edge.transpose(1, 0, 2), x.shape[2], Q)):
                sides[-1] |= (windows - 1) * self.stride + self.kernel_size - self.padding > size
        return np.where(edge, np.maximum(y, 0), y)


@wrong("GlobalAvgPool", "global pooling without the division", symptom="logits a hundred times too large, and the loss "
       "explodes at the first step", cause="sum for mean, forward and backward alike, so the gradient check is content")
class Sum(GlobalAvgPool):
    def forward(self, x):
        return super().forward(x) * (x.shape[1] * x.shape[2])

    def backward(self, dy):
        dx = super().backward(dy)
        return dx * (dx.shape[1] * dx.shape[2])


@wrong("GlobalAvgPool", "gradient not divided by the pixels", symptom="the backbone learns far faster than its head",
       cause="backward copies dy to every pixel; each had only one part of H*W in the mean")
class NotDivided(GlobalAvgPool):
    def backward(self, dy):
        dx = super().backward(dy)
        return dx * (dx.shape[1] * dx.shape[2])


@wrong("Linear", "bias gradient averaged", symptom="the bias learns more slowly the larger the batch",
       cause="mean over the batch for the sum; dlogits already holds the division by N")
class BiasAveraged(Linear):
    def backward(self, dy):
        dx = super().backward(dy)
        if not self.frozen:
            self.grads["bias"] = dy.mean(axis=0)
        return dx
