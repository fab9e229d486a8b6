"""The pages of phantoms: complete, the same for the same seed, and refused politely where they cannot be."""

import numpy as np
import pytest
from PIL import Image
from run_examples import example
from scipy import ndimage


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The first page, and the outlined one."""
    path = tmp_path_factory.mktemp("pages") / "new" / "page.png"
    assert example("show_phantoms", "--seed", 3, "--output", path) == 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["page.png", "page_outlined.png"]
    return [np.asarray(Image.open(file).convert("RGB")).astype(int) for file in (path, path.with_stem("page_outlined"))]


def orange(page):
    return (page[..., 0] - page[..., 2] > 80).sum()


def test_the_blood_is_outlined_on_the_second_page_only(pages):
    assert orange(pages[0]) == 0 and orange(pages[1]) > 1000


def test_the_page_is_wide_enough_to_read(pages):
    assert pages[0].shape[1] > 1500 and (pages[0] < 20).mean() > 0.2  # film is black


def test_a_page_has_sixty_slices(pages):
    film, count = ndimage.label(ndimage.binary_opening(pages[0].max(axis=2) < 20, np.ones((3, 3))))  # joined round the head
    assert (np.bincount(film.ravel())[1:] > 2000).sum() == 60, count


@pytest.mark.parametrize("arguments", [("--seed", -1), ("--output", "page.pdf"), ("--output", "page")])
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        example("show_phantoms", *arguments)
    assert stop.value.code == 2 and "expected a seed from 0 on and a FILE.png" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert example("show_phantoms", "--windows", "--output", tmp_path / "file" / "page.png") == 2
    assert "show_phantoms:" in capsys.readouterr().err
