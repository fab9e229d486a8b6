"""What recipes are tried on: slices of a skull with grey inside, half of them with blood, and a small network."""

import numpy as np

from tinyresnet import small_resnet
from tinyresnet.ich.experiment import Slices
from tinyresnet.images import Preprocessing
from tinyresnet.layers import BatchNorm2d


FACTS = {"data": {"synthetic": False}, "refer_half_width": 0.25}  # the least that a saved classifier tells


def toy_images(n=12, seed=0):
    """Of different sizes, no two alike, none its own mirror image; those with odd numbers have blood, on the left."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(n):
        H, W = 168 + number % 3 * 24, 150 + number % 2 * 18
        i, j = np.mgrid[:H, :W]
        r = np.hypot((i - H / 2 + 3) / (0.42 * H), (j - W / 2 - 6) / (0.4 * W))  # 1 at the outer edge of the skull
        grey = np.where(r < 1, 255, 0) + (r < 0.8) * (rng.integers(-155, -125, (H, W)) + 5 * (number % 5))
        if number % 2:
            blood = np.hypot(i - H / 2, j - W / 2 + 15) < 18
            grey[blood] = 200 - 5 * (number % 4)
        images.append(np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2))
    return images


def toy_slices(n=12):
    """Every scan has two slices of one class, n // 2 scans."""
    return Slices([f"{i}.png" for i in range(n)], toy_labels(n), np.arange(n) // 4 * 2 + np.arange(n) % 2, True,
                  ("normal", "hemorrhage"))


def toy_labels(n=12):
    return np.arange(n) % 2


def toy_network(seed=0, **options):
    """As if it had been trained: no batch norm is the identity. Reads 32x32 pixels."""
    rng = np.random.default_rng(seed)
    model = small_resnet(5, width=4, rng=rng, **options).eval()
    for _, layer in model.named_layers():
        if isinstance(layer, BatchNorm2d):
            for name in ("weight", "running_var"):
                setattr(layer, name, rng.uniform(0.5, 1.5, len(layer.bias)).astype(np.float32))
            for name in ("bias", "running_mean"):
                setattr(layer, name, rng.normal(0, 0.3, len(layer.bias)).astype(np.float32))
    model.preprocessing = Preprocessing(40, 32, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    return model
