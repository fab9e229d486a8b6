"""ONNX: one protobuf message that holds a network as a graph, its nodes the operations, its tensors the weights.

    ModelProto       7 graph
    graph            1 node      5 initializer, a tensor             (15 sparse_initializer, 14 quantization_annotation)
    node             1 input     2 output     4 op_type     5 attribute
    attribute        1 name      2 f, 3 i, 4 s, 5 t, 8 ints: its value is a float, whole number, text, tensor or row
    tensor           1 dims      2 data_type  8 name        9 raw_data, or a field of numbers

Inputs and outputs are names. A convolution finds its weight under its second input, as an initializer or as what a node
"Constant" puts out. Strides and epsilons, which many formats leave to the program that reads them, are in the graph.
Schema: onnx.proto in https://github.com/onnx/onnx.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np
from numpy import ndarray as Array

from weights_converter.dense import add_array
from weights_converter.wire import (
    BYTES, FIXED32, FIXED64, VARINT, Message, decoded, each, last, message_of, packed, parsed, parts, present, text, varints,
    whole,
)

GRAPH = 7
NODE, INITIALIZER, QUANTIZATION, SPARSE_INITIALIZER = 1, 5, 14, 15  # in a graph
INPUT, OUTPUT, OP_TYPE, ATTRIBUTE = 1, 2, 4, 5  # in a node
ATTRIBUTE_NAME, F, I, S, T, INTS, SPARSE_TENSOR = 1, 2, 3, 4, 5, 8, 22  # in an attribute
DIMS, DATA_TYPE, SEGMENT, NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 3, 8, 9, 13, 14  # in a tensor
FLOAT_DATA, INT32_DATA, INT64_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 7, 10, 11

KINDS = {FLOAT_DATA: FIXED32, DOUBLE_DATA: FIXED64, INT32_DATA: VARINT, INT64_DATA: VARINT, UINT64_DATA: VARINT}
DTYPES = {  # data_type: NumPy's name, and the field with the numbers where they are not raw
    1: ("f4", FLOAT_DATA), 11: ("f8", DOUBLE_DATA), 10: ("f2", INT32_DATA), 16: ("bfloat16", INT32_DATA),
    14: ("c8", FLOAT_DATA), 15: ("c16", DOUBLE_DATA),
    7: ("i8", INT64_DATA), 6: ("i4", INT32_DATA), 5: ("i2", INT32_DATA), 3: ("i1", INT32_DATA),
    13: ("u8", UINT64_DATA), 12: ("u4", UINT64_DATA), 4: ("u2", INT32_DATA), 2: ("u1", INT32_DATA),
    9: ("bool", INT32_DATA),
}
Graph = dict[str, dict[str, dict]]  # operation, name, attributes
BITS = {"f2": "u2", "bfloat16": "u2", "bool": "u1"}  # what stands in INT32_DATA for a number of this dtype

QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "Integer")  # in the names of such operations

WEIGHTED = ("Conv", "BatchNormalization", "Gemm")
DEFAULTS: dict[str, dict] = {  # operations with attributes that change the result and no shape, for two dimensions
    "Conv": {"strides": (1, 1), "pads": (0, 0, 0, 0), "group": 1, "dilations": (1, 1), "auto_pad": "NOTSET"},
    "BatchNormalization": {"epsilon": 1e-5},
    "MaxPool": {"kernel_shape": (), "strides": (1, 1), "pads": (0, 0, 0, 0), "ceil_mode": 0, "auto_pad": "NOTSET",
                "dilations": (1, 1)},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
}


def read(file: BinaryIO) -> dict[str, Array]:
    """All tensors of the graph by name, initializers and constants: convolutions are (O, C, K, K).

    Raises ValueError with the reason, also if they are sparse, quantised or in another file.
    """
    arrays: dict[str, Array] = {}
    for graph in parts(message_of(file), GRAPH):
        if present(graph, SPARSE_INITIALIZER, QUANTIZATION):
            raise ValueError("the ONNX graph has sparse or quantised tensors; export it as dense floating-point numbers")
        for tensor in parts(graph, INITIALIZER):
            add_array(arrays, text(tensor, NAME), *content(tensor))
        for name, tensor in constants(graph):
            add_array(arrays, name, *content(tensor))
    if not arrays:
        raise ValueError("the ONNX graph holds no tensors")
    return arrays


def graph_facts(file: BinaryIO) -> Graph:
    """What the graph says beside its weights, by operation and by the name of the weight it is done with:

        {"Conv": {"conv1.weight": {"strides": (2, 2), "pads": (3, 3, 3, 3), ...}, ...}, ...}

    Attributes are those of DEFAULTS, whose values stand for what is not given. An operation without a weight goes by its
    output; a BatchNormalization by its scale, gamma. Pads are top, left, bottom, right. Which node's output goes where is
    not read. Raises ValueError if two nodes of one operation go by one name.
    """
    facts: Graph = {operation: {} for operation in DEFAULTS}
    for graph in parts(message_of(file), GRAPH):
        for node in parts(graph, NODE):
            operation = text(node, OP_TYPE)
            second = islice(each(node, INPUT, BYTES), 1, None) if operation in WEIGHTED else each(node, OUTPUT, BYTES)
            name = decoded(next(second, memoryview(b"")))
            of_this = facts.setdefault(operation, {})
            if name in of_this:
                raise ValueError(f"two nodes {operation[:80]} have the {'weight' if operation in WEIGHTED else 'output'} "
                                 f"{name[:80]!r}")
            of_this[name] = attributes_of(node, DEFAULTS.get(operation, {}))
    return facts


# -- weights --------------------------------------------------------------------------------------------------------


def constants(graph: Message) -> Iterator[tuple[str, Message]]:
    """Name and tensor of each node that puts out a constant tensor. Raises ValueError if the graph is quantised."""
    for node in parts(graph, NODE):
        operation = text(node, OP_TYPE)
        if any(word in operation for word in QUANTISED):
            raise ValueError(f"the ONNX graph is quantised, by {operation[:80]!r}; take the model in floating point")
        if operation == "Constant":
            name = text(node, OUTPUT)
            for attribute in parts(node, ATTRIBUTE):
                if present(attribute, SPARSE_TENSOR):
                    raise ValueError(f"the constant {name[:80]!r} is sparse; export it as a dense tensor")
                if tensor := last(attribute, T, BYTES):
                    yield name, parsed(tensor)


def content(tensor: Message) -> tuple[tuple[int, ...], str, Array]:
    """Shape, dtype (NumPy's name, or bfloat16) and bytes of a tensor."""
    if present(tensor, EXTERNAL_DATA) or whole(tensor, DATA_LOCATION):
        raise ValueError("the ONNX file has its tensors in another one; in onnx, save it whole: save(load(path), new)")
    if present(tensor, SEGMENT):
        raise ValueError("the ONNX graph has tensors in segments, which are not read")
    data_type = whole(tensor, DATA_TYPE)
    if data_type not in DTYPES:
        raise ValueError(f"the tensor {text(tensor, NAME)[:80]!r} is of ONNX's data type {data_type}, which is not read")
    dtype, field = DTYPES[data_type]
    shape = tuple(varints(packed(tensor, DIMS, VARINT), "i8").tolist())
    if raw := last(tensor, RAW_DATA, BYTES):
        return shape, dtype, np.frombuffer(raw, np.uint8).copy()  # a view would keep the whole file in memory
    data = packed(tensor, field, KINDS[field])
    if KINDS[field] == VARINT:
        data = varints(data, "<" + BITS.get(dtype, dtype)).view(np.uint8)
    return shape, dtype, data


# -- facts ----------------------------------------------------------------------------------------------------------


def attributes_of(node: Message, defaults: dict) -> dict:
    """The node's attributes of these names, each of its default's type."""
    found = dict(defaults)
    for attribute in parts(node, ATTRIBUTE):
        name = text(attribute, ATTRIBUTE_NAME)
        if name in defaults:
            found[name] = value_of(attribute, defaults[name])
    return found


def value_of(attribute: Message, default: object) -> object:
    """The value of an attribute, of the default's type."""
    if isinstance(default, float):
        number = np.frombuffer(last(attribute, F, FIXED32) or bytes(4), "<f4")[0]
        return float(str(number))  # the decimal that was meant: 1e-5, not the float32's 9.99999974737875e-06
    if isinstance(default, int):
        return whole(attribute, I)
    if isinstance(default, str):
        return text(attribute, S)
    return tuple(varints(packed(attribute, INTS, VARINT), "i8").tolist())
