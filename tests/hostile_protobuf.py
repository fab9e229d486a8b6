"""Hostile ONNX and Caffe files by what is wrong with them: a function that makes the bytes, and words of the reason."""

from handmade_files import SIX
from handmade_protobuf import (
    attribute, blob, caffe, field, layer, node, old_blob, onnx, onnx_graph, packed, tensor, unpacked, varint,
)


def net(*layers):
    """A Caffe file of these layers"""
    return lambda: caffe(*layers)


def in_blob(fields):
    """A Caffe file with these fields in a sound blob"""
    return lambda: caffe(layer(blob() + fields))


def graph(*tensors, nodes=b""):
    """An ONNX file of these tensors and nodes"""
    return lambda: onnx(*tensors, nodes=nodes)


def in_tensor(fields):
    """An ONNX file with these fields in a sound tensor"""
    return lambda: onnx(tensor() + fields)


def small(number=99_000, times=5):
    """As many messages of that many fields of two bytes, one megabyte in all"""
    return [b"\x30\0" * number] * times


WIRE = {
    "protobuf: a length past the end": (lambda: field(1, "net") + b"\xa2\x06\xff\xff\xff\xff\x07", "ends at byte"),
    "protobuf: a length of 2^63": (lambda: field(1, "net") + b"\xa2\x06" + varint(1 << 63), "damaged or cut"),
    "protobuf: a length of 2^70": (lambda: b"\x0a" + b"\xff" * 9 + b"\x7f", "damaged or cut"),
    "protobuf: a length past the end of a layer": (
        lambda: caffe(field(100, field(1, "conv1") + b"\x3a\x7f")), "damaged or cut"),
    "protobuf: a group": (lambda: field(1, "net") + b"\x13\x14", "kind 3"),
    "protobuf: the end of a group": (lambda: field(1, "net") + b"\x14", "kind 4"),
    "protobuf: kind 7": (in_blob(varint(9 << 3 | 7)), "kind 7"),
    "protobuf: 500,000 small fields in nodes": (
        graph(tensor(), nodes=b"".join(field(1, node) for node in small())), "fields"),
    "protobuf: 500,000 small fields in tensors": (
        graph(*(tensor(f"{i}") + fields for i, fields in enumerate(small()))), "fields"),
    "protobuf: 500,000 small fields in attributes": (
        graph(tensor(), nodes=field(1, field(4, "Constant") + b"".join(field(5, inner) for inner in small()))), "fields"),
    "protobuf: 500,000 small fields in layers": (net(layer(blob()), *(field(100, inner) for inner in small())), "fields"),
    "protobuf: 500,000 small fields in blobs": (net(layer(*(blob() + inner for inner in small()))), "fields"),
    "protobuf: a number of 11 bytes": (lambda: field(1, "net") + b"\x28" + b"\x80" * 10 + b"\1", "longer than 10"),
    "protobuf: a number cut": (lambda: field(1, "net") + b"\x28\x80", "is cut"),
    "protobuf: eight bytes cut": (lambda: field(1, "net") + b"\x29" + bytes(7), "damaged or cut"),
    "protobuf: field 0": (lambda: field(1, "net") + b"\0\0", "field 0"),
    "protobuf: neither of the two": (lambda: field(1, "net"), "neither ONNX"),
    "protobuf: a million groups": (lambda: field(1, "net") + b"\x13" * 1_000_000, "kind 3"),
    "protobuf: a million empty fields": (lambda: field(1, "net") + b"\x1a\0" * 1_000_000, "over 20000 fields"),
}

LOST = tensor(numbers=field(13, field(1, "location") + field(2, "../../etc/passwd")) + field(14, 1))
SPARSE = field(1, tensor("v")) + field(2, tensor("i")) + packed(3, (2, 3))

ONNX = {
    "ONNX: no tensors": (graph(), "no tensors"),
    "ONNX: a graph that is a number": (lambda: field(1, 8) + field(7, 1) + field(2, "pytorch"), "has the kind 4"),
    "ONNX: a graph that is noise": (lambda: onnx_graph(b"\x0b\x0c"), "kind 3"),
    "ONNX: an initializer that is a number": (lambda: onnx_graph(field(5, 1)), "field 5 to be of kind 2, got kind 0"),
    "ONNX: a name that is a number": (lambda: onnx(tensor(name="") + field(8, 1)), "field 8 to be of kind 2"),
    "ONNX: a data type that is text": (in_tensor(field(2, "float")), "field 2 to be of kind 0, got kind 2"),
    "ONNX: numbers of the wrong kind": (
        graph(tensor(numbers=unpacked(4, range(6)))), "field 4 to be of kind 5, got kind 0"),
    "ONNX: data in another file": (graph(LOST), "in another one"),
    "ONNX: data in another file, said alone": (in_tensor(field(14, 1)), "in another one"),
    "ONNX: a constant in another file": (
        graph(tensor(), nodes=node("Constant", [], ["c"], attribute("value", t=LOST))), "in another one"),
    "ONNX: tensors in segments": (in_tensor(field(3, field(1, 0) + field(2, 6))), "segments"),
    "ONNX: a sparse initializer": (lambda: onnx_graph(field(5, tensor()) + field(15, SPARSE)), "sparse"),
    "ONNX: a sparse constant": (
        graph(tensor(), nodes=node("Constant", [], ["c"], attribute("sparse_value", sparse=SPARSE))), "'c' is sparse"),
    "ONNX: quantised, by an annotation": (lambda: onnx_graph(field(5, tensor()) + field(14, b"")), "quantised"),
    "ONNX: quantised, by its convolution": (
        graph(tensor(), nodes=node("QLinearConv", ["x", "w"], ["y"])), "quantised, by 'QLinearConv'"),
    "ONNX: quantised, around its convolution": (
        graph(tensor(), nodes=node("DequantizeLinear", ["w", "s"], ["y"])), "quantised, by 'DequantizeLinear'"),
    "ONNX: quantised, in whole numbers": (
        graph(tensor(), nodes=node("ConvInteger", ["x", "w"], ["y"])), "quantised, by 'ConvInteger'"),
    "ONNX: two tensors of one name": (graph(tensor(), tensor()), "two tensors called 'w'"),
    "ONNX: an initializer and a constant of one name": (
        graph(tensor(), nodes=node("Constant", [], ["w"], attribute("value", t=tensor()))), "two tensors called 'w'"),
    "ONNX: a tensor without a name": (graph(tensor(name="")), "printable"),
    "ONNX: a name of a megabyte": (graph(tensor(name="w" * 1_000_000)), "at most 2000 bytes"),
    "ONNX: a name that is not UTF-8": (lambda: onnx(tensor(name="") + field(8, b"w\xff\n")), "printable"),
    "ONNX: a dimension of -1": (graph(tensor(shape=(-1, 6))), "negative, huge or wrong shape"),
    "ONNX: a dimension of 2^40": (graph(tensor(shape=(2**40,))), "negative, huge or wrong shape"),
    "ONNX: dimensions whose product overflows": (graph(tensor(shape=(2**31, 2**31, 2**31))), "negative, huge or wrong"),
    "ONNX: an empty tensor with huge sides": (graph(tensor(shape=(0, 2**31, 2**31), numbers=b"")), "huge"),
    "ONNX: a million dimensions": (lambda: onnx(b"\x08\1" * 1_000_000 + tensor()), "over 20000 fields"),
    "ONNX: a million dimensions, packed": (
        lambda: onnx(field(1, b"\1" * 1_000_000) + tensor(shape=())), "1000000 in 1000000 bytes"),
    "ONNX: a thousand long dimensions": (graph(tensor(shape=(-1,) * 1000)), "1000 sides"),
    "ONNX: a dimension of 11 bytes": (
        lambda: onnx(field(1, b"\x80" * 10 + b"\1") + tensor(shape=())), "longer than 10"),
    "ONNX: a dimension cut": (lambda: onnx(field(1, b"\6\x80") + tensor(shape=())), "is cut"),
    "ONNX: fewer numbers than the shape needs": (graph(tensor(shape=(7,))), "should hold 7 numbers of 4 bytes"),
    "ONNX: bytes for another data type": (graph(tensor(data_type=11)), "should hold 6 numbers of 8 bytes"),
    "ONNX: text": (graph(tensor(data_type=8, numbers=unpacked(6, ["a"] * 6))), "data type 8"),
    "ONNX: no data type": (graph(tensor(data_type=0)), "data type 0"),
    "ONNX: data type 2^62": (graph(tensor(data_type=2**62)), "data type 4611686018427387904"),
    "ONNX: a million zeros that become eight": (
        graph(tensor(shape=(1_000_000,), data_type=7, numbers=field(7, bytes(1_000_000)))), "save as raw data"),
    "ONNX: a million nodes": (graph(nodes=b"\x0a\0" * 1_000_000), "over 20000 fields"),
}

CAFFE = {
    "Caffe: no blobs": (net(layer()), "none of its layers holds blobs"),
    "Caffe: fewer numbers than the shape needs": (net(layer(blob((7,)))), "'conv1/0' should hold 7 numbers"),
    "Caffe: more numbers than the shape needs": (net(layer(blob((5,)))), "'conv1/0' should hold 5 numbers"),
    "Caffe: an old shape unlike the data": (net(layer(old_blob(1, 1, 2, 2))), "should hold 4 numbers"),
    "Caffe: a shape without data": (net(layer(blob(data=b""))), "but has 0 bytes"),
    "Caffe: no shape": (net(layer(field(5, SIX.tobytes()))), "should hold 1 numbers"),
    "Caffe: a number cut": (net(layer(blob((1,), b"123"))), "but has 3 bytes"),
    "Caffe: two layers of one name": (net(layer(blob()), layer(blob())), "two tensors called 'conv1/0'"),
    "Caffe: an old and a new layer of one name": (
        net(layer(blob()), field(2, field(4, "conv1") + field(6, blob()))), "two tensors called 'conv1/0'"),
    "Caffe: a layer that is a number": (net(field(100, 7), layer(blob())), "field 100 to be of kind 2"),
    "Caffe: a blob that is a number": (net(field(100, field(7, 1))), "field 7 to be of kind 2"),
    "Caffe: a shape that is a number": (in_blob(field(7, 1)), "field 7 to be of kind 2"),
    "Caffe: a side that is a float": (in_blob(field(1, 1.0)), "field 1 to be of kind 0"),
    "Caffe: numbers of the wrong kind": (in_blob(field(5, 1)), "field 5 to be of kind 5, got kind 0"),
    "Caffe: a dimension of -1": (net(layer(blob((-1, -6)))), "negative, huge or wrong shape"),
    "Caffe: an old side of -1": (net(layer(old_blob(-1, -1, 2, 3))), "negative, huge or wrong shape"),
    "Caffe: a million dimensions": (net(layer(blob((1,) * 1_000_000))), "1000000 in 1000000 bytes"),
    "Caffe: 40 dimensions": (net(layer(blob((1,) * 40))), "40 sides"),
    "Caffe: escape codes in a name": (net(layer(blob(), name="conv\x1b[2J")), "printable"),
}

PROTOBUF = WIRE | ONNX | CAFFE
