"""Files of weights made by hand, byte by byte, so that the readers are tested where torch is missing."""

import io
import struct
import zipfile
import zlib

import numpy as np

from weights_converter.networks import Network, expected_shapes

# -- zip files ------------------------------------------------------------------------------------------------------


def zip_file(entries, *, tail=b"", count=None, **changes):
    """A zip file of (name, data) pairs; the last may be changed: method, flags, crc, size, stored, start, local_name.

    stored: what the entry is said to take in the file, if this is not its size.
    """
    body, directory = bytearray(), bytearray()
    for number, (name, data) in enumerate(entries):
        change = changes if number == len(entries) - 1 else {}
        start = change.get("start", len(body))
        raw, local = name.encode(), change.get("local_name", name).encode()
        size, crc = change.get("size", len(data)), change.get("crc", zlib.crc32(data))
        numbers = (change.get("flags", 0), change.get("method", 0), 0, 0, crc, change.get("stored", size), size)
        padding = -(len(body) + 30 + len(local)) % 64  # as torch does; only the local header knows it
        body += struct.pack("<4s5H3L2H", b"PK\3\4", 20, *numbers, len(local), padding) + local + bytes(padding) + data
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *numbers, len(raw), 0, 0, 0, 0, 0, start) + raw
    count = len(entries) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end + tail)


def compressed(entries, method=zipfile.ZIP_DEFLATED):
    """A zip file of (name, data) pairs by Python's zipfile, the last compressed by this method."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (name, data) in enumerate(entries):
            archive.writestr(zipfile.ZipInfo(name), data, method if number == len(entries) - 1 else zipfile.ZIP_STORED)
    return buffer.getvalue()


MEGABYTES = 200  # more than the readers may take


def deflated(start=b""):
    """200 MB of zeros behind this start, in 200,000 bytes: each megabyte, deflated by itself, is the same thousand bytes."""
    machine = zlib.compressobj(wbits=-15)
    first = machine.compress(start) + machine.flush(zlib.Z_FULL_FLUSH)
    return first + (machine.compress(bytes(1 << 20)) + machine.flush(zlib.Z_FULL_FLUSH)) * MEGABYTES + machine.flush()


def bomb(entries, start=b"", **lies):
    """A zip file whose last entry, honest but for these lies, is such a bomb"""
    zeros = bytes(MEGABYTES << 20)
    data = deflated(start)
    truth = {"method": 8, "stored": len(data), "size": len(start) + len(zeros), "crc": zlib.crc32(zeros, zlib.crc32(start))}
    return zip_file([*entries[:-1], (entries[-1][0], data)], **truth | lies)


# -- pickles --------------------------------------------------------------------------------------------------------


def text(value):
    """BINUNICODE"""
    return b"X" + struct.pack("<L", len(value.encode())) + value.encode()


def whole(value):
    """BININT where it fits, else LONG1"""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<l", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def row(*items):
    """MARK, the items, TUPLE"""
    return b"(" + b"".join(items) + b"t"


def name_of(module, name):
    """GLOBAL"""
    return f"c{module}\n{name}\n".encode()


def call(module, name, *arguments):
    """GLOBAL, a tuple of arguments, REDUCE"""
    return name_of(module, name) + row(*arguments) + b"R"


def storage(key="0", count=6, kind="FloatStorage", part=b""):
    """BINPERSID of a storage; part: the item that only streams have, None or the part that is meant"""
    return row(text("storage"), name_of("torch", kind), text(key), text("cpu"), whole(count), part) + b"Q"


def tensor(shape=(2, 3), stride=(3, 1), offset=0, **of_storage):
    """The call that makes a tensor"""
    shape, stride = (row(*map(whole, numbers)) for numbers in (shape, stride))
    rest = b"\x89", call("collections", "OrderedDict")  # requires_grad, hooks
    return call("torch._utils", "_rebuild_tensor_v2", storage(**of_storage), whole(offset), shape, stride, *rest)


def program(**items):
    """The pickle of a dictionary"""
    return b"\x80\2}(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


# -- torch's and NumPy's files --------------------------------------------------------------------------------------

SIX = np.arange(6, dtype="<f4")


def torch_entries(pickle, storages=None, *, root="archive", version=b"3\n", byteorder=b"little", **more):
    """The entries of a torch file."""
    storages = {"0": SIX.tobytes()} if storages is None else storages
    entries = {"data.pkl": pickle, "byteorder": byteorder}
    entries |= {f"data/{key}": data for key, data in storages.items()} | {"version": version} | more
    return [(f"{root}/{name}", data) for name, data in entries.items() if data is not None]


def torch_file(pickle, storages=None, **more):
    """A torch file around this pickle; storage "0" holds the numbers 0 to 5."""
    return zip_file(torch_entries(pickle, storages, **more))


def torch_parts(arrays):
    """Pickle and storages of these float32 arrays, as torch.save(state_dict) writes them."""
    strides = {name: [step // array.itemsize for step in array.strides] for name, array in arrays.items()}
    pickle = program(**{
        name: tensor(array.shape, strides[name], key=name, count=array.size) for name, array in arrays.items()
    })
    return pickle, {name: array.tobytes() for name, array in arrays.items()}


def torch_state(arrays):
    """A torch file of these arrays."""
    return torch_file(*torch_parts(arrays))


def state_of(name="resnet18", width=2, num_classes=5, seed=0):
    """Random arrays under torchvision's names, in torch's layout, of a network thin enough to be quick."""
    rng = np.random.default_rng(seed)
    shapes = expected_shapes(Network(name, width, num_classes))
    return {name: rng.random(shape, dtype=np.float32) for name, shape in shapes.items()}


def without(state, *parts):
    """The arrays but those of these parts"""
    return {name: array for name, array in state.items() if name.split(".")[0] not in parts}


def npy(array):
    """The bytes of a .npy file"""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def npy_claiming(shape, dtype="<f4", data=b"", start=None):
    """The bytes of a .npy file with this header, true or not"""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) if start is None else start) + header + data


def npz_file(facts=None, **entries):
    """An .npz of these .npy files"""
    pairs = [(f"{name}.npy", data) for name, data in entries.items()]
    return zip_file(pairs if facts is None else [*pairs, ("facts.json", facts)])
