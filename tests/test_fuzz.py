"""A fuzzer for the readers of weights: whatever is done to a file, they give arrays or WeightsFileError, and soon.

    python tests/test_fuzz.py --seconds 300 --seed 7

Sound files and hostile ones of all formats are damaged at random, small files and whole networks, and go through the
readers, the converter and the command line within limits. Some seconds of it belong to the suite. What fails stays in a
file, and is named.
"""

import argparse
import json
import random
import struct
import tempfile
import time
from functools import cache, partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from guard import DOORS, fenced, first_complaint, in_fork
from handmade_files import SIX, npy, npz_file, state_of, torch_file, torch_parts
from test_weights_hostile import BAD_READERS, SOUND, TABLES
from test_weights_schemes import SOURCES, file_of

from tinyresnet.resnet import resnet18

# -- damage ---------------------------------------------------------------------------------------------------------

NUMBERS = [struct.pack(code, number) for code, numbers in {
    "<B": (0, 0x7F, 0x80, 0xFF), "<H": (0xFFFF,), "<i": (-1, 0x7FFFFFFF), ">i": (0x7FFFFFFF,),
    "<q": (-1, 2**62, 2**40, 2**31)}.items() for number in numbers]  # lengths and places that nobody expects


def flip(data, place, rng):
    data[place] ^= 1 << rng.randrange(8)


def put_number(data, place, rng):
    number = rng.choice(NUMBERS)
    data[place : place + len(number)] = number


def remove(data, place, rng):
    del data[place : place + rng.choice([1, 2, 8, 64, 512])]


def repeat(data, place, rng):
    """A part of the file once more, elsewhere."""
    start = rng.randrange(len(data))
    data[place:place] = data[start : start + rng.choice([1, 4, 16, 64, 512])]


def exchange(data, place, rng):
    """Two parts change places."""
    other, size = rng.randrange(len(data)), rng.choice([1, 4, 16, 64])
    data[place : place + size], data[other : other + size] = data[other : other + size], data[place : place + size]


CHANGES = flip, put_number, remove, repeat, exchange


def damaged(good, rng):
    """A copy with one to four changes."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        if data:
            rng.choice(CHANGES)(data, rng.randrange(len(data)), rng)
    return bytes(data)


# -- networks that are others ---------------------------------------------------------------------------------------


def rename(arrays, name, rng):
    arrays[damaged(name.encode(), rng).decode("latin-1")] = arrays.pop(name)


def replace_number(arrays, name, rng):
    arrays[name] = arrays[name].copy()
    arrays[name].flat[:1] = rng.choice([np.nan, np.inf, -np.inf, -1, 0, 3e38, 1e-45])


def reshape(arrays, name, rng):
    shape = list(arrays[name].shape)
    rng.shuffle(shape)
    arrays[name] = arrays[name].reshape(rng.choice([shape, shape[::-1], [*shape, 1], [1, *shape], -1]))


def cut_sides(arrays, name, rng):
    arrays[name] = rng.choice([arrays[name][:1], arrays[name][:0], arrays[name].flat[0]])


def other_dtype(arrays, name, rng):
    arrays[name] = arrays[name].astype(rng.choice(["f2", "f8", ">f4", "i8", "u1", "?", "c8"]))


def exchange_arrays(arrays, name, rng):
    other = rng.choice(list(arrays))
    arrays[name], arrays[other] = arrays[other], arrays[name]


def leave_out(arrays, name, rng):
    del arrays[name]


def add(arrays, name, rng):
    arrays[rng.choice(["model.", "module.", "x", "layer1.9."]) + name] = arrays[name]


OTHERS = rename, replace_number, reshape, cut_sides, other_dtype, exchange_arrays, leave_out, add


def another(state, rng):
    """The arrays with one to three changes, in an .npz"""
    arrays = dict(state)
    for _ in range(rng.randint(1, 3)):
        rng.choice(OTHERS)(arrays, rng.choice(list(arrays)), rng)
    return npz_file(**{name: npy(array) for name, array in arrays.items()})


# -- what is damaged ------------------------------------------------------------------------------------------------

LARGEST = 20_000  # bytes of a hostile file to begin with
ROOM = 40_000_000  # bytes that a small file may take; the largest number of things a reader allows takes half of it
STATE = state_of("resnet18", width=1)
OURS = {name: npy(array) for name, array in resnet18(3, width=1).state_dict().items()}
FACTS = json.dumps(resnet18(3, width=1).facts()).encode()
PICKLE, STORAGES = torch_parts(STATE)
WHOLE = {name: file_of(SOURCES[source], "resnet18", STATE)[0] for name, source in {
    "safetensors": "transformers", "HDF5": "Keras", "Caffe": "Caffe", "ONNX": "Gluon"}.items()}


@cache
def hostile():
    """Those that are small enough to be read often"""
    files = [make() for rows, _ in TABLES.values() for make, _ in rows.values()]
    return [data for data in files if 0 < len(data) <= LARGEST]


TARGETS = {  # what is damaged: how many files belong to the suite, and a function from a random generator to a file
    **{name: (100, partial(damaged, data)) for name, data in SOUND.items()},
    "hostile files": (800, lambda rng: damaged(rng.choice(hostile()), rng)),
    "a pickle": (200, lambda rng: torch_file(damaged(torch_parts({"w": SIX})[0], rng), {"w": SIX.tobytes()})),
    "a network in torch": (60, lambda rng: torch_file(damaged(PICKLE, rng), STORAGES)),  # inside of checksums
    **{f"a network in {name}": (60, partial(damaged, data)) for name, data in WHOLE.items()},
    "arrays of a network": (60, partial(another, STATE)),
    "facts": (100, lambda rng: npz_file(damaged(FACTS, rng), **OURS)),
}


# -- the fuzzer -----------------------------------------------------------------------------------------------------


def fuzz(target, seed, number, path):
    """The first complaint about so many damaged files, the last of which is left in the path; "" if there is none."""
    rng = random.Random(f"{target} {seed}")
    files = (TARGETS[target][1](rng) for _ in range(number))
    return first_complaint(files, ["read_graph", "convert", "inspect command", "load_model"], Path(path), ROOM)


@pytest.fixture(scope="module")
def ask():
    with fenced() as ask:
        yield ask


@pytest.mark.parametrize("target", TARGETS)
def test_a_damaged_file_gives_arrays_or_a_weights_file_error(target, ask, tmp_path):
    assert ask(fuzz, target, 1, TARGETS[target][0], str(tmp_path / "damaged")) == ""


def fuzz_reader(name, path):
    """Fuzz with this function, which fails in one way or another, in the place of a reader"""
    DOORS["convert"] = BAD_READERS[name][0]  # of a process that ends with this function
    return fuzz("torch", 1, 3, path)


@pytest.mark.parametrize("name", ["reserve", "open_another", "of_another_kind"])
def test_the_fuzzer_notices(name, ask, tmp_path):
    assert BAD_READERS[name][1] in ask(fuzz_reader, name, str(tmp_path / "damaged"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, path, files = time.monotonic() + options.seconds, Path(tempfile.mkdtemp()) / "damaged", 0
    for seed in count(options.seed):
        for target, (number, _) in TARGETS.items():
            if time.monotonic() > end:
                return print(files, "files read")
            words = in_fork(fuzz, target, seed, number, str(path))
            if words:
                raise SystemExit(f"{target}, seed {seed}, the last in {path}: {words}")
            files += number


if __name__ == "__main__":
    main()
