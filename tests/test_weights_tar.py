"""torch's container before 2017, a tar archive of four files, read without torch."""

import io
import struct
import tarfile
import warnings

import numpy as np
import pytest
from handmade_files import SIX, call, name_of, program, row, text, whole
from handmade_torch import (
    STATE, TAR_FILES, WEIGHT, listed, old_parameter, pickled, short, tar_entry, tar_file, tar_storages, tar_tensors,
    tar_time, tar_view,
)

from weights_converter import read_tensors


def test_a_parameter_comes_with_values_shape_and_dtype(read):
    arrays = read(tar_file())
    np.testing.assert_array_equal(arrays["w"], np.array([[0, 1, 2], [3, 4, 5]], np.float32), strict=True)
    assert list(arrays) == ["w"] and arrays["w"].flags.writeable and arrays["w"].flags.aligned


def test_a_tensor_that_is_no_parameter_is_read(read):
    np.testing.assert_array_equal(read(tar_file(pickle=program(w=WEIGHT)))["w"], SIX.reshape(2, 3), strict=True)


def test_a_parameter_under_two_names_is_one(read):
    tied = read(tar_file(pickle=program(a=old_parameter(WEIGHT) + b"q\7", b=b"h\7")))
    assert np.shares_memory(tied["a"], tied["b"])


@pytest.mark.parametrize("shape, stride, offset, expected", [
    ((2, 2), (1, 3), 1, [[1, 4], [2, 5]]), ((1, 2), (0, 5), 0, [[0, 5]]), ((0, 3), (3, 1), 0, np.zeros((0, 3))),
    ((), (), 4, 4.0),
])
def test_sizes_strides_and_offset_are_those_in_the_file(shape, stride, offset, expected, read):
    array = read(tar_file(tensors=tar_tensors({11: (70, tar_view(shape, stride, offset))})))["w"]
    np.testing.assert_array_equal(array, np.array(expected, np.float32), strict=True)


def test_an_archive_without_times_is_read(read):
    archive = b"".join(tar_entry(name, data) for name, data in TAR_FILES.items()) + bytes(1024)
    assert list(read(archive)) == ["w"]


def test_records_of_time_and_owner_are_harmless(read):
    assert list(read(tar_time(b"16 uid=12345678\n21 uname=J\xc3\xb6rg Maier\n") + tar_file())) == ["w"]


def test_the_archive_that_pythons_tarfile_writes_is_read(read):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:  # as torch did
        for name, data in TAR_FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uname = len(data), 1483228800.1234567, "someone"
            archive.addfile(entry, io.BytesIO(data))
    assert b"mtime=1483228800.1234567\n" in buffer.getvalue()
    np.testing.assert_array_equal(read(buffer.getvalue())["w"], SIX.reshape(2, 3), strict=True)


def test_the_archive_made_by_hand_is_one_to_pythons_tarfile():
    with tarfile.open(fileobj=io.BytesIO(tar_file()), mode="r:") as archive:
        assert {entry.name: archive.extractfile(entry).read() for entry in archive} == TAR_FILES


# -- as torch reads it ----------------------------------------------------------------------------------------------

KINDS = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
}
STRIDED = tar_view((2, 2), (1, 3), 1)


def python_2():
    """A file as Python 2 wrote it: keys as decimal numbers, short strings, an OrderedDict of pairs."""
    key, data = b"I94020255495056\n", short("94020255495056") + b"Q"
    state = call("collections", "OrderedDict", listed(listed(short("w"), old_parameter(data))))
    storage = pickled(row(key, short("cpu"), name_of("torch", "FloatStorage"))) + struct.pack("<q", 6) + SIX.tobytes()
    of_tensor = pickled(row(key, key, name_of("torch", "FloatTensor"))) + tar_view()
    one = pickled(b"K\1")
    return tar_file(pickle=pickled(state), tensors=one + of_tensor, storages=one + storage + pickled(b"]"))


BY_HAND = {
    "parameter": tar_file,
    "tied": lambda: tar_file(pickle=program(a=old_parameter(WEIGHT) + b"q\7", b=b"h\7")),
    "of Python 2": python_2,
    "strided": lambda: tar_file(tensors=tar_tensors({11: (70, STRIDED)})),
    "without sides": lambda: tar_file(tensors=tar_tensors({11: (70, tar_view((), (), 4))})),
    "empty": lambda: tar_file(tensors=tar_tensors({11: (70, tar_view((0, 3), (3, 1)))})),
    "two tensors of one storage": lambda: tar_file(
        pickle=program(a=WEIGHT, b=text("12") + b"Q"), tensors=tar_tensors({11: (70, tar_view()), 12: (70, STRIDED)})),
    "storages that are parts of another": lambda: tar_file(
        tensors=tar_tensors({11: (72, tar_view((2,), (1,), 1))}),
        storages=tar_storages({70: ("FloatStorage", SIX)},
                              parts=row(*map(whole, (71, 70, 1, 5))) + row(*map(whole, (72, 71, 1, 3))))),
    "two storages": lambda: tar_file(
        pickle=program(a=WEIGHT, b=text("12") + b"Q"),
        tensors=tar_tensors({12: (60, tar_view()), 11: (70, tar_view())}),
        storages=tar_storages({70: ("FloatStorage", SIX), 60: ("DoubleStorage", -SIX.astype("<f8"))})),
} | {
    kind: lambda kind=kind: tar_file(
        pickle=program(w=WEIGHT), storages=tar_storages({70: (kind, SIX.astype(KINDS[kind]))}))
    for kind in KINDS
}


@pytest.mark.torch
@pytest.mark.parametrize("what", BY_HAND)
def test_torch_reads_the_archive_made_by_hand_as_we_do(what, tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "w.pth").write_bytes(BY_HAND[what]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tarfile in Python 3.12 to 3.14, about unpacking, as torch does
        tensors = torch.load(tmp_path / "w.pth", weights_only=False)
    arrays = read_tensors(tmp_path / "w.pth")
    assert list(arrays) == list(tensors)
    for name, value in tensors.items():
        value = value.detach().float() if value.dtype == torch.float16 else value.detach()
        np.testing.assert_array_equal(arrays[name], value.numpy(), strict=True)


def test_the_file_of_python_2_holds_the_numbers(read):
    np.testing.assert_array_equal(read(python_2())["w"], SIX.reshape(2, 3), strict=True)


def test_other_tensors_of_the_file_are_left_out(read):
    tensors = tar_tensors({11: (70, tar_view()), 12: (70, tar_view())})
    assert list(read(tar_file(pickle=STATE, tensors=tensors))) == ["w"]
