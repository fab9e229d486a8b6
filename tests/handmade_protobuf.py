"""ONNX and Caffe files made by hand, field by field; written from the schemas, not from the reader."""

import struct

import numpy as np
from handmade_files import SIX


def varint(value):
    """Seven bits a byte, lowest first; negative numbers as 64 bits of two's complement"""
    value &= (1 << 64) - 1
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def field(number, value, kind=None):
    """One field: a whole number, a float in four bytes, or bytes and text with their length"""
    if isinstance(value, int):
        return varint(number << 3 | (kind or 0)) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def packed(number, values):
    """Many whole numbers in one field"""
    return field(number, b"".join(map(varint, values)))


def unpacked(number, values):
    """The same numbers in a field each"""
    return b"".join(field(number, value) for value in values)


# -- Caffe ----------------------------------------------------------------------------------------------------------


def blob(shape=(2, 3), data=SIX.tobytes(), number=5):
    """BlobProto: shape {dim}, data"""
    return field(number, data) + field(7, packed(1, shape))


def old_blob(*shape, data=SIX.tobytes()):
    """BlobProto before 2014: num, channels, height, width"""
    return unpacked_sides(shape) + field(5, data)


def unpacked_sides(shape):
    return b"".join(field(number, side) for number, side in zip((1, 2, 3, 4), shape))


def layer(*blobs, name="conv1"):
    """LayerParameter in a NetParameter: name, type, bottom, blobs"""
    fields = field(1, name) + field(2, "Convolution") + field(3, "data")
    return field(100, fields + b"".join(field(7, data) for data in blobs))


def caffe(*layers):
    """NetParameter: name, layers"""
    return field(1, "net") + b"".join(layers)


# -- ONNX -----------------------------------------------------------------------------------------------------------


def tensor(name="w", shape=(2, 3), data_type=1, numbers=field(9, SIX.tobytes())):
    """TensorProto: dims, data_type, name, and the fields with its numbers"""
    return unpacked(1, shape) + field(2, data_type) + (field(8, name) if name else b"") + numbers


def attribute(name, **value):
    """AttributeProto: f, i, s, t or ints"""
    [(kind, value)] = value.items()
    number = {"f": 2, "i": 3, "s": 4, "t": 5, "ints": 8, "sparse": 22}[kind]
    return field(5, field(1, name) + (unpacked(8, value) if kind == "ints" else field(number, value)))


def node(operation, inputs, outputs, *attributes):
    """NodeProto in a GraphProto"""
    names = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    return field(1, names + field(4, operation) + b"".join(attributes))


def onnx(*tensors, nodes=b""):
    """ModelProto: ir_version, producer_name, graph {node, name, initializer}"""
    return onnx_graph(nodes + field(2, "torch_jit") + b"".join(field(5, data) for data in tensors))


def onnx_graph(graph):
    return field(1, 8) + field(2, "pytorch") + field(7, graph)


HALVES = np.array([0, 1, -2.5, 6.103515625e-05, 65504, np.inf], "<f2")
