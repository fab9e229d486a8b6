"""For any bytes the readers return arrays or raise WeightsFileError, run nothing, open nothing else, and take little."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from guard import DOORS, complaint, fenced, first_complaint, tried
from handmade_files import SIX, npy, npz_file, program, tensor, torch_state
from handmade_hdf5 import hdf5_file
from handmade_protobuf import blob, caffe, layer, onnx
from handmade_protobuf import tensor as onnx_tensor
from handmade_safetensors import entry, safetensors_file
from handmade_torch import pickled, stream_file, tar_file
from hostile_files import HOSTILE as TORCH
from hostile_networks import FACTS, NETWORKS
from hostile_npz import NUMPY
from hostile_protobuf import PROTOBUF
from hostile_safetensors import SAFETENSORS
from hostile_torch import SHELL

from tinyresnet.weights import WeightsFileError
from weights_converter import torch_stream

REFUSED, SAID = "WeightsFileError", "returned"
READERS = dict.fromkeys(["read_tensors", "convert", "convert command", "inspect command"], REFUSED)
TABLES = {  # rows, what is wrong: (a function that makes the bytes, words of the reason); and which doors give it, and how
    "file": (TORCH | SAFETENSORS | PROTOBUF, READERS),
    "npz": (NUMPY, READERS | {"read_arrays": REFUSED, "load_model": REFUSED}),
    "network": (NETWORKS, {"convert": REFUSED, "convert command": REFUSED, "inspect command": SAID}),
    "facts": (FACTS, {"load_model": REFUSED}),
}
ROWS = [(table, name) for table, (rows, _) in TABLES.items() for name in rows]
SOUND = {
    "torch": torch_state({"w": SIX}),
    "stream": stream_file(program(w=tensor())),
    "tar": tar_file(),
    "npz": npz_file(b'{"a": 1}', w=npy(SIX)),
    "HDF5": hdf5_file({"w": SIX}),
    "safetensors": safetensors_file({"w": entry()}),
    "ONNX": onnx(onnx_tensor()),
    "Caffe": caffe(layer(blob())),
}


@pytest.fixture(scope="module")
def ask():
    with fenced() as ask:
        yield ask


# -- the rows -------------------------------------------------------------------------------------------------------


def through_all_doors(table, name, path):
    """What came of the row's file at each door"""
    Path(path).write_bytes(TABLES[table][0][name][0]())
    return {door: tried(reader, Path(path)) for door, reader in DOORS.items()}


def check(path, outcomes, doors, reason):
    """Each outcome is sound, and those of these doors give the reason."""
    complaints = {door: words for door, outcome in outcomes.items() if (words := complaint(path, outcome))}
    assert not complaints, complaints
    for door, kind in doors.items():
        assert outcomes[door][0] == kind and reason in outcomes[door][1].removeprefix(f"{path}: "), (door, outcomes[door])


@pytest.mark.parametrize("table, name", ROWS)
def test_a_hostile_file_is_refused_for_its_reason_within_limits(table, name, ask, tmp_path):
    path = tmp_path / "weights.pth"
    rows, doors = TABLES[table]
    check(path, ask(through_all_doors, table, name, str(path)), doors, rows[name][1])


def test_every_row_has_words_of_its_reason():
    short = [name for table, name in ROWS if len(TABLES[table][0][name][1]) < 3]
    assert not short


def test_a_command_in_the_place_of_torchs_magic_number_is_not_run_by_the_machine_either():
    """A file that starts so is not taken for a stream; here the stream's reader gets it all the same."""
    with pytest.raises(ValueError, match="posix.system, which is code and not weights"):
        torch_stream.read(io.BytesIO(stream_file(program(w=tensor()), magic=pickled(SHELL))))


# -- damage ---------------------------------------------------------------------------------------------------------


def cut(container, path):
    """The first length at which a cut file is not refused, with the outcome; None if there is none"""
    good = SOUND[container]
    for length in range(0, len(good), 1 + len(good) // 1000):  # a tar archive is long, and mostly zeros
        Path(path).write_bytes(good[:length])
        outcome = tried(DOORS["read_tensors"], Path(path))
        if outcome[0] != "WeightsFileError" or complaint(path, outcome):
            return length, outcome
    return None


@pytest.mark.parametrize("container", SOUND)
def test_a_file_cut_anywhere_is_refused(container, ask, tmp_path):
    assert ask(cut, container, str(tmp_path / "weights.pth")) is None


def with_one_byte_changed(change, path):
    """The first complaint about an HDF5 file in which any one byte is another"""
    good = SOUND["HDF5"]
    files = (good[:place] + bytes([byte ^ change]) + good[place + 1:] for place, byte in enumerate(good))
    return first_complaint(files, ["read_tensors"], Path(path))


@pytest.mark.parametrize("change", [0xFF, 0x01], ids="{:02x}".format)
def test_an_hdf5_file_with_any_one_byte_changed_gives_arrays_or_a_weights_file_error(change, ask, tmp_path):
    assert ask(with_one_byte_changed, change, str(tmp_path / "weights.pth")) == ""


# -- the guard itself -----------------------------------------------------------------------------------------------


def reserve(path):
    np.empty(10**9, np.uint8)  # not touched, so that the process would not grow by it


"".encode("cp437")  # of which zipfile has need, and imports it, which the hook would see


def inflate(path):
    zipfile.ZipFile(path).read("archive/data/0")


def endless(path):
    while True:
        pass


def endless_in_c(path):
    10 ** 10 ** 10  # where Python answers no signal


def run_pickle(path):
    pickle.loads(b"cposix\ngetpid\n)R.")


def open_another(path):
    open(path.with_name("other"), "w").close()


def write_over(path):
    path.with_name("out.npz").write_bytes(b"")


def of_another_kind(path):
    raise ValueError(f"{path}: is wrong")


def of_another_file(path):
    raise WeightsFileError("weights: is wrong")


def of_two_lines(path):
    raise WeightsFileError(f"{path}: is wrong\nand more")


BAD_READERS = {reader.__name__: (reader, words) for reader, words in [
    (reserve, "MemoryError: "), (inflate, "MemoryError: "),
    (endless, "ended: 'SIGXCPU'"), (endless_in_c, "ended: 'SIGXCPU'"),
    (run_pickle, "did: "), (open_another, "did: "), (write_over, "did: "),
    (of_another_kind, "ValueError: "), (of_another_file, "WeightsFileError: "), (of_two_lines, "WeightsFileError: ")]}


def tried_bad_reader(name, path):
    """What comes of a reader that fails in one way or another; the file is a deflate bomb"""
    Path(path).write_bytes(TABLES["file"][0]["zip: a deflate bomb"][0]())
    return tried(BAD_READERS[name][0], Path(path), seconds=0)


@pytest.mark.parametrize("name", BAD_READERS)
def test_the_guard_notices_a_reader_that_does_too_much_or_complains_badly(name, ask, tmp_path):
    path = tmp_path / "weights.pth"
    outcome = ask(tried_bad_reader, name, str(path))
    assert complaint(path, outcome).startswith(BAD_READERS[name][1])
    with pytest.raises(AssertionError):
        check(path, {"read_tensors": outcome}, {"read_tensors": REFUSED}, "is wrong")


def left_behind(path):
    """What comes of a reader that leaves a file beside the weights, where the hook does not look"""
    def reader(path):
        raise WeightsFileError(f"{path}: is wrong")
    Path(path).with_name("out.npz.part").touch()
    return tried(reader, Path(path))


def test_the_guard_notices_what_is_left_behind(ask, tmp_path):
    path = tmp_path / "weights.pth"
    path.touch()
    assert "out.npz.part" in complaint(path, ask(left_behind, str(path)))
