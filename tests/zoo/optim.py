"""Adam and SGD, each with one mistake."""

import numpy as np
from zoo import wrong

from tinyresnet.optim import SGD, Adam


@wrong("Adam", "Adam without bias correction", symptom="the first steps are three times too large: v is small for long",
       cause="m and v begin at zero; dividing by 1 - beta**t takes that out")
class NoBiasCorrection(Adam):
    def update(self, name, param, g, lr):
        beta1, beta2 = self.betas
        m, v = self.state["m"][name], self.state["v"][name]
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        param -= lr * m / (np.sqrt(v) + self.eps)


@wrong("SGD", "momentum convention swapped", symptom="steps are ten times too small at momentum 0.9",
       cause="v = momentum * v + (1 - momentum) * g averages; ours adds, as Sutskever and PyTorch do")
class Averages(SGD):
    def update(self, name, param, g, lr):
        super().update(name, param, (1 - self.momentum) * g, lr)
