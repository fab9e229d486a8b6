"""Fetching a published file: over https alone, continued where it was cut, and kept only if it is the right one.

Much can go wrong on the way of 100 MB: the connection is cut after 70 of them, a web page answers in the place of the
file, two programs fetch the same file at once. So the bytes go to FILE.part first, which a later request continues,

    GET /models/resnet50-0676ba61.pth         206 Partial Content
    Range: bytes=70000000-                    Content-Range: bytes 70000000-102530332/102530333

and it becomes FILE only when its SHA-256 is the published one. Nobody can make another file with the same 64 digits; the
first 8, which torchvision puts into its names, still find every accident. HTTP's rules for ranges: RFC 9110, section 14.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from tqdm import tqdm

from tinyresnet.version import __version__
from tinyresnet.weights import refuse_foreign
from weights_converter.conversion import sha256_of

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 2.0, 4.0)  # seconds before a connection that was cut is tried again
BLOCK = 1 << 16  # bytes read at once, and lost at most when the connection is cut
GOES_ON = "what has arrived is kept, and the same command goes on from there"


class DownloadError(ValueError):
    """A file that could not be fetched; the message names it, the reason and what to do."""


class WrongFile(DownloadError):
    """What the server sends is not the file that was meant; nothing of it is kept."""


class Cut(Exception):
    """The connection was cut: worth another try."""


class Afresh(Cut):
    """The server cannot continue the part that is there: worth another try from the first byte."""


# -- where published files lie -------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """$TINYRESNET_HOME, or else where this platform keeps what can be fetched again."""
    if home := os.environ.get("TINYRESNET_HOME"):
        return Path(home).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "tinyresnet"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/tinyresnet").expanduser()
    return user_cache() / "tinyresnet"


def user_cache() -> Path:
    """The folder of the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def find(name: str, sha256: str) -> Path | None:
    """The file of this name and hash in our cache, or where torch or Keras have put it on this machine."""
    torch = Path(os.environ.get("TORCH_HOME") or user_cache() / "torch").expanduser() / "hub" / "checkpoints"
    folders = cache_folder(), torch, Path("~/.keras/models").expanduser()
    return next((folder / name for folder in folders if is_intact(folder / name, sha256)), None)


def is_intact(path: Path, sha256: str) -> bool:
    """Whether there is such a file, it can be read, and its hash begins so."""
    try:
        return sha256_of(path).startswith(sha256)
    except OSError:
        return False


# -- fetching ------------------------------------------------------------------------------------------------------------


def fetch(address: str, path: Path, *, sha256: str = "", limit: int, loopback: bool = False) -> Path:
    """Download `address` to `path`, unless the right file lies there already; returns `path`.

    sha256: its hexadecimal digits, or the first of them; "" where none are published. limit: bytes at most.
    loopback: plain http to 127.0.0.1 is allowed, for tests.
    Raises DownloadError if the file cannot be had or kept. What has arrived is then left for the next try in FILE.part,
    unless it is wrong.
    """
    check_address(address, loopback)
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_with(path):
            if not is_intact(path, sha256):  # another process may have fetched it while we waited
                complete(address, part, sha256, limit, loopback)
                os.replace(part, path)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror or error}); make room, or name another folder "
                            f"in TINYRESNET_HOME{kept(part)}") from error
    return path


def complete(address: str, part: Path, sha256: str, limit: int, loopback: bool) -> None:
    """Receive what `part` lacks and check its hash."""
    if sha256 and is_intact(part, sha256):  # it was cut between the last byte and its name
        return
    if os.environ.get("TINYRESNET_OFFLINE", "0") not in ("", "0"):
        raise DownloadError(f"{address}: is not fetched, because TINYRESNET_OFFLINE is set; unset it, or bring the "
                            f"file here as {part.with_suffix('')}")
    print(f"downloading {address}", flush=True)
    try:
        receive_all(build_opener(SafeRedirects(loopback)), address, part, limit)
        found = sha256_of(part)
        if not found.startswith(sha256):
            raise WrongFile(f"{address}: expected a file with the sha256 {sha256}, got {found}: it {looks_of(part)}")
    except WrongFile:
        part.unlink()
        raise


def receive_all(opener: OpenerDirector, address: str, part: Path, limit: int) -> None:
    """Complete `part`; where the connection is cut after something has arrived, with a few more requests."""
    begun = size_of(part)
    for pause in (*PAUSES, None):
        try:
            return receive(opener, address, part, limit)
        except Cut as cut:
            if isinstance(cut, Afresh):
                part.unlink(missing_ok=True)
            elif size_of(part) == begun:
                pause = None  # nothing came at all, so there is hardly a network
            if pause is None:
                hint = kept(part) or f"; without a network, bring it here as {part.with_suffix('')}"
                raise DownloadError(f"{address}: {cut}{hint}") from cut
            time.sleep(pause)


def receive(opener: OpenerDirector, address: str, part: Path, limit: int) -> None:
    """Ask once for what `part` lacks, and append what comes. Raises Cut if that is not all."""
    start = size_of(part)
    headers = {"User-Agent": f"tinyresnet/{__version__}"} | ({"Range": f"bytes={start}-"} if start else {})
    with network(address):
        response = opener.open(Request(address, headers=headers), timeout=TIMEOUT)
    whole = response.status == 200  # because no part was asked for, or the server knows none
    with response, open(part, "wb" if whole else "ab") as file:
        if not whole and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise Afresh("the server sends another part than the one that was asked for")
        end = None if response.length is None else file.tell() + response.length
        for block in blocks(response, address, file.tell(), end):
            if max(end or 0, file.tell() + len(block)) > limit:
                raise WrongFile(f"{address}: expected at most {limit:,} bytes, got more")
            file.write(block)
        if end is not None and file.tell() < end:
            raise Cut(f"the connection was cut after {file.tell():,} of {end:,} bytes")


def blocks(response, address: str, start: int, end: int | None) -> Iterator[bytes]:
    """What the server sends, with a progress bar that counts from byte `start` to `end`, if that is known."""
    name = urlsplit(address).path.rpartition("/")[2]
    with tqdm(desc=name, total=end, initial=start, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        while True:
            with network(address):
                block = response.read(BLOCK)
            if not block:
                return
            yield block
            bar.update(len(block))


def size_of(path: Path) -> int:
    """In bytes; 0 if there is no such file."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def kept(part: Path) -> str:
    """What a message says at its end of the part that is there, if it is."""
    return f"; {GOES_ON}" if size_of(part) else ""


def looks_of(path: Path) -> str:
    """What a file that is not the right one seems to be, and its first bytes."""
    with open(path, "rb") as file:
        head = file.read(60)
        try:
            refuse_foreign(file)
        except ValueError as reason:
            return f"{reason}; it starts with {head!r}"
    return f"starts with {head!r}"


# -- the network ---------------------------------------------------------------------------------------------------------


def check_address(address: str, loopback: bool) -> None:
    """Raise DownloadError unless nobody on the way can read or change what this address sends."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (loopback and (parts.scheme, parts.hostname) == ("http", "127.0.0.1")):
        raise DownloadError(f"{address}: expected an address that begins with https://")


class SafeRedirects(HTTPRedirectHandler):
    """Follows a server that names another address only where `fetch` itself would go."""

    def __init__(self, loopback: bool):
        self.loopback = loopback

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        check_address(newurl, self.loopback)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def network(address: str) -> Iterator[None]:
    """Turn what goes wrong inside into Cut, or into DownloadError where another try would change nothing."""
    try:
        yield
    except HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # the part is longer than the file
            raise Afresh(answer) from error
        if error.code >= 500:
            raise Cut(answer) from error
        raise DownloadError(f"{address}: {answer}") from error
    except (OSError, HTTPException) as error:
        raise Cut(str(getattr(error, "reason", error)) or type(error).__name__) from error


# -- other processes -----------------------------------------------------------------------------------------------------


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Let one process after the other work on `path`. The system frees the lock of a process that dies.

    The empty file stays: who waits for it holds it open, and a newcomer would lock another one.
    """
    with open(path.with_name(f"{path.name}.lock"), "ab") as file:
        if not try_lock(file.fileno()):
            print(f"another process is downloading {path.name}; waiting for it", file=sys.stderr)
            while not try_lock(file.fileno()):
                time.sleep(0.2)
        yield


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process has."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
