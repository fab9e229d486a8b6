"""Sound files that hold no network that can be used: what is wrong, the bytes, and words of the reason to be given.

NETWORKS are refused when they are converted. FACTS are files in tinyresnet's own layout, refused by load_model.
"""

import json
from copy import deepcopy

import numpy as np
import other_names
from handmade_files import SIX, npy, npz_file, state_of, torch_state
from handmade_protobuf import attribute, node
from other_names import as_caffe, as_hdf5, as_onnx, as_safetensors, onnx_nodes, renamed, units_of

from tinyresnet.resnet import resnet18

# -- arrays of no network, and numbers of none ----------------------------------------------------------------------

STATE = state_of("resnet18", width=1)
NAN, INFINITY = float("nan"), float("inf")


def state(**arrays):
    """A torch file of a ResNet-18 with these arrays in the place of its own; their names have _ for a dot, None is gone"""
    def make():
        changed = dict(STATE)
        for name in STATE:
            array = arrays.pop(name.replace(".", "_"), changed[name])
            changed[name] = array if array is None else np.array(array, np.float32)
        return torch_state({name: array for name, array in (changed | arrays).items() if array is not None})
    return make


def with_number(name, number):
    """A torch file of a ResNet-18 with another first number in this array"""
    array = STATE[name].copy()
    array.flat[0] = number
    return lambda: torch_state(STATE | {name: array})


def in_npz(**arrays):
    """The same in an .npz of NumPy's"""
    return lambda: npz_file(**{name: npy(array) for name, array in (STATE | arrays).items()})


def in_caffe(number, position=-1):
    """A Caffe file with another factor in its first batch norm, or another number in the blobs before"""
    def make():
        arrays = renamed(STATE, other_names.caffe_names("resnet18", units_of("resnet18")), bgr=True, factor=1.0)
        name = [name for name in arrays if name.startswith("bn")][3 + position]
        return as_caffe(arrays | {name: np.full_like(arrays[name], number)})
    return make


def in_keras(number):
    """A Keras file with another bias of its first convolution"""
    def make():
        arrays = renamed(STATE, other_names.keras_names("resnet18", units_of("resnet18")), channels_last=True, biases=True)
        name = next(name for name in arrays if name.endswith("bias:0"))
        return as_hdf5(arrays | {name: np.full_like(arrays[name], number)})
    return make


VGG = {f"features.{i}.{leaf}": SIX for i in (0, 2, 5) for leaf in ("weight", "bias")}

ARRAYS = {
    "an array alone": (lambda: torch_state({"w": SIX}), "is of no network known here"),
    "names of VGG": (lambda: torch_state(VGG), "none of its 6 names, 'features.0.weight'"),
    "names of VGG in safetensors": (lambda: as_safetensors(VGG), "none of its 6 names, 'features.0.weight'"),
    "an array that is missing": (state(layer2_0_bn1_bias=None), "1 missing: layer2.0.bn1.bias"),
    "an array too many": (state(more=SIX), "1 unexpected: more"),
    "an array of another shape": (state(layer2_0_bn1_bias=SIX), "layer2.0.bn1.bias (6,) instead of (2,)"),
    "a number for an array": (state(fc_bias=np.float32(1)), "1 of another shape: fc.bias"),
    "a number for the width": (state(bn1_weight=np.float32(1)), "is a single number"),
    "no channels": (state(bn1_weight=np.ones(0)), "of another shape"),
    "no classes": (state(fc_weight=np.ones((0, 8)), fc_bias=np.ones(0)), "fc.weight"),
    "2^31 classes without numbers": (state(fc_weight=np.ones((2**31, 0))), "of another shape"),
    "two networks": (
        lambda: torch_state(STATE | {f"model.{name}": array for name, array in STATE.items()}), "holds 2 networks"),
    "whole numbers": (in_npz(**{"fc.bias": np.ones(5, np.int64)}), "fc.bias to hold floating-point numbers"),
    "complex numbers": (in_npz(**{"fc.bias": np.ones(5, "c8")}), "fc.bias to hold floating-point numbers"),
    "numbers beyond float32": (in_npz(**{"fc.bias": np.full(5, 1e300)}), "fc.bias holds NaN or infinity"),
    "NaN in a convolution": (with_number("layer1.0.conv1.weight", NAN), "layer1.0.conv1.weight holds NaN or infinity"),
    "NaN in the head": (with_number("fc.bias", NAN), "fc.bias holds NaN or infinity"),
    "infinity": (with_number("conv1.weight", INFINITY), "conv1.weight holds NaN or infinity"),
    "minus infinity": (with_number("bn1.running_mean", -INFINITY), "bn1.running_mean holds NaN or infinity"),
    "a negative variance": (with_number("bn1.running_var", -0.5), "holds the negative variance -0.5"),
    "Caffe's factor NaN": (in_caffe(NAN), "bn1.factor holds NaN or infinity"),
    "Caffe's factor -1": (in_caffe(-1), "holds the negative variance"),
    "Caffe's factor so small that the mean overflows": (in_caffe(1e-45), "holds NaN or infinity"),
    "Caffe's variance NaN": (in_caffe(NAN, -2), "bn1.running_var holds NaN or infinity"),
    "Keras' bias infinite": (in_keras(INFINITY), "holds NaN or infinity"),
}

# -- graphs of another network --------------------------------------------------------------------------------------

NAMES = other_names.gluon_names("resnet18", units_of("resnet18"))
WEIGHTS = renamed(STATE, NAMES, biases=True)
GRAPH = onnx_nodes("resnet18", NAMES, v1=True)
CONV, GAMMA, HEAD = "resnetv17_stage1_conv1_weight", "resnetv17_stage1_batchnorm1_gamma", NAMES[1]


def conv(*more, pads=1, strides=1):
    """The node of a convolution in the first block"""
    return node("Conv", ["x", CONV], ["y"], attribute("pads", ints=[pads] * 4), attribute("strides", ints=[strides] * 2),
                *more)


def norm(epsilon=1e-5):
    """The node of the batch norm behind it"""
    return node("BatchNormalization", ["y", GAMMA], ["z"], attribute("epsilon", f=epsilon))


def pool(kernel=3):
    """The node of the pooling"""
    return node("MaxPool", ["x"], ["pool"], attribute("kernel_shape", ints=[kernel] * 2), attribute("strides", ints=[2, 2]),
                attribute("pads", ints=[1] * 4), attribute("ceil_mode", i=0), attribute("dilations", ints=[1, 1]))


def gemm(*more, weight=HEAD[0]):
    """The node of the head"""
    return node("Gemm", ["x", weight, HEAD[1]], ["logits"], attribute("transB", i=1), *more)


def graph(part, other):
    """An ONNX file of a ResNet-18 with another thing in the place of this node"""
    assert GRAPH.count(part) == 1
    return lambda: as_onnx(WEIGHTS, GRAPH.replace(part, other))


GRAPHS = {
    "a graph with two convolutions of one weight that differ": (graph(conv(), conv() + conv(strides=2)), "two nodes Conv"),
    "a graph with another stride": (graph(conv(), conv(strides=2)), "not that of a ResNet-18"),
    "a graph with other pads": (graph(conv(), conv(pads=0)), "not that of a ResNet-18"),
    "a graph with groups": (graph(conv(), conv(attribute("group", i=2))), "not that of a ResNet-18"),
    "a graph with dilation": (graph(conv(), conv(attribute("dilations", ints=[2, 2]))), "not that of a ResNet-18"),
    "a graph with pads of its own": (graph(conv(), conv(attribute("auto_pad", s="SAME_UPPER"))), "not that of a ResNet-18"),
    "a graph with a convolution more": (graph(conv(), conv() + node("Conv", ["x", "w"], ["y"])), "not that of a ResNet-18"),
    "a graph without one of its convolutions": (graph(conv(), b""), "got no node"),
    "a graph without one of its batch norms": (graph(norm(), b""), "got no node"),
    "a graph without its head": (graph(gemm(), b""), "Gemm"),
    "a graph with two heads": (graph(gemm(), gemm() + gemm(weight="w")), "Gemm"),
    "a graph with two heads of one weight that differ": (
        graph(gemm(), gemm() + gemm(attribute("alpha", f=2.0))), "two nodes Gemm"),
    "a graph with the head of another weight": (graph(gemm(), gemm(weight="w")), "Gemm"),
    "a graph with alpha 2": (graph(gemm(), gemm(attribute("alpha", f=2.0))), "Gemm"),
    "a graph with beta 0": (graph(gemm(), gemm(attribute("beta", f=0.0))), "Gemm"),
    "a graph with the head's input transposed": (graph(gemm(), gemm(attribute("transA", i=1))), "Gemm"),
    "a graph with two epsilons": (graph(norm(), norm(1e-3)), "batch norms of one small epsilon"),
    "a graph with a negative epsilon": (lambda: as_onnx(WEIGHTS, onnx_nodes("resnet18", NAMES, v1=True, epsilon=-1e-5)),
                                        "batch norms of one small epsilon"),
    "a graph with the epsilon NaN": (lambda: as_onnx(WEIGHTS, onnx_nodes("resnet18", NAMES, v1=True, epsilon=NAN)),
                                     "batch norms of one small epsilon"),
    "a graph with an infinite epsilon": (graph(norm(), norm(INFINITY)), "batch norms of one small epsilon"),
    "a graph without its pooling": (graph(pool(), b""), "one 3x3 pooling of stride 2"),
    "a graph with another pooling": (graph(pool(), pool(5)), "one 3x3 pooling of stride 2"),
    "a graph with another activation": (graph(gemm(), gemm() + node("LeakyRelu", ["x"], ["y"])), "0 times LeakyRelu"),
    "a graph without nodes": (lambda: as_onnx(WEIGHTS, b""), "batch norms of one small epsilon"),
}

NETWORKS = ARRAYS | GRAPHS

# -- facts in tinyresnet's own files --------------------------------------------------------------------------------

ARRAYS_OF_OURS = {name: npy(array) for name, array in resnet18(3, width=1).state_dict().items()}
SOUND = resnet18(3, width=1).facts()


def ours(part="config", without=None, **changes):
    """A file of ours with changes in this part of its facts, or in the facts themselves if `part` is None"""
    facts = deepcopy(SOUND)
    place = facts if part is None else facts[part]
    place |= changes
    place.pop(without, None)
    return lambda: npz_file(json.dumps(facts).replace('"DEEP"', "[" * 900 + "]" * 900).encode(), **ARRAYS_OF_OURS)


def saying(text):
    """A file of ours with these bytes for its facts"""
    return lambda: npz_file(text, **ARRAYS_OF_OURS)


FACTS = {
    "no facts": (lambda: npz_file(**ARRAYS_OF_OURS), "no network's facts"),
    "facts that are no JSON": (saying(b"{'a': 1}"), "is not JSON"),
    "facts that are cut": (saying(json.dumps(SOUND)[:-1].encode()), "is not JSON"),
    "facts 100,000 deep": (saying(b'{"config": ' + b"[" * 100_000), "nested too deeply"),
    "facts that are a number": (saying(b"1"), "got a int"),
    "facts of 2 MB": (saying(b" " * (1 << 21)), "1048576"),
    "a config that is text": (ours(None, config="ResNet"), "no network's facts"),
    "a config 900 deep": (ours(None, config="DEEP"), "no network's facts"),
    "another network": (ours(None, network="DenseNet"), "do not describe a ResNet"),
    "a network 900 deep": (ours(None, network="DEEP"), "do not describe a ResNet"),
    "an unknown block": (ours(block="posix.system"), "do not describe a ResNet"),
    "a block that is a list": (ours(block=["BasicBlock"]), "do not describe a ResNet"),
    "a width of 10^9": (ours(width=10**9), "network of at least"),
    "a width of 4,000 digits": (ours(width=10**3999), "positive whole numbers"),
    "a width of 0": (ours(width=0), "positive whole numbers"),
    "a width that is text": (ours(width="1"), "positive whole numbers"),
    "a width that is a fraction": (ours(width=1.0), "positive whole numbers"),
    "True as the width": (ours(width=True), "positive whole numbers"),
    "10^9 classes": (ours(num_classes=10**9), "network of at least"),
    "10^9 blocks": (ours(depths=[10**9, 1, 1, 1]), "network of at least"),
    "100,000 stages": (ours(depths=[1] * 100_000), "network of at least"),
    "depths that are text": (ours(depths="2222"), "no network's facts"),
    "depths 900 deep": (ours(depths=["DEEP"]), "positive whole numbers"),
    "other depths": (ours(depths=[2, 2, 2, 1]), "of another network: 10 unexpected"),
    "flags that are text": (ours(option_a="false"), "do not describe a ResNet"),
    "an option that is none": (ours(colour="red"), "do not describe a ResNet"),
    "an argument of Python's": (ours(self=1), "do not describe a ResNet"),
    "an epsilon that is text": (ours(eps="1e-5"), "do not describe a ResNet"),
    "the epsilon NaN": (ours(eps=NAN), "eps within 0..1"),
    "an infinite epsilon": (ours(eps=INFINITY), "eps within 0..1"),
    "classes with escape codes": (ours(None, classes=["a", "b", "\x1b[2J"]), "names of 3 classes"),
    "classes with half a surrogate": (ours(None, classes=["a", "b", "\ud800"]), "names of 3 classes"),
    "classes 900 deep": (ours(None, classes="DEEP"), "names of 3 classes"),
    "a class too few": (ours(None, classes=["a", "b"]), "names of 3 classes"),
    "no preprocessing": (ours(None, without="preprocessing"), "do not describe a ResNet"),
    "a preprocessing that is text": (ours(None, preprocessing="none"), "do not describe a ResNet"),
    "a crop of 10^9": (ours("preprocessing", crop=10**9), "crop: expected"),
    "an interpolation with escape codes": (ours("preprocessing", interpolation="\x1b[2J"), "interpolation: expected"),
    "a mean of text": (ours("preprocessing", mean=["0", "0", "0"]), "mean: expected"),
    "a std of 0": (ours("preprocessing", std=[0, 1, 1]), "std: expected"),
    "the mean NaN": (ours("preprocessing", mean=[NAN, 0, 0]), "mean: expected"),
    "a crop of 4,000 digits": (ours("preprocessing", crop=10**3999), "crop: expected"),
    "a resize of 4,000 digits": (ours("preprocessing", resize=10**3999), "resize: expected"),
    "a mean 900 deep": (ours("preprocessing", mean="DEEP"), "mean: expected"),
    "a mean of 401 digits": (ours("preprocessing", mean=[10**400, 0, 0]), "mean: expected"),
    "a std of 401 digits": (ours("preprocessing", std=[10**400, 1, 1]), "std: expected"),
    "an epsilon of 401 digits": (ours(eps=10**400), "eps"),
    "an option with a name of 100,000 letters": (ours(**{"k" * 100_000: 1}), "do not describe a ResNet"),
    "a number for the random generator": (ours(rng=1), "do not describe a ResNet"),
    "no origin": (ours(None, without="origin"), "do not describe a ResNet"),
}
