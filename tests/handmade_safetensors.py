"""safetensors files made by hand."""

import json
import struct

from handmade_files import SIX


def entry(shape=(2, 3), start=0, end=24, dtype="F32"):
    """A line of the table"""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def safetensors_file(table, data=SIX.tobytes(), length=None):
    """A file with this table, as a dictionary or as the bytes of its JSON"""
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data
