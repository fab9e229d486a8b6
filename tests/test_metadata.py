"""What a file tells without its middle: sizes, mode, margin."""

import numpy as np
import pytest
from PIL import Image

from tinyresnet.ich.metadata import METADATA, border_pixels, metadata_features
from tinyresnet.images import read_image


@pytest.fixture
def features(tmp_path):
    """A function that saves a picture of this mode and colour, 100 wide and 50 high, and returns its features by name."""
    def of(mode="RGB", colour=(30, 60, 120), suffix=".png"):
        path = tmp_path / f"picture{suffix}"
        Image.new(mode, (100, 50), colour).save(path)
        return dict(zip(METADATA, metadata_features(path, read_image(path)), strict=True))
    return of


def test_sizes_are_those_of_the_picture_and_of_its_file(features, tmp_path):
    found = features()
    assert [found[name] for name in ("width", "height", "area", "aspect")] == [100, 50, 5000, 2]
    assert found["bytes per pixel"] == (tmp_path / "picture.png").stat().st_size / 5000


@pytest.mark.parametrize("mode, colour, alpha, coloured", [
    ("L", 7, 0, 0), ("LA", (7, 255), 1, 0), ("I;16", 700, 0, 0), ("1", 1, 0, 0),
    ("RGB", (7, 7, 7), 0, 1), ("RGBA", (7, 7, 7, 255), 1, 1), ("P", 3, 0, 1)])
def test_alpha_and_colour_are_what_the_header_says(features, mode, colour, alpha, coloured):
    found = features(mode, colour)
    assert (found["alpha"], found["colour mode"]) == (alpha, coloured)


def test_the_border_is_measured_in_grey_values(features):
    found = features(colour=(30, 60, 120))
    assert [found[f"border {name}"] for name in ("mean", "deviation", "blueness")] == [70, 0, 75]


def test_the_middle_changes_nothing_but_the_size_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 50, 3), dtype=np.uint8)
    other = image.copy()
    other[2:-2, 2:-2] = 0
    Image.fromarray(image).save(tmp_path / "file.bmp")  # a BMP is as large whatever it shows
    before = metadata_features(tmp_path / "file.bmp", image)
    np.testing.assert_array_equal(before, metadata_features(tmp_path / "file.bmp", other))


@pytest.mark.parametrize("size, pixels", [((50, 100), 400 + 2 * 2 * 46), ((1, 1), 1), ((2, 9), 18), ((3, 3), 8)])
def test_the_border_is_a_twentyfifth_of_the_shorter_side_and_never_nothing(size, pixels):
    assert border_pixels(np.zeros((*size, 3), np.uint8)).shape == (pixels, 3)
