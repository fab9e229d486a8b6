"""Hostile safetensors files by what is wrong with them: a function that makes the bytes, and words of the reason."""

from handmade_files import SIX
from handmade_safetensors import entry, safetensors_file


def table(*args, **more):
    """A file with this table"""
    return lambda: safetensors_file(*args, **more)


def one(**of_entry):
    """A file with one tensor"""
    return table({"w": entry(**of_entry)})


def two(first, second, data=SIX.tobytes()):
    """A file with tensors of floats in these ranges of bytes"""
    ranges = {"a": first, "b": second}
    return table({name: entry([(end - start) // 4], start, end) for name, (start, end) in ranges.items()}, data)


def raw(text):
    """A file whose table is this text"""
    return lambda: safetensors_file(text)


TWICE = b'{"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}, "w": {"dtype": "F32", "shape": [6], ' \
        b'"data_offsets": [0, 24]}}'

SAFETENSORS = {
    "safetensors: a length of 2^63": (table({"w": entry()}, length=1 << 63), "9223372036854775808"),
    "safetensors: a length past the end": (table({"w": entry()}, length=5000), "expected 5000 bytes"),
    "safetensors: a table of 2 MB": (table(b"{" + b" " * (1 << 21) + b"}"), "1048576"),
    "safetensors: no tensors": (table({}, b""), "no tensors"),
    "safetensors: metadata alone": (table({"__metadata__": {"format": "pt"}}, b""), "no tensors"),
    "safetensors: tensors that overlap": (two((0, 16), (12, 24)), "an overlap with 'b'"),
    "safetensors: a tensor in the place of another": (two((0, 24), (0, 24)), "an overlap with 'b'"),
    "safetensors: a hole between tensors": (two((0, 8), (12, 24)), "a hole before 'b'"),
    "safetensors: a hole before all": (one(shape=[5], start=4), "a hole before 'w'"),
    "safetensors: a tail": (table({"w": entry()}, SIX.tobytes() + b"PK"), "26 follow"),
    "safetensors: data past the end": (table({"w": entry([600], 0, 2400)}), "take 2400 bytes, but 24 follow"),
    "safetensors: a name twice": (raw(TWICE), "a key is there twice"),
    "safetensors: offsets twice": (
        raw(b'{"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24], "data_offsets": [0, 4]}}'), "twice"),
    "safetensors: sides whose product overflows": (one(shape=[2**31, 2**31, 2**31]), "negative, huge or wrong"),
    "safetensors: an empty tensor with huge sides": (
        table({"w": entry([0, 2**31, 2**31], end=0)}, b""), "huge"),
    "safetensors: a side of 2^61": (one(shape=[0, 2**61], end=0), "all sound, for 'w'"),
    "safetensors: 100 sides": (table({"w": entry([1] * 100, end=4)}, bytes(4)), "100 sides"),
    "safetensors: 300,000 sides": (one(shape=[1] * 300_000), "300000 sides"),
    "safetensors: a negative side": (one(shape=[-2, -3]), "all sound, for 'w'"),
    "safetensors: a side that is a float": (one(shape=[2.0, 3]), "all sound, for 'w'"),
    "safetensors: a side that is text": (one(shape=["x", 10**9]), "all sound, for 'w'"),
    "safetensors: True as a side": (one(shape=[True, 6]), "all sound, for 'w'"),
    "safetensors: a shape deeper than Python": (
        raw(b'{"w": {"dtype": "F32", "shape": ' + b"[" * 900 + b"]" * 900 + b', "data_offsets": [0, 24]}}'),
        "all sound, for 'w'"),
    "safetensors: a negative offset": (one(start=-24, end=0), "all sound, for 'w'"),
    "safetensors: an offset that is a float": (one(start=0.0), "all sound, for 'w'"),
    "safetensors: an offset of 1e999": (
        raw(b'{"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 1e999]}}'), "all sound, for 'w'"),
    "safetensors: an end before the start": (one(start=24, end=0), "all sound, for 'w'"),
    "safetensors: one offset": (
        table({"w": {"dtype": "F32", "shape": [6], "data_offsets": [0]}}), "two data_offsets"),
    "safetensors: a line without dtype": (table({"w": {"shape": [6], "data_offsets": [0, 24]}}), "two data_offsets"),
    "safetensors: a line that is a list": (table({"w": [1, 2, 3]}), "two data_offsets"),
    "safetensors: an unknown dtype": (one(dtype="F8_E4M3"), "F8_E4M3"),
    "safetensors: a dtype that is a number": (one(dtype=4), "expected a dtype"),
    "safetensors: fewer bytes than the shape needs": (one(shape=[7]), "should hold 7 numbers of 4 bytes, but has 24"),
    "safetensors: bytes for another dtype": (one(dtype="F16"), "should hold 6 numbers of 2 bytes, but has 24"),
    "safetensors: JSON 100,000 deep": (raw(b'{"w": ' + b"[" * 100_000), "too deeply"),
    "safetensors: a number of 5,000 digits": (raw(b'{"w": ' + b"1" * 5000 + b"}"), "not sound JSON"),
    "safetensors: not UTF-8": (raw(b'{"w\xff": 1}'), "not sound JSON"),
    "safetensors: UTF-16": (raw('{"w": 1}'.encode("utf-16-le")), "not sound JSON"),
    "safetensors: cut JSON": (raw(b'{"w": '), "not sound JSON"),
    "safetensors: escape codes in a name": (table({"w\x1b[2J": entry()}), "printable"),
    "safetensors: half a surrogate as a name": (raw(
        b'{"\\ud800": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}'), "printable"),
    "safetensors: a tensor without a name": (table({"": entry()}), "printable"),
    "safetensors: a name of 100,000 letters": (table({"w" * 100_000: entry()}), "at most 500"),
    "safetensors: 10,001 tensors": (
        table({f"{i:x}": entry([0], 0, 0) for i in range(10_001)}, b""), "10000 tensors"),
}
