"""ONNX files read without the package onnx: the same arrays, and the facts in the graph."""

import io

import numpy as np
import pytest
from handmade_files import SIX
from handmade_protobuf import HALVES, attribute, field, node, packed, tensor, unpacked
from handmade_protobuf import onnx as onnx_file

from weights_converter import WeightsFileError, read_tensors
from weights_converter.onnx import graph_facts
from weights_converter.read import read_graph


def facts_of(*nodes):
    return graph_facts(io.BytesIO(onnx_file(tensor(), nodes=b"".join(nodes))))


# -- tensors ----------------------------------------------------------------------------------------------------------


def test_an_initializer_comes_with_values_shape_and_dtype(read):
    array = read(onnx_file(tensor()))["w"]
    np.testing.assert_array_equal(array, np.array([[0, 1, 2], [3, 4, 5]], np.float32), strict=True)
    assert array.flags.aligned and array.flags.writeable


@pytest.mark.parametrize("padding", range(4))
def test_an_array_does_not_keep_the_file_in_memory(padding, read):
    array = read(field(1, 8) + field(2, "x" * padding) + onnx_file(tensor()))["w"]
    while isinstance(array.base, np.ndarray):
        array = array.base
    assert (array.nbytes, array.base) == (SIX.nbytes, None)  # whether it lay aligned in the file or not


BITS = HALVES.view("<u2").tolist()

STORED = {  # data_type, its fields with the numbers, the numbers
    "raw floats": (1, field(9, SIX.tobytes()), SIX),
    "float_data": (1, field(4, SIX.tobytes()), SIX),
    "float_data in a field each": (1, unpacked(4, map(float, range(6))), SIX),
    "raw doubles": (11, field(9, SIX.astype("<f8").tobytes()), np.arange(6.0)),
    "double_data": (11, field(10, SIX.astype("<f8").tobytes()), np.arange(6.0)),
    "raw halves": (10, field(9, HALVES.tobytes()), HALVES.astype(np.float32)),
    "halves in int32_data": (10, packed(5, BITS), HALVES.astype(np.float32)),
    "halves in a field each": (10, unpacked(5, BITS), HALVES.astype(np.float32)),
    "raw bfloat16": (16, field(9, np.array([0x3fc0] * 6, "<u2").tobytes()), np.full(6, 1.5, np.float32)),
    "bfloat16 in int32_data": (16, packed(5, [0x3fc0] * 6), np.full(6, 1.5, np.float32)),
    "int64_data": (7, packed(7, [0, -1, 2**62, -(2**63), 127, 128]), np.array([0, -1, 2**62, -(2**63), 127, 128])),
    "int32_data": (6, packed(5, [0, -1, 2**30, -(2**31), 127, 128]), np.array([0, -1, 2**30, -(2**31), 127, 128], "i4")),
    "int8 in int32_data": (3, packed(5, [0, -1, -128, 127, 1, 2]), np.array([0, -1, -128, 127, 1, 2], np.int8)),
    "booleans in int32_data": (9, packed(5, [0, 1, 1, 0, 0, 1]), np.array([0, 1, 1, 0, 0, 1], bool)),
    "uint64_data": (13, packed(11, [0, 1, 2, 3, 4, 2**64 - 1]), np.array([0, 1, 2, 3, 4, 2**64 - 1], np.uint64)),
}


@pytest.mark.parametrize("how", STORED)
def test_numbers_are_read_from_whichever_field_holds_them(how, read):
    data_type, numbers, expected = STORED[how]
    array = read(onnx_file(tensor(data_type=data_type, numbers=numbers)))["w"]
    np.testing.assert_array_equal(array, expected.reshape(2, 3), strict=True)


def test_a_long_row_of_varints_is_decoded_across_its_blocks(read):
    halves = -np.random.default_rng(0).random(50_000).astype("<f2")  # 150,000 bytes of varints, in blocks of 65,536
    stored = tensor(shape=halves.shape, data_type=10, numbers=packed(5, halves.view("<u2").tolist()))
    np.testing.assert_array_equal(read(onnx_file(stored))["w"], halves.astype(np.float32), strict=True)


def test_dimensions_may_be_packed(read):
    assert read(onnx_file(packed(1, (2, 3)) + tensor(shape=())))["w"].shape == (2, 3)


def test_a_number_and_an_empty_tensor_keep_their_shapes(read):
    arrays = read(onnx_file(tensor("a", (), numbers=field(9, SIX[4:5].tobytes())), tensor("b", (0, 512), numbers=b"")))
    assert (arrays["a"].shape, float(arrays["a"]), arrays["b"].shape) == ((), 4.0, (0, 512))


def test_a_constant_is_a_tensor_under_the_name_of_its_output(read):
    constant = node("Constant", [], ["conv1.weight"], attribute("value", t=tensor(name="")))
    other = node("Constant", [], ["axis"], attribute("value_int", i=3))
    arrays = read(onnx_file(tensor("w"), nodes=constant + other))
    assert list(arrays) == ["w", "conv1.weight"]
    np.testing.assert_array_equal(arrays["conv1.weight"].ravel(), SIX)


def test_a_graph_in_two_parts_is_one_graph(read):
    assert list(read(onnx_file(tensor("a")) + field(7, field(5, tensor("b"))))) == ["a", "b"]


# -- facts ------------------------------------------------------------------------------------------------------------


def test_facts_of_a_convolution_stand_under_its_weight():
    attributes = [attribute("strides", ints=(2, 1)), attribute("pads", ints=(3, 0, 3, 1)), attribute("group", i=32),
                  attribute("dilations", ints=(1, 2)), attribute("kernel_shape", ints=(3, 3))]
    facts = facts_of(node("Conv", ["x", "w", "b"], ["y"], *attributes))
    assert facts["Conv"] == {"w": {
        "strides": (2, 1), "pads": (3, 0, 3, 1), "group": 32, "dilations": (1, 2), "auto_pad": "NOTSET"}}


def test_what_a_node_does_not_say_is_the_default_of_the_operation():
    nodes = node("Conv", ["x", "w"], ["y"]), node("BatchNormalization", ["y", "gamma", "beta"], ["z"]), \
        node("MaxPool", ["z"], ["p"]), node("Gemm", ["p", "fc"], ["logits"])
    assert facts_of(*nodes) == {
        "Conv": {"w": {"strides": (1, 1), "pads": (0,) * 4, "group": 1, "dilations": (1, 1), "auto_pad": "NOTSET"}},
        "BatchNormalization": {"gamma": {"epsilon": 1e-5}},
        "MaxPool": {"p": {
            "kernel_shape": (), "strides": (1, 1), "pads": (0,) * 4, "ceil_mode": 0, "auto_pad": "NOTSET",
            "dilations": (1, 1)}},
        "Gemm": {"fc": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}},
    }


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3, 1.001e-5, 2e-5, 0.0])
def test_epsilon_is_the_decimal_that_was_meant(epsilon):
    facts = facts_of(node("BatchNormalization", ["y", "gamma"], ["z"], attribute("epsilon", f=epsilon)))
    assert facts["BatchNormalization"]["gamma"]["epsilon"] == epsilon


def test_an_epsilon_without_a_value_is_0_as_in_protobuf():
    facts = facts_of(node("BatchNormalization", ["y", "gamma"], ["z"], attribute("epsilon", i=0)))
    assert facts["BatchNormalization"]["gamma"]["epsilon"] == 0


def test_facts_of_a_pooling_stand_under_its_output():
    attributes = [attribute("kernel_shape", ints=(3, 3)), attribute("strides", ints=(2, 2)),
                  attribute("ceil_mode", i=1), attribute("auto_pad", s="SAME_UPPER")]
    assert facts_of(node("MaxPool", ["x"], ["pooled"], *attributes))["MaxPool"] == {"pooled": {
        "kernel_shape": (3, 3), "strides": (2, 2), "pads": (0,) * 4, "ceil_mode": 1, "auto_pad": "SAME_UPPER",
        "dilations": (1, 1)}}


def test_convolutions_do_not_share_a_weight():
    with pytest.raises(ValueError, match="two nodes Conv have the weight 'w'"):
        facts_of(node("Conv", ["x", "w"], ["y"]), node("Conv", ["y", "w"], ["z"]))


def test_a_brace_in_the_producers_name_does_not_make_it_safetensors(tmp_path):
    graph = node("Conv", ["x", "w"], ["y"]) + field(5, tensor())
    (tmp_path / "in").write_bytes(content := field(1, 8) + field(2, "abcd{ef") + field(7, graph))
    assert content[8:9] == b"{"
    assert list(read_tensors(tmp_path / "in")) == ["w"] == list(read_graph(tmp_path / "in")["Conv"])


# -- written by the package onnx --------------------------------------------------------------------------------------


def test_tensors_written_by_onnx_are_read_as_it_reads_them(read):
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    dtypes = "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 bool c8 c16".split()
    values = {dtype: (rng.random((3, 4, 5)) * 100).astype(dtype) for dtype in dtypes}
    raw = [onnx.numpy_helper.from_array(array, f"{name} raw") for name, array in values.items()]
    fields = [onnx.helper.make_tensor(f"{name} fields", tensor.data_type, tensor.dims, values[name].ravel())
              for name, tensor in zip(dtypes, raw)]
    graph = onnx.helper.make_graph([], "g", [], [], raw + fields)
    arrays = read(onnx.helper.make_model(graph).SerializeToString())
    for name, array in arrays.items():
        expected = values[name.split()[0]]
        np.testing.assert_array_equal(array, expected.astype("f4") if expected.dtype == "f2" else expected, strict=True)
    assert len(arrays) == 2 * len(dtypes)


def test_a_model_that_onnx_saved_with_external_data_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(SIX, "w")])
    onnx.save(onnx.helper.make_model(graph), path := tmp_path / "w.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(WeightsFileError, match="another one"):
        read_tensors(path)


@pytest.mark.shared
def test_a_published_file_is_read_as_onnx_reads_it(shared):
    onnx = pytest.importorskip("onnx")
    path = shared / "weights" / "small" / "resnet20.onnx"
    arrays, graph = read_tensors(path), onnx.load(path).graph
    assert arrays.keys() - {tensor.name for tensor in graph.initializer} == {"201"}  # a Gather's index, a constant
    for tensor_ in graph.initializer:
        np.testing.assert_array_equal(arrays[tensor_.name], onnx.numpy_helper.to_array(tensor_), strict=True)


@pytest.mark.shared
def test_the_graph_of_a_published_file_tells_strides_and_epsilon(shared):
    with open(shared / "weights" / "small" / "resnet20.onnx", "rb") as file:
        facts = graph_facts(file)
    strides = {name: fact["strides"] for name, fact in facts["Conv"].items() if fact["strides"] != (1, 1)}
    assert strides == {"ResBlock2.0.conv1.weight": (2, 2), "ResBlock2.0.downsample.0.weight": (2, 2),
                       "ResBlock3.0.conv1.weight": (2, 2), "ResBlock3.0.downsample.0.weight": (2, 2)}
    assert (len(facts["Conv"]), len(facts["BatchNormalization"])) == (21, 21)
    assert all(fact == {"epsilon": 1e-5} for fact in facts["BatchNormalization"].values())
    assert facts["Gemm"]["fc.weight"]["transB"] == 1 and not facts["MaxPool"]
