"""Caffe's .caffemodel: one protobuf message, in it a message for each layer, in it a "blob" for each array.

    NetParameter     100 layer, before 2014: 2 layers
    layer              1 name     7 blobs                            (in the old layers 4 and 6)
    blob               7 shape    5 data, or 8 double_data           (old shape: 1 num, 2 channels, 3 height, 4 width)
    shape              1 dim

Blobs have no names; their layer says what they are: weight and bias of a convolution; mean, variance and a factor that
both must be divided by of a BatchNorm; gamma and beta of the Scale behind it. Schema: caffe.proto in
https://github.com/BVLC/caffe; where old and new fields are both there, the choice is that of Blob::FromProto.
"""

from __future__ import annotations

from typing import BinaryIO

from numpy import ndarray as Array

from weights_converter.dense import add_array
from weights_converter.wire import (
    BYTES, FIXED32, FIXED64, VARINT, Message, last, message_of, packed, parsed, parts, text, varints, whole,
)

LAYERS = {100: (1, 7), 2: (4, 6)}  # field of the net: fields of a layer with its name and its blobs
OLD_SHAPE = (1, 2, 3, 4)
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8
DIM = 1


def read(file: BinaryIO) -> dict[str, Array]:
    """The blobs as "layer/0", "layer/1", ..., in Caffe's layout: convolutions (O, C, K, K), inner products (out, in).

    Raises ValueError with the reason.
    """
    arrays: dict[str, Array] = {}
    net = message_of(file)
    for layers, (name_field, blobs) in LAYERS.items():
        for layer in parts(net, layers):
            name = text(layer, name_field)
            for index, blob in enumerate(parts(layer, blobs)):
                add_array(arrays, f"{name}/{index}", shape_of(blob), *numbers_of(blob))
    if not arrays:
        raise ValueError("is perhaps a Caffe file, but none of its layers holds blobs")
    return arrays


def shape_of(blob: Message) -> tuple[int, ...]:
    """The shape as stored: the old form always has four sides, (1, 1, 1, O) for a bias."""
    if any(last(blob, side, VARINT) for side in OLD_SHAPE):
        return tuple(whole(blob, side) for side in OLD_SHAPE)
    return tuple(varints(packed(parsed(last(blob, SHAPE, BYTES)), DIM, VARINT), "i8").tolist())


def numbers_of(blob: Message) -> tuple[str, Array]:
    """NumPy's name of their dtype, and the bytes of the numbers."""
    doubles = packed(blob, DOUBLE_DATA, FIXED64)
    return ("f8", doubles) if doubles.size else ("f4", packed(blob, DATA, FIXED32))
