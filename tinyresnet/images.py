"""From an image file to the numbers a network reads.

    read_image: file -> (H, W, 3) uint8      augment: uint8 -> uint8      preprocess: uint8 -> (h, w, 3) float32

Weights work only with the preprocessing they were trained with, so that is a value of its own, `Preprocessing`, stored
beside the weights. Sizes and rounding are those of torchvision's Resize and CenterCrop: published weights were judged
with exactly those, and an image that is off by a pixel raises no error.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Array = NDArray
Affine = tuple[float, float, float, float, float, float]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")  # named, because Pillow would start Ghostscript for an EPS file
MAX_PIXELS = 64_000_000  # about 200 MB decoded; a larger picture is a mistake or an attack
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class ImageFileError(ValueError):
    """A file that cannot be used as an image; the message names the file and the reason."""


def read_image(path: str | Path) -> Array:
    """The image in `path` as (H, W, 3) uint8 RGB, whatever its mode: what an image viewer on a black desk shows.

    Grey becomes three equal channels, 16-bit grey is scaled (65535 -> 255), transparency is laid over black, and the
    camera's orientation is applied. Of an animation the first frame is read.

    Raises ImageFileError naming the file if it is no image, damaged, larger than MAX_PIXELS or holds floating-point
    numbers; OSError if there is no such file or it must not be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities in files that it reads well
            with Image.open(path, formats=FORMATS) as image:
                _check_pixels(image.width, image.height)
                return _as_rgb(ImageOps.exif_transpose(image))
    except (FileNotFoundError, PermissionError, MemoryError):  # say nothing about the picture
        raise
    except Exception as error:  # damaged files make decoders fail with almost any type: SyntaxError, struct.error
        raise ImageFileError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):  # Pillow's own message repeats the file name
        return f"not an image in a format we read ({', '.join(FORMATS)})"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not an image"
    if isinstance(error, Image.DecompressionBombError):  # Pillow looks at the size first, and has a limit of its own
        return f"too many pixels, expected at most {MAX_PIXELS:,} in all; make it smaller"
    if isinstance(error, ImageFileError):
        return str(error)
    return f"cannot be decoded ({error}); the file is damaged or incomplete, fetch or export it again"


def _check_pixels(width: int, height: int) -> None:
    """Called with the size in the header, before anything is decoded or resized."""
    if width * height > MAX_PIXELS:
        raise ImageFileError(f"{width} x {height} pixels, expected at most {MAX_PIXELS:,} in all; make it smaller")


def _as_rgb(image: Image.Image) -> Array:
    if image.mode.startswith("F"):
        raise ImageFileError("floating-point pixels have no fixed black and white; save as 8- or 16-bit grey or colour")
    if image.mode.startswith("I"):
        grey = _grey_from_16_bits(np.asarray(image))  # (H, W)
        return np.repeat(grey[:, :, None], 3, axis=2)  # (H, W, 3)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(image, mask=image.getchannel("A"))
        return np.array(black)
    return np.array(image.convert("RGB"))


def _grey_from_16_bits(grey: Array) -> Array:
    """0..65535 -> 0..255, rounded; Pillow's own conversion clips at 255 and shows most of the image white."""
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageFileError(f"grey values {grey.min()} to {grey.max()}, expected 0 to 65535; save as 16-bit grey")
    return ((grey.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a network sees it; the defaults only scale it to 0..1.

    resize: int brings the short side to that many pixels; a pair stretches to (height, width); None leaves the size.
    crop: side of the square cut from the centre, or None.   mean, std: of R, G, B, where 0 is black and 1 is white.

    `dataclasses.asdict` gives what JSON can store, `Preprocessing(**stored)` brings it back.
    Raises ValueError naming the field whose value makes no sense.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of what a network sees, or None if that depends on the image."""
        if self.crop is not None:
            return self.crop, self.crop
        return self.resize if isinstance(self.resize, tuple) else None

    def __post_init__(self) -> None:
        for name in ("resize", "mean", "std"):
            if isinstance(getattr(self, name), list):  # JSON has no tuples
                object.__setattr__(self, name, tuple(getattr(self, name)))
        pair = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        if self.resize is not None and not (len(pair) == 2 and all(_is_size(size) for size in pair)):
            raise ValueError(f"resize: expected pixels, (height, width) or None, got {self.resize!r}")
        if self.crop is not None and not _is_size(self.crop):
            raise ValueError(f"crop: expected a positive number of pixels or None, got {self.crop!r}")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation: expected 'bilinear' or 'bicubic', got {self.interpolation!r}")
        if not _is_rgb(self.mean):
            raise ValueError(f"mean: expected three numbers (R, G, B), got {self.mean!r}")
        if not _is_rgb(self.std) or min(self.std) <= 0:
            raise ValueError(f"std: expected three positive numbers (R, G, B), got {self.std!r}")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= math.isqrt(MAX_PIXELS)


def _is_rgb(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e30 for v in value)


IMAGENET = Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = replace(IMAGENET, resize=32, crop=32)  # the published networks were trained with ImageNet's mean and std


def preprocess(image: Array, preprocessing: Preprocessing) -> Array:
    """Resize, crop at the centre, then  x[i, j, c] = (image[i, j, c] / 255 - mean[c]) / std[c].

    Shapes: image (H, W, 3) uint8, x (h, w, 3) float32. Shrinking averages over the pixels that fall together
    (antialias). A crop larger than the image is filled with black, as torchvision does.
    Raises ValueError if image is not (H, W, 3) uint8, or would be resized beyond MAX_PIXELS.
    """
    _check_image(image)
    if preprocessing.resize is not None:
        size = _resized_size(image.shape[0], image.shape[1], preprocessing.resize)
        image = resize(image, size, preprocessing.interpolation)  # (height, width, 3)
    if preprocessing.crop is not None:
        image = _centre_crop(image, preprocessing.crop)  # (crop, crop, 3)
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)  # (3,)
    return (image.astype(np.float32) / np.float32(255) - mean) / std


def resize(image: Array, size: tuple[int, int], interpolation: str = "bilinear") -> Array:
    """image (H, W, 3) uint8 -> (height, width, 3) of this size; shrinking averages (antialias).

    Raises ValueError for a size beyond MAX_PIXELS.
    """
    height, width = size
    _check_pixels(width, height)
    return np.asarray(Image.fromarray(image).resize((width, height), INTERPOLATIONS[interpolation]))


def _check_image(image: Array) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"expected an image (H, W, 3) of uint8, got {image.shape} of {image.dtype}")


def _resized_size(H: int, W: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width): torchvision cuts the fraction off the long side, it does not round."""
    if isinstance(resize, tuple):
        return resize
    long = int(resize * max(H, W) / min(H, W))
    return (long, resize) if H >= W else (resize, long)


def _centre_crop(image: Array, size: int) -> Array:
    H, W, _ = image.shape
    if H < size or W < size:
        missing = [max(size - side, 0) for side in (H, W)]
        image = np.pad(image, [(m // 2, (m + 1) // 2) for m in missing] + [(0, 0)])  # (>= size, >= size, 3)
        H, W, _ = image.shape
    top, left = round((H - size) / 2), round((W - size) / 2)  # Python rounds halves to even; torchvision relies on it
    return image[top:top + size, left:left + size]


def augment(image: Array, rng: np.random.Generator, *, flip: float = 0.5, degrees: float = 10,
            scale: tuple[float, float] = (0.85, 1.0), brightness: float = 0.1) -> Array:
    """A randomly changed copy: mirrored left to right with probability `flip`, turned by up to +-`degrees`, zoomed into
    a window whose sides are scale[0] to scale[1] of the image's, and made up to +-`brightness` (a fraction) brighter.

    Shapes: (H, W, 3) uint8 in and out; what was outside the image is black. All geometry is one affine map, so that
    pixels are interpolated once and not once for each change.
    Raises ValueError if image is not (H, W, 3) uint8, or an option lies outside its range.
    """
    _check_image(image)
    if not (0 <= flip <= 1 and degrees >= 0 and 0 < scale[0] <= scale[1] and 0 <= brightness <= 1):
        raise ValueError("expected flip and brightness within 0..1, degrees >= 0 and 0 < scale[0] <= scale[1], got "
                         f"flip={flip}, degrees={degrees}, scale={scale}, brightness={brightness}")
    H, W, _ = image.shape
    mirrored = rng.random() < flip
    angle = math.radians(rng.uniform(-degrees, degrees))
    zoom = rng.uniform(*scale)
    slack = max(0.0, 1 - zoom) / 2  # how far the window can move before it leaves the image
    centre = (W * (0.5 + rng.uniform(-slack, slack)), H * (0.5 + rng.uniform(-slack, slack)))
    gain = 1 + rng.uniform(-brightness, brightness)
    picture = Image.fromarray(image).transform(
        (W, H), Image.Transform.AFFINE, _affine(W, H, centre, angle, zoom, mirrored), Image.Resampling.BILINEAR)
    table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
    return table[np.asarray(picture)]


def _affine(W: int, H: int, centre: tuple[float, float], angle: float, zoom: float, mirrored: bool) -> Affine:
    """(a, b, c, d, e, f): the output's pixel (x, y) is taken from (a x + b y + c, d x + e y + f) of the input."""
    a, b = zoom * math.cos(angle), zoom * math.sin(angle)
    d, e = -b, a
    if mirrored:
        a, d = -a, -d
    return a, b, centre[0] - (a * W + b * H) / 2, d, e, centre[1] - (d * W + e * H) / 2
