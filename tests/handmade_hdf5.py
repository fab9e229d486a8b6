"""HDF5 files made by hand, byte by byte, so that the reader is tested where h5py is missing; h5py reads them, too."""

import struct

import numpy as np

NOWHERE = 2**64 - 1
FLOATS = {2: (15, 10, 5, 0, 10, 15), 4: (31, 23, 8, 0, 23, 127), 8: (63, 52, 11, 0, 52, 1023)}


class Writer:
    """The file so far; every part is put at the next multiple of 8, and told by its address."""

    def __init__(self):
        self.data = bytearray(96)

    def put(self, part, room=0):
        start = len(self.data)
        self.data += part.ljust(room, b"\0")
        self.data += bytes(-len(self.data) % 8)
        return start

    def header(self, *messages, count=None):
        count = len(messages) if count is None else count
        block = b"".join(messages)
        return self.put(struct.pack("<BxHLL4x", 1, count, 1, len(block)) + block)

    def numbers(self, array):
        """The layout message of numbers put here"""
        return contiguous(self.put(array.tobytes()) if array.size else NOWHERE, array.nbytes)

    def dataset(self, array):
        return self.header(space(array.shape), datatype(array.dtype), self.numbers(array))

    def heap(self, names):
        """Address, and the places of the names in it"""
        text, places = bytearray(8), []
        for name in names:
            places.append(len(text))
            text += name + bytes(8 - len(name) % 8)
        return self.put(struct.pack("<4s4x3Q", b"HEAP", len(text), 1, self.put(text))), places

    def leaf(self, entries):
        """entries: (place of the name, header, kind of link)"""
        packed = b"".join(struct.pack("<2QL20x", *entry) for entry in entries)
        return self.put(struct.pack("<4sBxH", b"SNOD", 1, len(entries)) + packed, room=328)

    def node(self, children, level=0, kind=0):
        """children: (address, place of the last name in it)"""
        packed = b"".join(struct.pack("<2Q", *child) for child in children)
        return self.put(struct.pack("<4s2BH3Q", b"TREE", kind, level, len(children), NOWHERE, NOWHERE, 0) + packed, room=544)

    def tree(self, entries, fan_out=32):
        """Leaves and as many levels of nodes as they need"""
        children = [(self.leaf(some), some[-1][0]) for some in parts_of(entries, 8)]
        nodes = [(self.node(some, 0), some[-1][1]) for some in parts_of(children, fan_out)] or [(self.node([]), 0)]
        level = 1
        while len(nodes) > 1:
            nodes = [(self.node(some, level), some[-1][1]) for some in parts_of(nodes, fan_out)]
            level += 1
        return nodes[0][0]

    def group(self, members, fan_out=32):
        """members: (name, header) or (name, header, kind of link)"""
        heap, places = self.heap([name.encode() for name, *_ in members])
        entries = [(place, *rest, 0)[:3] for place, (_, *rest) in zip(places, members)]
        return self.header(table(self.tree(entries, fan_out), heap))

    def add(self, tree, **options):
        """A dictionary as a group, an array as a dataset; a number is the header of what was added before."""
        if isinstance(tree, dict):
            return self.group([(name, self.add(tree[name], **options)) for name in sorted(tree)], **options)
        return tree if isinstance(tree, int) else self.dataset(np.asarray(tree))

    def finish(self, root, version=0, width=8, base=0, end=None):
        """The file's bytes, with its first 96 filled in"""
        end = len(self.data) if end is None else end
        self.data[:96] = b"\x89HDF\r\n\x1a\n" + struct.pack(
            "<B4x2Bx2HL4Q2QL20x", version, width, 8, 4, 16, 0, base, NOWHERE, end, NOWHERE, 0, root, 0)
        return bytes(self.data)


def hdf5_file(tree, **options):
    """A file of nested dictionaries of arrays"""
    writer = Writer()
    return writer.finish(writer.add(tree, **options))


def parts_of(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]


# -- messages -------------------------------------------------------------------------------------------------------


def message(kind, content, flags=0):
    content += bytes(-len(content) % 8)
    return struct.pack("<2HB3x", kind, len(content), flags) + content


def space(shape, version=1):
    return message(1, struct.pack(f"<2B6x{len(shape)}Q", version, len(shape), *shape))


def datatype(dtype, flags=0):
    dtype, big = np.dtype(dtype), np.dtype(dtype).byteorder == ">"
    size = dtype.itemsize
    if dtype.kind == "f":
        sign, *places = FLOATS[size]
        return message(3, struct.pack("<4BL2H4BL", 0x11, 0x20 | big, sign, 0, size, 0, 8 * size, *places), flags)
    return message(3, struct.pack("<4BL2H", 0x10, big | 8 * (dtype.kind == "i"), 0, 0, size, 0, 8 * size), flags)


def contiguous(start, size, version=3, kind=1):
    return message(8, struct.pack("<2B2Q", version, kind, start, size))


def compact(content):
    return message(8, struct.pack("<2BH", 3, 0, len(content)) + content)


def continuation(start, size):
    return message(16, struct.pack("<2Q", start, size))


def table(tree, heap):
    """The message of a group"""
    return message(17, struct.pack("<2Q", tree, heap))
