r"""Protobuf, as far as files of weights need it: messages without their schema.

A message is a row of fields. Each begins with a tag, number*8 + kind, and the kind says how far the value reaches:

    08 96 01          field 1, kind 0: the number 150, seven bits a byte, lowest first; the last byte is below 128
    3a 03 61 62 63    field 7, kind 2: 3 bytes, which may be the text "abc", a message in this message, or packed numbers
    2d 00 00 80 3f    field 5, kind 5: four bytes, here the float 1.0

Kind 1 is eight bytes; kinds 3 and 4 bracketed groups, which nobody writes any more. Nothing in the bytes says which of
the three a field of kind 2 is, nor what its number means: that is in the schema (onnx.proto, caffe.proto), which is why
numbers stand at the head of onnx.py and caffe.py.

A repeated number comes packed, all values in one field of kind 2, or, where there are few, as a field for each; the
bytes are the same but for the tags. Format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy import ndarray as Array

from tinyresnet.files import read_bytes

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # kinds
SIZES = {FIXED64: 8, FIXED32: 4}

MAX_FIELDS = 20_000  # in a message; the graph of a ResNet-152 has 2,000
MAX_VARINT = 10  # bytes, for 64 bits
MAX_TEXT = 2_000  # bytes
MAX_SMALL = 1 << 12  # bytes of an array that may take more memory than the file gave to it: dimensions, not weights
BLOCK = 1 << 16  # bytes of varints decoded at once

Message = dict[int, list[tuple[int, memoryview]]]  # number of a field: kind and value each time it is there


def message_of(file: BinaryIO) -> Message:
    """The whole file, which is one message."""
    return parsed(read_bytes(file, 0, file.seek(0, os.SEEK_END)).data)


def parsed(message: memoryview) -> Message:
    """All fields of a message. Raises ValueError for what is none or reaches beyond the end."""
    found: Message = {}
    for count, (number, kind, value) in enumerate(fields(message)):
        if count == MAX_FIELDS:
            raise ValueError(f"a protobuf message has over {MAX_FIELDS} fields; weights are packed, many in one field")
        found.setdefault(number, []).append((kind, value))
    return found


def fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, kind and value of each field in order; a value is the piece of the message that it is written in."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            end = varint(message, at)[1]
        elif kind == BYTES:
            length, at = varint(message, at)
            end = at + length
        elif kind in SIZES:
            end = at + SIZES[kind]
        else:
            raise ValueError(f"a protobuf field {number} has the kind {kind}, which no file of weights has")
        if number == 0 or end > len(message):
            raise ValueError(f"a protobuf message is damaged or cut: field {number} ends at byte {end} of {len(message)}")
        yield number, kind, message[at:end]
        at = end


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at byte `at`, without sign, and where it ends."""
    value = 0
    for place, byte in enumerate(message[at:at + MAX_VARINT]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError(f"a protobuf number at byte {at} of {len(message)} is cut, or longer than {MAX_VARINT} bytes")


# -- the fields of one number ---------------------------------------------------------------------------------------


def each(message: Message, number: int, *kinds: int) -> Iterator[memoryview]:
    """The values of all fields of this number, which must be of one of these kinds."""
    for kind, value in message.get(number, ()):
        if kind not in kinds:
            raise ValueError(f"expected protobuf field {number} to be of kind {kinds[0]}, got kind {kind}")
        yield value


def parts(message: Message, number: int) -> Iterator[Message]:
    """The messages in the fields of this number."""
    return map(parsed, each(message, number, BYTES))


def present(message: Message, *wanted: int) -> set[int]:
    """Those of the wanted numbers under which the message has a message or text; other kinds are not looked at."""
    return {number for number in wanted if any(kind == BYTES for kind, _ in message.get(number, ()))}


def last(message: Message, number: int, kind: int) -> memoryview:
    """The value of a field that comes once, or is missing, then it is empty. If it comes again, the last counts."""
    return [memoryview(b""), *each(message, number, kind)][-1]


def whole(message: Message, number: int) -> int:
    """The whole number in this field; 0 if it is missing. Negative ones are written as two's complement, 64 bits."""
    value = last(message, number, VARINT)
    return int(varints(np.frombuffer(value, np.uint8), "i8")[0]) if value else 0


def text(message: Message, number: int) -> str:
    """The text in this field; "" if it is missing."""
    return decoded(last(message, number, BYTES))


def decoded(value: memoryview) -> str:
    """The text in these bytes."""
    if len(value) > MAX_TEXT:
        raise ValueError(f"expected a name of at most {MAX_TEXT} bytes, got {len(value)}")
    return value.tobytes().decode("utf-8", "backslashreplace")


def packed(message: Message, number: int, kind: int) -> Array:
    """The bytes of a repeated number, (bytes,) uint8, without tags, however it was written; a copy."""
    data = bytearray()
    for value in each(message, number, kind, BYTES):
        data += value
    return np.frombuffer(data, np.uint8)


def varints(data: Array, dtype: str) -> Array:
    """The numbers in a row of varints; those with more bits than the dtype lose the upper ones.

    Shapes: data (bytes,) uint8 -> (numbers,). A number ends at a byte below 128, and byte k of it holds bits 7k and on.
    """
    count = np.count_nonzero(data < 128)
    if count * np.dtype(dtype).itemsize > max(data.size, MAX_SMALL):
        raise ValueError(f"expected few whole numbers or long ones, got {count} in {data.size} bytes; save as raw data")
    numbers = np.empty(count, dtype)
    at = done = 0
    while at < data.size:
        block = data[at:at + BLOCK]
        ends = np.flatnonzero(block < 128) + 1
        lengths = np.diff(ends, prepend=0)
        if not ends.size or lengths.max() > MAX_VARINT:
            raise ValueError(f"a protobuf number in a row is cut, or longer than {MAX_VARINT} bytes")
        starts = ends - lengths
        k = np.arange(ends[-1]) - np.repeat(starts, lengths)
        bits = (block[:ends[-1]] & 127).astype(np.uint64) << (7 * k).astype(np.uint64)
        numbers[done:done + ends.size] = np.bitwise_or.reduceat(bits, starts).astype(dtype)
        at, done = at + int(ends[-1]), done + ends.size
    return numbers
