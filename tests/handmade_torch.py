"""Files of torch before version 1.6, made by hand, byte by byte: a stream of pickles, and a tar archive."""

import struct

from handmade_files import SIX, call, name_of, row, text, whole

MAGIC = b"\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # as published files begin


def pickled(value):
    """The pickle of one value"""
    return b"\x80\2" + value + b"."


def listed(*items):
    """A list"""
    return b"](" + b"".join(items) + b"e"


def short(value):
    """SHORT_BINSTRING, the string of Python 2"""
    return b"U" + bytes([len(value)]) + value.encode()


def old_parameter(data, state=None):
    """NEWOBJ and BUILD, as torch pickled a parameter in 2016: tensor, gradient, hooks, requires_grad, volatile"""
    state = row(data, b"N", call("collections", "OrderedDict"), b"\x88", b"\x89") if state is None else state
    return name_of("torch.nn.parameter", "Parameter") + b")\x81" + state + b"b"


# -- the stream -----------------------------------------------------------------------------------------------------


def stream_file(pickle, storages=None, *, magic=MAGIC, version=whole(1001), sys_info=b"}" + text("little_endian") + b"\x88s",
                keys=None, count=None, tail=b""):
    """A stream around this pickle; storage "0" holds the numbers 0 to 5."""
    storages = {"0": SIX} if storages is None else storages
    keys = listed(*map(text, storages)) if keys is None else keys
    head = magic + pickled(version) + pickled(sys_info) + pickle + pickled(keys)
    numbers = (
        struct.pack("<q", array.size if count is None else count) + array.tobytes() for array in storages.values()
    )
    return head + b"".join(numbers) + tail


# -- the tar archive ------------------------------------------------------------------------------------------------


def tar_entry(name, data, *, kind=b"0", size=None, link="", prefix="", magic=b"ustar\x0000", damage=0):
    """A header and the data, both in whole blocks of 512 bytes"""
    size = b"%011o\0" % len(data) if size is None else size
    fields = name.encode(), b"0000644\0" * 3, size, b"00000000000\0", b" " * 8, kind, link.encode(), magic
    header = struct.pack("<100s24s12s12s8sc100s8s80x155s12x", *fields, prefix.encode())
    header = header[:148] + b"%06o\0 " % (sum(header) + damage) + header[156:]
    return header + data + bytes(-len(data) % 512)


def tar_time(records=b"28 mtime=1483228800.1234567\n"):
    """What Python's tarfile puts before a file that was written at a fraction of a second"""
    return tar_entry("././@PaxHeader", records, kind=b"x")


def tar_storages(storages, *, parts=b"", number=None):
    """The file `storages`, from arrays by key"""
    number = len(storages) if number is None else number
    return pickled(whole(number)) + b"".join(
        pickled(row(whole(key), text("cpu"), name_of("torch", kind))) + struct.pack("<q", array.size) + array.tobytes()
        for key, (kind, array) in storages.items()
    ) + pickled(listed(parts))


def tar_view(shape=(2, 3), stride=(3, 1), offset=0):
    """A tensor's geometry"""
    sides = len(shape)
    return struct.pack(f"<2i{2 * sides + 1}q", sides, 77, *shape, *stride, offset)


def tar_tensors(tensors, *, number=None):
    """The file `tensors`, from (storage's key, geometry) by key"""
    number = len(tensors) if number is None else number
    return pickled(whole(number)) + b"".join(
        pickled(row(whole(key), whole(storage), name_of("torch", "FloatTensor"))) + view
        for key, (storage, view) in tensors.items()
    )


WEIGHT = text("11") + b"Q"  # the persistent id of tensor 11
STATE = pickled(call("collections", "OrderedDict") + b"(" + text("w") + old_parameter(WEIGHT) + b"u")
TAR_FILES = {
    "sys_info": pickled(b"}" + text("protocol_version") + whole(1000) + b"s"),
    "pickle": STATE,
    "tensors": tar_tensors({11: (70, tar_view())}),
    "storages": tar_storages({70: ("FloatStorage", SIX)}),
}


def tar_file(*more, tail=bytes(1024), **files):
    """An archive of the four files, or of those given in their place, and of more entries; None leaves one out."""
    files = {name: data for name, data in (TAR_FILES | files).items() if data is not None}
    return b"".join(tar_time() + tar_entry(name, data) for name, data in files.items()) + b"".join(more) + tail
