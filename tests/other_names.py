"""Networks as other frameworks name, lay out and store them; written from their model definitions, not from our schemes.

Sources: keras_applications/resnet_common.py 1.0.8; keras/applications/resnet50.py 2.0; deep-residual-networks' prototxts;
mxnet/gluon/model_zoo/vision/resnet.py (ResNetV1); transformers/models/resnet/modeling_resnet.py; ResNet-on-Cifar10.
"""

import json
import struct
from collections import Counter
from typing import NamedTuple

import numpy as np
from handmade_files import state_of
from handmade_hdf5 import hdf5_file
from handmade_protobuf import attribute, blob, caffe, field, layer, node, onnx, tensor
from handmade_safetensors import entry, safetensors_file

from weights_converter.networks import KINDS

STATISTICS = ("weight", "bias", "running_mean", "running_var")  # of a batch norm


class Unit(NamedTuple):
    """A convolution and the batch norm behind it."""

    stage: int  # 0: the stem
    block: int
    number: int  # 0: in the shortcut

    @property
    def torchvision(self):
        """The names of both."""
        place = f"layer{self.stage}.{self.block}." if self.stage else ""
        names = (f"conv{self.number}", f"bn{self.number}") if self.number else ("downsample.0", "downsample.1")
        return [place + name for name in names]


def units_of(name, *, option_a=False):
    """In the order of ResNetV1 in Gluon: a block's convolutions, then its shortcut's"""
    block, depths = KINDS[name]
    body = {"BasicBlock": 2, "Bottleneck": 3}[block.__name__]
    units = [Unit(0, 0, 1)]
    for stage, depth in enumerate(depths, 1):
        for number in range(depth):
            units += [Unit(stage, number, conv) for conv in range(1, body + 1)]
            if number == 0 and (body == 3 or stage > 1) and not option_a:
                units.append(Unit(stage, 0, 0))
    return units


def letters(name, stage, block):
    """MSRA's names of blocks: a, b, c, ...; in the long stages of ResNet-101 and 152 a, b1, b2, ..."""
    if name in ("resnet101", "resnet152") and stage in (2, 3):
        return f"b{block}" if block else "a"
    return "abcdef"[block]


# -- names: for each unit those of its convolution's weight and bias, and of its batch norm's four arrays --------------


def torchvision_names(name, units):
    return {unit: [f"{conv}.weight", f"{conv}.bias", *(f"{bn}.{leaf}" for leaf in STATISTICS)]
            for unit in units for conv, bn in [unit.torchvision]}, ["fc.weight", "fc.bias"]


def transformers_names(name, units):
    names = {}
    for unit in units:
        part = f"layer.{unit.number - 1}" if unit.number else "shortcut"
        place = f"resnet.encoder.stages.{unit.stage - 1}.layers.{unit.block}.{part}"
        place = place if unit.stage else "resnet.embedder.embedder"
        names[unit] = [f"{place}.convolution.weight", f"{place}.convolution.bias",
                       *(f"{place}.normalization.{leaf}" for leaf in STATISTICS)]
    return names, ["classifier.1.weight", "classifier.1.bias"]


def keras_names(name, units):
    names = {}
    for unit in units:
        base = f"conv{unit.stage + 1}_block{unit.block + 1}_{unit.number}" if unit.stage else "conv1"
        conv, bn = f"{base}_conv/{base}_conv", f"{base}_bn/{base}_bn"
        names[unit] = [f"{conv}/kernel:0", f"{conv}/bias:0", f"{bn}/gamma:0", f"{bn}/beta:0", f"{bn}/moving_mean:0",
                       f"{bn}/moving_variance:0"]
    return names, ["probs/probs/kernel:0", "probs/probs/bias:0"]


def msra_layers(name, unit):
    """The layers of Caffe's prototxt: convolution, batch norm, scale"""
    if not unit.stage:
        return "conv1", "bn_conv1", "scale_conv1"
    branch = f"2{'abc'[unit.number - 1]}" if unit.number else "1"
    place = f"{unit.stage + 1}{letters(name, unit.stage, unit.block)}_branch{branch}"
    return f"res{place}", f"bn{place}", f"scale{place}"


def early_keras_names(name, units):
    names = {}
    for unit in units:
        conv, bn, _ = msra_layers(name, unit)
        names[unit] = [f"{conv}/{conv}_W:0", f"{conv}/{conv}_b:0",
                       *(f"{bn}/{bn}_{leaf}:0" for leaf in ("gamma", "beta", "running_mean", "running_std"))]
    return names, ["fc1000/fc1000_W:0", "fc1000/fc1000_b:0"]


def caffe_names(name, units):
    names = {}
    for unit in units:
        conv, bn, scale = msra_layers(name, unit)
        names[unit] = [f"{conv}/0", f"{conv}/1", f"{scale}/0", f"{scale}/1", f"{bn}/0", f"{bn}/1", f"{bn}/2"]
    return names, ["fc1000/0", "fc1000/1"]


def numbered_caffe_names(name, units):
    """As NetSpec counts; the shortcut's convolution is made before those of its block"""
    ordered = sorted(units)  # 0 before 1
    names = {}
    for i, unit in enumerate(ordered, 1):
        names[unit] = [f"Convolution{i}/0", f"Convolution{i}/1", f"Scale{i}/0", f"Scale{i}/1", f"BatchNorm{i}/0",
                       f"BatchNorm{i}/1", f"BatchNorm{i}/2"]
    return names, ["InnerProduct1/0", "InnerProduct1/1"]


def gluon_names(name, units):
    counted = Counter()
    names = {}
    for unit in units:
        place, i = f"resnetv17_stage{unit.stage}_" if unit.stage else "resnetv17_", counted[unit.stage]
        counted[unit.stage] += 1
        names[unit] = [f"{place}conv{i}_weight", f"{place}conv{i}_bias",
                       *(f"{place}batchnorm{i}_{leaf}" for leaf in ("gamma", "beta", "running_mean", "running_var"))]
    return names, ["resnetv17_dense0_weight", "resnetv17_dense0_bias"]


# -- arrays ---------------------------------------------------------------------------------------------------------


def lively(name, seed=3):
    """Random arrays with which every layer matters, and epsilon, too: variances are small, outputs fit them."""
    rng = np.random.default_rng(seed)
    state = state_of(name, width=4)
    for key, array in state.items():
        if key.endswith("running_var"):
            state[key] = rng.uniform(0.002, 0.02, array.shape).astype("f4")
        elif array.ndim == 4:
            state[key] = (rng.standard_normal(array.shape) * np.sqrt(0.02 / array[0].size)).astype("f4")
        elif "running_mean" in key or key.endswith("bias"):
            state[key] = (rng.standard_normal(array.shape) * 0.05).astype("f4")
        elif array.ndim == 1:
            state[key] = rng.uniform(0.5, 1, array.shape).astype("f4")
    return state


def dyadic(state, seed=1):
    """The same arrays with running statistics that are whole numbers / 1024, so that what is folded comes back exactly"""
    rng = np.random.default_rng(seed)
    return {name: (rng.integers(1, 2048, array.shape) / 1024).astype(np.float32) if "running_" in name else array
            for name, array in state.items()}


def renamed(state, names, *, channels_last=False, biases=False, bgr=False, factor=None, seed=2):
    """torchvision's arrays as another framework would hold them. With biases the means grow by them."""
    rng = np.random.default_rng(seed)
    units, head = names
    arrays = {}
    for unit, (weight, bias, *statistics) in units.items():
        conv, bn = unit.torchvision
        kernel = state[f"{conv}.weight"]
        kernel = kernel[:, ::-1] if bgr and not unit.stage else kernel
        arrays[weight] = kernel.transpose(2, 3, 1, 0) if channels_last else kernel
        values = [state[f"{bn}.{leaf}"] for leaf in STATISTICS]
        if biases:
            arrays[bias] = (rng.integers(-1024, 1024, len(kernel)) / 1024).astype(np.float32)
            values[2] = values[2] + arrays[bias]
        if factor:
            values[2:] = values[2] * np.float32(factor), values[3] * np.float32(factor), np.array([factor], np.float32)
        arrays |= dict(zip(statistics, values))
    arrays[head[0]] = state["fc.weight"].T if channels_last else state["fc.weight"]
    arrays[head[1]] = state["fc.bias"]
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


# -- files ----------------------------------------------------------------------------------------------------------


def as_safetensors(arrays):
    table, data = {}, bytearray()
    for name, array in arrays.items():
        table[name] = entry(array.shape, len(data), len(data) + array.nbytes)
        data += array.tobytes()
    return safetensors_file(json.dumps(table).encode(), bytes(data))


def as_hdf5(arrays):
    """Groups are what stands before each slash."""
    tree = {}
    for name, array in arrays.items():
        *groups, leaf = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = array
    return hdf5_file(tree)


def as_caffe(arrays):
    blobs = {}
    for name, array in arrays.items():
        name, index = name.split("/")
        blobs.setdefault(name, {})[int(index)] = blob(array.shape, array.tobytes())
    return caffe(*(layer(*(of[i] for i in sorted(of)), name=name) for name, of in blobs.items()))


def onnx_nodes(name, names, *, v1, epsilon=1e-5, pool=((1, 1, 1, 1), 0), strides=2, mixed_epsilon=None, head={"transB": 1},
               without=None, pool_dilation=1):
    """The operations of the graph, without the node of one weight; which follows which is not read."""
    nodes = []
    stride_number = 1 if v1 or KINDS[name][0].__name__ == "BasicBlock" else 2
    for count, (unit, (weight, _, gamma, *_)) in enumerate(names[0].items()):
        begins = unit.stage > 1 and unit.block == 0 and unit.number in (0, stride_number)
        three = unit.stage and unit.number and KINDS[name][0].__name__ == "BasicBlock" or unit.number == 2
        side, stride = (3, strides) if not unit.stage else (int(three), 2 if begins else 1)
        nodes.append(node("Conv", ["x", weight], ["y"], attribute("pads", ints=[side] * 4),
                          attribute("strides", ints=[stride] * 2)))
        value = mixed_epsilon if mixed_epsilon and count == 3 else epsilon
        nodes.append(node("BatchNormalization", ["y", gamma], ["z"], attribute("epsilon", f=value)))
        nodes += [node("Relu", ["z"], [f"relu{count}"])] * bool(unit.number)
        nodes += [node("Add", ["z", "x"], [f"sum{count}"])] * (unit.number == 1 and unit.stage > 0)
    nodes.append(node("GlobalAveragePool", ["z"], ["average"]))
    pads, ceil = pool
    nodes.append(node("MaxPool", ["x"], ["pool"], attribute("kernel_shape", ints=[3, 3]), attribute("strides", ints=[2, 2]),
                      attribute("pads", ints=pads), attribute("ceil_mode", i=ceil),
                      attribute("dilations", ints=[pool_dilation] * 2)))
    attributes = [attribute(key, **{"f" if isinstance(value, float) else "i": value}) for key, value in head.items()]
    nodes.append(node("Gemm", ["x", names[1][0], names[1][1]], ["logits"], *attributes))
    return b"".join(node for node in nodes if not without or without.encode() not in node)


def as_onnx(arrays, nodes):
    numbers = [tensor(name, array.shape, numbers=field(9, array.tobytes())) for name, array in arrays.items()]
    shape = tensor("reshape_attr_tensor164", (2,), 7, field(9, struct.pack("<2q", 0, -1)))  # as the zoo's files have it
    return onnx(*numbers, shape, nodes=nodes)
