"""The page stands alone, obeys nobody, and a browser can read it."""

import base64
import hashlib
import io

import numpy as np
import pytest
from html_reader import HOSTILE, Reader, assert_stands_alone, in_browser
from PIL import Image

from tinyresnet.page import Page, printable

PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture
def written(tmp_path):
    """A function that writes a page in which every text is this one, and returns what the file holds."""
    def write(text):
        page = Page(text)
        page.heading(text)
        page.paragraph(text)
        page.paragraph(text, warning=True)
        page.table((text, text), [(text, 1), (text, 2.5)])
        page.figure(PICTURE, text, text, warning=text)
        page.write(tmp_path / "page.html")
        return (tmp_path / "page.html").read_text(encoding="utf-8")
    return write


@pytest.mark.parametrize("text", ["plain", *HOSTILE], ids=ascii)
def test_whatever_the_text_the_page_stands_alone_and_its_tags_balance(written, text):
    assert_stands_alone(written(text))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_text_is_shown_and_is_the_same_tags_as_a_plain_one(written, text):
    plain, hostile = Reader(written("plain")), Reader(written(text))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.text.count(printable(text)) == plain.text.count("plain") > 6
    assert {attributes["alt"] for tag, attributes in hostile.tags if tag == "img"} == {printable(text)}


def test_the_browser_is_told_to_load_nothing_and_to_apply_this_style_alone(written):
    page = Reader(written("plain"))
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    style = next(text for text in page.text if "border-collapse" in text)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"


def test_the_picture_is_inside_to_the_last_pixel(written):
    image = next(a for tag, a in Reader(written("plain")).tags if tag == "img")
    png = base64.b64decode(image["src"].partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), PICTURE)
    assert (image["width"], image["height"]) == ("6", "4")


def test_a_png_is_taken_as_it_is(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    page = Page("title")
    page.figure(buffer.getvalue(), "alt")
    page.write(tmp_path / "page.html")
    assert base64.b64encode(buffer.getvalue()).decode() in (tmp_path / "page.html").read_text()


def test_numbers_stand_to_the_right_and_words_do_not(written):
    text = written("plain")
    assert '<td class="number">1</td>' in text and '<td class="number">2.5</td>' in text and "<td>plain</td>" in text


@pytest.mark.parametrize("text, shown", [("é 漢 1", "é 漢 1"), ("\t\x1b\u202e", "\ufffd" * 3)], ids=ascii)
def test_what_a_terminal_would_obey_is_replaced(text, shown):
    assert printable(text) == shown


def test_a_page_that_cannot_be_written_says_where_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="missing"):
        Page("title").write(tmp_path / "missing" / "page.html")
    assert not list(tmp_path.iterdir())


def test_a_browser_shows_it_offline(written, tmp_path):
    written("a name & its <b>")
    shown = in_browser(tmp_path / "page.html", tmp_path / "profile")
    assert shown.count("a name &amp; its &lt;b&gt;") > 6 and "data:image/png" in shown
