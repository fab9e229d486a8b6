"""torch's container from 2017 to version 1.5, a stream of pickles and numbers, read without torch."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from handmade_files import SIX, call, name_of, program, row, tensor, text, whole
from handmade_torch import listed, old_parameter, short, stream_file

from weights_converter import read_tensors


# -- made by hand ---------------------------------------------------------------------------------------------------


def test_a_tensor_comes_with_values_shape_and_dtype(read):
    array = read(stream_file(program(w=tensor((2, 2), (1, 3), offset=1))))["w"]
    np.testing.assert_array_equal(array, np.array([[1, 4], [2, 5]], np.float32), strict=True)


def test_the_numbers_follow_in_the_order_of_the_list_of_keys(read):
    pickle = program(a=tensor((1,), (1,), key="7", count=1), b=tensor(key="5"))
    arrays = read(stream_file(pickle, {"5": SIX, "7": SIX[3:4]}))
    assert list(arrays) == ["a", "b"]
    assert (arrays["a"].tolist(), arrays["b"].ravel().tolist()) == ([3], SIX.tolist())


def test_numbers_need_not_be_aligned(read):
    pickle = program(a=tensor(key="1", kind="ByteStorage"), b=tensor(key="2"))
    array = read(stream_file(pickle, {"1": SIX.astype(np.uint8), "2": SIX}))["b"]
    np.testing.assert_array_equal(array.ravel(), SIX, strict=True)
    assert array.flags.aligned and array.flags.writeable


def test_tensors_of_one_storage_share_their_memory(read):
    arrays = read(stream_file(program(a=tensor(), b=tensor((3,), (1,), offset=3))))
    assert np.shares_memory(arrays["a"], arrays["b"])


@pytest.mark.parametrize("kind, dtype", [("HalfStorage", "<f2"), ("BFloat16Storage", "<u2")])
def test_16_bits_widen_exactly(kind, dtype, read):
    values = np.array([1.0, -2.5, 3.140625, np.inf, 0, 2.0**-14], np.float32)  # each has 8 bits or fewer
    raw = values.astype(dtype) if kind == "HalfStorage" else (values.view(np.uint32) >> 16).astype(dtype)
    array = read(stream_file(program(w=tensor(kind=kind)), {"0": raw}))["w"]
    np.testing.assert_array_equal(array.ravel(), values, strict=True)


def test_the_strings_of_python_2_and_its_ordered_dictionary_are_read(read):
    where = row(short("storage"), name_of("torch", "FloatStorage"), short("0"), short("cuda:0"), whole(6), b"N") + b"Q"
    data = call("torch._utils", "_rebuild_tensor", where, b"K\0", b"K\2K\3\x86", b"K\3K\1\x86")
    pickle = b"\x80\2" + call("collections", "OrderedDict", listed(listed(short("w"), data))) + b"."
    np.testing.assert_array_equal(read(stream_file(pickle, keys=listed(short("0"))))["w"], SIX.reshape(2, 3))


def test_a_parameter_of_2017_is_made_of_its_tensor_and_given_a_state(read):
    state = row(b"\x88", b"\x89", call("collections", "OrderedDict"))  # requires_grad, volatile, hooks
    parameter = call("torch.nn.parameter", "Parameter", tensor()) + state + b"b"
    np.testing.assert_array_equal(read(stream_file(program(w=parameter)))["w"].ravel(), SIX)


def test_a_parameter_of_2016_is_made_of_nothing_and_its_state_holds_the_tensor(read):
    arrays = read(stream_file(program(w=old_parameter(tensor()) + b"q\7", tied=b"h\7")))
    assert np.shares_memory(arrays["w"], arrays["tied"]) and arrays["w"].ravel().tolist() == SIX.tolist()


def test_what_is_no_tensor_is_left_out(read):
    assert list(read(stream_file(program(epoch=whole(3), arch=text("resnet20"), w=tensor())))) == ["w"]


def test_the_largest_pickle_that_is_read_has_a_megabyte_and_the_numbers_do_not_count(read):
    pickle = program(x=text("x" * (1 << 20)), w=tensor())
    filled = program(x=text("x" * (2 * (1 << 20) - len(pickle))), w=tensor())
    assert len(filled) == 1 << 20 and list(read(stream_file(filled))) == ["w"]


# -- memory ---------------------------------------------------------------------------------------------------------


def test_reading_takes_the_memory_of_the_numbers_once(tmp_path):
    path, count = tmp_path / "w.pth", 5_000_000
    path.write_bytes(stream_file(program(w=tensor((count,), (1,), count=count)), {"0": np.ones(count, "<f4")}))
    tracemalloc.start()
    assert read_tensors(path)["w"].size == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * path.stat().st_size  # 20 MB of numbers, and up to 1 MB in which a pickle is looked for


# -- written by torch -----------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["module", "sparse"])
def test_what_is_no_plain_tensor_is_refused_by_name(kind, tmp_path):
    torch = pytest.importorskip("torch")
    value = {"w": torch.eye(3).to_sparse()} if kind == "sparse" else torch.nn.Linear(2, 3)
    torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="which is code and not weights"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.torch
def test_torch_reads_the_stream_made_by_hand_as_we_do(tmp_path):
    torch = pytest.importorskip("torch")
    seven, five = {"key": "7", "part": b"N"}, {"key": "5", "part": b"N"}
    part = tensor((3,), (1,), offset=1, key="7", part=row(text("8"), whole(2), whole(4)))
    strided, parameter = tensor((2, 2), (1, 3), offset=1, **seven), old_parameter(tensor(**five))
    pickle = program(a=tensor(**seven), part=part, strided=strided, parameter=parameter)
    (tmp_path / "w.pth").write_bytes(stream_file(pickle, {"5": -SIX, "7": SIX}))
    arrays, tensors = read_tensors(tmp_path / "w.pth"), torch.load(tmp_path / "w.pth", weights_only=False)
    assert list(arrays) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(arrays[name], value.detach().numpy(), strict=True)


@pytest.mark.torch
@pytest.mark.shared
def test_a_published_file_is_read_as_torch_reads_it(shared: Path):
    torch = pytest.importorskip("torch")
    path = shared / "weights" / "small" / "resnet20-12fca82f.th"
    arrays = read_tensors(path)
    tensors = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    assert list(arrays) == [f"state_dict.{name}" for name in tensors]
    for name, value in tensors.items():
        np.testing.assert_array_equal(arrays[f"state_dict.{name}"], value.numpy(), strict=True)
