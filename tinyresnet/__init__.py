"""Residual networks from scratch in NumPy and Numba: readable as a textbook, tested as a library."""

from tinyresnet.cifar import resnet20, resnet32, resnet44, resnet56, resnet110
from tinyresnet.images import Preprocessing, preprocess, read_image
from tinyresnet.inference import fold_batch_norm
from tinyresnet.loss import cross_entropy, softmax
from tinyresnet.optim import SGD, Adam
from tinyresnet.resnet import (BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50, resnet101, resnet152,
                               small_resnet)
from tinyresnet.version import __version__
from tinyresnet.weights import WeightsFileError, load_model, load_weights, save_weights

__all__ = [
    "Adam", "BasicBlock", "Bottleneck", "Preprocessing", "ResNet", "SGD", "WeightsFileError", "__version__",
    "cross_entropy", "fold_batch_norm", "load_model", "load_weights", "preprocess", "read_image", "resnet101", "resnet110",
    "resnet152", "resnet18", "resnet20", "resnet32", "resnet34", "resnet44", "resnet50", "resnet56", "save_weights",
    "small_resnet", "softmax",
]
