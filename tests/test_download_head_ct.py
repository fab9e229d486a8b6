"""The head-CT slices: a good zip file is unpacked as train_ich.py reads it, every other leaves nothing behind."""

import io
import os
import zipfile
from functools import partial

import pytest
from loopback import answer, names_in, ranged
from PIL import Image

from tinyresnet.ich.dataset import load_dataset
from weights_converter import download, head_ct
from weights_converter.__main__ import main
from weights_converter.download import cache_folder

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(scope="module")
def slices():
    """Entries by name, as Kaggle packs them, with small pictures."""
    entries = {"labels.csv": "id, hemorrhage\n" + "".join(f"{k},{int(k < 100)}\n" for k in range(200))}
    for k in range(200):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 5), (k, k, k)).save(buffer, format="PNG")
        entries[f"head_ct/head_ct/{k:03d}.png"] = buffer.getvalue()
    return entries


def zipped(entries, *more, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip file; `more` are pairs of ZipInfo or name, and data."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in [*entries.items(), *more]:
            file.writestr(name, data)
    return buffer.getvalue()


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info, target


def without(entries, *names):
    return {name: data for name, data in entries.items() if name not in names}


def lying(entries):
    """A deflated entry of a megabyte that says it has 1,000 bytes, in both headers"""
    content = zipped(entries, ("zeros", bytes(1 << 20)))
    return content.replace((1 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little"))


LABELS = "labels.csv"
HOSTILE = {
    "a way up": (lambda s: zipped(s, ("../evil.png", b"x")), "'../evil.png', which is not a plain relative path"),
    "a way up in the middle": (lambda s: zipped(s, ("head_ct/../../evil.png", b"x")), "not a plain relative path"),
    "an absolute path": (lambda s: zipped(s, ("/tmp/evil.png", b"x")), "not a plain relative path"),
    "a drive": (lambda s: zipped(s, ("c:evil.png", b"x")), "not a plain relative path"),
    "a backslash": (lambda s: zipped(s, ("..\\evil.png", b"x")), "not a plain relative path"),
    "a link": (lambda s: zipped(s, link("head_ct/link", "/etc")), "'head_ct/link' is a link or a device"),
    "a bomb": (lambda s: zipped(s, ("zeros", bytes(head_ct.MAX_BYTES))), "expected at most 1000 entries of 104,857,600"),
    "a bomb that says it is small": (lying, "damaged one (Bad CRC-32"),
    "too many entries": (lambda s: zipped(s, *((f"{k}", b"") for k in range(800))), "got 1001 of"),
    "a name of 300 letters": (lambda s: zipped(s, ("x" * 300, b"")), "a name of 300 characters, expected 200 at most"),
    "an entry in another's place": (lambda s: zipped(s, ("labels.csv/x", b"")), "File exists: 'labels.csv'"),
    "an unusual compression": (lambda s: zipped(s, method=zipfile.ZIP_LZMA), "compressed by method 14"),
    "no labels": (lambda s: zipped(without(s, LABELS)), "holds no labels.csv"),
    "all in one more folder": (lambda s: zipped({f"x/{name}": data for name, data in s.items()}), "holds no labels.csv"),
    "an image too few": (lambda s: zipped(without(s, "head_ct/head_ct/199.png")), "id '199' has no image"),
    "99 bleeds": (lambda s: zipped(s | {LABELS: s[LABELS].replace("\n0,1", "\n0,0")}), "got 200 and 99"),
    "an unreadable image": (lambda s: zipped(s | {"head_ct/head_ct/007.png": b"x"}), "head_ct/head_ct/007.png: not an"),
    "no images": (lambda s: zipped({LABELS: s[LABELS]}), "no images in"),
    "a cut file": (lambda s: zipped(s)[:-30], "is not a zip file"),
    "a login page": (lambda s: b"<!DOCTYPE html><title>Log in", "is an HTML page"),
    "nothing": (lambda s: b"", "is empty"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "head_ct"


def test_the_slices_are_unpacked_as_train_ich_reads_them(slices, folder, tmp_path, capsys):
    (tmp_path / "archive.zip").write_bytes(zipped(slices))
    assert main(["download", "head_ct", str(folder), "--zip", str(tmp_path / "archive.zip")]) == 0
    dataset = load_dataset(folder)
    assert (len(dataset.paths), dataset.labels.sum(), os.listdir(folder.parent)) == (200, 100, ["head_ct"])
    assert head_ct.PAGE in capsys.readouterr().out


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_wrong_zip_is_refused_in_one_line_and_leaves_nothing(name, slices, folder, tmp_path, capsys):
    content, words = HOSTILE[name]
    archive = tmp_path / "archive.zip"
    archive.write_bytes(content(slices))
    before = sorted(tmp_path.rglob("*"))
    assert main(["download", "head_ct", str(folder), "--zip", str(archive)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and ".part" not in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_there_is_not_touched(folder, capsys):
    folder.mkdir()
    assert main(["download", "head_ct", str(folder)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err and os.listdir(folder) == []


def point_kaggle_to(address, monkeypatch):
    monkeypatch.setattr(head_ct, "ADDRESS", address)
    monkeypatch.setattr(head_ct, "fetch", partial(download.fetch, loopback=True))


def test_the_slices_come_from_kaggle_and_the_zip_is_not_kept(slices, serve, folder, tmp_path, monkeypatch):
    content = zipped(slices)
    point_kaggle_to(serve(ranged(content, cut=10_000), ranged(content))[0], monkeypatch)
    assert main(["download", "head_ct", str(folder)]) == 0
    assert len(load_dataset(folder).paths) == 200 and names_in(tmp_path / "tinyresnet_home") == []


@pytest.mark.parametrize("refusal, words", [
    (answer(403), "403 Forbidden"), (answer(200, b"<!DOCTYPE html>log in"), "is an HTML page")])
def test_where_kaggle_refuses_the_message_says_how_to_do_it_by_hand(refusal, words, serve, folder, monkeypatch, capsys):
    point_kaggle_to(serve(refusal)[0], monkeypatch)
    assert main(["download", "head_ct", str(folder)]) == 2
    error = capsys.readouterr().err
    assert words in error and f"download head_ct {folder} --zip archive.zip" in error and error.count("\n") == 1
    assert names_in(cache_folder()) == []


def test_offline_the_message_says_how_to_do_it_by_hand(folder, monkeypatch, capsys):
    monkeypatch.setenv("TINYRESNET_OFFLINE", "1")
    assert main(["download", "head_ct", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "TINYRESNET_OFFLINE" in error and "--zip archive.zip" in error


@pytest.mark.shared
def test_the_real_slices_are_accepted_in_kaggles_layout(shared, folder, tmp_path):
    source = shared / "data" / "head_ct"
    entries = {f"head_ct/head_ct/{path.name}": path.read_bytes() for path in sorted(source.glob("*.png"))}
    content = zipped(entries | {LABELS: (source / LABELS).read_bytes()}, method=zipfile.ZIP_STORED)
    (tmp_path / "archive.zip").write_bytes(content)
    assert head_ct.download_head_ct(folder, tmp_path / "archive.zip") == folder
