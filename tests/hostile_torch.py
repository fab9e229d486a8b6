"""Hostile files in torch's containers before version 1.6, as in hostile_files.py."""

import struct

import numpy as np
from handmade_files import SIX, call, name_of, program, row, storage, tensor, text, whole
from handmade_torch import (
    MAGIC, STATE, TAR_FILES, WEIGHT, listed, old_parameter, pickled, stream_file, tar_entry, tar_file, tar_storages,
    tar_tensors, tar_time, tar_view,
)

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
    "a shell command for the version": (stream(version=SHELL), "posix.system"),
    "a shell command for sys_info": (stream(sys_info=SHELL), "posix.system"),
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
    "version 1002": (stream(version=whole(1002)), "version 1001"),
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

# -- the tar archive ------------------------------------------------------------------------------------------------


def tar(*more, **changes):
    """An archive, with more entries or other files"""
    return lambda: tar_file(*more, **changes)


def first(*entries):
    """An archive with these entries before all others"""
    return lambda: b"".join(entries) + tar_file()


def sys_info(**changes):
    """An archive whose first entry has another header"""
    name = changes.pop("name", "sys_info")
    return lambda: tar_entry(name, TAR_FILES["sys_info"], **changes) + tar_file(sys_info=None)


def record(records):
    """An archive that starts with these PAX records"""
    return lambda: tar_time(records) + tar_file()


def geometry(*numbers):
    """An archive whose tensor has this number of sides, and then these int64"""
    sides, *rest = numbers
    return tar(tensors=tar_tensors({11: (70, struct.pack(f"<2i{len(rest)}q", sides, 0, *rest))}))


def parts(*numbers):
    """An archive with a storage that is a part of another"""
    return tar(storages=tar_storages({70: ("FloatStorage", SIX)}, parts=row(*map(whole, numbers))))


ONE = {70: ("FloatStorage", SIX)}

TAR = {
    "torch's tar, cut": (lambda: tar_file()[:3000], "is cut"),
    "a tar's shell command": (tar(pickle=pickled(SHELL)), "posix.system"),
    "a tar's shell command among tensors": (tar(tensors=pickled(SHELL)), "posix.system"),
    "a tar's shell command for a tensor": (tar(tensors=pickled(whole(1)) + pickled(SHELL)), "posix.system"),
    "a tar's shell command for a type": (
        tar(tensors=pickled(whole(1)) + pickled(row(whole(11), whole(70), name_of("posix", "system")))), "posix.system"),
    "a tar's shell command among storages": (tar(storages=pickled(SHELL)), "posix.system"),
    "a tar's shell command for parts": (tar(storages=tar_storages(ONE)[:-6] + pickled(SHELL)), "posix.system"),
    "a symbolic link": (sys_info(kind=b"2", link="/etc/passwd"), "a link or a long path"),
    "a symbolic link to nothing": (sys_info(kind=b"2"), "each once and a plain file"),
    "a hard link": (sys_info(kind=b"1", link="pickle"), "a link or a long path"),
    "a device": (sys_info(kind=b"3"), "each once and a plain file"),
    "a folder": (first(tar_entry("data/", b"", kind=b"5")), "got 'data/'"),
    "a file with holes": (sys_info(kind=b"S"), "each once and a plain file"),
    "a name in a file of its own": (first(tar_entry("././@LongLink", b"sys_info\0", kind=b"L")), "LongLink"),
    "records for all files": (first(tar_entry("g", b"19 path=../../x.py\n", kind=b"g")), "each once"),
    "a tar with ../x": (sys_info(name="../x"), "got '../x'"),
    "a tar with an absolute name": (sys_info(name="/etc/passwd"), "got '/etc/passwd'"),
    "a tar with a long path": (sys_info(prefix="../.."), "a link or a long path"),
    "a tar with escape codes": (sys_info(name="\x1b[2J"), "got '\\x1b[2J'"),
    "a record that overrides the path": (record(b"14 path=../xx\n"), "overrides a header"),
    "a record that overrides the size": (record(b"13 size=99999\n"), "overrides a header"),
    "a record that overrides the link": (record(b"19 linkpath=/etc/x\n"), "overrides a header"),
    "a record of holes": (record(b"22 GNU.sparse.major=1\n"), "overrides a header"),
    "a record within another": (record(b"26 mtime=1\n14 path=../xx\n"), "overrides a header"),
    "a record of a wrong length": (record(b"99 mtime=1.25\n"), "overrides a header"),
    "a record without end": (record(b"13 mtime=1.25"), "overrides a header"),
    "a record of 2 MB": (record(b"\n" * (1 << 21)), "got '././@PaxHeader'"),
    "a damaged header": (sys_info(damage=1), "damaged"),
    "a header of GNU's": (sys_info(magic=b"ustar  \0"), "of another kind"),
    "a size of 2^33": (sys_info(size=b"77777777777\0"), "expected 8589934591 bytes"),
    "a size in base 256": (sys_info(size=b"\x80" + bytes(10) + b"\1"), "octal digits"),
    "a negative size": (sys_info(size=b"-0000000001\0"), "octal digits"),
    "two files of one name": (tar(tar_entry("pickle", STATE)), "got 'pickle'"),
    "one more file": (tar(tar_entry("readme", b"")), "got 'readme'"),
    "a tar without its tensors": (tar(tensors=None), "found pickle, storages, sys_info"),
    "a tar of something else": (lambda: tar_entry("a.txt", b"hello") + bytes(1024), "got 'a.txt'"),
    "an empty tar": (lambda: tar_time() + bytes(1024), "none of them"),
    "a tar without an end": (tar(tail=b""), "is cut"),
    "a tar with half an end": (tar(tail=bytes(512)), "is cut, or goes on"),
    "a tar that goes on": (tar(tail=bytes(1024) + tar_entry("pickle", STATE)), "goes on"),
    "a megabyte of zeros at the end": (tar(tail=bytes(1 << 20)), "goes on"),
    "-1 sides": (geometry(-1, 0), "got -1"),
    "33 sides": (geometry(33, *[1] * 67), "got 33"),
    "2^31 sides": (geometry(2**31 - 1, 0), "got 2147483647"),
    "a tar's negative side": (geometry(1, -6, 1, 0), "negative"),
    "a tar's negative stride": (geometry(1, 6, -1, 5), "negative"),
    "a tar's negative offset": (geometry(1, 6, 1, -1), "negative"),
    "a tar's offset past the end": (geometry(1, 6, 1, 1), "ends at number 7"),
    "a tar's stride past the end": (geometry(2, 2, 3, 4, 1, 0), "ends at number 7"),
    "a tar's stride 0": (geometry(1, 1000, 0, 0), "stride of 0"),
    "overlapping rows in a tar": (
        tar(tensors=tar_tensors({11: (70, tar_view((1000, 1000), (1, 1)))}),
            storages=tar_storages({70: ("FloatStorage", np.zeros(2000, "<f4"))})), "share storages"),
    "a tar's side of 2^61": (geometry(2, 0, 2**61, 1, 1, 0), "huge"),
    "a tensor cut in its sides": (geometry(3, 1, 1), "is cut or damaged"),
    "a tensor of an unknown storage": (tar(tensors=tar_tensors({11: (71, tar_view())})), "the key of a storage"),
    "a tensor of no storage": (
        tar(tensors=pickled(whole(1)) + pickled(row(whole(11), b"N", name_of("torch", "FloatTensor")))), "the key of a"),
    "a tensor's key twice": (
        tar(tensors=tar_tensors({11: (70, tar_view())}, number=2)
            + tar_tensors({11: (70, tar_view())})[len(pickled(whole(1))):]), "used once"),
    "more tensors than there are": (tar(tensors=tar_tensors({11: (70, tar_view())}, number=2)), "is cut"),
    "fewer tensors than there are": (tar(tensors=tar_tensors({11: (70, tar_view())}, number=0)), "bytes follow"),
    "-1 tensors": (tar(tensors=tar_tensors({}, number=-1)), "at most 10000"),
    "10,001 tensors": (tar(tensors=tar_tensors({}, number=10_001)), "at most 10000"),
    "2^40 tensors": (tar(tensors=tar_tensors({}, number=2**40)), "at most 10000"),
    "2^40 storages": (tar(storages=tar_storages({}, number=2**40)), "at most 10000"),
    "more storages than there are": (tar(storages=tar_storages(ONE, number=2)), "expected a storage's key"),
    "a storage's key twice": (
        tar(storages=tar_storages(ONE, number=2)[:-6] + tar_storages(ONE)[len(pickled(whole(1))):]), "used once"),
    "a storage of no type": (tar(storages=tar_storages({70: ("FloatTensor", SIX)})), "location and type"),
    "2^60 numbers in a tar": (
        tar(storages=tar_storages(ONE).replace(struct.pack("<q", 6), struct.pack("<q", 2**60))), "claims to have 115"),
    "-1 numbers in a tar": (
        tar(storages=tar_storages(ONE).replace(struct.pack("<q", 6), struct.pack("<q", -1))), "claims to have -1"),
    "2^31 numbers in a tar": (
        tar(storages=tar_storages(ONE).replace(struct.pack("<q", 6), struct.pack("<q", 2**31))), "expected 8589934592"),
    "storages that go on": (tar(storages=tar_storages(ONE) + b"N."), "2 bytes follow"),
    "parts that are no list": (tar(storages=tar_storages(ONE)[:-6] + pickled(b"N")), "list of parts"),
    "a part of an unknown storage": (parts(71, 99, 0, 3), "expected a part"),
    "a part of itself": (parts(71, 71, 0, 3), "expected a part"),
    "a part in the place of a storage": (parts(70, 70, 0, 3), "expected a part"),
    "a part of a part": (
        tar(storages=tar_storages(ONE, parts=row(*map(whole, (71, 70, 1, 3))) + row(*map(whole, (72, 71, 1, 3))))),
        "within its 3 numbers"),
    "a part past the end": (parts(71, 70, 4, 3), "within its 6 numbers"),
    "a part before the start": (parts(71, 70, -1, 3), "within its 6 numbers"),
    "a part of -1 numbers": (parts(71, 70, 3, -1), "within its 6 numbers"),
    "a pickle that goes on in a tar": (tar(pickle=STATE + b"N."), "2 bytes follow"),
    "an unknown tensor": (tar(pickle=program(w=text("12") + b"Q")), "the key of a tensor"),
    "a tensor's key as a number": (tar(pickle=program(w=whole(11) + b"Q")), "the key of a tensor"),
    "a whole module in a tar": (
        tar(pickle=program(w=WEIGHT, x=row(name_of("collections", "OrderedDict"), b"N", b"N") + b"Q")), "whole module"),
    "a tar's parameter without a tensor": (
        tar(pickle=program(w=old_parameter(b"", row(*[b"N"] * 5)))), "expected a parameter to have one tensor"),
    "10,001 names for one tensor in a tar": (
        tar(pickle=program(**{f"{i}": WEIGHT for i in range(10_001)})), "10000 tensors"),
}
