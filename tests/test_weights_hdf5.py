"""Keras's HDF5 files read without h5py: the same arrays, under the same names, as h5py gives."""

import io
from pathlib import Path

import numpy as np
import pytest
from handmade_hdf5 import Writer, compact, continuation, datatype, hdf5_file, message, space

from weights_converter import WeightsFileError, read_tensors
from weights_converter.hdf5 import read

SIX = np.arange(6, dtype="<f4")
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def read_bytes(content):
    return read(io.BytesIO(content))


def in_our_dtype(array):
    """float16 in float32, all else in native byte order"""
    array = np.asarray(array)
    return array.astype(np.float32 if array.dtype.str[1:] == "f2" else array.dtype.newbyteorder("="))


def check_equal(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], in_our_dtype(array), strict=True)


# -- made by hand ---------------------------------------------------------------------------------------------------


def test_a_dataset_comes_with_values_shape_and_dtype():
    array = read_bytes(hdf5_file({"w": SIX.reshape(2, 3)}))["w"]
    np.testing.assert_array_equal(array, np.array([[0, 1, 2], [3, 4, 5]], np.float32), strict=True)
    assert array.flags.writeable and array.flags.aligned


def test_the_content_decides_not_the_suffix(tmp_path):
    (tmp_path / "weights.pth").write_bytes(hdf5_file({"w": SIX}))
    np.testing.assert_array_equal(read_tensors(tmp_path / "weights.pth")["w"], SIX)


def test_names_are_paths_and_sorted_within_a_group():
    tree = {"b": {"c": {"kernel:0": SIX, "bias:0": SIX}, "a": SIX}, "a": SIX, "empty": {}}
    assert list(read_bytes(hdf5_file(tree))) == ["a", "b/a", "b/c/bias:0", "b/c/kernel:0"]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_any_type_and_byte_order_keep_their_values(dtype, order):
    array = np.array([0, 1, 2, 100, 3]).astype(order + dtype)
    check_equal(read_bytes(hdf5_file({"w": array})), {"w": array})


def test_float16_widens_exactly():
    values = np.array([1, -2.5, 65504, 2.0**-24, np.inf], "f2")  # the largest and the smallest among them
    np.testing.assert_array_equal(read_bytes(hdf5_file({"w": values}))["w"], values.astype("f4"), strict=True)


def test_a_dataset_without_sides_is_a_number():
    array = read_bytes(hdf5_file({"w": np.float32(2.5)}))["w"]
    assert (array.shape, float(array)) == ((), 2.5)


def test_an_empty_dataset_keeps_its_shape():
    assert read_bytes(hdf5_file({"w": np.zeros((0, 512), "<f4")}))["w"].shape == (0, 512)


def test_numbers_may_stand_in_the_header():
    writer = Writer()
    header = writer.header(space((6,)), datatype("<f4"), compact(SIX.tobytes()))
    np.testing.assert_array_equal(read_bytes(writer.finish(writer.add({"w": header})))["w"], SIX, strict=True)


def test_a_header_may_go_on_elsewhere_and_elsewhere_again():
    writer = Writer()
    third = datatype("<f4") + writer.numbers(SIX)
    second = space((6,)) + continuation(writer.put(third), len(third))
    header = writer.header(continuation(writer.put(second), len(second)), count=5)
    np.testing.assert_array_equal(read_bytes(writer.finish(writer.add({"w": header})))["w"], SIX, strict=True)


@pytest.mark.parametrize("kind", [0, 4, 5, 12, 13, 14, 18])
def test_attributes_comments_times_and_free_space_are_passed_over(kind):
    writer = Writer()
    header = writer.header(message(kind, b"anything"), space((6,)), datatype("<f4"), writer.numbers(SIX))
    np.testing.assert_array_equal(read_bytes(writer.finish(writer.add({"w": header})))["w"], SIX)


MANY = {f"layer_{i:03}": np.float32(i) for i in range(300)}  # leaves hold 8 names, nodes here 3: four levels of nodes


def test_a_group_may_have_many_members():
    check_equal(read_bytes(hdf5_file(MANY, fan_out=3)), MANY)


@pytest.mark.parametrize("tree", [MANY, {"g": {"v": SIX, "e": {}}, "w": SIX.astype(">i2"), "x": np.zeros((0, 3), "<f8")}])
def test_files_made_by_hand_are_read_by_h5py_in_the_same_way(tree):
    content = hdf5_file(tree, fan_out=3)
    check_equal(read_bytes(content), read_by_h5py(io.BytesIO(content)))


# -- written by h5py ------------------------------------------------------------------------------------------------


def read_by_h5py(file):
    h5py = pytest.importorskip("h5py")
    arrays = {}
    with h5py.File(file) as opened:
        opened.visititems(lambda name, found: arrays.update({name: found[()]} if isinstance(found, h5py.Dataset) else {}))
    return arrays


def written_by_h5py(write, **options):
    """The bytes of the file into which write(h5py, file) has written"""
    h5py = pytest.importorskip("h5py")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        write(h5py, file)
    return buffer.getvalue()


def write_network(_, file):
    """As Keras saves a network: groups of layers, lists of names as attributes, some of them long"""
    rng = np.random.default_rng(0)
    file.attrs["model_config"] = "{}" * 20_000
    for stage, block, layer in np.ndindex(4, 6, 4):
        for kind, names in {"conv": ["kernel", "bias"], "bn": ["gamma", "beta", "moving_mean", "moving_variance"]}.items():
            full = f"conv{stage + 2}_block{block + 1}_{layer}_{kind}"
            group = file.create_group(f"model_weights/{full}")
            group.attrs["weight_names"] = [f"{full}/{name}:0".encode() for name in names]
            for name in names:
                dataset = group.create_dataset(f"{full}/{name}:0", (1, 1, 2, 3) if name == "kernel" else (3,), "f4")
                dataset[...] = rng.random(dataset.shape)
    file["model_weights"].attrs["layer_names"] = [name.encode() for name in file["model_weights"]]
    file["optimizer_weights/Adam/iter:0"] = np.int64(7)


def write_many(_, file):
    for i in range(600):
        file[f"layer_{i}/w"] = np.float32(i)


def write_types(_, file):
    for order, dtype in np.ndindex(2, len(DTYPES)):
        file[f"{order}/{dtype}"] = np.arange(5).astype("<>"[order] + DTYPES[dtype])
    file["scalar"], file["empty"] = 2.5, np.zeros((0, 3), "f2")
    file.create_dataset("naïve", data=SIX)  # file["naïve"] would make the group one of the newer format


def write_and_change(_, file):
    """What takes names, numbers and messages away leaves holes"""
    for i in range(40):
        file[f"g/{i}"] = np.arange(i)
        for number in range(i):
            file[f"g/{i}"].attrs[f"attribute {number}"] = "text" * number
    for i in range(0, 39, 3):
        del file[f"g/{i}"], file[f"g/{i + 1}"].attrs["attribute 0"]
    file["g/0"] = file["g/1"][()] + 1


@pytest.mark.parametrize("write", [write_network, write_many, write_types, write_and_change])
def test_a_file_of_h5py_is_read_as_h5py_reads_it(write):
    content = written_by_h5py(write)
    check_equal(read_bytes(content), read_by_h5py(io.BytesIO(content)))


def put(name, value, **options):
    return lambda h5py, file: file.create_dataset(name, data=value, **options)


def assign(name, make):
    def write(h5py, file):
        file["a/w"] = SIX
        file[name] = make(h5py)
    return write


def write_virtual(h5py, file):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "w", (6,))
    file.create_virtual_dataset("w", layout)


def write_committed(_, file):
    file["t"] = np.dtype("f4")
    file.create_dataset("w", data=SIX, dtype=file["t"])


REFUSED = {
    "soft link": (assign("b", lambda h5py: h5py.SoftLink("/a")), {}, "'b' is a soft link"),
    "soft link on the way": (assign("a/b", lambda h5py: h5py.SoftLink("/a")), {}, "'a/b' is a soft link"),
    "external link": (assign("b", lambda h5py: h5py.ExternalLink("other.h5", "/a")), {}, "external links"),
    "external link on the way": (
        assign("a/b", lambda h5py: h5py.ExternalLink("other.h5", "/a")), {}, "'a' is a group of the newer"),
    "hard link": (lambda h5py, file: assign("b", lambda h5py: file["a"])(h5py, file), {}, "'b' is a hard link"),
    "cycle": (lambda h5py, file: assign("a/b", lambda h5py: file["a"])(h5py, file), {}, "'a/b' is a hard link"),
    "external storage": (
        lambda h5py, file: file.create_dataset("w", (6,), "f4", external=[("raw.bin", 0, 24)]), {}, "in another file"),
    "virtual": (write_virtual, {}, "is virtual"),
    "gzip": (put("w", SIX, compression="gzip"), {}, "compressed"),
    "checksum": (put("w", SIX, fletcher32=True), {}, "filtered"),
    "chunks": (put("w", SIX, chunks=(2,)), {}, "in chunks"),
    "resizable": (put("w", SIX, maxshape=(None,)), {}, "in chunks"),
    "never written": (lambda h5py, file: file.create_dataset("w", (6,), "f4"), {}, "never written"),
    "2^30 never written": (lambda h5py, file: file.create_dataset("w", (2**30,), "f4"), {}, "never written"),
    "2^40 never written": (lambda h5py, file: file.create_dataset("w", (2**40,), "f4"), {}, "claims the shape"),
    "text": (put("w", "text"), {}, "variable length"),
    "fixed text": (put("w", np.array([b"text"])), {}, "strings"),
    "booleans": (put("w", SIX > 2), {}, "booleans"),
    "complex numbers": (put("w", SIX.astype("c8")), {}, "records"),
    "null": (lambda h5py, file: file.create_dataset("w", data=h5py.Empty("f4")), {}, "h5py.Empty"),
    "committed datatype": (write_committed, {}, "neither a group nor an array|under a name"),
    "letters beyond ASCII": (assign("wä", lambda h5py: SIX), {}, "not ASCII"),
    "order of creation": (put("w", SIX, track_order=True), {}, "track_order"),
    "order of creation in all": (put("w", SIX), {"track_order": True}, "track_order"),
    "latest": (put("w", SIX), {"libver": "latest"}, "superblock 3"),
    "no arrays": (lambda h5py, file: file.create_group("a/b"), {}, "no datasets"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_h5py_can_write_and_we_do_not_read_is_refused_with_the_reason(what, tmp_path):
    write, options, reason = REFUSED[what]
    (tmp_path / "w.h5").write_bytes(written_by_h5py(write, **options))
    with pytest.raises(WeightsFileError, match=reason):
        read_tensors(tmp_path / "w.h5")


@pytest.mark.shared
def test_a_published_file_is_read_as_h5py_reads_it(shared: Path):
    path = shared / "weights" / "small" / "resnet8.h5"
    check_equal(read_tensors(path), read_by_h5py(path))


@pytest.mark.shared
def test_a_published_file_has_the_names_of_keras(shared: Path):
    arrays = read_tensors(shared / "weights" / "small" / "resnet8.h5")
    assert len(arrays) == 117 and arrays["optimizer_weights/Adam/iter:0"].shape == ()
    assert arrays["model_weights/conv2d/conv2d/kernel:0"].shape == (3, 3, 3, 16)
