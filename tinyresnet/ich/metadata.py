"""What an image file tells about its label although nobody looks at the brain.

Bleeds copied from one web page and normal heads from another differ in size, colour and margin. A network takes
whatever tells the classes apart, so it is worth knowing how far such numbers alone come: that far, a result says
nothing about hemorrhage.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinyresnet.images import FORMATS

Array = NDArray

METADATA = ("width", "height", "area", "aspect", "bytes per pixel", "alpha", "colour mode", "border mean",
            "border deviation", "border blueness")
BORDER = 0.04  # of the shorter side, on each of the four sides


def metadata_features(path: str | Path, image: Array) -> Array:
    """What the file says without the middle of its picture, in the order of METADATA.

    width, height in pixels, area = width * height, aspect = width / height; bytes of the file a pixel; alpha and colour
    mode are 1 or 0, from the file's header alone: a grey picture saved as RGB has colour mode 1. Of the outermost
    pixels, the mean of their grey values and the standard deviation (0..255), and the mean of blue - (red + green) / 2.

    Shapes: image (H, W, 3) uint8, as read_image(path) gives it -> (len(METADATA),) float64.
    Raises OSError if the file cannot be opened any more.
    """
    path = Path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read_image has judged the file already
        with Image.open(path, formats=FORMATS) as file:
            alpha, colour = file.has_transparency_data, Image.getmodebase(file.mode) != "L"
    H, W, _ = image.shape
    border = border_pixels(image)  # (pixels, 3)
    grey, (red, green, blue) = border.mean(axis=1), border.mean(axis=0)
    return np.array([W, H, W * H, W / H, path.stat().st_size / (W * H), alpha, colour,
                     grey.mean(), grey.std(), blue - (red + green) / 2])


def border_pixels(image: Array) -> Array:
    """The pixels of the outermost BORDER of the picture, at least one pixel wide. Shapes: (H, W, 3) -> (pixels, 3)."""
    H, W, _ = image.shape
    width = max(1, round(BORDER * min(H, W)))
    outside = np.ones((H, W), dtype=bool)
    outside[width:-width, width:-width] = False
    return image[outside]
