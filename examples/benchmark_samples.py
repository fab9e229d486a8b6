"""The images and labels that every library gets, in a file that imports nothing but NumPy: processes are weighed."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

CLASSES = 1000


def samples(batch: int, size: int) -> tuple[Array, Array]:
    """Random images (N, H, W, 3) float32 and labels (N,)."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch, size, size, 3), dtype=np.float32), rng.integers(0, CLASSES, batch)
