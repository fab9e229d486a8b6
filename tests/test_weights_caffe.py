"""Caffe's files read without Caffe, which can no longer be installed: made by hand, and as Google's protobuf reads them."""

import os
import tracemalloc

import numpy as np
import pytest
from handmade_files import SIX
from handmade_protobuf import blob, caffe, field, layer, old_blob, packed, unpacked

from weights_converter import read_tensors


def test_blobs_are_named_by_layer_and_place_in_it(read):
    arrays = read(caffe(layer(blob(), blob((6,)), name="conv1"), layer(name="relu"), layer(blob((3, 2)), name="a/b")))
    assert {name: array.shape for name, array in arrays.items()} == {
        "conv1/0": (2, 3), "conv1/1": (6,), "a/b/0": (3, 2)}


def test_a_blob_comes_with_values_shape_and_dtype(read):
    array = read(caffe(layer(blob())))["conv1/0"]
    np.testing.assert_array_equal(array, np.array([[0, 1, 2], [3, 4, 5]], np.float32), strict=True)
    assert array.flags.aligned and array.flags.writeable


def test_the_name_may_stand_behind_the_blobs(read):
    assert list(read(caffe(field(100, field(7, blob()) + field(1, "conv1"))))) == ["conv1/0"]


def test_old_layers_with_old_shapes_are_read_and_keep_their_four_sides(read):
    layers = field(2, field(6, old_blob(1, 1, 2, 3)) + field(4, "conv1") + field(5, 4))
    array = read(caffe(layers))["conv1/0"]
    np.testing.assert_array_equal(array, SIX.reshape(1, 1, 2, 3), strict=True)


def test_an_old_side_counts_more_than_the_new_shape_as_in_caffe(read):
    assert read(caffe(layer(blob() + old_blob(6, 1, 1, 1, data=b""))))["conv1/0"].shape == (6, 1, 1, 1)


@pytest.mark.parametrize("start", [b"", field(1, "net"), field(3, "data")])
def test_a_net_may_begin_with_its_name_an_input_or_a_layer(start, read):
    assert list(read(start + layer(blob()))) == ["conv1/0"]


def test_a_flag_in_the_field_of_onnx_graphs_does_not_make_it_onnx(read):
    assert list(read(caffe(field(7, 1), layer(blob())))) == ["conv1/0"]  # debug_info


def test_numbers_in_a_field_each_are_the_same_as_packed_ones(read):
    shape = field(7, unpacked(1, (2, 3)))
    array = read(caffe(layer(unpacked(5, map(float, range(6))) + shape)))["conv1/0"]
    np.testing.assert_array_equal(array, SIX.reshape(2, 3), strict=True)


def test_packed_numbers_may_come_in_pieces(read):
    pieces = field(5, SIX[:2].tobytes()) + field(7, packed(1, [2, 3])) + field(5, SIX[2:].tobytes())
    np.testing.assert_array_equal(read(caffe(layer(pieces)))["conv1/0"].ravel(), SIX)


def test_doubles_stay_doubles(read):
    array = read(caffe(layer(blob(data=SIX.astype("<f8").tobytes(), number=8))))["conv1/0"]
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3), strict=True)


def test_gradients_beside_the_numbers_are_left_out(read):
    assert read(caffe(layer(blob() + field(6, bytes(24)))))["conv1/0"].max() == 5


def test_a_blob_without_sides_is_a_number(read):
    assert read(caffe(layer(field(7, b"") + field(5, SIX[4:5].tobytes()))))["conv1/0"].shape == ()


# -- real files -------------------------------------------------------------------------------------------------------


def messages():
    """Google's class for NetParameter, from the part of the schema that holds weights."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe_part.proto", package="caffe_part")
    schema = {
        "BlobShape": [("dim", 1, "INT64", "REPEATED")],
        "BlobProto": [("shape", 7, "BlobShape", "OPTIONAL"), ("data", 5, "FLOAT", "REPEATED")],
        "LayerParameter": [("name", 1, "STRING", "OPTIONAL"), ("blobs", 7, "BlobProto", "REPEATED")],
        "NetParameter": [("layer", 100, "LayerParameter", "REPEATED")],
    }
    for name, members in schema.items():
        message = file.message_type.add(name=name)
        for member, number, kind, label in members:
            added = message.field.add(name=member, number=number, label=f"LABEL_{label}")
            if kind in schema:
                added.type, added.type_name = added.TYPE_MESSAGE, f".caffe_part.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe_part.NetParameter"))


@pytest.mark.shared
@pytest.mark.parametrize("name, number", [
    ("small/junyu_cifar10_res20_iter_64000.caffemodel", 149), ("msra_resnet50_to_res4f.caffemodel", 259)])
def test_a_published_file_is_read_as_googles_protobuf_reads_it(name, number, shared):
    path = shared / "weights" / name
    arrays, net = read_tensors(path), messages()()
    net.ParseFromString(path.read_bytes())
    assert len(arrays) == number == sum(len(layer.blobs) for layer in net.layer)
    for layer_ in net.layer:
        for index, blob_ in enumerate(layer_.blobs):
            expected = np.array(blob_.data, np.float32).reshape(blob_.shape.dim)
            np.testing.assert_array_equal(arrays[f"{layer_.name}/{index}"], expected, strict=True)


@pytest.mark.shared
def test_the_factors_of_batch_norm_are_those_known_of_the_published_files(shared):
    small = read_tensors(shared / "weights" / "small" / "junyu_cifar10_res20_iter_64000.caffemodel")
    msra = read_tensors(shared / "weights" / "msra_resnet50_to_res4f.caffemodel")
    assert small["BatchNorm1/2"].round(2).tolist() == [np.float32(999.98)]
    assert {msra[name].item() for name in msra if name.startswith("bn") and name.endswith("/2")} == {1.0}


@pytest.mark.shared
def test_reading_takes_memory_for_the_file_and_the_arrays_and_no_more(shared):
    path = shared / "weights" / "msra_resnet50_to_res4f.caffemodel"
    tracemalloc.start()
    read_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * os.path.getsize(path), peak  # the last convolution's numbers are there a third time, for a moment
