"""Pictures of maps and of nearest cases: what they say, and that nothing is drawn where a map has nothing."""

import numpy as np
import pytest
from drawn import remembered, texts
from PIL import Image

from tinyresnet import overlays
from tinyresnet.overlays import HEAT, Case, plot_maps, plot_nearest

SAID = {"class_name": "hemorrhage", "probability": 0.875, "label": "normal"}


def slice_(size=(60, 48)):
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)


def maps():
    return {"Grad-CAM layer4": np.arange(-3.0, 9).reshape(3, 4), "occlusion": np.eye(5)}


@pytest.fixture
def figures(monkeypatch):
    """The figures drawn during a test, to look into."""
    return remembered(monkeypatch, overlays)


def heat_of(figure, pane=1):
    """What is laid over the slice, (H, W) of 0 to 1."""
    return figure.axes[pane].images[1].get_array()


def test_title_names_of_the_maps_and_note_are_written(tmp_path, figures):
    plot_maps(slice_(), maps(), tmp_path / "a.png", **SAID, note="Synthetic.")
    assert {"hemorrhage 0.88, true label normal", "slice", "Grad-CAM layer4", "occlusion", "Synthetic."} <= texts(figures[0])


def test_a_picture_is_written_whole(tmp_path):
    plot_maps(slice_(), maps(), tmp_path / "a.png", **SAID)
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_heat_is_as_large_as_the_slice_and_reaches_from_zero_to_the_maps_own_maximum(tmp_path, figures):
    plot_maps(slice_(), maps(), tmp_path / "a.png", **SAID)
    heat = heat_of(figures[0])
    assert heat.shape == (60, 48) and (heat.min(), heat.max()) == (0, 1)


def test_what_speaks_against_the_class_is_not_drawn(tmp_path, figures):
    plot_maps(slice_(), {"against": -np.ones((3, 4))}, tmp_path / "a.png", **SAID)
    assert heat_of(figures[0]).max() == 0 == HEAT(0.0)[3]


def test_little_heat_lets_the_slice_through_and_much_is_never_opaque():
    opacity = HEAT(np.linspace(0, 1, 256))[:, 3]
    assert opacity[0] == 0 and opacity[64] < 0.15 and opacity[-1] <= 0.8 and (np.diff(opacity) > 0).all()


def test_more_heat_is_lighter():
    lightness = HEAT(np.linspace(0, 1, 32))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_a_mask_is_outlined_on_the_slice_alone(tmp_path, figures):
    mask = np.zeros((60, 48), bool)
    mask[20:30, 10:20] = True
    plot_maps(slice_(), maps(), tmp_path / "a.png", **SAID, mask=mask)
    outlines = [len(axes.collections) for axes in figures[0].axes[:3]]
    assert outlines == [1, 0, 0]


def test_a_colour_image_is_shown_in_grey(tmp_path, figures):
    plot_maps(slice_((60, 48, 3)), maps(), tmp_path / "a.png", **SAID)
    assert figures[0].axes[0].images[0].get_array().shape == (60, 48)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_slice_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match="of uint8, got"):
        plot_maps(image, maps(), tmp_path / "a.png", **SAID)


@pytest.mark.parametrize("heat", [np.zeros((1, 3, 4)), np.full((3, 4), np.nan)])
def test_what_is_no_map_is_refused(tmp_path, heat):
    with pytest.raises(ValueError, match=r"expected a map \(h, w\) of finite numbers"):
        plot_maps(slice_(), {"a": heat}, tmp_path / "a.png", **SAID)


def test_a_mask_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a mask \(60, 48\) like the image, got \(30, 24\)"):
        plot_maps(slice_(), maps(), tmp_path / "a.png", **SAID, mask=np.ones((30, 24), bool))


def strip(path, **options):
    near = [Case(slice_(), "normal", "7"), Case(slice_((40, 40)), "hemorrhage", "12")]
    plot_nearest(Case(slice_(), "hemorrhage", "3"), near, [0.914, 0.25], path, **options)


def test_label_group_and_similarity_of_each_case_are_written(tmp_path, figures):
    strip(tmp_path / "a.png", note="Synthetic.")
    assert {"test case: hemorrhage", "group 3", "normal", "group 7, similarity 0.91", "hemorrhage",
            "group 12, similarity 0.25", "Synthetic."} <= texts(figures[0])


def test_frames_tell_the_same_label_from_another(tmp_path, figures):
    strip(tmp_path / "a.png")
    edges = [axes.spines["top"] for axes in figures[0].axes]
    assert [edge.get_visible() for edge in edges] == [False, True, True]
    assert edges[1].get_edgecolor() != edges[2].get_edgecolor()


def test_neighbours_without_a_similarity_each_are_refused(tmp_path):
    with pytest.raises(ValueError, match="similarity a neighbour, got 1 and 2"):
        plot_nearest(Case(slice_(), "a", "1"), [Case(slice_(), "b", "2")], [0.9, 0.8], tmp_path / "a.png")
