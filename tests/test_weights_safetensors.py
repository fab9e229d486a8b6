"""safetensors files read without the package safetensors: the same arrays as it gives."""

import numpy as np
import pytest
from handmade_files import SIX
from handmade_safetensors import entry, safetensors_file

from weights_converter import read_tensors
from weights_converter.safetensors import DTYPES


def test_a_tensor_comes_with_values_shape_and_dtype(read):
    array = read(safetensors_file({"w": entry()}))["w"]
    np.testing.assert_array_equal(array, np.array([[0, 1, 2], [3, 4, 5]], np.float32), strict=True)
    assert array.flags.writeable


@pytest.mark.parametrize("padding", range(4))
def test_arrays_are_aligned_wherever_the_data_begin(padding, read):
    array = read(safetensors_file(b'{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}' + b" " * padding))["w"]
    assert array.flags.aligned and array.tolist() == SIX.tolist()


def test_a_table_of_any_length_is_read_whatever_format_begins_so(read):
    table = b'{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'
    for padding in range(256):
        assert list(read(safetensors_file(table + b" " * padding))) == ["w"], padding


def test_tensors_come_in_the_order_of_the_table_wherever_their_data_lie(read):
    arrays = read(safetensors_file({"b": entry([4], 8, 24), "__metadata__": {"format": "pt"}, "a": entry([2], 0, 8)}))
    assert {name: array.tolist() for name, array in arrays.items()} == {"b": [2, 3, 4, 5], "a": [0, 1]}
    assert list(arrays) == ["b", "a"]


def test_a_number_and_an_empty_tensor_keep_their_shapes(read):
    arrays = read(safetensors_file({"number": entry([], 0, 4), "empty": entry([0, 512], 4, 4)}, SIX[3:4].tobytes()))
    assert (arrays["number"].shape, float(arrays["number"]), arrays["empty"].shape) == ((), 3.0, (0, 512))


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "BF16"])
def test_a_dtype_comes_as_numpy_has_it_and_halves_widen(dtype, read):
    values = np.array([0, 1, 0, 1, 1, 0]).astype(np.dtype(DTYPES[dtype]).newbyteorder("<"))
    array = read(safetensors_file({"w": entry([6], 0, values.nbytes, dtype)}, values.tobytes()))["w"]
    expected = np.float32 if dtype == "F16" else np.dtype(DTYPES[dtype])
    np.testing.assert_array_equal(array, values.astype(expected), strict=True)


def test_bfloat16_widens_exactly(read):
    values = np.array([1.0, -2.5, 3.140625, np.inf, 0, 2.0**-130], np.float32)  # all of them have 8 bits or fewer
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    array = read(safetensors_file({"w": entry([6], 0, 12, "BF16")}, bits.tobytes()))["w"]
    np.testing.assert_array_equal(array, values, strict=True)


# -- written by the package safetensors -------------------------------------------------------------------------------


def test_all_dtypes_of_numpy_written_by_safetensors_are_read_as_it_reads_them(read):
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    dtypes = "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 bool".split()
    written = {f"{dtype} 日本": (rng.random((3, 4, 5)) * 100).astype(dtype) for dtype in dtypes}
    arrays = read(numpy.save(written | {"empty": np.zeros((0, 3)), "number": np.array(2.5)}, {"format": "np"}))
    for name, values in written.items():
        expected = values.astype(np.float32) if values.dtype == np.float16 else values
        np.testing.assert_array_equal(arrays[name], expected, strict=True)
    assert arrays.keys() - written.keys() == {"empty", "number"}


@pytest.mark.torch
def test_bfloat16_written_by_torch_is_read_as_torch_widens_it(read):
    torch, save = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").save
    tensor = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    np.testing.assert_array_equal(read(save({"w": tensor}))["w"], tensor.float().numpy(), strict=True)


@pytest.mark.shared
def test_a_published_file_is_read_as_safetensors_reads_it(shared):
    load = pytest.importorskip("safetensors.numpy").load_file
    path = shared / "weights" / "small" / "denograd_mnist.safetensors"
    arrays, expected = read_tensors(path), load(path)
    assert arrays.keys() == expected.keys() and arrays["layers.0.weight"].shape == (32, 1, 5, 5)
    for name, values in expected.items():
        np.testing.assert_array_equal(arrays[name], values, strict=True)
