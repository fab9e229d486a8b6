"""For any bytes the readers return arrays or raise WeightsFileError, run nothing, open nothing else, and are quick."""

import random
import sys
import time
import tracemalloc

import pytest
from handmade_files import SIX, npy, npz_file, program, tensor, text, torch_file, torch_state, whole
from handmade_hdf5 import hdf5_file
from handmade_protobuf import blob, caffe, layer, onnx
from handmade_protobuf import tensor as onnx_tensor
from handmade_safetensors import entry, safetensors_file
from handmade_torch import stream_file, tar_file
from hostile_files import GOOD
from hostile_files import HOSTILE as TORCH
from hostile_npz import NUMPY
from hostile_protobuf import PROTOBUF
from hostile_safetensors import SAFETENSORS

from tinyresnet.weights import WeightsFileError, read_arrays
from weights_converter import read_tensors

HOSTILE = TORCH | {f"npz: {name}": row for name, row in NUMPY.items()} | SAFETENSORS | PROTOBUF
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
READING = []  # while the list is not empty, the hook below notes what Python does
DONE = []
HARMLESS = {"object.__getattr__", "object.__setattr__", "sys._getframe", "gc.collect"}


def note(event, arguments):
    if READING and event not in HARMLESS:
        DONE.append((event, arguments))


sys.addaudithook(note)  # cannot be taken away again, hence the switch


def outcome_of(reader, path):
    """What the reader raises, or None; fails if it opened another file, imported, compiled or started anything."""
    DONE.clear()
    READING.append(path)
    try:
        reader(path)
        return None
    except Exception as error:
        return error
    finally:
        READING.clear()
        assert {(event, str(arguments[0])) for event, arguments in DONE} <= {("open", str(path))}, DONE


@pytest.fixture
def written(tmp_path):
    """A function that writes bytes to a file and returns its path."""
    def write(content, name="weights.pth"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name
    return write


def check_refused(read, path, reason):
    error = outcome_of(read, path)
    assert type(error) is WeightsFileError, error
    assert str(error).startswith(f"{path}: ") and reason in str(error)
    assert "\n" not in str(error) and len(str(error)) < 1000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_reason(name, written):
    check_refused(read_tensors, written(HOSTILE[name][0]()), HOSTILE[name][1])


@pytest.mark.parametrize("name", NUMPY)
def test_a_hostile_npz_is_refused_by_read_arrays(name, written):
    check_refused(read_arrays, written(NUMPY[name][0]()), NUMPY[name][1])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_within_20_seconds_of_work_and_150_megabytes(name, written):
    path = written(HOSTILE[name][0]())
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(WeightsFileError):
        read_tensors(path)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 20 and peak < 150e6, (seconds, peak)  # the promise is 200 MB; Python and NumPy take 40 of them


def test_the_audit_hook_sees_a_pickle_run_code(written):
    """The guard itself: with Python's own pickle, it reports the import and the command."""
    import pickle

    with pytest.raises(AssertionError, match="pickle.find_class"):
        outcome_of(lambda path: pickle.loads(b"cposix\ngetpid\n)R."), written(b""))


@pytest.mark.parametrize("seed", range(4))
def test_a_pickle_with_random_bytes_changed_gives_arrays_or_a_weights_file_error(seed, written):
    rng = random.Random(seed)
    pickle = GOOD[:-2] + text("epoch") + whole(3) + text("list") + b"]q\1(" + tensor() + b"NG" + bytes(8) + b"eu."
    for _ in range(100):
        changed = bytearray(pickle)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(changed))] = rng.choice([rng.randrange(256), rng.choice(pickle)])
        error = outcome_of(read_tensors, written(torch_file(bytes(changed))))
        assert error is None or type(error) is WeightsFileError, (error, bytes(changed))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("container", SOUND)
def test_a_file_with_random_bytes_changed_gives_arrays_or_a_weights_file_error(container, seed, written):
    rng = random.Random(seed)
    for _ in range(100):
        changed = bytearray(SOUND[container])
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        error = outcome_of(read_tensors, written(bytes(changed)))
        assert error is None or type(error) is WeightsFileError, (error, bytes(changed))


@pytest.mark.parametrize("container", SOUND)
def test_a_file_cut_anywhere_is_refused(container, written):
    good = SOUND[container]
    for length in range(0, len(good), 1 + len(good) // 1000):  # a tar archive is long, and mostly zeros
        assert type(outcome_of(read_tensors, written(good[:length]))) is WeightsFileError, length


@pytest.mark.parametrize("change", [0xFF, 0x01], ids="{:02x}".format)
def test_an_hdf5_file_with_any_one_byte_changed_gives_arrays_or_a_weights_file_error(change, written):
    for place, byte in enumerate(SOUND["HDF5"]):
        changed = bytearray(SOUND["HDF5"])
        changed[place] = byte ^ change
        error = outcome_of(read_tensors, written(changed))
        assert error is None or type(error) is WeightsFileError, (place, error)
