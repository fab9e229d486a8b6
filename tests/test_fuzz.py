"""A fuzzer for the readers of weights: whatever is done to a file, they give arrays or WeightsFileError, and soon.

    python tests/test_fuzz.py --seconds 300 --seed 7

Sound files and hostile ones of all formats are damaged at random. Some seconds of it belong to the suite. What fails is
written to a file, and named.
"""

import argparse
import random
import struct
import sys
import tempfile
import time
import tracemalloc
from itertools import count
from pathlib import Path

import pytest
from test_weights_hostile import HOSTILE, SOUND, outcome_of

from tinyresnet.weights import WeightsFileError
from weights_converter import read_tensors

SECONDS, BYTES = 5, 40e6  # that a small file may take; the largest number of things a reader allows takes half of it
LARGEST = 20_000  # bytes of a file to begin with
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


def complaint(path):
    """What is wrong with how the file was read; None if nothing is."""
    tracemalloc.reset_peak()
    begin, held = time.process_time(), tracemalloc.get_traced_memory()[0]
    try:
        error = outcome_of(read_tensors, path)
    except AssertionError as more:
        return f"something else was done: {more}"
    seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1] - held
    if error is not None and type(error) is not WeightsFileError:
        return f"{type(error).__name__}: {error}"
    return f"{seconds:.1f} s, {peak / 1e6:.0f} MB" if seconds > SECONDS or peak > BYTES else None


def fuzz(good, seed, folder, goes_on):
    """Damage and read while goes_on(number); returns the number, or raises AssertionError and leaves the file there."""
    rng, path = random.Random(seed), folder / "damaged"
    tracemalloc.start()
    try:
        for number in count():
            if not goes_on(number):
                return number
            path.write_bytes(damaged(rng.choice(good), rng))
            words = complaint(path)
            assert words is None, f"{path}, number {number} of seed {seed}: {words}"
    finally:
        tracemalloc.stop()


def hostile():
    """Those that are small enough to be read often."""
    return [data for data in (make() for make, _ in HOSTILE.values()) if 0 < len(data) <= LARGEST]


@pytest.mark.parametrize("container", SOUND)
def test_a_damaged_file_gives_arrays_or_a_weights_file_error(container, tmp_path):
    fuzz([SOUND[container]], 1, tmp_path, lambda number: number < 400)


def test_a_damaged_hostile_file_gives_arrays_or_a_weights_file_error(tmp_path):
    fuzz(hostile(), 1, tmp_path, lambda number: number < 2000)


@pytest.mark.parametrize("reader, words", [
    (lambda path: 1 / 0, "ZeroDivisionError"), (lambda path: bytes(50_000_000), "50 MB"),
    (lambda path: open(path.parent / "other", "wb").close(), "something else was done")], ids=["error", "memory", "file"])
def test_the_fuzzer_notices(reader, words, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "read_tensors", reader)
    with pytest.raises(AssertionError, match=words):
        fuzz([b"weights"], 1, tmp_path, lambda number: number < 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    print(fuzz([*SOUND.values(), *hostile()], options.seed, Path(tempfile.mkdtemp()), lambda _: time.monotonic() < end),
          "files read")
