"""The catalogue, and `list` and `download` at the command line."""

import hashlib
import json
import os
import random
import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from handmade_files import state_of, torch_state
from loopback import answer, ranged

from tinyresnet.images import IMAGENET
from tinyresnet.weights import load_model
from weights_converter import __main__ as command_line
from weights_converter import download
from weights_converter.__main__ import main
from weights_converter.catalogue import CATALOGUE, Published

pytestmark = pytest.mark.usefixtures("isolated")
BODY = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


# -- the catalogue -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_has_a_safe_address_and_the_hash_that_its_name_promises(name):
    entry = CATALOGUE[name]
    assert entry.address == f"https://download.pytorch.org/models/{entry.file}"
    assert len(entry.sha256) in (8, 64) and entry.file == f"{name.split('_')[0]}-{entry.sha256[:8]}.pth"
    assert set(entry.sha256) <= set("0123456789abcdef")


def test_list_shows_name_licence_size_and_accuracy(capsys):
    assert main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["resnet50", "BSD-3-Clause", "97.8", "MiB", "76.130", "92.862"] in lines
    assert {line[0] for line in lines} > set(CATALOGUE)


def test_list_is_there_for_machines_too(capsys):
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == CATALOGUE.keys()
    assert (rows["resnet50_v2"]["top1"], rows["resnet50_v2"]["preprocessing"]["resize"]) == (80.858, 232)


# -- the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry(serve, tmp_path, monkeypatch):
    """A thin ResNet-18 in the catalogue; its bytes, and the Range headers of the requests for it."""
    body = torch_state(state_of())
    address, ranges = serve(ranged(body))
    add_entry(monkeypatch, address, hashlib.sha256(body).hexdigest())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return body, ranges


def add_entry(monkeypatch, address, sha256):
    monkeypatch.setattr(command_line, "fetch", partial(download.fetch, loopback=True))
    monkeypatch.setitem(CATALOGUE, "thin", Published("thin.pth", address, sha256, 1.0, "MIT", 1.5, 2.5, "nobody",
                                                     replace(IMAGENET, resize=232)))


def test_download_converts_into_the_current_folder_and_keeps_the_published_file(entry, tmp_path, capsys):
    assert main(["download", "thin"]) == 0
    assert (tmp_path / "tinyresnet_home" / "thin.pth").read_bytes() == entry[0]
    assert load_model("thin.npz").preprocessing.resize == 232
    out = capsys.readouterr().out
    assert "thin.pth: as published, licence MIT\nthin.npz: ResNet-18, width 2" in out and "top-1 1.5 %" in out
    assert os.listdir() == ["thin.npz"]


def test_download_asks_no_server_for_what_is_there(entry, capsys):
    for out in ("a.npz", "b.npz"):
        assert main(["download", "thin", out]) == 0
    assert entry[1] == [None] and Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_download_uses_the_file_of_torch_where_it_lies(entry, tmp_path, capsys):
    folder = tmp_path / "torch_home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "thin.pth").write_bytes(entry[0])
    assert main(["download", "thin"]) == 0
    assert str(folder / "thin.pth") in capsys.readouterr().out and entry[1] == []


MISTAKES = {
    "an unknown name": (["resnet5"], "nothing is called 'resnet5'; there are resnet18, "),
    "an output that is not .npz": (["thin", "thin.pth"], "expected OUT to end in .npz"),
    "a zip of something else": (["thin", "--zip", "x.zip"], "--zip with head_ct alone"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gives_one_line_and_exit_code_2_before_anything_is_fetched(name, entry, capsys):
    arguments, words = MISTAKES[name]
    assert main(["download", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and words in captured.err and captured.err.count("\n") == 1 and entry[1] == []


def test_a_download_that_fails_gives_one_line_and_exit_code_2(serve, monkeypatch, capsys):
    add_entry(monkeypatch, serve(answer(404))[0], "0" * 64)
    assert main(["download", "thin"]) == 2
    assert "404" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_ctrl_c_leaves_the_part_and_says_how_to_go_on(serve, tmp_path, monkeypatch, capsys):
    part, done = tmp_path / "tinyresnet_home" / "thin.pth.part", threading.Event()

    def interrupted(handler):
        answer(200, BODY, 100_000)(handler)
        while not (part.exists() and part.stat().st_size) and not done.wait(0.01):
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        done.wait(20)

    add_entry(monkeypatch, serve(interrupted)[0], SHA256)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests may have it ignored
    try:
        assert main(["download", "thin"]) == 130
    finally:
        done.set()
        signal.signal(signal.SIGINT, before)
    assert "the same command goes on from there" in capsys.readouterr().err
    assert part.stat().st_size >= download.BLOCK and BODY.startswith(part.read_bytes())
