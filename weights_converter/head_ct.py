"""The 200 head-CT slices of kaggle.com/datasets/felipekitamura/head-ct-hemorrhage, fetched, checked and unpacked.

    labels.csv                 "id, hemorrhage": 100 slices with 1, 100 with 0
    head_ct/head_ct/000.png    to 199.png

A zip file from elsewhere may hold anything: `../../.bashrc` writes over a file of yours, a symbolic link leads out of the
folder, 40 kB of zeros unfold into gigabytes. So names, kinds and sizes are checked before the first byte is written, all
is written into a folder beside, the images are opened and the labels counted there, and only then it takes its name.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from tinyresnet.ich.dataset import load_dataset
from tinyresnet.images import read_image
from tinyresnet.stored_zip import checked_name
from weights_converter.download import DownloadError, cache_folder, fetch, looks_of

PAGE = "https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage"
ADDRESS = "https://www.kaggle.com/api/v1/datasets/download/felipekitamura/head-ct-hemorrhage"
LICENCE = f"the licence of the head-CT slices stands at {PAGE}; they are pictures from web pages and figures, and not ours"

IMAGES, POSITIVE = 200, 100
MAX_BYTES = 100 << 20  # packed or unpacked; the set has 26 MB
MAX_ENTRIES = 1000
MAX_NAME = 200  # characters; no system takes more than 255 bytes between two slashes

DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError,  # what zipfile raises for a bad file,
           FileExistsError, NotADirectoryError)  # and what two entries in one place raise


def download_head_ct(folder: Path, archive: Path | None = None) -> Path:
    """The set in `folder`, which must not be there yet, from Kaggle or from a zip file fetched by hand; returns `folder`.

    Raises DownloadError with directions if Kaggle does not give it, ValueError naming a zip file that is another one.
    """
    if folder.exists() or not folder.absolute().parent.is_dir():
        raise ValueError(f"{folder}: expected the name of a new folder in one that is there; nothing is overwritten")
    if archive is not None:
        return install(archive, folder)
    try:
        fetched = fetch(ADDRESS, cache_folder() / "head-ct-hemorrhage.zip", limit=MAX_BYTES)
        try:
            return install(fetched, folder)
        finally:
            fetched.unlink()  # unpacked it is not needed any more, and refused it must not be met again
    except ValueError as error:
        raise DownloadError(f"{error}. By hand: log in at {PAGE}, press Download, then "
                            f"python -m weights_converter download head_ct {folder} --zip archive.zip") from error


def install(archive: Path, folder: Path) -> Path:
    """Unpack, check, and give the name; raises ValueError naming `archive`, and then leaves nothing behind."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        unpack(archive, beside)
        check(beside)
        os.rename(beside, folder)
    except ValueError as error:
        reason = "; ".join(line.strip() for line in str(error).replace(f"{beside}{os.sep}", "").splitlines())
        raise ValueError(f"{archive}: {reason.replace(str(beside), 'unpacked')}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Write the entries of a zip file into a new folder, after a look at all of them. Raises ValueError."""
    try:
        with zipfile.ZipFile(archive) as entries:
            check_entries(entries.infolist())
            folder.mkdir()
            for entry in entries.infolist():
                if not entry.is_dir():
                    target = folder / entry.filename
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with entries.open(entry) as source, open(target, "xb") as file:
                        shutil.copyfileobj(source, file)  # zipfile stops at the size that was checked
    except DAMAGED as error:
        raise ValueError(f"is not a zip file, or a damaged one ({error}): it {looks_of(archive)}") from error


def check_entries(entries: list[zipfile.ZipInfo]) -> None:
    """Raise ValueError unless these are few plain files of moderate size, with names that stay in the folder."""
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES or size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_ENTRIES} entries of {MAX_BYTES:,} bytes in all, got {len(entries)} of "
                         f"{size:,}")
    for entry in entries:
        name = checked_name(entry.filename.removesuffix("/").encode())
        if len(name) > MAX_NAME:
            raise ValueError(f"zip entry {name[:80]!r}... has a name of {len(name)} characters, expected {MAX_NAME} at most")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"zip entry {name!r} is a link or a device, expected files")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"zip entry {name!r} is compressed by method {entry.compress_type}, expected deflate")


def check(folder: Path) -> None:
    """Raise ValueError unless the folder holds the 200 slices and their labels, and all can be read."""
    if not (folder / "labels.csv").is_file():
        raise ValueError("holds no labels.csv at its top")
    dataset = load_dataset(folder)
    found = len(dataset.paths), int(dataset.labels.sum())
    if found != (IMAGES, POSITIVE):
        raise ValueError(f"expected {IMAGES} images, {POSITIVE} of them with hemorrhage, got {found[0]} and {found[1]}")
    for path in tqdm(dataset.paths, desc="checking", leave=False, disable=None):
        read_image(path)
