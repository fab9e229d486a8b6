"""The layers: one idea a file, with its equation, its forward and its backward on one screen."""

from tinyresnet.layers.base import Identity, Layer, LoadReport
from tinyresnet.layers.batchnorm import BatchNorm2d
from tinyresnet.layers.conv import Conv2d
from tinyresnet.layers.linear import Linear
from tinyresnet.layers.padded import PaddedIdentity
from tinyresnet.layers.pooling import GlobalAvgPool, MaxPool2d
from tinyresnet.layers.relu import ReLU
from tinyresnet.layers.sequential import Sequential

__all__ = ["BatchNorm2d", "Conv2d", "GlobalAvgPool", "Identity", "Layer", "Linear", "LoadReport", "MaxPool2d",
           "PaddedIdentity", "ReLU", "Sequential"]
