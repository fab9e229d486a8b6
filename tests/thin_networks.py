"""Thin networks that have seen pictures: their running statistics are the pictures', as training leaves them."""

import numpy as np

from tinyresnet import Preprocessing, ResNet, preprocess
from tinyresnet.layers import BatchNorm2d
from tinyresnet.resnet import BLOCKS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(number=4):
    """Noise, brightest and roughest in the red: (40, 40, 3) uint8 each."""
    noise = np.random.default_rng(0).standard_normal((number, 40, 40, 3))
    return list(np.clip(noise * (60, 30, 15) + (150, 110, 90), 0, 255).astype(np.uint8))


def trained(block="Bottleneck", **options):
    """A network in eval mode with random scales and shifts, and kernels so small that epsilon matters."""
    rng = np.random.default_rng(1)
    model = ResNet(BLOCKS[block], (1, 1, 1), 5, width=8, rng=rng, **options)
    model.preprocessing = Preprocessing(36, 32, mean=MEAN, std=STD)
    for name, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):
            layer.weight = rng.uniform(0.5, 1.5, len(layer.weight)).astype(np.float32)
            layer.bias = rng.uniform(-0.5, 0.5, len(layer.bias)).astype(np.float32)
            layer.momentum = 1.0  # all of the new batch
        elif name.rpartition(".")[2].startswith("conv"):
            layer.weight *= np.float32(0.02)
    model.forward(np.stack([preprocess(picture, model.preprocessing) for picture in pictures()]))
    return model.eval()
