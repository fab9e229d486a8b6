"""Downloading: whatever the server does, the file is the published one or not there, and the message says why."""

import hashlib
import random
import resource
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from loopback import answer, names_in, ranged

from weights_converter import download
from weights_converter.download import DownloadError, cache_folder, find

pytestmark = pytest.mark.usefixtures("isolated")
BODY = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
LIMIT = 400_000

fetch = partial(download.fetch, limit=LIMIT, loopback=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "weights.pth"


def check_refused(address, path, words, **options):
    """The message names the address and the reason in one line, and there is no file."""
    with pytest.raises(DownloadError) as caught:
        fetch(address, path, **({"sha256": SHA256} | options))
    assert str(caught.value).startswith(f"{address}: ") and words in str(caught.value) and "\n" not in str(caught.value)
    assert not path.exists()


# -- what arrives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], ""])
def test_a_file_is_fetched_and_nothing_lies_beside_it(sha256, serve, path):
    address, ranges = serve(ranged(BODY))
    assert fetch(address, path, sha256=sha256) == path
    assert (path.read_bytes(), names_in(path.parent), ranges) == (BODY, ["weights.pth"], [None])


def test_a_download_that_is_cut_twice_goes_on_where_it_was_cut(serve, path):
    address, ranges = serve(ranged(BODY, cut=100_000), ranged(BODY, cut=70_000), ranged(BODY))
    fetch(address, path, sha256=SHA256)
    assert (path.read_bytes(), ranges) == (BODY, [None, "bytes=100000-", "bytes=170000-"])


def test_a_part_of_an_earlier_try_is_continued(serve, path):
    path.parent.mkdir()
    path.with_name("weights.pth.part").write_bytes(BODY[:1000])
    address, ranges = serve(ranged(BODY))
    fetch(address, path, sha256=SHA256)
    assert (path.read_bytes(), ranges) == (BODY, ["bytes=1000-"])


@pytest.mark.parametrize("offline", ["", "1"])
def test_a_part_that_is_whole_is_kept_without_asking(offline, serve, path, monkeypatch):
    monkeypatch.setenv("TINYRESNET_OFFLINE", offline)
    path.parent.mkdir()
    path.with_name("weights.pth.part").write_bytes(BODY)
    address, ranges = serve(answer(416))
    fetch(address, path, sha256=SHA256)
    assert (path.read_bytes(), names_in(path.parent), ranges) == (BODY, ["weights.pth"], [])


@pytest.mark.parametrize("misfit", [
    answer(200, BODY),
    answer(206, BODY, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}"),
    answer(206, BODY[100_000:]),
    answer(416, Content_Range=f"bytes */{len(BODY)}"),
], ids=["ranges unknown", "another offset", "no offset said", "416"])
def test_a_part_that_the_server_cannot_continue_is_fetched_afresh(misfit, serve, path):
    address, ranges = serve(ranged(BODY, cut=100_000), misfit, ranged(BODY))
    fetch(address, path, sha256=SHA256)
    assert path.read_bytes() == BODY and ranges[:2] == [None, "bytes=100000-"] and not any(ranges[2:])


def test_a_server_that_does_not_say_how_much_it_sends_is_believed_if_the_hash_is_right(serve, path):
    address, _ = serve(answer(200, BODY, Content_Length=None))
    fetch(address, path, sha256=SHA256)
    assert path.read_bytes() == BODY


def test_after_three_more_cuts_the_message_says_how_to_go_on_and_the_part_stays(serve, path):
    address, ranges = serve(ranged(BODY, cut=10_000))
    check_refused(address, path, "cut after 40,000 of 300,000 bytes; what has arrived is kept, and the same command")
    assert (len(ranges), path.with_name("weights.pth.part").read_bytes()) == (4, BODY[:40_000])


def test_a_server_that_is_busy_in_the_middle_is_asked_again(serve, path):
    address, _ = serve(ranged(BODY, cut=100_000), answer(503), ranged(BODY))
    fetch(address, path, sha256=SHA256)
    assert path.read_bytes() == BODY


def test_a_redirect_is_followed(serve, path):
    target, _ = serve(ranged(BODY))
    address, _ = serve(answer(302, Location=target))
    fetch(address, path, sha256=SHA256)
    assert path.read_bytes() == BODY


def test_a_file_that_is_there_is_not_fetched_again(serve, path):
    address, ranges = serve(ranged(BODY))
    for _ in range(2):
        fetch(address, path, sha256=SHA256)
    assert len(ranges) == 1


def test_a_spoilt_file_is_fetched_again(serve, path):
    path.parent.mkdir()
    path.write_bytes(BODY[:-1] + b"x")
    address, ranges = serve(ranged(BODY))
    fetch(address, path, sha256=SHA256)
    assert (path.read_bytes(), ranges) == (BODY, [None])


# -- what is refused -----------------------------------------------------------------------------------------------------

WRONG = {
    "an HTML page": (b"<!DOCTYPE html><title>log in</title>", "is an HTML page", "b'<!DOCTYPE html>"),
    "an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", "b'version https"),
    "other bytes": (b"\0\1" * 100, f"expected a file with the sha256 {SHA256}", r"b'\x00\x01"),
    "an empty file": (b"", "is empty", "b''"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_shown_by_its_first_bytes_and_removed(name, serve, path):
    body, reason, shown = WRONG[name]
    address, _ = serve(answer(200, body), ranged(BODY))
    check_refused(address, path, reason)
    assert names_in(path.parent) == []
    fetch(address, path, sha256=SHA256)  # so the next try begins afresh


def test_the_first_bytes_of_a_wrong_file_are_in_the_message(serve, path):
    for body, _, shown in WRONG.values():
        check_refused(serve(answer(200, body))[0], path, shown)


def test_a_part_with_wrong_bytes_is_found_by_the_hash_and_removed(serve, path):
    path.parent.mkdir()
    path.with_name("weights.pth.part").write_bytes(b"wrong")
    address, _ = serve(ranged(BODY))
    check_refused(address, path, "expected a file with the sha256")
    assert names_in(path.parent) == []


@pytest.mark.parametrize("said", [{}, {"Content_Length": None}], ids=["as said", "unsaid"])
def test_a_file_over_the_limit_is_refused_and_nothing_is_kept(said, serve, path):
    address, _ = serve(answer(200, bytes(LIMIT + 1), **said))
    check_refused(address, path, "expected at most 400,000 bytes")
    assert names_in(path.parent) == []


def test_a_file_that_says_it_is_over_the_limit_is_not_awaited(serve, path):
    address, _ = serve(answer(200, bytes(10), Content_Length=1 << 50))
    check_refused(address, path, "expected at most 400,000 bytes")


@pytest.mark.parametrize("status, words", [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service")])
def test_an_error_of_the_server_is_told_and_not_asked_for_again(status, words, serve, path):
    address, ranges = serve(answer(status))
    check_refused(address, path, f"the server answers {words}")
    assert (names_in(path.parent), len(ranges)) == ([], 1)


def test_a_server_that_is_not_there_is_told_at_once(serve, path):
    check_refused("http://127.0.0.1:1/weights.pth", path, f"refused; without a network, bring it here as {path}")


@pytest.mark.parametrize("target", ["http://example.com/x", "http://localhost/x", "ftp://127.0.0.1/x"])
def test_a_redirect_away_from_https_is_refused(target, serve, path):
    address, _ = serve(answer(302, Location=target))
    with pytest.raises(DownloadError, match="expected an address that begins with https://"):
        fetch(address, path, sha256=SHA256)


@pytest.mark.parametrize("address", ["http://127.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "x"])
def test_without_being_told_no_address_but_https_is_asked(address, path):
    with pytest.raises(DownloadError, match="expected an address that begins with https://"):
        download.fetch(address, path, limit=LIMIT)
    assert not path.parent.exists()


def test_offline_nothing_is_asked_and_the_message_names_the_switch(serve, path, monkeypatch):
    address, ranges = serve(ranged(BODY))
    monkeypatch.setenv("TINYRESNET_OFFLINE", "1")
    check_refused(address, path, "TINYRESNET_OFFLINE is set")
    assert ranges == []


def test_offline_a_file_that_is_there_is_used(serve, path, monkeypatch):
    path.parent.mkdir()
    path.write_bytes(BODY)
    monkeypatch.setenv("TINYRESNET_OFFLINE", "1")
    assert fetch("https://example.com/weights.pth", path, sha256=SHA256) == path


# -- disks and processes -------------------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_named(serve, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="file.*cannot be written .*TINYRESNET_HOME$"):
        fetch(serve(ranged(BODY))[0], tmp_path / "file" / "weights.pth")


def test_when_the_disk_is_full_the_part_stays_and_the_next_try_goes_on(serve, path):
    address, ranges = serve(ranged(BODY))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a file cannot grow beyond: to us a full disk
    try:
        with pytest.raises(DownloadError, match="cannot be written .*TINYRESNET_HOME; what has arrived is kept"):
            fetch(address, path, sha256=SHA256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    fetch(address, path, sha256=SHA256)
    assert (path.read_bytes(), ranges) == (BODY, [None, "bytes=100000-"])


def other_process(address, path):
    script = ("import sys; from pathlib import Path; from weights_converter.download import fetch; "
              "fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], limit=400_000, loopback=True)")
    return subprocess.Popen([sys.executable, "-c", script, address, str(path), SHA256], stderr=subprocess.PIPE, text=True,
                            cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("dies", [False, True], ids=["succeeds", "is killed"])
def test_a_second_process_waits_for_the_first_and_uses_or_completes_what_it_fetched(dies, serve, path):
    asked, go_on = threading.Event(), threading.Event()

    def slow(handler):
        answer(200, BODY, 200_000)(handler)
        asked.set()
        go_on.wait(20)
        if not dies:
            handler.wfile.write(BODY[200_000:])

    address, ranges = serve(slow, ranged(BODY))
    with other_process(address, path) as first:
        assert asked.wait(20)
        with other_process(address, path) as second:
            assert second.stderr.readline() == "another process is downloading weights.pth; waiting for it\n"
            if dies:
                first.kill()
            go_on.set()
            assert (second.wait(20), second.stderr.read()) == (0, "")
    assert (path.read_bytes(), names_in(path.parent), len(ranges)) == (BODY, ["weights.pth"], 1 + dies)


# -- where files are looked for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tinyresnet_home", "torch_home/hub/checkpoints", "home/.keras/models"])
def test_a_file_with_the_right_hash_is_used_where_it_lies(folder, tmp_path):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "weights.pth").write_bytes(BODY)
    assert find("weights.pth", SHA256[:8]) == tmp_path / folder / "weights.pth"
    assert find("weights.pth", "0" * 8) is None


@pytest.mark.parametrize("platform, variables, expected", [
    ("linux", {}, "home/.cache/tinyresnet"),
    ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/tinyresnet"),
    ("darwin", {}, "home/Library/Caches/tinyresnet"),
    ("win32", {"LOCALAPPDATA": "/local"}, "/local/tinyresnet"),
    ("linux", {"TINYRESNET_HOME": "~/mine"}, "home/mine"),
])
def test_the_cache_is_where_the_platform_keeps_its_caches(platform, variables, expected, tmp_path, monkeypatch):
    for name in ("TINYRESNET_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == tmp_path / expected
