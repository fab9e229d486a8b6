"""Reading, preprocessing and augmenting images."""

import dataclasses
import io
import json
import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyresnet import images
from tinyresnet.images import IMAGENET, ImageFileError, Preprocessing, augment, preprocess, read_image

SIZES = [(7, 12), (12, 7), (300, 401), (333, 500), (256, 256), (1000, 257)]


def colours(H=20, W=30, seed=0):
    """Smooth enough that JPEG keeps it, different in every channel."""
    i, j = np.mgrid[:H, :W]
    shift = np.random.default_rng(seed).integers(0, 40)
    channels = [i * 255 // H, j * 255 // W, (i + j) * 200 // (H + W) + shift]
    return np.stack(channels, axis=2).astype(np.uint8)  # (H, W, 3)


def only_changes(**changes):
    """augment with everything switched off but `changes`."""
    return {"flip": 0, "degrees": 0, "scale": (1, 1), "brightness": 0, **changes}


# read_image -----------------------------------------------------------------------------------------------------------


def test_a_colour_png_is_read_to_the_last_bit(tmp_path):
    image = colours()
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


def test_a_path_may_be_text(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png")).shape == (20, 30, 3)


def test_a_jpeg_is_read_to_within_its_compression(tmp_path):
    image = colours()
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - image)
    assert difference.mean() < 3  # quality 95 costs a grey level or two


MODES = [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [
    ("TIFF", "I"), ("TIFF", "CMYK"), ("TIFF", "YCbCr"), ("JPEG", "L"), ("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGBA")]


@pytest.mark.parametrize("file_format, mode", MODES)
def test_every_mode_becomes_rgb_of_uint8(tmp_path, file_format, mode):
    grey = Image.fromarray(colours()[:, :, 0])
    (grey.convert("I") if mode == "I;16" else grey).convert(mode).save(tmp_path / "a", format=file_format)
    read = read_image(tmp_path / "a")
    assert read.shape == (20, 30, 3) and read.dtype == np.uint8


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = colours()[:, :, 1]
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.stack([grey] * 3, axis=2))


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], [0, 255])


def test_sixteen_bits_are_scaled_to_eight_and_rounded(tmp_path):
    grey = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    # 65535 / 255 = 257: half of it is 128.5, so 128 rounds down to 0 and 129 up to 1
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], [0, 0, 1, 1, 128, 255])


def test_a_palette_is_looked_up(tmp_path):
    image = Image.fromarray(colours()).quantize(16)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.array(image.convert("RGB")))


def test_a_transparent_palette_entry_becomes_black(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([200, 100, 50, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[0, 0, 0], [10, 20, 30]]])


@pytest.mark.parametrize("alpha, expected", [(255, 200), (0, 0), (51, 40)])  # 51 / 255 = 0.2
def test_transparency_is_laid_over_black(tmp_path, alpha, expected):
    Image.new("RGBA", (3, 2), (200, 200, 200, alpha)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.full((2, 3, 3), expected))


def test_grey_with_alpha_is_laid_over_black(tmp_path):
    Image.new("LA", (3, 2), (200, 51)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.full((2, 3, 3), 40))


def test_a_cmyk_jpeg_has_the_colours_of_the_picture(tmp_path):
    Image.fromarray(colours()).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - colours())
    assert difference.mean() < 6  # an inverted reading would be off by about 100


@pytest.mark.parametrize("orientation, undo", [
    (2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)), (8, np.rot90)])
def test_the_orientation_of_the_camera_is_applied(tmp_path, orientation, undo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), undo(colours()))


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        read_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "odd.png").write_bytes(content)
    with pytest.raises(ImageFileError, match="odd.png"):
        read_image(tmp_path / "odd.png")


def test_a_folder_is_refused_by_name(tmp_path):
    with pytest.raises(ImageFileError, match=f"{tmp_path.name}: is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, part):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:int(part * len(content))])
    with pytest.raises(ImageFileError, match=f"cut{suffix}.*damaged or incomplete"):
        read_image(path)


def test_damaged_bytes_give_an_image_or_an_image_file_error_and_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in (".png", ".jpg", ".gif", ".bmp", ".tif"):
        buffer = io.BytesIO()
        Image.fromarray(colours()).save(buffer, format={".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:]))
        for _ in range(60):
            content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
            content[rng.integers(0, content.size, 4)] = rng.integers(0, 256, 4)
            (tmp_path / f"a{suffix}").write_bytes(content.tobytes())
            try:
                assert read_image(tmp_path / f"a{suffix}").dtype == np.uint8
            except ImageFileError:
                pass


def png_that_claims(width, height):
    """A valid header of a picture of that size, with almost no data behind it."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])  # above our limit, Pillow's warning, Pillow's error
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_that_claims(side, side))
    with pytest.raises(ImageFileError, match="bomb.png.*pixels"):
        read_image(tmp_path / "bomb.png")


def test_the_largest_allowed_image_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 600)
    Image.fromarray(colours(20, 30)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (20, 30, 3)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="a.tif.*floating-point"):
        read_image(tmp_path / "a.tif")


def test_whole_numbers_beyond_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[70_000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="a.tif.*70000.*expected 0 to 65535"):
        read_image(tmp_path / "a.tif")


def test_an_oddity_that_pillow_only_warns_of_is_read_in_silence(tmp_path):
    truncated = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03"  # announces five entries and has none
    Image.fromarray(colours()).save(tmp_path / "a.jpg", exif=truncated)
    assert read_image(tmp_path / "a.jpg").shape == (20, 30, 3)  # pytest turns a warning into an error


def test_postscript_is_never_handed_to_an_interpreter(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "a.eps")
    with pytest.raises(ImageFileError, match="not an image in a format we read"):
        read_image(tmp_path / "a.eps")


# Preprocessing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preprocessing", [IMAGENET, Preprocessing(), Preprocessing((224, 200), None, "bicubic")])
def test_a_preprocessing_survives_json(preprocessing):
    stored = json.dumps(dataclasses.asdict(preprocessing))
    assert Preprocessing(**json.loads(stored)) == preprocessing


@pytest.mark.parametrize("field, value", [
    ("resize", 0), ("resize", -3), ("resize", 2.5), ("resize", True), ("resize", (224,)), ("resize", (224, 0)),
    ("resize", "256"), ("crop", 0), ("crop", 224.0), ("crop", (224, 224)), ("crop", False),
    ("interpolation", "nearest"), ("interpolation", None), ("interpolation", ["bilinear"]),
    ("mean", (0.5, 0.5)), ("mean", 0.5), ("mean", (0.5, math.nan, 0.5)), ("mean", "abc"),
    ("std", (1, 1, 0)), ("std", (1, 1, -1)), ("std", None), ("std", (1, 1, math.inf))])
def test_a_value_that_makes_no_sense_is_refused_with_the_name_of_its_field(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        Preprocessing(**{field: value})


@pytest.mark.parametrize("H, W", SIZES)
def test_imagenet_preprocessing_gives_224_pixels_of_float32(H, W):
    x = preprocess(colours(H, W), IMAGENET)
    assert x.shape == (224, 224, 3) and x.dtype == np.float32


@pytest.mark.parametrize("H, W, expected", [
    (300, 401, (256, 342)),  # 256 * 401 / 300 = 342.19
    (401, 300, (342, 256)),
    (500, 333, (384, 256)),  # 256 * 500 / 333 = 384.38
    (30, 59, (256, 503)),  # 256 * 59 / 30 = 503.47
    (30, 57, (256, 486)),  # 256 * 57 / 30 = 486.4
    (7, 12, (256, 438)),  # 256 * 12 / 7 = 438.86: cut, not rounded
    (256, 256, (256, 256))])
def test_the_short_side_is_exact_and_the_fraction_of_the_long_side_is_cut(H, W, expected):
    assert preprocess(colours(H, W), Preprocessing(resize=256)).shape == (*expected, 3)


def test_a_pair_stretches_to_height_and_width():
    assert preprocess(colours(50, 80), Preprocessing(resize=(31, 17))).shape == (31, 17, 3)


@pytest.mark.parametrize("H, top", [
    (8, 2), (9, 2), (10, 3), (11, 4)])  # halves of the spare rows: 2, 2.5 -> 2, 3, 3.5 -> 4, to even
def test_the_crop_is_central_and_halves_go_to_the_even_pixel(H, top):
    image = colours(H, 4)
    x = preprocess(image, Preprocessing(crop=4))
    np.testing.assert_allclose(x * 255, image[top:top + 4], atol=1e-4)  # rounding of x / 255 * 255 in float32


def test_a_crop_larger_than_the_image_is_filled_with_black():
    x = preprocess(np.full((3, 6, 3), 255, np.uint8), Preprocessing(crop=6))
    np.testing.assert_array_equal(x[:, 0, 0], [0, 1, 1, 1, 0, 0])  # the odd row goes below


def test_values_are_scaled_shifted_and_divided():
    image = np.array([[[0, 51, 255]]], np.uint8)
    x = preprocess(image, Preprocessing(mean=(0.5, 0.1, 0.25), std=(0.25, 0.1, 0.5)))
    np.testing.assert_allclose(x, [[[-2.0, 1.0, 1.5]]], rtol=1e-6)  # float32


def test_shrinking_averages_over_what_falls_together():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    x = preprocess(stripes, Preprocessing(resize=(8, 8)))
    np.testing.assert_allclose(x, 0.5, atol=0.02)  # the windows at the edge are lopsided; unaveraged it is all 0 or 1


def test_bicubic_and_bilinear_differ():
    image = colours(40, 60)[::-1] ^ colours(40, 60, seed=1)
    bilinear, bicubic = (preprocess(image, Preprocessing(17, None, name)) for name in ("bilinear", "bicubic"))
    assert np.abs(bilinear - bicubic).max() > 0.01


def test_preprocess_leaves_its_argument_alone():
    image = colours()
    preprocess(image, IMAGENET)
    np.testing.assert_array_equal(image, colours())


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_an_rgb_image_of_uint8_is_refused(image):
    with pytest.raises(ValueError, match=r"expected an image \(H, W, 3\) of uint8"):
        preprocess(image, IMAGENET)


def test_a_thread_of_an_image_is_not_resized_to_gigabytes():
    with pytest.raises(ImageFileError, match="256 x 5120000 pixels, expected at most"):
        preprocess(np.zeros((20_000, 1, 3), np.uint8), IMAGENET)


# augment --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("H, W", [(20, 31), (128, 128), (1, 1)])
def test_augment_keeps_shape_and_dtype(H, W):
    changed = augment(colours(H, W), np.random.default_rng(0))
    assert changed.shape == (H, W, 3) and changed.dtype == np.uint8


def test_augment_with_everything_switched_off_returns_the_image():
    changed = augment(colours(), np.random.default_rng(0), **only_changes())
    np.testing.assert_array_equal(changed, colours())


def test_a_flip_mirrors_left_and_right_exactly():
    changed = augment(colours(), np.random.default_rng(0), **only_changes(flip=1))
    np.testing.assert_array_equal(changed, colours()[:, ::-1])


def test_a_flip_mirrors_whatever_else_was_done():
    plain, flipped = (augment(colours(90, 120), np.random.default_rng(0), flip=flip) for flip in (0, 1))
    np.testing.assert_allclose(flipped[:, ::-1].astype(int), plain, atol=1)  # a grey level of rounding


def test_half_of_the_images_are_flipped():
    rng = np.random.default_rng(0)
    flipped = sum(np.array_equal(augment(colours(), rng, **only_changes(flip=0.5)), colours()[:, ::-1])
                  for _ in range(400))
    assert 160 < flipped < 240  # four standard deviations of a fair coin thrown 400 times


def test_a_rotation_turns_about_the_centre_within_the_bound():
    ray = np.zeros((101, 101, 3), np.uint8)
    ray[49:52, 50:] = 255  # from the centre to the right
    rng = np.random.default_rng(0)
    for _ in range(50):
        i, j = np.nonzero(augment(ray, rng, **only_changes(degrees=10))[:, :, 0] > 127)
        angle = math.degrees(math.atan2(50 - i[j > 80].mean(), j[j > 80].mean() - 50))
        assert abs(angle) < 10.5  # half a degree for the width of a pixel


def test_rotations_go_both_ways():
    ray = np.zeros((101, 101, 3), np.uint8)
    ray[49:52, 50:] = 255
    rng = np.random.default_rng(0)
    heights = [np.nonzero(augment(ray, rng, **only_changes(degrees=10))[:, 95, 0])[0].mean() for _ in range(50)]
    assert min(heights) < 46 and max(heights) > 54


def test_a_zoom_shows_a_window_of_that_size_within_the_image():
    image = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(10, axis=0)  # value = column
    rng = np.random.default_rng(0)
    for _ in range(30):
        row = augment(image, rng, **only_changes(scale=(0.5, 0.5)))[5, :, 0].astype(int)
        assert abs(row[-1] - row[0] - 99.5) <= 1  # half of the 200 columns; 1 for rounding


def test_a_zoom_reaches_both_ends_of_the_image():
    image = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(10, axis=0)  # value = column
    rng = np.random.default_rng(0)
    starts = [int(augment(image, rng, **only_changes(scale=(0.5, 0.5)))[5, 0, 0]) for _ in range(100)]
    assert min(starts) < 5 and max(starts) > 95


def test_what_was_outside_the_image_is_black():
    white = np.full((40, 40, 3), 255, np.uint8)
    changed = augment(white, np.random.default_rng(0), **only_changes(scale=(2, 2)))
    assert changed[0].max() == 0 and changed[20, 20, 0] == 255


def test_brightness_stays_within_its_bound_and_reaches_it():
    grey = np.full((4, 4, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    values = [int(augment(grey, rng, **only_changes(brightness=0.1))[0, 0, 0]) for _ in range(300)]
    assert min(values) == 90 and max(values) == 110


def test_bright_pixels_stop_at_white_and_do_not_wrap_to_black():
    white = np.full((4, 4, 3), 250, np.uint8)
    rng = np.random.default_rng(0)
    assert min(int(augment(white, rng, **only_changes(brightness=0.1)).min()) for _ in range(50)) >= 225


def test_the_same_seed_gives_the_same_image():
    first, second = (augment(colours(), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_options_do_not_change_how_many_random_numbers_are_drawn():
    states = []
    for options in (only_changes(), {}):
        rng = np.random.default_rng(0)
        augment(colours(), rng, **options)
        states.append(rng.random())
    assert states[0] == states[1]


@pytest.mark.parametrize("options", [{"flip": 1.5}, {"degrees": -1}, {"scale": (0, 1)}, {"scale": (1, 0.5)},
                                     {"brightness": 2}])
def test_an_option_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match="expected flip and brightness within 0..1"):
        augment(colours(), np.random.default_rng(0), **options)
