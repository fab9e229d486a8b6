"""Hostile files by what is wrong with them: a function that makes the bytes, and words of the reason to be given.

The rows for zip and pickle of the converter's security promise; those of other formats stand beside this file.
"""

import zipfile

from handmade_files import (
    MEGABYTES, SIX, bomb, call, compressed, name_of, program, row, storage, tensor, text, torch_entries, torch_file, whole,
    zip_file,
)
from hostile_hdf5 import HDF5
from hostile_torch import STREAM, TAR

# -- hostile programs -----------------------------------------------------------------------------------------------


def runs(instructions):
    """A torch file that holds a tensor, and whose pickle runs these instructions before"""
    return lambda: torch_file(b"\x80\2}(" + text("x") + instructions + text("w") + tensor() + b"u.")


def has(pickle, storages=None, **more):
    """A torch file around this pickle"""
    return lambda: torch_file(pickle, storages, **more)


def one(**of_tensor):
    """A torch file with one tensor"""
    return lambda: torch_file(program(w=tensor(**of_tensor)))


def shared_children(width=60, depth=7):
    """60^7 leaves in 1,000 bytes: each list holds the one before 60 times"""
    levels = text("0") + b"]q\0"
    for number in range(1, depth + 1):
        children = bytes([ord("h"), number - 1]) * width
        levels += text(f"{number}") + b"](" + children + b"e" + bytes([ord("q"), number])
    return b"\x80\2}(" + levels + b"u."


def paired_tuple(depth=60):
    """A tuple of 2^depth leaves as a key of a dictionary, which must be hashed"""
    return b"\x80\2}" + b"N" + b"".join(b"q\0h\0\x86" for _ in range(depth)) + b"Ns."


def aliases(number=20_000):
    """One storage as the tensor of 20,000 names"""
    items = b"".join(text(f"{i}") + b"h\1" for i in range(number))
    return b"\x80\2}(" + text("w") + tensor() + b"q\1" + items + b"u."


def scalar(module):
    """A NumPy scalar as NumPy pickles one of dtype object: its bytes are a pickle, which NumPy would run"""
    inner = b"\x80\2" + call("posix", "system", text("touch hacked")) + b"."
    return call(module, "scalar", call("numpy", "dtype", text("O8")), b"U" + bytes([len(inner)]) + inner)


PROGRAMS = {
    "a shell command": (runs(call("posix", "system", text("touch hacked"))), "posix.system"),
    "a shell command by another name": (runs(call("os", "system", text("touch hacked"))), "os.system"),
    "eval": (runs(call("__builtin__", "eval", text("1+1"))), "__builtin__.eval"),
    "exec of Python 3": (runs(call("builtins", "exec", text("1+1"))), "builtins.exec"),
    "getattr": (runs(call("builtins", "getattr", text("x"), text("upper"))), "builtins.getattr"),
    "functools.partial": (runs(name_of("functools", "partial")), "functools.partial"),
    "a NumPy scalar with a pickle inside": (runs(scalar("numpy.core.multiarray")), "numpy.core.multiarray.scalar"),
    "a NumPy scalar of NumPy 2 with a pickle inside": (
        runs(scalar("numpy._core.multiarray")), "numpy._core.multiarray.scalar"),
    "a storage loaded by another pickle": (runs(name_of("torch.storage", "_load_from_bytes")), "_load_from_bytes"),
    "a dotted name": (runs(name_of("torch", "_utils._rebuild_tensor_v2")), "torch._utils._rebuild_tensor_v2"),
    "a dotted way out of an allowed module": (runs(name_of("collections", "OrderedDict.__init__")), "__init__"),
    "a whole module": (runs(name_of("torchvision.models.resnet", "ResNet")), "save model.state_dict()"),
    "STACK_GLOBAL": (runs(text("posix") + text("system") + b"\x93"), "STACK_GLOBAL"),
    "escape codes in a function's name": (runs(name_of("posix", "\x1b[2J")), "code and not weights"),
    "INST": (runs(b"(iposix\nsystem\n"), "INST"),
    "OBJ": (runs(b"(" + name_of("collections", "OrderedDict") + b"o"), "OBJ"),
    "NEWOBJ": (runs(name_of("collections", "OrderedDict") + b")\x81"), "NEWOBJ"),
    "NEWOBJ of a parameter": (runs(name_of("torch.nn.parameter", "Parameter") + b")\x81"), "parameter.Parameter"),
    "EXT1": (runs(b"\x82\1"), "EXT1"),
    "EXT4": (runs(b"\x84\1\0\0\0"), "EXT4"),
    "BUILD on a name": (runs(name_of("collections", "OrderedDict") + b"}b"), "needs a dict, got a Global"),
    "BUILD on a tensor": (runs(tensor() + b"}b"), "needs a dict, got a View"),
    "REDUCE of a string": (runs(text("eval") + b")R"), "needs a Global, got a str"),
    "REDUCE of a storage type": (runs(name_of("torch", "FloatStorage") + b")R"), "torch.FloatStorage"),
    "REDUCE with a list": (runs(name_of("collections", "OrderedDict") + b"]R"), "needs a tuple, got a list"),
    "OrderedDict of no pairs": (runs(call("collections", "OrderedDict", b"]Na")), "OrderedDict"),
    "SETITEM on a list": (runs(b"]" + text("a") + b"Ns"), "needs a dict, got a list"),
    "APPEND to a dictionary": (runs(b"}Na"), "needs a list, got a dict"),
    "SETITEMS without a value": (runs(b"}(" + text("a") + b"u"), "without a value"),
    "a memo at 2^31": (runs(b"Nr\0\0\0\x80"), "2147483648"),
    "a memo never written": (runs(b"h\7"), "value number 7"),
    "4 GB of text in 20 bytes": (has(b"\x80\2}X\xff\xff\xff\xff0123456789"), "asks for 4294967295 bytes"),
    "a tuple as a key, paired with itself": (has(paired_tuple()), "key, got a tuple"),
    "a number of 255 bytes as a key": (has(b"\x80\2}\x8a\xff" + b"\x7f" * 255 + b"Ns."), "as key"),
    "a key twice": (has(b"\x80\2}(" + (text("w") + tensor()) * 2 + b"u."), "twice"),
    "shared children 60^7": (has(shared_children()), "share their parts"),
    "a dictionary in itself": (has(b"\x80\2}q\0(" + text("x") + b"h\0u."), "without end"),
    "a list in itself, 200 times": (has(b"\x80\2]q\0(" + b"h\0" * 200 + b"e."), "without end"),
    "100,000 lists in each other": (has(b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b"."), "without end"),
    "20,000 aliases": (has(aliases()), "10000 tensors"),
    "stack underflow": (has(b"\x80\2}s."), "more from its stack"),
    "an empty stack at the end": (has(b"\x80\2."), "more from its stack"),
    "a mark missing": (has(b"\x80\2t."), "mark"),
    "taking from below a mark": (has(b"\x80\2]N(a."), "more from its stack"),
    "a cut pickle": (has(program(w=tensor())[:-1]), "is cut"),
    "an empty pickle": (has(b""), "is cut"),
    "a name without end": (has(b"\x80\2c" + b"a" * 1000), "no name of at most"),
    "something after the end": (has(program(w=tensor()) + b"N."), "after its end"),
    "protocol 4": (has(b"\x80\4}."), "protocol 4"),
    "no tensors": (has(program(epoch=whole(3))), "no tensors"),
    "a tensor without a name": (has(b"\x80\2" + tensor() + b"."), "without a name"),
    "two ways to one name": (has(program(**{"a.b": tensor(), "a": b"}" + text("b") + tensor() + b"s"})), "'a.b'"),
    "escape codes in a name": (has(program(**{"w\x1b[2J": tensor()})), "printable"),
    "a name of 100,000 letters": (has(program(**{"w" * 100_000: tensor()})), "at most 500"),
    "a million dictionaries": (has(b"\x80\2" + b"}" * 1_000_000), "is cut"),
    "a million marks": (has(b"\x80\2" + b"(" * 1_000_000), "is cut"),
    "a pickle of 2 MB": (has(b"\x80\2" + b"}" * (1 << 21)), "1048576"),
}

# -- tensors that are not what they say -----------------------------------------------------------------------------

TWO_TYPES = program(a=tensor(), b=tensor((3,), (1,), kind="LongStorage", count=3))
CONJUGATE = call("torch._utils", "_rebuild_tensor_v2", storage(count=3, kind="ComplexFloatStorage"), whole(0),
                 row(whole(3)), row(whole(1)), b"\x89", call("collections", "OrderedDict"), b"}" + text("conj") + b"\x88s")

TRUE, FALSE = b"\x88", b"\x89"


def rebuilt(offset, shape, stride):
    """A torch file with a tensor of this geometry"""
    return runs(call("torch._utils", "_rebuild_tensor", storage(), offset, shape, stride))


TENSORS = {
    "a side of 2^40": (one(shape=(2**40,), stride=(1,)), "huge"),
    "sides whose product overflows": (one(shape=(2**31, 2**31, 2**31), stride=(1, 1, 1)), "claims the shape"),
    "an empty tensor with a side of 2^61": (one(shape=(0, 2**61), stride=(1, 1)), "huge"),
    "an empty tensor with huge sides": (one(shape=(0, 2**31, 2**31), stride=(1, 1, 1)), "claims the shape"),
    "a stride past the end": (one(stride=(4, 1)), "ends at number 7"),
    "an offset past the end": (one(offset=1), "ends at number 7"),
    "a negative stride": (one(stride=(-3, 1)), "negative"),
    "a negative offset": (one(offset=-1), "negative"),
    "a negative side": (one(shape=(-2, 3)), "negative"),
    "True as a side": (rebuilt(whole(0), row(TRUE), row(whole(1))), "wrong offset or shape"),
    "True as a stride": (rebuilt(whole(0), row(whole(2)), row(TRUE)), "wrong offset or shape"),
    "True as an offset": (rebuilt(TRUE, row(whole(2)), row(whole(1))), "wrong offset or shape"),
    "False as an offset": (rebuilt(FALSE, row(whole(2)), row(whole(1))), "wrong offset or shape"),
    "a stride too few": (one(stride=(3,)), "2 sides and 1 strides"),
    "100 sides": (one(shape=(1,) * 100, stride=(1,) * 100), "100 sides"),
    "stride 0": (one(shape=(1000, 6), stride=(0, 1)), "stride of 0"),
    "overlapping rows, a million numbers": (
        lambda: torch_file(program(w=tensor((1000, 1000), (1, 1), count=2000)), {"0": bytes(8000)}), "share storages"),
    "fewer bytes than numbers": (one(count=7), "should hold 7 numbers"),
    "more bytes than numbers": (one(count=5, shape=(5,), stride=(1,)), "should hold 5 numbers"),
    "2^60 numbers": (one(count=2**60), "persistent id"),
    "-1 numbers": (one(count=-1), "persistent id"),
    "True numbers": (
        runs(row(text("storage"), name_of("torch", "FloatStorage"), text("0"), text("cpu"), TRUE) + b"Q"),
        "persistent id"),
    "one storage with two types": (lambda: torch_file(TWO_TYPES, {"0": bytes(24)}), "is used as 6 f4 and as 3 i8"),
    "a storage that is not there": (one(key="7"), "'archive/data/7' is missing"),
    "a storage elsewhere": (one(key="../version"), "'archive/data/../version' is missing"),
    "a storage of unknown type": (one(kind="QInt8Storage"), "torch.QInt8Storage"),
    "a persistent id that is a number": (has(program(w=b"K\1Q")), "persistent id"),
    "a conjugate by a flag": (has(program(w=CONJUGATE)), "resolve_conj"),
    "a tensor without a storage": (has(program(w=call("torch._utils", "_rebuild_tensor_v2", b"N"))), "made of storage"),
}

# -- containers -----------------------------------------------------------------------------------------------------

GOOD = program(w=tensor())
LAST_IS_DATA = [*torch_entries(GOOD, {}), ("archive/data/0", SIX.tobytes())]


def ended(**changes):
    """A torch file whose last entry, the storage, is changed"""
    return lambda: zip_file(LAST_IS_DATA, **changes)


def named(name):
    """A torch file with one more entry of this name"""
    return lambda: zip_file([*LAST_IS_DATA, (name, b"")])


def cut(by):
    return lambda: zip_file(LAST_IS_DATA)[:-by]


def unmarked(file):
    """The same zip file, but that its directory says of the last entry: stored, and of the size it has"""
    place = file.rindex(b"PK\1\2")
    return file[:place + 10] + bytes(2) + file[place + 12:place + 24] + file[place + 20:place + 24] + file[place + 28:]


CONTAINERS = {
    "a deflated entry": (lambda: compressed(LAST_IS_DATA), "compressed (method 8)"),
    "an entry of bzip2": (lambda: compressed(LAST_IS_DATA, zipfile.ZIP_BZIP2), "compressed (method 12)"),
    "an entry of LZMA": (lambda: compressed(LAST_IS_DATA, zipfile.ZIP_LZMA), "compressed (method 14)"),
    "a deflate bomb": (lambda: bomb(LAST_IS_DATA), "compressed (method 8)"),
    "a deflate bomb that says it is small": (lambda: bomb(LAST_IS_DATA, size=SIX.nbytes), "compressed (method 8)"),
    "a deflate bomb that says it is stored": (lambda: bomb(LAST_IS_DATA, method=0), f"for {MEGABYTES << 20} bytes of data"),
    "a deflate bomb that only its own header tells": (lambda: unmarked(bomb(LAST_IS_DATA)), "compressed or encrypted"),
    "an entry compressed by its flag alone": (ended(method=8), "compressed (method 8)"),
    "an encrypted entry": (ended(flags=1), "encrypted"),
    "a wrong checksum": (ended(crc=1), "damaged"),
    "an entry longer than the file": (ended(size=1 << 30), "does not fit"),
    "an entry that starts in another": (ended(start=0), "inside the entry before"),
    "an entry that starts in the directory": (ended(start=10**6), "is cut"),
    "a local name unlike the directory's": (ended(local_name="archive/data/1"), "another thing"),
    "two entries of one name": (named("archive/data/0"), "two zip entries"),
    "a name with ..": (named("archive/../../x"), "plain relative path"),
    "an absolute name": (named("/etc/passwd"), "plain relative path"),
    "a name with a drive": (named("c:x"), "plain relative path"),
    "a name with a backslash": (named("archive\\x"), "plain relative path"),
    "a name with a NUL": (named("archive/data/0\0.txt"), "plain relative path"),
    "two roots": (named("other/data.pkl"), "expected one folder"),
    "60,000 entries": (
        lambda: zip_file([*LAST_IS_DATA, *((f"archive/data/{i}", b"") for i in range(1, 60_000))]), "60003 entries"),
    "more entries than the directory has": (ended(count=9), "fewer entries"),
    "fewer entries than the directory has": (ended(count=1), "goes on after its 1"),
    "without an end": (cut(22), "is cut"),
    "cut in the middle": (cut(200), "is cut"),
    "something behind the end": (ended(tail=b"more"), "goes on"),
    "TorchScript": (has(GOOD, **{"code/model.py": b"pass"}), "TorchScript"),
    "TorchScript's constants": (has(GOOD, **{"constants.pkl": b"."}), "TorchScript"),
    "an unknown byte order": (has(GOOD, byteorder=b"middle"), "'middle'"),
    "a byte order of a megabyte": (has(GOOD, byteorder=bytes(1 << 20)), "expected a word"),
    "an unknown version": (has(GOOD, version=b"99\n"), "'99'"),
    "a version that is no number": (has(GOOD, version=b"\xff"), "version"),
    "no version": (has(GOOD, version=None), "'archive/version' is missing"),
    "a zip of something else": (lambda: zip_file([("readme.txt", b"hello")]), "neither torch's nor NumPy's"),
    "an empty zip": (lambda: zip_file([]), "nothing"),
    "an LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
    "an HTML page": (lambda: b"\n<!DOCTYPE html><html>", "HTML"),
    "an XML message": (lambda: b'<?xml version="1.0"?><Error/>', "XML"),
    "an empty file": (lambda: b"", "empty"),
    "noise": (lambda: bytes(range(1, 200)), "no known format"),
    "a file of one byte": (lambda: b"P", "no known format"),
}

BARE = {
    "a bare pickle": (lambda: b"\x80\2" + call("posix", "system", text("touch hacked")) + b".", "bare Python pickle"),
}

GROUPS = {"pickle": PROGRAMS, "tensor": TENSORS, "zip": CONTAINERS, "stream": STREAM, "tar": TAR, "bare": BARE,
          "HDF5": HDF5}
HOSTILE = {f"{group}: {name}": row for group, rows in GROUPS.items() for name, row in rows.items()}
