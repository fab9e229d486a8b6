"""Hostile HDF5 files by what is wrong with them: a function that makes the bytes, and words of the reason to be given."""

import struct

import numpy as np
from handmade_hdf5 import NOWHERE, Writer, compact, contiguous, continuation, datatype, hdf5_file, message, space, table

SIX = np.arange(6, dtype="<f4")


def one(**changes):
    """A file with the dataset "w", some of whose messages are others: space, datatype, layout, more"""
    def make():
        writer = Writer()
        messages = {"space": space((6,)), "datatype": datatype("<f4"), "layout": writer.numbers(SIX)} | changes
        return writer.finish(writer.add({"w": writer.header(*messages.values())}))
    return make


def holds(tree, **changes):
    """A sound file of this tree with another superblock"""
    def make():
        writer = Writer()
        return writer.finish(writer.add(tree), **changes)
    return make


def made(build):
    """The file that build(writer) makes, which returns the root's header"""
    def make():
        writer = Writer()
        return writer.finish(build(writer))
    return make


def cyclic(tree):
    """A file in which the number 0 in the tree stands for the root, whose address a first file tells"""
    def make():
        def build(writer, part, root):
            return {name: build(writer, inner, root) for name, inner in part.items()} if isinstance(part, dict) else root
        root = Writer().add(build(None, tree, 0))
        writer = Writer()
        assert writer.add(build(None, tree, root)) == root
        return writer.finish(root)
    return make


# -- links ----------------------------------------------------------------------------------------------------------

NEWER_GROUP = message(2, bytes(2) + b"\xff" * 16), message(10, bytes(2))
EXTERNAL_LINK = message(6, struct.pack("<3BBH", 1, 8, 64, 1, 13) + b"\0".join([b"other.h5", b"/a", b""]))


def linking(kind, *inside):
    """A file whose root, or a group inside, has a link of this kind beside a dataset"""
    def build(writer):
        header = writer.group([("soft", NOWHERE, kind), ("w", writer.dataset(SIX))])
        for name in inside:
            header = writer.group([(name, header)])
        return header
    return made(build)


LINKS = {
    "a soft link": (linking(2), "'soft' is a soft link"),
    "a soft link in the middle of a path": (linking(2, "inner", "outer"), "'outer/inner/soft' is a soft link"),
    "an unknown kind of link": (linking(3), "soft link"),
    "an external link": (made(lambda writer: writer.header(*NEWER_GROUP, EXTERNAL_LINK)), "external links"),
    "an external link in the middle of a path": (
        made(lambda writer: writer.add({"a": writer.header(*NEWER_GROUP, EXTERNAL_LINK)})), "'a' is a group of the newer"),
    "a group in itself": (cyclic({"a": 0}), "'a' is a hard link"),
    "a group in a group within": (cyclic({"a": {"b": {"c": 0}}}), "'a/b/c' is a hard link"),
    "two names of one dataset": (
        made(lambda writer: writer.add(dict.fromkeys(["v", "w"], writer.dataset(SIX)))), "'w' is a hard link"),
}

# -- datasets -------------------------------------------------------------------------------------------------------


def sharing(writer, number=100):
    """Many datasets that claim the same 8,000 bytes"""
    layout = writer.numbers(np.zeros(2000, "<f4"))
    header = space((2000,)) + datatype("<f4")
    return writer.add({f"{i:03}": writer.header(header, layout, count=3) for i in range(number)})


STRING, RECORD, ENUMERATION, VARIABLE, VAX = (
    message(3, struct.pack("<4BL", 0x10 | kind, flags, 0, 0, 4) + bytes(12))
    for kind, flags in ((3, 0), (6, 0), (8, 0), (9, 0), (1, 0x61)))

DATASETS = {
    "numbers in another file": (one(more=message(7, bytes(40))), "in another file"),
    "a virtual dataset": (one(layout=contiguous(2048, 1, version=4, kind=3)), "is virtual"),
    "chunks": (one(layout=contiguous(2048, 1, kind=2)), "in chunks"),
    "a filter": (one(more=message(11, bytes(32))), "compressed"),
    "a layout of 1998": (one(layout=contiguous(2048, 24, version=1)), "unknown way"),
    "2^40 numbers and nothing stored": (one(space=space((2**40,)), layout=contiguous(NOWHERE, 2**42)), "claims the shape"),
    "2^30 numbers and nothing stored": (one(space=space((2**30,)), layout=contiguous(NOWHERE, 2**32)), "never written"),
    "2^30 numbers in a file of 2,000 bytes": (one(space=space((2**30,)), layout=contiguous(96, 2**32)), "is cut"),
    "a shape larger than the numbers": (one(space=space((2**20,))), "should hold float32 of shape (1048576,)"),
    "a shape smaller than the numbers": (one(space=space((5,))), "should hold float32 of shape (5,)"),
    "sides whose product overflows": (one(space=space((2**32, 2**32))), "claims the shape"),
    "an empty array with huge sides": (one(space=space((0, 2**61)), layout=contiguous(NOWHERE, 0)), "claims the shape"),
    "33 sides": (one(space=space((1,) * 33)), "over 32 sides"),
    "fewer sides than it says": (one(space=message(1, struct.pack("<2B6x", 1, 2))), "damaged"),
    "no shape": (one(space=space((), version=2)), "h5py.Empty"),
    "numbers past the end": (one(layout=contiguous(10**6, 24)), "is cut"),
    "numbers that end past the end": (one(space=space((1000,)), layout=contiguous(96, 4000)), "is cut"),
    "numbers at an address that overflows": (one(layout=contiguous(2**64 - 8, 24)), "is cut"),
    "numbers never written": (one(layout=contiguous(NOWHERE, 24)), "never written"),
    "fewer numbers than in the header": (one(layout=compact(bytes(20))), "has 20 bytes"),
    "a header without room for its numbers": (one(layout=message(8, struct.pack("<2BH", 3, 0, 24))), "has 4 bytes"),
    "an empty layout": (one(layout=message(8, b"")), "damaged"),
    "100 datasets of the same bytes": (made(sharing), "overlap"),
    "strings": (one(datatype=STRING), "strings"),
    "records": (one(datatype=RECORD), "records"),
    "booleans": (one(datatype=ENUMERATION), "booleans"),
    "rows of variable length": (one(datatype=VARIABLE), "variable length"),
    "bytes in the order of a VAX": (one(datatype=VAX), "something else"),
    "an empty datatype": (one(datatype=message(3, b"")), "something else"),
    "a shared datatype": (one(datatype=datatype("<f4", flags=2)), "under a name"),
    "two shapes": (one(more=space((6,))), "two of kind 1"),
    "no datatype": (one(datatype=b""), "neither a group nor an array"),
    "a datatype alone": (made(lambda writer: writer.add({"t": writer.header(datatype("<f4"))})), "neither a group"),
    "a dataset that is a group": (one(more=table(96, 96)), "neither a group nor an array"),
    "an unknown message": (one(more=message(99, b"")), "unknown kind 99"),
}

# -- groups and headers ---------------------------------------------------------------------------------------------


def grouped(names, place=None):
    """A file of datasets with these raw names, unsorted; the last has its name at another place"""
    def build(writer):
        heap, places = writer.heap(names)
        places[-1] = places[-1] if place is None else place
        return writer.header(table(writer.tree([(at, writer.dataset(SIX), 0) for at in places]), heap))
    return made(build)


def rooted(tree=None, heap=None):
    """A file whose root has another tree or heap, made by a function of the writer"""
    def build(writer):
        sound_heap, (place,) = writer.heap([b"w"])
        node = tree(writer) if tree else writer.tree([(place, writer.dataset(SIX), 0)])
        return writer.header(table(node, heap(writer) if heap else sound_heap))
    return made(build)


def endless(writer):
    """A header whose second block says that it goes on in itself"""
    here = len(writer.data)
    writer.put(continuation(here, 24))
    return writer.header(continuation(here, 24), count=60_000)


def nested(depth):
    tree = {"w": SIX}
    for _ in range(depth):
        tree = {"g": tree}
    return tree


STRUCTURES = {
    "superblock 2": (holds({"w": SIX}, version=2), "libver='latest'"),
    "addresses of 4 bytes": (holds({"w": SIX}, width=4), "numbers of 8 bytes"),
    "another base": (holds({"w": SIX}, base=512), "base 0"),
    "an end before the end": (holds({"w": SIX}, end=1000), "should end at byte 1000"),
    "an end after the end": (holds({"w": SIX}, end=10**6), "should end at byte 1000000"),
    "something behind the end": (lambda: hdf5_file({"w": SIX}) + b"more", "goes on"),
    "cut in the middle": (lambda: hdf5_file({"w": SIX})[:-100], "it is cut"),
    "only the first bytes": (lambda: hdf5_file({"w": SIX})[:50], "is cut"),
    "a root past the end": (made(lambda writer: 10**6), "is cut"),
    "a dataset as root": (made(lambda writer: writer.dataset(SIX)), "'/' is neither"),
    "no datasets": (lambda: hdf5_file({"a": {}, "b": {"c": {}}}), "no datasets"),
    "10,001 datasets": (lambda: hdf5_file({f"{i:05}": 0.5 for i in range(10_001)}), "over 10000 datasets"),
    "groups in 34 levels": (lambda: hdf5_file(nested(33)), "over 32 levels"),
    "a header of version 2": (made(lambda writer: writer.put(b"OHDR\2" + bytes(60))), "track_order"),
    "a header of another version": (made(lambda writer: writer.put(b"\7" + bytes(60))), "newer format"),
    "a header past the end": (made(lambda writer: writer.put(struct.pack("<BxHLL4x", 1, 1, 1, 2**31))), "is cut"),
    "fewer messages than it says": (made(lambda writer: writer.header(message(0, bytes(8)) * 9, count=8)), "more messages"),
    "a message that ends outside": (made(lambda writer: writer.header(message(0, bytes(8))[:-1])), "ends outside"),
    "a header that goes on in itself": (made(endless), "overlap"),
    "a header that goes on past the end": (made(lambda writer: writer.header(continuation(96, 10**6))), "is cut"),
    "an empty continuation": (made(lambda writer: writer.header(message(16, b""))), "damaged"),
    "an empty table": (made(lambda writer: writer.header(message(17, b""))), "damaged"),
    "a tree that is none": (rooted(tree=lambda writer: writer.put(bytes(544))), "group's tree"),
    "a tree of chunks": (rooted(tree=lambda writer: writer.node([], kind=1)), "group's tree"),
    "a tree past the end": (rooted(tree=lambda writer: 2**63), "is cut"),
    "a tree with 65,535 children": (
        rooted(tree=lambda writer: writer.put(struct.pack("<4s2BH16x", b"TREE", 0, 0, 65535))), "is cut"),
    "a tree in itself": (rooted(tree=lambda writer: writer.node([(len(writer.data), 8)], level=1)), "below level 1"),
    "a tree of 200 levels": (rooted(tree=lambda writer: writer.node([(96, 8)], level=200)), "below level 8"),
    "one leaf 32 times": (
        rooted(tree=lambda writer: writer.node([(writer.leaf([(8, writer.dataset(SIX), 0)]), 8)] * 32)), "not sorted"),
    "a leaf that is none": (rooted(tree=lambda writer: writer.node([(96, 8)])), "members of a group"),
    "names elsewhere": (rooted(heap=lambda writer: writer.put(bytes(32))), "another thing is there"),
    "names past the end": (
        rooted(heap=lambda writer: writer.put(struct.pack("<4s4x3Q", b"HEAP", 2**40, 1, 96))), "is cut"),
    "a name outside the names": (grouped([b"w"], place=10**6), "not sorted"),
    "a name at an address that overflows": (grouped([b"w"], place=2**64 - 1), "not sorted"),
    "a name without letters": (grouped([b""]), "not sorted"),
    "two datasets of one name": (grouped([b"w", b"w"]), "b'w' comes after b'w'"),
    "names in the wrong order": (grouped([b"w", b"v"]), "b'v' comes after b'w'"),
    "a name with a slash": (grouped([b"/etc/passwd"]), "printable names"),
    "a name of dots": (grouped([b".."]), "printable names"),
    "escape codes in a name": (grouped([b"w\x1b[2J"]), "printable names"),
    "a name of 100,000 letters": (grouped([b"w" * 100_000]), "at most 500"),
    "a name of 600 letters in all": (lambda: hdf5_file({"g" * 300: {"w" * 300: SIX}}), "at most 500"),
}

HDF5 = LINKS | DATASETS | STRUCTURES
