"""Batch norm with one mistake."""

import numpy as np
from zoo import wrong

from tinyresnet.layers import BatchNorm2d


class Opened(BatchNorm2d):
    """Batch norm in training with its steps apart, so that each can be wrong alone."""

    axes: tuple = (0, 1, 2)

    def forward(self, x):
        if not self.training or self.frozen:
            return super().forward(x)
        M = x.size // x.shape[3]
        if M == 1:
            raise ValueError("one value a channel")
        var = x.var(self.axes)
        x_hat = (x - x.mean(self.axes)) / np.sqrt(var + self.eps)
        self.save(x_hat, var)
        self.update(x.mean((0, 1, 2)), x.var((0, 1, 2)), M / (M - 1), self.momentum)
        return x_hat * self.weight + self.bias

    def update(self, mean, var, unbiased, share):
        self.running_mean = (1 - share) * self.running_mean + share * mean
        self.running_var = (1 - share) * self.running_var + share * unbiased * var

    def backward(self, dy):
        if self.frozen:
            return super().backward(dy)
        x_hat, var = self.saved()
        self.grads = {"weight": (dy * x_hat).sum((0, 1, 2)), "bias": dy.sum((0, 1, 2))}
        return self.dx(dy, x_hat, self.weight / np.sqrt(var + self.eps))

    def dx(self, dy, x_hat, scale):
        return (dy - dy.mean(self.axes) - x_hat * (dy * x_hat).mean(self.axes)) * scale


@wrong("BatchNorm2d", "variance term dropped", symptom="trains, and worse; sum(output) as a loss does not see it",
       cause="x also moves y through the variance of its channel")
class VarianceTermDropped(Opened):
    def dx(self, dy, x_hat, scale):
        return (dy - dy.mean((0, 1, 2))) * scale


@wrong("BatchNorm2d", "mean term dropped", symptom="trains, and worse; sum(output**2) as a loss does not see it",
       cause="x also moves y through the mean of its channel")
class MeanTermDropped(Opened):
    def dx(self, dy, x_hat, scale):
        return (dy - x_hat * (dy * x_hat).mean((0, 1, 2))) * scale


@wrong("BatchNorm2d", "gamma forgotten", symptom="right as long as gamma is 1, as it is before training",
       cause="backward does not multiply by the weight that forward multiplied by")
class GammaForgotten(Opened):
    def dx(self, dy, x_hat, scale):
        return super().dx(dy, x_hat, scale) / self.weight


@wrong("BatchNorm2d", "all zeros", symptom="passes where the true gradient is zero; no layer before it learns",
       cause="dx was derived for the sum of the outputs, which x cannot change")
class Zeros(Opened):
    def dx(self, dy, x_hat, scale):
        return np.zeros_like(dy)


@wrong("BatchNorm2d", "N-1 variance", symptom="off by 1 in a few hundred, more for small batches",
       cause="the batch is normalised by the biased variance; only running_var takes the unbiased one")
class UnbiasedVariance(Opened):
    def dx(self, dy, x_hat, scale):
        M = dy.size // dy.shape[3]
        return (dy - dy.mean((0, 1, 2)) - x_hat * (dy * x_hat).sum((0, 1, 2)) / (M - 1)) * scale


@wrong("BatchNorm2d", "eval formula in train mode", symptom="dx is a multiple of dy; deep networks do not learn",
       cause="in training mean and variance depend on x, and the running ones are not even theirs")
class EvalFormula(Opened):
    def dx(self, dy, x_hat, scale):
        return dy * self.weight / np.sqrt(self.running_var + self.eps)


@wrong("BatchNorm2d", "batch norm per pixel", symptom="the gradient check is content; all images must have one size",
       cause="mean over axis 0 alone; a channel has one mean for all its pixels")
class PerPixel(Opened):
    axes = (0,)


@wrong("BatchNorm2d", "biased running variance", symptom="training is right, evaluation is off, most for small batches",
       cause="running_var takes the variance divided by M, not by M - 1")
class BiasedRunningVariance(Opened):
    def update(self, mean, var, unbiased, share):
        super().update(mean, var, 1, share)


@wrong("BatchNorm2d", "momentum convention swapped", symptom="running statistics are those of the last batch; evaluation "
       "jumps about", cause="momentum is the share of the new batch here and in PyTorch, of the old value elsewhere")
class SwappedMomentum(Opened):
    def update(self, mean, var, unbiased, share):
        super().update(mean, var, unbiased, 1 - share)


@wrong("BatchNorm2d", "batch norm left in training mode", symptom="the answer for an image depends on its neighbours in the "
       "batch, and one image alone fails", cause="eval() did not reach the layer, or forward does not look at `training`")
class AlwaysTraining(BatchNorm2d):
    def forward(self, x):
        mode, self.training = self.training, True
        y = super().forward(x)
        self.training = mode
        if not mode:
            self.save()
        return y


@wrong("BatchNorm2d", "frozen statistics still move", symptom="a frozen backbone drifts while the head learns",
       cause="frozen stops the gradients of gamma and beta but not the running averages")
class FrozenMoves(Opened):
    def forward(self, x):
        y = super().forward(x)
        if self.frozen and self.training:
            self.update(x.mean((0, 1, 2)), x.var((0, 1, 2)), 1, self.momentum)
        return y
