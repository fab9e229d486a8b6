"""The same network as an ONNX graph for ONNX Runtime, for benchmark.py to compare with; batch norm is folded, as in ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnxruntime
from numpy import ndarray as Array

OPSET, IR_VERSION = 17, 8  # of 2022, so that any ONNX Runtime of today reads the file


class Graph:
    """Nodes and weights, gathered layer by layer; a value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, operator: str, *inputs: str, **attributes) -> str:
        from onnx import helper

        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, array: Array) -> str:
        from onnx import numpy_helper

        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def convolution(self, conv: Any, x: str, skip: str | None = None) -> str:
        K, pad, stride = conv.weight.shape[0], conv.padding, conv.stride
        weight, bias = self.weight(conv.weight.transpose(3, 2, 0, 1)), self.weight(conv.bias)  # (O, C, K, K)
        y = self.node("Conv", x, weight, bias, kernel_shape=[K, K], strides=[stride] * 2, pads=[pad] * 4)
        y = y if skip is None else self.node("Add", y, skip)
        return self.node("Relu", y) if conv.relu else y

    def layer(self, layer: Any, x: str) -> str:
        """Append what the layer, or a whole folded network, does to x; returns the name of y."""
        from tinyresnet import inference, layers

        match layer:
            case inference.FoldedConv2d():
                return self.convolution(layer, x)
            case inference.FoldedBlock():
                skip = self.layer(layer.downsample, x)
                *before, last = layer.convs
                return self.convolution(last, reduce(lambda y, conv: self.convolution(conv, y), before, x), skip)
            case layers.MaxPool2d():
                return self.node("MaxPool", x, kernel_shape=[layer.kernel_size] * 2, strides=[layer.stride] * 2,
                                 pads=[layer.padding] * 4, ceil_mode=int(layer.ceil_mode))
            case layers.GlobalAvgPool():
                return self.node("Flatten", self.node("GlobalAveragePool", x))
            case layers.Linear():
                return self.node("Gemm", x, self.weight(layer.weight), self.weight(layer.bias))
            case layers.Identity():
                return x
            case layers.Sequential():
                return reduce(lambda y, part: self.layer(part[1], y), layer.children(), x)
        raise ValueError(f"no ONNX operator is known for {layer!r}")


def write_graph(folded: Any, path: str, size: int) -> None:
    """images (N, 3, size, size) -> logits (N, classes), for any N."""
    from onnx import TensorProto, helper, save

    graph = Graph()
    logits = graph.layer(folded, "images")
    start = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, size, size])
    end = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", folded.fc.weight.shape[1]])
    body = helper.make_graph(graph.nodes, "tinyresnet", [start], [end], graph.weights)
    save(helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION), path)


def inference(path: str, x: Array, threads: int) -> Callable[[], Array]:
    """x (N, H, W, 3), as for ours; the file is one of write_graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    batch = np.ascontiguousarray(x.transpose(0, 3, 1, 2))  # (N, 3, H, W)
    return lambda: session.run(None, {"images": batch})[0]
