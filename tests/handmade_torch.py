"""Files of torch before version 1.6, made by hand, byte by byte: a stream of pickles."""

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


def stream_file(pickle, storages=None, *, magic=MAGIC, version=1001, keys=None, count=None, tail=b""):
    """A stream around this pickle; storage "0" holds the numbers 0 to 5."""
    storages = {"0": SIX} if storages is None else storages
    keys = listed(*map(text, storages)) if keys is None else keys
    head = magic + pickled(whole(version)) + pickled(b"}" + text("little_endian") + b"\x88s") + pickle + pickled(keys)
    numbers = (
        struct.pack("<q", array.size if count is None else count) + array.tobytes() for array in storages.values()
    )
    return head + b"".join(numbers) + tail
