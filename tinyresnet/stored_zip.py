"""Zip files whose entries lie in them as they are: .npz, and torch's .pth since version 1.6.

A zip file ends with a directory: for each entry its name, size, checksum and where it starts.

    [header, data] [header, data] ... [directory] [end record]

Python's zipfile reads these too, and much more: compression, encryption, archives glued to other files. Weights need
none of it, and each has served to attack a reader, so this one knows plain entries only and checks every number against
the length of the file before it is used. Layout: PKWARE's APPNOTE, sections 4.3.7, 4.3.12, 4.3.14-16 and 4.5.3.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import BinaryIO, NamedTuple

from numpy import ndarray as Array

from tinyresnet.files import read_bytes

LOCAL = struct.Struct("<4s5H3L2H")  # signature, version, flags, method, time, date, crc, 2 sizes, 2 lengths
CENTRAL = struct.Struct("<4s6H3L5H2L")  # the same with 2 versions; comment, disk, 2 attributes, start of header
END = struct.Struct("<4s4H2LH")  # signature, 2 disks, 2 counts, directory's size and start, comment
LOCATOR64 = struct.Struct("<4sLQL")  # signature, disk, start of the next record, disks
END64 = struct.Struct("<4sQ2H2L4Q")  # signature, own size, 2 versions, 2 disks, 2 counts, directory's size and start
ENCRYPTED = 1  # bit of the flags
IN_EXTRA_FIELD = 0xFFFFFFFF  # a number too large for 32 bits: zip64 writes it elsewhere

MAX_ENTRIES = 20_000  # the checkpoint of a ResNet-152 with its optimiser's state has about 2,500
MAX_NAME = 1_000


class Entry(NamedTuple):
    """Where the data of an entry lie in the file, in bytes, and their checksum."""

    start: int
    size: int
    crc: int


def read_directory(file: BinaryIO) -> dict[str, Entry]:
    """The entries of the file by name, in the order of the directory.

    Raises ValueError with the reason if the file is cut, or an entry is compressed, encrypted, there twice, over
    another, or under a name that does not belong into a folder of weights.
    """
    count, start, size = find_directory(file)
    file.seek(start)
    directory = file.read(size)
    entries: dict[str, Entry] = {}
    at = 0
    data_end = 0
    for _ in range(count):
        name, header_start, entry_size, crc, at = central_entry(directory, at)
        if name in entries:
            raise ValueError(f"two zip entries are called {name!r}")
        if header_start < data_end:
            raise ValueError(f"zip entry {name!r} starts at byte {header_start}, inside the entry before it")
        data_start = data_start_of(file, header_start, name)
        data_end = data_start + entry_size
        if data_end > start:
            raise ValueError(f"zip entry {name!r} of {entry_size} bytes does not fit into the file")
        entries[name] = Entry(data_start, entry_size, crc)
    if at != size:
        raise ValueError(f"the zip directory goes on after its {count} entries")
    return entries


def read_entry(file: BinaryIO, entries: dict[str, Entry], name: str) -> Array:
    """The bytes of one entry, as (size,) uint8. Raises ValueError if it is missing or its checksum is wrong."""
    if name not in entries:
        raise ValueError(f"zip entry {name!r} is missing")
    entry = entries[name]
    data = read_bytes(file, entry.start, entry.size)
    crc = zlib.crc32(data.data)
    if crc != entry.crc:
        raise ValueError(f"zip entry {name!r} is damaged: expected checksum {entry.crc:08x}, got {crc:08x}")
    return data


def find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """Number of entries, start and size of the directory, from the record in the last 22 bytes."""
    end_start = file.seek(0, os.SEEK_END) - END.size
    signature, *disks, here, count, size, start, comment = read_struct(file, END, end_start)
    if signature != b"PK\5\6" or comment:
        raise ValueError("expected a zip file's end record in the last 22 bytes: the file is cut or goes on")
    record_start = end_start
    if 0xFFFF in (here, count) or IN_EXTRA_FIELD in (size, start) or start + size != end_start:
        signature, _, record_start, _ = read_struct(file, LOCATOR64, end_start - LOCATOR64.size)
        end64 = read_struct(file, END64, record_start) if signature == b"PK\6\7" else ()
        if not end64 or end64[0] != b"PK\6\6":
            raise ValueError(f"the zip directory should end at byte {end_start}, its record says {start + size}")
        _, _, _, _, *disks, here, count, size, start = end64
    if any(disks) or here != count or start + size != record_start:
        raise ValueError("the zip file's end record does not describe this file")
    if count > MAX_ENTRIES:
        raise ValueError(f"the zip file has {count} entries; weights have at most {MAX_ENTRIES}")
    return count, start, size


def central_entry(directory: bytes, at: int) -> tuple[str, int, int, int, int]:
    """Name, start of the local header, size and checksum of the entry at `at`, and where the next one begins."""
    if at + CENTRAL.size > len(directory):
        raise ValueError("the zip directory has fewer entries than it says")
    fields = CENTRAL.unpack_from(directory, at)
    signature, flags, method, crc = fields[0], fields[3], fields[4], fields[7]
    name_length, extra_length, comment_length = fields[10:13]
    at += CENTRAL.size
    name = checked_name(directory[at:at + name_length])
    extra = directory[at + name_length:at + name_length + extra_length]
    if signature != b"PK\1\2":
        raise ValueError(f"the zip directory is damaged near {name!r}")
    if flags & ENCRYPTED:
        raise ValueError(f"zip entry {name!r} is encrypted")
    if method:
        raise ValueError(f"zip entry {name!r} is compressed (method {method}), as by np.savez_compressed or "
                         "TorchScript; expected entries stored as they are")
    stored_size, size, start = wide_numbers(extra, [fields[8], fields[9], fields[16]])
    if stored_size != size:
        raise ValueError(f"zip entry {name!r} takes {stored_size} bytes for {size} bytes of data")
    return name, start, size, crc, at + name_length + extra_length + comment_length


def wide_numbers(extra: bytes, numbers: list[int]) -> list[int]:
    """Stored size, size and start; those too large for 32 bits stand in the extra field of kind 1."""
    wide, at = b"", 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        wide = extra[at + 4:at + 4 + length] if kind == 1 else wide
        at += 4 + length
    for i in (1, 0, 2):  # the field holds the size first
        if numbers[i] == IN_EXTRA_FIELD:
            if len(wide) < 8:
                raise ValueError("a zip entry's size or start is missing")
            numbers[i], wide = int.from_bytes(wide[:8], "little"), wide[8:]
    return numbers


def data_start_of(file: BinaryIO, start: int, name: str) -> int:
    """Where the data begin: after the local header, whose length only it knows (torch aligns data by padding it)."""
    fields = read_struct(file, LOCAL, start)
    name_length, extra_length = fields[9:11]
    local_name = file.read(name_length)
    if fields[0] != b"PK\3\4" or local_name != name.encode():
        raise ValueError(f"the directory says that {name!r} starts at byte {start}, but another thing is there")
    if fields[3] or fields[2] & ENCRYPTED:
        raise ValueError(f"zip entry {name!r} is compressed or encrypted")
    return start + LOCAL.size + name_length + extra_length


def checked_name(raw: bytes) -> str:
    """A relative path without tricks. Nothing is ever unpacked to disk; a name with tricks is still no weights file."""
    name = raw.decode("utf-8", "backslashreplace")
    tricks = {"", ".", ".."} & set(name.split("/")) or {"\\", ":"} & set(name)
    if tricks or not name.isprintable() or len(name) > MAX_NAME:
        raise ValueError(f"a zip entry is called {name[:80]!r}, which is not a plain relative path")
    return name


def read_struct(file: BinaryIO, layout: struct.Struct, start: int) -> tuple:
    """The numbers at byte `start`."""
    end = file.seek(0, os.SEEK_END)
    if not 0 <= start <= end - layout.size:
        raise ValueError(f"the zip file is cut: expected {layout.size} bytes at byte {start}, the file has {end}")
    file.seek(start)
    return layout.unpack(file.read(layout.size))
