"""What torch's pickles say about tensors, whichever container they come in.

A tensor is a view of a storage, a flat row of numbers that lies outside the pickle:

    tensor[i, j, ...] = storage[offset + i*stride[0] + j*stride[1] + ...]

The pickle names the storage by a persistent id, ("storage", type, key, location, count), and makes the view by calling
`_rebuild_tensor_v2`. Here these calls make descriptions, `Storage` and `View`; arrays come only after their bounds have
been checked, because a stride beyond the end would show the reader's own memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeGuard

import numpy as np
from numpy import ndarray as Array

from tinyresnet.weights import MAX_DIMENSIONS, MAX_SIDE
from weights_converter.unpickle import Calls, Global, set_items

DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "bool", "ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16",
}

MAX_PICKLE = 1 << 20  # bytes; 100 for each tensor. One byte of pickle may become an object of 64 bytes
MAX_DEPTH = 16  # dictionaries within dictionaries
MAX_TENSORS = 10_000  # a ResNet-152 has 932
MAX_NAME = 500  # characters; the longest of torchvision's have 36


@dataclass(frozen=True)
class Storage:
    """A flat row of `count` numbers that the container keeps under `key`, or the part of it from number `start` on."""

    key: str
    dtype: str
    count: int
    start: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return 2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize

    def part(self, offset: object, count: object) -> Storage:
        """Some of the numbers as a storage of their own, as torch could save them until 0.3."""
        if not (is_count(offset) and is_count(count) and offset + count <= self.count):
            raise ValueError(f"a part of storage {self.key[:80]!r} does not lie within its {self.count} numbers")
        return Storage(self.key, self.dtype, count, self.start + offset)


@dataclass(frozen=True)
class View:
    """A tensor: offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Parameter:
    """torch.nn.Parameter as torch before 0.4 pickled it: an object that is made first and given its state by BUILD.

    In 2016 it was made of nothing, and its state was (tensor, gradient, hooks, requires_grad, volatile); in 2017 it was
    made of its tensor, and its state was (requires_grad, volatile, hooks).
    """

    def __init__(self, arguments: tuple):
        self.view: View | None = None
        match arguments:
            case ():
                pass
            case (View() as view,):
                self.view = view
            case _:
                raise ValueError("expected a parameter to be made of a tensor or of nothing")

    def set_state(self, state: object) -> None:
        """What BUILD does."""
        match state:
            case (View() as view, _, _, _, _) if self.view is None:
                self.view = view
            case (_, _, _) if self.view is not None:
                pass
            case _:
                raise ValueError("expected a parameter to have one tensor, and a state of 3 or 5 values")

    def tensor(self) -> View:
        """The tensor, to us all that there is."""
        if self.view is None:
            raise ValueError("holds a parameter without a tensor")
        return self.view


# -- what the pickle may call ---------------------------------------------------------------------------------------


def ordered_dict(arguments: tuple) -> dict:
    """collections.OrderedDict(): Python 3 fills it afterwards, Python 2 gave it a list of all [key, value] here."""
    target: dict = {}
    match arguments:
        case ():
            return target
        case (list() as pairs,) if all(type(pair) is list and len(pair) == 2 for pair in pairs):
            set_items(target, [part for pair in pairs for part in pair])
            if pairs:
                pairs[:] = [None]  # spent: a thousand dictionaries made of one list would outgrow the file
            return target
    raise ValueError("expected an OrderedDict to be made of nothing, or of a list of [key, value] not used before")


def rebuild_tensor(arguments: tuple) -> View:
    """torch._utils._rebuild_tensor(storage, offset, shape, stride); v2 adds requires_grad, hooks and metadata."""
    if len(arguments) > 6 and arguments[6]:
        raise ValueError("a tensor has metadata: it is conjugate or negated by a flag; save tensor.resolve_conj()")
    match arguments:
        case (Storage() as storage, offset, tuple() as shape, tuple() as stride, *_):
            return checked_view(storage, offset, shape, stride)
    raise ValueError("expected a tensor to be made of storage, offset, shape and stride")


def rebuild_parameter(arguments: tuple) -> View:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks): to us a tensor like any other."""
    match arguments:
        case (View() as view, *_):
            return view
    raise ValueError("expected a parameter to be made of a tensor")


def torch_size(arguments: tuple) -> tuple:
    """torch.Size((2, 3)): to us a tuple."""
    match arguments:
        case (tuple() as sizes,):
            return sizes
    raise ValueError("expected torch.Size to be made of a tuple")


CALLS: Calls = {
    Global("collections", "OrderedDict"): ordered_dict,
    Global("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    Global("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    Global("torch", "Size"): torch_size,
    **{Global(module, name): None for module in ("torch", "torch.cuda") for name in DTYPES},
}


OLD_CALLS: Calls = CALLS | {Global("torch.nn.parameter", "Parameter"): Parameter}  # in the containers before 1.6


def storage_of(known: dict[str, Storage], persistent_id: object) -> Storage:
    """The storage that ("storage", type, key, location, count) names; it is entered in `known`.

    Streams have a sixth item: None, or (key, offset, count) of a part of the storage, and then this part is meant.
    """
    match persistent_id:
        case ("storage", Global(_, name), str() as key, str(), count, *_) if name in DTYPES and is_count(count):
            storage = Storage(key, DTYPES[name], count)
            if known.setdefault(key, storage) != storage:
                raise ValueError(f"storage {key[:80]!r} is used as {known[key].count} {known[key].dtype} "
                                 f"and as {count} {storage.dtype}")
            match persistent_id[5:6]:
                case () | (None,):
                    return storage
                case ((_, offset, size),):
                    return storage.part(offset, size)
    raise ValueError("expected a persistent id ('storage', type, key, location, count) with a sound type and count")


# -- from views to arrays --------------------------------------------------------------------------------------------


def is_count(value: object) -> TypeGuard[int]:
    """True for a whole number from 0 to the longest side an array can have; True and False are not numbers here."""
    return type(value) is int and 0 <= value <= MAX_SIDE


def checked_view(storage: Storage, offset: int, shape: tuple, stride: tuple) -> View:
    """The view, if all it shows lies within the storage and nothing is shown twice by a stride of 0."""
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor in storage {storage.key[:80]!r} has {len(shape)} sides and {len(stride)} strides")
    if not all(map(is_count, (offset, *shape, *stride))):
        raise ValueError(f"a tensor in storage {storage.key[:80]!r} has a negative, huge or wrong offset or shape")
    if prod(max(side, 1) for side in shape) > MAX_SIDE:
        raise ValueError(f"a tensor in storage {storage.key[:80]!r} claims the shape {shape}")
    if 0 not in shape and any(side > 1 and step == 0 for side, step in zip(shape, stride)):
        raise ValueError(f"a tensor of shape {shape} repeats numbers by a stride of 0; save it with .contiguous()")
    end = 0 if 0 in shape else offset + sum((side - 1) * step for side, step in zip(shape, stride)) + 1
    if end > storage.count:
        raise ValueError(f"a tensor of shape {shape} ends at number {end} of storage {storage.key[:80]!r}, "
                         f"which has {storage.count}")
    return View(storage, offset, shape, stride)


def check_claims(views: dict[str, View], file_size: int) -> None:
    """Refuse tensors that show the same numbers so often that their arrays would outgrow the file."""
    claimed = sum(prod(view.shape) * view.storage.itemsize for view in views.values())
    if claimed > 2 * file_size:
        raise ValueError(f"its tensors claim {claimed} bytes, the file has {file_size}: they share storages too often")


def elements(data: Array, storage: Storage, order: Literal["<", ">"]) -> Array:
    """The bytes of a storage as (count,) numbers; bfloat16 still as the 16 bits they are."""
    dtype = np.dtype("u2" if storage.dtype == "bfloat16" else storage.dtype).newbyteorder(order)
    if data.size != storage.count * storage.itemsize:
        raise ValueError(f"storage {storage.key[:80]!r} should hold {storage.count} numbers of {storage.itemsize} bytes, "
                         f"but has {data.size} bytes")
    return data.view(np.uint8) != 0 if storage.dtype == "bool" else data.view(dtype)


def array_of(view: View, numbers: Array) -> Array:
    """The tensor as an array in C order; a view of `numbers`, the elements of its storage, if they lie so there."""
    strides = tuple(step * numbers.itemsize for step in view.stride)
    if 0 in view.shape:
        array = np.empty(view.shape, dtype=numbers.dtype)
    else:
        first = (view.storage.start + view.offset) * numbers.itemsize
        array = np.ndarray(view.shape, numbers.dtype, numbers, first, strides)
    if view.storage.dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32
    dtype = np.float32 if view.storage.dtype == "f2" else array.dtype.newbyteorder("=")
    return np.require(array, dtype, ["C", "ALIGNED"])


# -- from nested dictionaries to names -------------------------------------------------------------------------------


def named_views(tree: object, budget: int) -> dict[str, View]:
    """All tensors in nested dictionaries and lists, by the keys on the way to them, joined by dots.

    budget: the number of things to look at, in all. What a pickle of n bytes holds takes at most n, unless dictionaries
    share their parts or hold themselves.
    """
    found: dict[str, View] = {}
    waiting = [iter([("", tree)])]  # one iterator for each dictionary we are in
    while waiting:
        for name, value in waiting[-1]:
            budget -= 1
            if budget < 0 or len(waiting) > MAX_DEPTH:
                raise ValueError("the file's dictionaries share their parts or are nested without end")
            check_name(name)
            value = value.tensor() if type(value) is Parameter else value
            if type(value) is View:
                add_view(found, name, value)
            elif isinstance(value, (dict, list, tuple)):
                waiting.append(children(name, value))
                break
        else:
            waiting.pop()
    if not found:
        raise ValueError("holds no tensors")
    return found


def check_name(name: str) -> None:
    """Raise ValueError unless it is short and can be shown on a terminal."""
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"expected printable names of at most {MAX_NAME} characters, got {name[:80]!r}")


def children(name: str, value: dict | list | tuple) -> Iterator[tuple[str, object]]:
    """Names and values of what a dictionary or list holds."""
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield f"{name}.{key}" if name else str(key), child


def add_view(found: dict[str, View], name: str, view: View) -> None:
    """Enter a tensor under its name."""
    if not name:
        raise ValueError("holds one tensor without a name; save a dictionary of tensors instead")
    if name in found or len(found) == MAX_TENSORS:
        raise ValueError(f"has two tensors called {name!r}" if name in found else f"has over {MAX_TENSORS} tensors")
    found[name] = view
