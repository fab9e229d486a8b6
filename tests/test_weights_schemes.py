"""The same network under other names, in another layout and container, is the same network, with the facts of its source."""

import random
from typing import Any, NamedTuple

import numpy as np
import other_names
import pytest
from handmade_files import state_of, torch_state
from handmade_protobuf import node
from other_names import (as_caffe, as_hdf5, as_onnx, as_safetensors, dyadic, onnx_nodes, renamed, units_of)

from tinyresnet import load_model
from tinyresnet.resnet import DEPTHS
from tinyresnet.weights import WeightsFileError
from weights_converter import convert

MSRA = {"stride_in_1x1": True, "caffe_pool": True}
BYTES = (1 / 255,) * 3


class Source(NamedTuple):
    """A framework: its names, what its files are, and what its networks take for granted."""

    names: Any
    file: Any
    arrays: dict = {}  # options of `renamed`
    facts: dict = {}  # of ResNet-50
    mean: tuple = (0.485, 0.456, 0.406)  # of R, G, B, where white is 1
    std: tuple = (0.229, 0.224, 0.225)


SOURCES = {
    "torchvision": Source(other_names.torchvision_names, torch_state),
    "timm": Source(other_names.torchvision_names, as_safetensors),
    "transformers": Source(other_names.transformers_names, as_safetensors),
    "Keras": Source(other_names.keras_names, as_hdf5, {"channels_last": True, "biases": True, "bgr": True},
                    {"stride_in_1x1": True, "eps": 1.001e-5}, (123.68 / 255, 116.779 / 255, 103.939 / 255), BYTES),
    "Keras 0.2": Source(other_names.early_keras_names, as_hdf5, {"channels_last": True, "biases": True, "bgr": True},
                        {"stride_in_1x1": True, "eps": 1e-3, "keras_pool": True},
                        (123.68 / 255, 116.779 / 255, 103.939 / 255), BYTES),
    "Caffe": Source(other_names.caffe_names, as_caffe, {"bgr": True, "factor": 4.0}, MSRA,
                    (123.152 / 255, 115.903 / 255, 103.063 / 255), BYTES),
    "Gluon": Source(other_names.gluon_names, None, {"biases": True}, {"stride_in_1x1": True}),
}


def file_of(source, name, state):
    """The bytes of the source's file of this network, and the arrays in it under the source's names"""
    names = source.names(name, units_of(name))
    arrays = renamed(state, names, **source.arrays)
    if source.file is None:
        return as_onnx(arrays, onnx_nodes(name, names, v1=True)), arrays
    return source.file(arrays), arrays


def loaded(content, folder, **options):
    """The network that tinyresnet loads from the converted file"""
    (folder / "in").write_bytes(content)
    convert(folder / "in", folder / "out.npz", **options)
    return load_model(folder / "out.npz")


def check_same(model, state):
    """The model's arrays are torchvision's, to the last bit."""
    arrays = model.state_dict()
    assert arrays.keys() == state.keys()
    for name, array in state.items():
        layout = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
        np.testing.assert_array_equal(arrays[name], array.transpose(layout), err_msg=name)


# -- names and layout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_same_network_under_other_names_is_loaded_with_the_same_arrays(source, name, tmp_path):
    state = dyadic(state_of(name))
    check_same(loaded(file_of(SOURCES[source], name, state)[0], tmp_path), state)


@pytest.mark.parametrize("source", SOURCES)
def test_the_facts_of_the_source_come_with_the_network(source, tmp_path):
    expected = SOURCES[source]
    model = loaded(file_of(expected, "resnet50", dyadic(state_of("resnet50")))[0], tmp_path)
    plain = {"stride_in_1x1": False, "eps": 1e-5, "caffe_pool": False, "keras_pool": False}
    assert {name: model.config[name] for name in plain} == plain | expected.facts
    assert model.preprocessing.mean == expected.mean and model.preprocessing.std == expected.std
    sizes = {"timm": (235, 224, "bicubic"), "transformers": (256, 224, "bicubic")}
    found = model.preprocessing.resize, model.preprocessing.crop, model.preprocessing.interpolation
    assert found == sizes.get(source, (256, 224, "bilinear"))


@pytest.mark.parametrize("source", SOURCES)
def test_a_basic_block_has_no_1x1_to_stride_in(source, tmp_path):
    model = loaded(file_of(SOURCES[source], "resnet18", dyadic(state_of("resnet18")))[0], tmp_path)
    assert not model.config["stride_in_1x1"]


@pytest.mark.parametrize("source", ["torchvision", "transformers", "Caffe", "Gluon"])  # HDF5 sorts its names
def test_the_order_in_the_file_does_not_matter(source, tmp_path):
    state, source = dyadic(state_of("resnet50")), SOURCES[source]
    names = source.names("resnet50", units_of("resnet50"))
    arrays = list(renamed(state, names, **source.arrays).items())
    random.Random(0).shuffle(arrays)
    content = source.file(dict(arrays)) if source.file else as_onnx(dict(arrays), onnx_nodes("resnet50", names, v1=True))
    check_same(loaded(content, tmp_path), state)


@pytest.mark.parametrize("change", [
    lambda name: "model_weights/" + name,
    lambda name: "model_weights/resnet50/" + name.split("/", 1)[1],  # the network as one layer of another
    lambda name: name.replace(":0", "_1:0"),
    lambda name: name.replace("_W:0", "_W_1:0").replace("res3a_branch2a/", "res3a_branch2a_1/"),
    lambda name: "/".join([name.split("/")[0], *name.split("/")]).replace("_running_std", "_moving_variance"),
], ids=range(5))
def test_keras_names_may_have_groups_and_counters_around_them(change, tmp_path):
    state, source = dyadic(state_of("resnet50")), SOURCES["Keras 0.2"]
    arrays = file_of(source, "resnet50", state)[1]
    changed = {change(name if "resnet50" not in change("a/a") else f"a/{name}"): array for name, array in arrays.items()}
    check_same(loaded(as_hdf5(changed), tmp_path), state)


def test_the_optimisers_state_beside_a_keras_network_is_left_out(tmp_path):
    state = dyadic(state_of("resnet50"))
    arrays = file_of(SOURCES["Keras"], "resnet50", state)[1]
    arrays = {f"model_weights/{name}": array for name, array in arrays.items()}
    arrays["optimizer_weights/Adam/conv1_conv/kernel/m:0"] = np.zeros(3, "f4")
    check_same(loaded(as_hdf5(arrays), tmp_path), state)


def test_four_sides_for_everything_as_in_caffes_oldest_files(tmp_path):
    state = dyadic(state_of("resnet50"))
    arrays = file_of(SOURCES["Caffe"], "resnet50", state)[1]
    arrays = {name: array.reshape((1,) * (4 - array.ndim) + array.shape) for name, array in arrays.items()}
    check_same(loaded(as_caffe(arrays), tmp_path), state)


@pytest.mark.parametrize("source", SOURCES)
def test_an_array_that_is_missing_under_other_names_is_named(source, tmp_path):
    names = SOURCES[source].names("resnet50", units_of("resnet50"))
    state = state_of("resnet50")
    arrays = renamed(state, names, **SOURCES[source].arrays)
    del arrays[names[0][other_names.Unit(2, 1, 2)][0]]
    content = SOURCES[source].file(arrays) if SOURCES[source].file else as_onnx(
        arrays, onnx_nodes("resnet50", names, v1=True))
    with pytest.raises(WeightsFileError, match="to ResNet-50, the nearest, it has 1 missing: layer2.1.conv2.weight$"):
        loaded(content, tmp_path)


@pytest.mark.parametrize("words", [("layer", "ResBlock"), ("fc.", "linear."), ("downsample", "shortcut")])
def test_words_of_training_scripts_are_understood(words, tmp_path):
    state = state_of("resnet20")
    check_same(loaded(torch_state({name.replace(*words): array for name, array in state.items()}), tmp_path), state)


@pytest.mark.parametrize("name, n", [("resnet20", 3), ("resnet56", 9)])
def test_layers_counted_through_a_cifar_network_find_their_places(name, n, tmp_path):
    units = units_of(name)
    state = dyadic(state_of(name))
    arrays = renamed(state, other_names.numbered_caffe_names(name, units), biases=True, factor=2.0)
    model = loaded(as_caffe(arrays), tmp_path)
    check_same(model, state)
    assert model.config["depths"] == [n, n, n] and model.config["cifar_stem"] and not model.config["option_a"]


@pytest.mark.parametrize("name, named, scheme, alone", [
    ("resnet18", other_names.numbered_caffe_names, "numbered Caffe", "resnet20, resnet32, resnet44, resnet56, resnet110"),
    ("resnet20", other_names.transformers_names, "transformers", "resnet18, resnet34, resnet50, resnet101, resnet152"),
])
def test_names_under_which_nobody_publishes_such_a_network_are_refused_since_its_input_is_unknown(
        name, named, scheme, alone, tmp_path):
    names = named(name, units_of(name))
    with pytest.raises(WeightsFileError, match=f"names as in {scheme}, which are published for {alone} alone"):
        loaded(as_safetensors(renamed(state_of(name), names)), tmp_path)


def test_digits_of_other_scripts_are_no_numbers_of_blocks(tmp_path):
    state = {name.replace("layer1.0", "layer1.\u0660"): array for name, array in state_of("resnet20").items()}
    with pytest.raises(WeightsFileError, match="10 unexpected: layer1.\u0660"):
        loaded(torch_state(state), tmp_path)


def test_two_arrays_of_one_name_are_not_taken_for_one(tmp_path):
    state = state_of("resnet20")
    with pytest.raises(WeightsFileError, match="1 unexpected: linear.weight"):
        loaded(torch_state(state | {"linear.weight": state["fc.weight"]}), tmp_path)


@pytest.mark.parametrize("name, words", [
    ("onnx::Conv_497", "folded into convolutions that have no names"),
    ("resnetv24_stage1_batchnorm0_gamma", "batch norms come before the convolutions"),
    ("conv2_block1_preact_bn/conv2_block1_preact_bn/gamma:0", "batch norms come before the convolutions"),
])
def test_names_of_other_networks_are_refused_with_the_reason(name, words, tmp_path):
    with pytest.raises(WeightsFileError, match=words):
        loaded(as_safetensors(state_of() | {name: np.zeros(3, "f4")}), tmp_path)


# -- what batch norms take over -------------------------------------------------------------------------------------


def caffe_arrays(**changes):
    arrays = file_of(SOURCES["Caffe"], "resnet50", dyadic(state_of("resnet50")))[1]
    return arrays | {name.replace("__", "/"): array for name, array in changes.items()}


def test_a_factor_of_0_means_statistics_of_0(tmp_path):
    arrays = loaded(as_caffe(caffe_arrays(bn2a_branch2b__2=np.zeros(1, "f4"))), tmp_path).state_dict()
    assert not arrays["layer1.0.bn2.running_mean"].any() and not arrays["layer1.0.bn2.running_var"].any()
    assert arrays["layer1.0.bn1.running_mean"].all()


def test_a_factor_that_is_no_power_of_2_is_divided_by_to_rounding(tmp_path):
    state = dyadic(state_of("resnet50"))
    names = SOURCES["Caffe"].names("resnet50", units_of("resnet50"))
    arrays = loaded(as_caffe(renamed(state, names, bgr=True, factor=999.98)), tmp_path).state_dict()
    np.testing.assert_allclose(arrays["bn1.running_var"], state["bn1.running_var"], rtol=2e-7)  # two roundings of float32


@pytest.mark.parametrize("changes, words", [
    ({"bn2a_branch2b__2": np.array([np.nan], "f4")}, "layer1.0.bn2.factor holds NaN"),
    ({"bn2a_branch2b__2": np.array([-1], "f4")}, "layer1.0.bn2.running_var holds the negative variance"),
    ({"bn2a_branch2b__2": np.array([1e-40], "f4")}, "layer1.0.bn2.running_mean holds NaN or infinity"),
    ({"res2a_branch2b__1": np.array([3e38, -3e38], "f4"), "bn2a_branch2b__0": np.array([-3e38, 3e38], "f4"),
      "bn2a_branch2b__2": np.ones(1, "f4")}, "layer1.0.bn2.running_mean holds NaN or infinity"),
    ({"res2a_branch2b__1": np.zeros(3, "f4")}, r"layer1.0.conv2.bias \(3,\) instead of \(2,\)"),
    ({"bn2a_branch2b__2": np.ones(2, "f4")}, r"layer1.0.bn2.factor \(2,\) instead of \(1,\)"),
])
def test_what_is_no_number_after_folding_is_refused(changes, words, tmp_path):
    with pytest.raises(WeightsFileError, match=words):
        loaded(as_caffe(caffe_arrays(**changes)), tmp_path)


# -- the graph of ONNX ----------------------------------------------------------------------------------------------


def gluon(name="resnet50", **options):
    """A file of Gluon's with this graph, and more nodes"""
    names, more = other_names.gluon_names(name, units_of(name)), options.pop("more", b"")
    nodes = onnx_nodes(name, names, **{"v1": True} | options)
    return as_onnx(renamed(dyadic(state_of(name)), names, biases=True), nodes + more)


@pytest.mark.parametrize("options, facts", [
    ({"v1": False}, {"stride_in_1x1": False}),
    ({"epsilon": 2e-5}, {"eps": 2e-5}),
    ({"pool": ((0, 0, 0, 0), 1)}, {"caffe_pool": True}),
    ({"pool": ((0, 0, 1, 1), 0)}, {"caffe_pool": True}),
    ({"pool": ((0, 0, 0, 0), 0)}, {"keras_pool": True}),
])
def test_the_graph_is_believed_more_than_the_names(options, facts, tmp_path):
    model = loaded(gluon(**options), tmp_path)
    assert {name: model.config[name] for name in facts} == facts


@pytest.mark.parametrize("options, words", [
    ({"mixed_epsilon": 1e-3}, "batch norms of one small epsilon"),
    ({"epsilon": float("inf")}, "batch norms of one small epsilon"),
    ({"epsilon": float("nan")}, "batch norms of one small epsilon"),
    ({"pool": ((1, 1, 1, 1), 1)}, "expected one 3x3 pooling of stride 2"),
    ({"strides": 1}, r"not that of a ResNet-50: expected as Conv with 'conv1.weight' .*\(2, 2\).* got .*\(1, 1\)"),
    ({"head": {"transB": 1, "alpha": 2.0}}, "expected as Gemm with 'fc.weight' .*'alpha': 1.0.* got .*'alpha': 2.0"),
    ({"head": {"transB": 1, "beta": 0.5}}, "expected as Gemm .* got .*'beta': 0.5"),
    ({"head": {"transB": 1, "transA": 1}}, "expected as Gemm .* got .*'transA': 1"),
    ({"without": "stage3_conv4_weight"}, "expected as Conv with 'layer3.1.conv1.weight' .* got no node"),
    ({"without": "stage3_batchnorm4_gamma"}, "expected as BatchNormalization with 'layer3.1.bn1.weight' .* got no node"),
    ({"more": node("LeakyRelu", ["x"], ["y"])}, "expected 0 times LeakyRelu, got 1"),
    ({"more": node("Add", ["x", "x"], ["y"])}, "expected 16 times Add, got 17"),
    ({"more": node("Relu", ["x"], ["y"])}, "expected 49 times Relu, got 50"),
    ({"more": node("ReduceMean", ["x"], ["y"])}, "expected 1 times average, got 2"),
    ({"pool_dilation": 2}, "expected one 3x3 pooling of stride 2"),
    ({"without": "dense0_weight"}, "expected as Gemm with 'fc.weight' .* got no node"),
])
def test_a_graph_of_another_network_is_refused(options, words, tmp_path):
    with pytest.raises(WeightsFileError, match=words):
        loaded(gluon(**options), tmp_path)


def test_onnx_exported_by_torch_has_torchvisions_names(tmp_path):
    state = state_of("resnet50")
    nodes = onnx_nodes("resnet50", other_names.torchvision_names("resnet50", units_of("resnet50")), v1=False)
    model = loaded(as_onnx(state, nodes), tmp_path)
    check_same(model, state)
    assert not model.config["stride_in_1x1"]


def test_a_head_that_the_graph_does_not_transpose_is_transposed(tmp_path):
    state = state_of("resnet18")
    names = other_names.torchvision_names("resnet18", units_of("resnet18"))
    turned = state | {"fc.weight": np.ascontiguousarray(state["fc.weight"].T)}
    check_same(loaded(as_onnx(turned, onnx_nodes("resnet18", names, v1=False, head={})), tmp_path), state)
