"""Views: what each shows, of images of any size, and in which order the answers come."""

import io

import numpy as np
import pytest
from PIL import Image
from toy_slices import toy_images, toy_network
from tqdm import tqdm

from tinyresnet.ich import views
from tinyresnet.ich.brain import brain_mask
from tinyresnet.ich.dataset import crop_to_head
from tinyresnet.ich.views import BATCH, BOTH, VIEWS, seen, stretched, through
from tinyresnet.images import IMAGENET, Preprocessing

RAW = Preprocessing((32, 32))  # pixels from 0 to 1
MEANS = Preprocessing((32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def itself(x):
    return x


# What they show -------------------------------------------------------------------------------------------------------


def test_the_slice_is_shown_whole_and_the_head_without_the_air_around_it():
    image = toy_images(1)[0]
    assert VIEWS["slice"](image) is image
    head = VIEWS["head"](image)
    np.testing.assert_array_equal(head, crop_to_head(image))
    assert head.size < image.size and head.sum() == image.sum(), "only black was cut off"


def test_the_interior_is_cropped_to_the_brain_and_black_around_it():
    image = toy_images(2)[1]
    interior, brain = VIEWS["interior"](image), brain_mask(crop_to_head(image))
    assert (interior == 255).mean() < 0.03 < 0.15 < (image == 255).mean(), "bone is left as a thin edge, if at all"
    assert np.count_nonzero(interior.sum(axis=2)) == np.count_nonzero(brain)
    assert all(interior.take(end, axis).any() for axis in (0, 1) for end in (0, -1)), "cropped to what is not black"


def test_the_blanked_view_is_the_head_without_what_the_interior_shows():
    image = toy_images(2)[1]
    head, brain = crop_to_head(image), brain_mask(crop_to_head(image))
    blanked = VIEWS["blanked"](image)
    assert not blanked[brain].any()
    np.testing.assert_array_equal(blanked[~brain], head[~brain])


def test_blood_inside_is_seen_in_every_view_but_the_blanked():
    image = toy_images(1)[0]
    bleeding = image.copy()
    bleeding[72:96, 60:78] = 180  # far from the skull
    for view in VIEWS:
        same = np.array_equal(*(seen([picture], view, RAW) for picture in (image, bleeding)))
        assert same == (view == "blanked"), view


def test_a_recipe_is_shown_the_whole_head_and_the_interior():
    assert BOTH == ("head", "interior")


# How they come to the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preprocessing, size", [(IMAGENET, (224, 224)), (Preprocessing((40, 48)), (40, 48)),
                                                 (Preprocessing((60, 60), 32), (32, 32)), (Preprocessing(), (224, 224)),
                                                 (Preprocessing(40), (224, 224))])
def test_a_slice_is_stretched_to_the_size_of_the_weights_and_nothing_is_cropped(preprocessing, size):
    found = stretched(preprocessing)
    assert (found.resize, found.crop, found.size) == (size, None, size)
    assert found == stretched(found)


def test_stretching_changes_the_geometry_alone():
    asked = Preprocessing(40, 32, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    found = stretched(asked)
    assert (found.interpolation, found.mean, found.std) == (asked.interpolation, asked.mean, asked.std)


def test_what_is_seen_is_the_stretched_view_normalised_as_the_weights_ask():
    image = toy_images(1)[0]
    expected = np.asarray(Image.fromarray(crop_to_head(image)).resize((32, 32), Image.Resampling.BILINEAR)) / 255.0
    found = seen([image], "head", MEANS)
    assert found.shape == (1, 32, 32, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], (expected - MEANS.mean) / MEANS.std, atol=1e-6)  # float32 rounds at 2e-7


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 50), (1, 90), (90, 1), (61, 7)])
def test_images_of_any_size_are_seen_in_every_view(view, size):
    for image in (np.zeros((*size, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)):
        x = seen([image], view, RAW)
        assert x.shape == (1, 32, 32, 3) and np.isfinite(x).all()


# Through a network ----------------------------------------------------------------------------------------------------


def test_an_answer_has_its_view_its_side_and_its_row_whatever_batch_it_was_in():
    images = toy_images(BATCH + 3)
    found = through(itself, images, MEANS, views=("slice", "head"))
    assert found.shape == (2, 2, len(images), 32, 32, 3)
    for v, view in enumerate(("slice", "head")):
        for i in (0, BATCH - 1, BATCH, len(images) - 1):
            np.testing.assert_array_equal(found[v, 0, i], seen([images[i]], view, MEANS)[0])


def test_the_views_come_in_the_order_in_which_they_were_asked_for():
    images = toy_images(2)
    there, back = (through(itself, images, RAW, views=order) for order in (("slice", "head"), ("head", "slice")))
    np.testing.assert_array_equal(there, back[::-1])


def test_a_mirror_image_is_that_of_what_the_network_sees_left_to_right():
    """And not the view of the mirrored slice, in which the crop may lie a pixel further."""
    as_it_is, mirrored = through(itself, toy_images(3), RAW)[:, 0], through(itself, toy_images(3), RAW)[:, 1]
    np.testing.assert_array_equal(mirrored, as_it_is[:, :, :, ::-1])
    assert not np.array_equal(mirrored, as_it_is)


def test_without_mirror_images_there_is_one_side():
    images = toy_images(3)
    both, one = (through(itself, images, RAW, mirrored=mirrored) for mirrored in (True, False))
    np.testing.assert_array_equal(one, both[:, :1])


def test_answers_may_be_numbers_or_pictures_and_keep_their_type():
    images = toy_images(3)
    assert through(lambda x: x.astype(np.float64).mean(axis=(1, 2)), images, RAW).shape == (2, 2, 3, 3)
    assert through(lambda x: x.astype(np.float64), images, RAW).dtype == np.float64
    network = toy_network()
    assert through(network.part(to="layer1").forward, images, network.preprocessing).shape == (2, 2, 3, 8, 8, 4)


def test_a_progress_bar_counts_every_view_of_every_image_and_changes_no_number(monkeypatch):
    images, bars = toy_images(BATCH + 1), []

    def on_a_terminal(**options):
        bars.append(tqdm(**{**options, "disable": False, "file": io.StringIO()}))
        return bars[0]

    without = through(itself, images, RAW, views=("slice", "head"))
    monkeypatch.setattr(views, "tqdm", on_a_terminal)
    np.testing.assert_array_equal(through(itself, images, RAW, views=("slice", "head")), without)
    assert bars[0].n == bars[0].total == 2 * len(images)


def test_the_images_stay_as_they_were():
    images = toy_images(2)
    through(itself, images, RAW, views=list(VIEWS))
    for image, fresh in zip(images, toy_images(2)):
        np.testing.assert_array_equal(image, fresh)
