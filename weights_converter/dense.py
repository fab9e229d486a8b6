"""Arrays whose numbers lie in the file one after another, in C order: as safetensors, ONNX and Caffe keep them.

For torch a tensor is a view of a storage, with strides that the file chooses. Here they follow from the shape, (6, 3, 1)
for an array of shape (2, 2, 3), and the view shows each number of its storage once. Checking it and making the array is
the same work, so torch_tensors does it.
"""

from __future__ import annotations

from math import prod

from numpy import ndarray as Array

from tinyresnet.weights import MAX_DIMENSIONS
from weights_converter.torch_tensors import MAX_NAME, MAX_TENSORS, Storage, array_of, checked_view, elements, is_count


def add_array(arrays: dict[str, Array], name: str, shape: tuple, dtype: str, data: Array) -> None:
    """Enter the array of little-endian `data`, (bytes,) uint8, under its name; float16 and bfloat16 become float32.

    dtype: NumPy's name, or bfloat16. Raises ValueError if the shape is none, or does not fit the number of bytes, or if
    the name is taken or cannot be printed.
    """
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"expected printable names of at most {MAX_NAME} characters, got {name[:80]!r}")
    if name in arrays or len(arrays) == MAX_TENSORS:
        raise ValueError(f"has two tensors called {name!r}" if name in arrays else f"has over {MAX_TENSORS} tensors")
    if len(shape) > MAX_DIMENSIONS or not all(map(is_count, shape)):
        raise ValueError(f"{name!r} has a negative, huge or wrong shape: {len(shape)} sides, {str(shape[:6])[:80]}")
    storage = Storage(name, dtype, prod(shape))
    stride = tuple(prod(shape[axis + 1:]) for axis in range(len(shape)))
    arrays[name] = array_of(checked_view(storage, 0, shape, stride), elements(data, storage, "<"))
