"""Softmax and cross-entropy, each with one mistake."""

import numpy as np
from zoo import wrong

from tinyresnet.loss import cross_entropy as right
from tinyresnet.loss import softmax as right_softmax


@wrong("softmax", "softmax without subtracting the maximum", symptom="NaN as soon as a logit passes 88 (709 in float64)",
       cause="exp overflows; the row's maximum cancels in the fraction and can be taken out first")
def softmax_overflows(logits):
    with np.errstate(over="ignore", invalid="ignore"):
        exps = np.exp(logits)
        return exps / exps.sum(axis=1, keepdims=True)


@wrong("cross_entropy", "gradient not divided by N", symptom="the learning rate must fall as the batch grows",
       cause="the loss is a mean over the batch, so its gradient has the 1/N too")
def not_divided_by_N(logits, labels, *, label_smoothing=0.0):
    loss, dlogits = right(logits, labels, label_smoothing=label_smoothing)
    return loss, dlogits * len(logits)


@wrong("cross_entropy", "log of p + 1e-8", symptom="a hopeless logit costs 18 and no more, and its gradient does not fit",
       cause="the logarithm of a probability that has already rounded to zero; log_p needs no exp")
def clipped(logits, labels, *, label_smoothing=0.0):
    N, classes = logits.shape
    target = np.full_like(logits, label_smoothing / classes)
    target[np.arange(N), labels] += 1 - label_smoothing
    p = right_softmax(logits)
    return float(-(target * np.log(p + 1e-8)).sum() / N), (p - target) / N
