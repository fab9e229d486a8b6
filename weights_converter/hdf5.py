"""Keras's weight files: HDF5, a file system within a file.

Groups are its folders, datasets its files. Each begins with a header, a list of messages that say what it is and where
its parts lie. An address is the number of a byte in the file.

    superblock -> header of the root group
                      symbol table -> B-tree -> leaves: (name, header) of each member
                                   -> heap: the names themselves
                  header of the dataset "conv1/kernel:0"
                      dataspace: its shape;  datatype: float32;  layout -> the numbers, or the numbers themselves

So h5py writes weights unless told otherwise. HDF5 can do much more: datasets in other files, programs that compress, links
to anywhere. Weights need none of it, and what is not read here cannot be used to open another file or to run code.

What is left of the danger are addresses: a group may be its own member, a thousand datasets may claim the same bytes. In a
sound file no two parts overlap, so that one rule stops all of it: together the parts are no longer than the file.

Layout: HDF5 File Format Specification 3.0, sections II.A (superblock), III.A.1 (B-tree), III.B to III.D (leaves, entries,
heap), IV.A.1.a (header) and IV.A.2 (messages).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from math import prod
from typing import BinaryIO

import numpy as np
from numpy import ndarray as Array

from tinyresnet.weights import MAX_DIMENSIONS, MAX_SIDE

SUPERBLOCK = struct.Struct("<8sB4x2B9xQ8xQ16xQ")  # signature, version, bytes of an address and a size, base, end, root
HEADER = struct.Struct("<BxH4xL4x")  # version, number of messages, bytes of the first block of them
MESSAGE = struct.Struct("<2HB3x")  # kind, bytes that follow, flags
TREE = struct.Struct("<5sBH16x")  # signature and kind of tree, level above the leaves, number of children
LEAF = struct.Struct("<5sxH")  # signature and version, number of entries
ENTRY = struct.Struct("<2QL20x")  # place of the name in the heap, header, kind of link
HEAP = struct.Struct("<5s3xQ8xQ")  # signature and version, bytes of text, their address
PAIR = struct.Struct("<2Q")  # symbol table: tree, heap; child in a tree: first name, address; all else: address, bytes
DATASPACE = struct.Struct("<2B6x")  # version, number of sides
LAYOUT = struct.Struct("<2B")  # version, class; then a COMPACT or a PAIR
COMPACT = struct.Struct("<H")  # bytes of the numbers, which follow
HARD_LINKS = (0, 1)  # kinds of links: to anything, and to a group whose tree and heap the entry repeats
SHARED = 2  # bit of the flags: the message is somewhere else
NOWHERE = (1 << 64) - 1  # the address of numbers that were never written

SHAPE, DTYPE, NUMBERS, CONTINUATION, SYMBOLS = 1, 3, 8, 16, 17  # kinds of messages
IGNORED = {0, 4, 5, 12, 13, 14, 18}  # free space, fill values, attributes, comments, times
REFUSED = {
    2: "is a group of the newer format, as for external links or names that are not ASCII",
    7: "has its numbers in another file",
    11: "is compressed or otherwise filtered",
}
LAYOUTS = {2: "is stored in chunks", 3: "is virtual, a view of datasets elsewhere"}
CLASSES = {3: "strings", 6: "records", 8: "booleans or another enumeration", 9: "rows of variable length"}
AGAIN = "load it with Keras or h5py and save its arrays in a new file, without options"

MAX_DATASETS = 10_000  # a ResNet-152 with its optimiser's state has about 2,200
MAX_DEPTH = 32  # groups within groups
MAX_LEVELS = 8  # of a B-tree; two hold up to 8,192 names
MAX_NAME = 500  # characters, with the groups'; Keras's have about 60

Messages = dict[int, bytearray]


def datatypes() -> dict[bytes, np.dtype]:
    """The beginning of the datatype message for each type of number that h5py writes."""
    known = {}
    for big, order in enumerate("<>"):
        for size in (1, 2, 4, 8):
            for signed, kind in enumerate("ui"):
                message = struct.pack("<4BL2H", 0x10, big | signed << 3, 0, 0, size, 0, 8 * size)
                known[message] = np.dtype(f"{order}{kind}{size}")
        for size, mantissa, exponent in ((2, 10, 5), (4, 23, 8), (8, 52, 11)):  # bits of IEEE 754
            places = mantissa, exponent, 0, mantissa, (1 << exponent - 1) - 1  # the last is added to the exponent
            message = struct.pack("<4BL2H4BL", 0x11, 0x20 | big, 8 * size - 1, 0, size, 0, 8 * size, *places)
            known[message] = np.dtype(f"{order}f{size}")
    return known


DATATYPES = datatypes()


class Source:
    """The file, which gives away no more bytes than it has, and the headers met so far."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.size = self.left = file.seek(0, os.SEEK_END)
        self.headers: set[int] = set()

    def take(self, start: int, size: int) -> bytearray:
        """`size` bytes from byte `start`."""
        if start + size > self.size:
            raise ValueError(f"is cut or damaged: expected {size} bytes at byte {start}, the file has {self.size}")
        if size > self.left:
            raise ValueError(f"has parts that overlap: together they are longer than the file's {self.size} bytes")
        self.left -= size
        data = bytearray(size)
        self.file.seek(start)
        if self.file.readinto(data) != size:  # type: ignore[attr-defined]
            raise ValueError(f"the file ends before byte {start + size}, and was longer before")
        return data

    def unpack(self, layout: struct.Struct, start: int) -> tuple:
        """The numbers at byte `start`."""
        return layout.unpack(self.take(start, layout.size))


def read(file: BinaryIO) -> dict[str, Array]:
    """The arrays by name, groups joined by slashes, in the order of h5py's visititems.

    float16 becomes float32. Raises ValueError with the reason for everything but numbers in one plain file.
    """
    source = Source(file)
    arrays: dict[str, Array] = {}
    for name, messages in datasets(source, root_of(source)):
        if len(arrays) == MAX_DATASETS:
            raise ValueError(f"has over {MAX_DATASETS} datasets")
        arrays[name] = array_of(source, messages, name)
    if not arrays:
        raise ValueError("holds no datasets")
    return arrays


def root_of(source: Source) -> int:
    """The header of the root group, from the superblock."""
    _, version, *widths, base, end, root = source.unpack(SUPERBLOCK, 0)
    if version:
        raise ValueError(f"is HDF5 in a newer format (superblock {version}), as by libver='latest'; {AGAIN}")
    if widths != [8, 8] or base:
        raise ValueError(f"expected an HDF5 file with numbers of 8 bytes and base 0, got {widths} and {base}; {AGAIN}")
    if end != source.size:
        raise ValueError(f"should end at byte {end}, but has {source.size}: it is cut or goes on; fetch it again")
    return root


# -- groups ---------------------------------------------------------------------------------------------------------


def datasets(source: Source, header: int, name: str = "") -> Iterator[tuple[str, Messages]]:
    """Name and messages of all datasets in the group with this header, and in the groups within."""
    messages = messages_of(source, header, name or "/")
    if messages.keys() == {SYMBOLS}:
        for member, member_header in members(source, messages[SYMBOLS], name):
            yield from datasets(source, member_header, member)
    elif messages.keys() == {SHAPE, DTYPE, NUMBERS} and name:
        yield name, messages
    else:
        raise ValueError(f"{name or '/'!r} is neither a group nor an array; its header has messages {sorted(messages)}")


def members(source: Source, table: bytearray, group: str) -> Iterator[tuple[str, int]]:
    """Full name and header of each member of a group; they are sorted, which excludes two of one name."""
    tree, heap = fields(PAIR, table)
    signature, size, start = source.unpack(HEAP, heap)
    if signature != b"HEAP\0":
        raise ValueError(f"the names in group {group!r} should be at byte {heap}, but another thing is there")
    names = source.take(start, size)
    last = b""
    for name_start, header, link in entries(source, tree):
        raw = bytes(names[name_start:name_start + MAX_NAME + 1]).split(b"\0")[0]
        if raw <= last:
            raise ValueError(f"the names in group {group!r} are not sorted: {raw[:80]!r} comes after {last[:80]!r}")
        last = raw
        name = full_name(group, raw)
        if link not in HARD_LINKS:
            raise ValueError(f"{name!r} is a soft link, a path to something else and no array; {AGAIN}")
        yield name, header


def full_name(group: str, raw: bytes) -> str:
    """The name of a group's member, with the names of all groups around it."""
    name = raw.decode("utf-8", "backslashreplace")
    path = f"{group}/{name}" if group else name
    if "/" in name or name in (".", "..") or not path.isprintable() or len(path) > MAX_NAME:
        raise ValueError(f"expected printable names of at most {MAX_NAME} characters, got {path[:80]!r}")
    if path.count("/") > MAX_DEPTH:
        raise ValueError(f"has groups in over {MAX_DEPTH} levels, as {path[:80]!r}")
    return path


def entries(source: Source, start: int, levels: int = MAX_LEVELS) -> Iterator[tuple[int, int, int]]:
    """The entries in the leaves of a B-tree, sorted as they are there. Children have a lower level than their parent."""
    signature, level, count = source.unpack(TREE, start)
    if signature != b"TREE\0" or level >= levels:
        raise ValueError(f"expected a node of a group's tree, below level {levels}, at byte {start}")
    for _, child in PAIR.iter_unpack(source.take(start + TREE.size, count * PAIR.size)):
        if level:
            yield from entries(source, child, level)
        else:
            signature, number = source.unpack(LEAF, child)
            if signature != b"SNOD\1":
                raise ValueError(f"expected the members of a group at byte {child}")
            yield from ENTRY.iter_unpack(source.take(child + LEAF.size, number * ENTRY.size))


# -- headers --------------------------------------------------------------------------------------------------------


def messages_of(source: Source, start: int, name: str) -> Messages:
    """The messages that matter, by kind, of the header at byte `start`."""
    if start in source.headers:
        raise ValueError(f"{name!r} is a hard link, a second name of the object at byte {start}; {AGAIN}")
    source.headers.add(start)
    version, count, size = source.unpack(HEADER, start)
    if version != 1:
        raise ValueError(f"{name!r} is written in a newer format, as by track_order=True, or is damaged; {AGAIN}")
    found: Messages = {}
    blocks = [(start + HEADER.size, size)]
    for block in blocks:  # the list grows on the way
        for kind, flags, message in messages_in(source.take(*block)):
            count -= 1
            if count < 0 or kind in found:
                raise ValueError(f"the header of {name!r} has more messages than it says, or two of kind {kind}")
            if kind == CONTINUATION:
                blocks.append(fields(PAIR, message))
            elif kind not in IGNORED:
                check_kind(kind, flags, name)
                found[kind] = message
    return found


def messages_in(block: bytearray) -> Iterator[tuple[int, int, bytearray]]:
    """Kind, flags and content of each message in a block of a header."""
    at = 0
    while at < len(block):
        kind, size, flags = fields(MESSAGE, block[at:at + MESSAGE.size])
        at += MESSAGE.size + size
        if at > len(block):
            raise ValueError(f"a header is damaged: its message of kind {kind} and {size} bytes ends outside")
        yield kind, flags, block[at - size:at]


def check_kind(kind: int, flags: int, name: str) -> None:
    """Refuse messages of which a plain array or group has no need."""
    if kind not in (SHAPE, DTYPE, NUMBERS, SYMBOLS):
        raise ValueError(f"{name!r} {REFUSED.get(kind, f'has a message of unknown kind {kind}')}; {AGAIN}")
    if flags & SHARED:
        raise ValueError(f"{name!r} shares its datatype with others, under a name; {AGAIN}")


def fields(layout: struct.Struct, message: bytearray) -> tuple:
    """The numbers at the beginning of a message."""
    if len(message) < layout.size:
        raise ValueError(f"a header is damaged: expected {layout.size} bytes of a message, got {len(message)}")
    return layout.unpack_from(message)


# -- datasets -------------------------------------------------------------------------------------------------------


def array_of(source: Source, messages: Messages, name: str) -> Array:
    """The array that these messages describe, in native byte order."""
    shape, dtype = shape_of(messages[SHAPE], name), dtype_of(messages[DTYPE], name)
    data = numbers_of(source, messages[NUMBERS], name)
    if len(data) != prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} should hold {dtype} of shape {shape}, but has {len(data)} bytes")
    array = np.ndarray(shape, dtype, data)
    return np.require(array, np.float32 if dtype.str[1:] == "f2" else dtype.newbyteorder("="), ["C", "ALIGNED"])


def shape_of(message: bytearray, name: str) -> tuple[int, ...]:
    """The lengths of the sides; () for a single number."""
    version, rank = fields(DATASPACE, message)
    if version != 1 or rank > MAX_DIMENSIONS:
        raise ValueError(f"{name!r} is null, as by h5py.Empty, or has over {MAX_DIMENSIONS} sides; {AGAIN}")
    shape = fields(struct.Struct(f"<{rank}Q"), message[DATASPACE.size:])
    if prod(max(side, 1) for side in shape) > MAX_SIDE:
        raise ValueError(f"{name!r} claims the shape {str(shape)[:100]}")
    return shape


def dtype_of(message: bytearray, name: str) -> np.dtype:
    """The type of the numbers, which must be integers or IEEE floats."""
    for known, dtype in DATATYPES.items():
        if message.startswith(known):
            return dtype
    kind = int.from_bytes(message[:1]) & 15
    raise ValueError(f"{name!r} holds {CLASSES.get(kind, 'something else')}, expected integers or floats; {AGAIN}")


def numbers_of(source: Source, message: bytearray, name: str) -> bytearray:
    """The bytes of the numbers."""
    version, kind = fields(LAYOUT, message)
    rest = message[LAYOUT.size:]
    if version != 3 or kind > 1:
        raise ValueError(f"{name!r} {LAYOUTS.get(kind, 'is stored in an unknown way')}; {AGAIN}")
    if kind == 0:
        (size,) = fields(COMPACT, rest)
        return rest[COMPACT.size:COMPACT.size + size]
    start, size = fields(PAIR, rest)
    if size and start == NOWHERE:
        raise ValueError(f"{name!r} should have {size} bytes, but they were never written")
    return source.take(start, size) if size else bytearray()
