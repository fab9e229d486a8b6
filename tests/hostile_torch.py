"""Hostile files in torch's containers before version 1.6, as in hostile_files.py."""

import numpy as np
from handmade_files import SIX, call, name_of, program, row, storage, tensor, text, whole
from handmade_torch import MAGIC, listed, old_parameter, pickled, stream_file

SHELL = call("posix", "system", text("touch hacked"))
GOOD = program(w=tensor())

# -- the stream -----------------------------------------------------------------------------------------------------


def stream(pickle=GOOD, storages=None, **changes):
    """A stream, changed"""
    return lambda: stream_file(pickle, storages, **changes)


TWO = {"0": SIX, "1": SIX}


def part(offset, count):
    """The sixth item of a persistent id"""
    return row(text("1"), whole(offset), whole(count))


STREAM = {
    "a shell command in a stream": (stream(program(x=SHELL, w=tensor())), "posix.system"),
    "a shell command for magic": (stream(magic=pickled(SHELL)), "bare Python pickle"),
    "a shell command for the list of keys": (stream(keys=SHELL), "posix.system"),
    "a storage for the list of keys": (stream(keys=storage()), "torch.FloatStorage"),
    "a persistent id for the list of keys": (stream(keys=whole(0) + b"Q"), "only names and numbers"),
    "a number for the list of keys": (stream(keys=b"N"), "list of the keys"),
    "numbers in the list of keys": (stream(keys=listed(whole(0))), "list of the keys"),
    "lists in the list of keys": (stream(keys=listed(b"]")), "list of the keys"),
    "a key twice in the list": (stream(keys=listed(text("0"), text("0"))), "twice"),
    "a key that no tensor has": (stream(storages=TWO), "storage '1' is in the list of storages or"),
    "a key that is not in the list": (stream(storages={}), "storage '0' is in the list of storages or"),
    "wrong magic": (stream(magic=MAGIC[:-2] + b"\x18."), "bare Python pickle"),
    "version 1002": (stream(version=1002), "version 1001"),
    "-1 numbers in a stream": (stream(count=-1), "claims to have -1 numbers"),
    "2^60 numbers in a stream": (stream(count=2**60), "claims to have 1152921504606846976 numbers"),
    "2^31 numbers in a stream": (stream(count=2**31), "expected 8589934592 bytes"),
    "2^31 numbers in pickle and stream": (
        stream(program(w=tensor(count=2**31)), count=2**31), "expected 8589934592 bytes"),
    "fewer numbers in a stream": (stream(count=5), "should hold 6 numbers, but has 5"),
    "one storage with two types in a stream": (
        stream(program(a=tensor(), b=tensor((3,), (1,), kind="LongStorage", count=3))), "is used as 6 f4 and as 3 i8"),
    "a part past the end of its storage": (stream(program(w=tensor(part=part(4, 3)))), "within its 6 numbers"),
    "a part of -1 numbers in a stream": (stream(program(w=tensor(part=part(4, -1)))), "within its 6 numbers"),
    "a tensor past the end of a part": (stream(program(w=tensor(part=part(1, 5)))), "ends at number 6"),
    "a part that is a name": (stream(program(w=tensor(part=text("x")))), "expected a persistent id"),
    "a stream that goes on": (stream(tail=b"\0"), "1 bytes follow"),
    "a stream without its last byte": (lambda: stream_file(GOOD)[:-1], "is cut"),
    "a stream of magic alone": (lambda: MAGIC, "is cut"),
    "a stream's pickle of 2 MB": (stream(program(x=text("x" * (1 << 21)))), "too long for one of weights"),
    "overlapping rows in a stream": (
        stream(program(w=tensor((1000, 1000), (1, 1), count=2000)), {"0": np.zeros(2000, "<f4")}), "share storages"),
    "a parameter without a tensor": (stream(program(w=old_parameter(b"", b"N"))), "a state of 3 or 5"),
    "a parameter without a state": (
        stream(program(w=name_of("torch.nn.parameter", "Parameter") + b")\x81")), "parameter without a tensor"),
    "a parameter made of a name": (
        stream(program(w=name_of("torch.nn.parameter", "Parameter") + text("w") + b"\x85\x81")), "made of a tensor"),
    "a parameter with two tensors": (
        stream(program(w=call("torch.nn.parameter", "Parameter", tensor()) + row(tensor(), *[b"N"] * 4) + b"b")),
        "one tensor"),
}
