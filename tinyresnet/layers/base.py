"""What every layer shares: its two modes, what it keeps for backward, and the names of its arrays.

A network is a tree of layers. A layer's children are the layers among its attributes, in the order they were assigned;
joined by dots, the attribute names on the way down are the names torchvision gives ("layer1.0.conv1.weight").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
from numpy import ndarray as Array


class LoadReport(NamedTuple):
    """The names that did not fit in `load_state_dict(..., strict=False)`."""

    missing: list[str]  # in the model, not in the state
    unexpected: list[str]  # in the state, not in the model
    mismatched: list[str]  # in both, with different shapes


class Later:
    """An array that is not kept, and computed when it is asked for; then kept for others who saved it, too."""

    def __init__(self, compute: Callable[[], Array]):
        self.compute = compute
        self.computed: Array | None = None

    def array(self) -> Array:
        if self.computed is None:
            self.computed = self.compute()
        return self.computed


class Layer:
    """A function y = forward(x) that knows its derivative: dx = backward(dy), where dt always means dL/dt.

    training: forward uses batch statistics and keeps what backward will need. New layers train.
    frozen: no gradients for the parameters, running statistics used and kept; dx still flows through.
    grads: after backward, dL/dparameter by the parameter's name; every backward overwrites them.
    """

    param_names: tuple[str, ...] = ()  # attributes that an optimiser changes
    buffer_names: tuple[str, ...] = ()  # attributes that belong to the weights but are not learned by gradients

    def __init__(self) -> None:
        self.training = True
        self.frozen = False
        self.grads: dict[str, Array] = {}
        self._saved: tuple | None = None

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError

    def save(self, *values) -> None:
        """Keep values for backward; in eval mode keep nothing, and forget what an earlier forward kept."""
        self._saved = values if self.training else None

    def saved(self) -> tuple:
        """Hand the values over and let go of them, so that memory falls as backward proceeds; Later ones are computed."""
        if self._saved is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}.backward needs a forward in train mode before it, one for each backward")
        values, self._saved = self._saved, None
        return tuple(value.array() if isinstance(value, Later) else value for value in values)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of forward(x) for x of this shape, without computing it."""
        return shape

    def children(self) -> list[tuple[str, Layer]]:
        """Pairs of name and layer, of the direct parts."""
        return [(name, part) for name, part in vars(self).items() if isinstance(part, Layer)]

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Pairs of dotted name and layer: this layer, then all below it."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    def _named(self, kinds: tuple[str, ...]) -> Iterator[tuple[str, Layer, str]]:
        for path, layer in self.named_layers():
            for kind in kinds:
                for name in getattr(layer, kind):
                    yield (f"{path}.{name}" if path else name), layer, name

    def named_params(self) -> list[tuple[str, Array]]:
        """Pairs of name and array; the arrays are the layer's own, not copies."""
        return [(full, getattr(layer, name)) for full, layer, name in self._named(("param_names",))]

    def named_grads(self) -> list[tuple[str, Array]]:
        """Pairs of name and gradient, of the parameters that the last backward reached."""
        return [(full, layer.grads[name]) for full, layer, name in self._named(("param_names",)) if name in layer.grads]

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and running statistics by name."""
        names = self._named(("param_names", "buffer_names"))
        return {full: getattr(layer, name).copy() for full, layer, name in names}

    def load_state_dict(self, state: Mapping[str, Array], *, strict: bool = True) -> LoadReport:
        """Give the layers copies of the arrays of `state`, in the layers' dtype.

        Raises ValueError, before anything is changed, if names or shapes differ or an array holds no real numbers; with
        strict=False loads what fits.
        """
        own = {full: (layer, name) for full, layer, name in self._named(("param_names", "buffer_names"))}
        report = LoadReport(
            missing=[name for name in own if name not in state],
            unexpected=[name for name in state if name not in own],
            mismatched=[full for full, (layer, name) in own.items()
                        if full in state and np.shape(state[full]) != getattr(layer, name).shape],
        )
        for name in own.keys() & state.keys():
            if np.asarray(state[name]).dtype.kind not in "biuf":
                raise ValueError(f"{name} should hold real numbers, got {np.asarray(state[name]).dtype}")
        if strict and any(report):
            raise ValueError("the weights are of another network: " + "; ".join(
                f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
                for kind, names in report._asdict().items() if names))
        for full, (layer, name) in own.items():
            if full in state and full not in report.mismatched:
                setattr(layer, name, np.array(state[full], dtype=getattr(layer, name).dtype, order="C"))
        return report

    def train(self, training: bool = True) -> Self:
        """Switch this layer and all below it to train mode; returns itself."""
        for _, layer in self.named_layers():
            layer.training = training
        return self

    def eval(self) -> Self:
        """Switch to eval mode: running statistics, nothing kept for backward; returns itself."""
        return self.train(False)

    def freeze(self, *prefixes: str) -> Self:
        """Freeze the layers below each of these prefixes of names ("conv1", "layer1.0"); without one, every layer.

        Raises ValueError, before anything is changed, for a prefix that no layer's name has.
        """
        return self._set_frozen(prefixes, True)

    def unfreeze(self, *prefixes: str) -> Self:
        """The opposite of `freeze`."""
        return self._set_frozen(prefixes, False)

    def _set_frozen(self, prefixes: tuple[str, ...], frozen: bool) -> Self:
        layers = dict(self.named_layers())
        names = set().union(*(names_below(prefix, layers) for prefix in prefixes)) if prefixes else layers
        for name in names:
            layers[name].frozen = frozen
            layers[name].grads.clear()
        return self

    def forget(self) -> None:
        """Drop the gradients and what was kept for backward, in this layer and all below it."""
        for _, layer in self.named_layers():
            layer.grads, layer._saved = {}, None

    def astype(self, dtype) -> Self:
        """Convert all parameters and running statistics (float64 for gradient checks); returns itself."""
        for _, layer, name in self._named(("param_names", "buffer_names")):
            setattr(layer, name, getattr(layer, name).astype(dtype))
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def names_below(prefix: str, names: Iterable[str]) -> list[str]:
    """The dotted names that are the prefix or go on from it after a dot; if there are none, all that begin with it.

    So "layer1" is layer1 and layer1.0.conv1 but not layer10, and "layer" is layer1 to layer4.
    Raises ValueError if no name begins with the prefix.
    """
    begin = [name for name in names if name.startswith(prefix)]
    if not begin:
        raise ValueError(f"no name begins with {prefix!r}; the first are {', '.join(list(filter(None, names))[:7])}")
    return [name for name in begin if f"{name}.".startswith(f"{prefix}.")] or begin


class Identity(Layer):
    """y = x: the skip connection of a block whose input and output have the same shape."""

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, dy: Array) -> Array:
        return dy


def check_gradient(dy: Array, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise ValueError unless dy has the shape and dtype of the y that forward returned."""
    if not isinstance(dy, np.ndarray) or dy.shape != shape or dy.dtype != dtype:
        raise ValueError(f"expected dy of shape {shape} and dtype {dtype}, like y, "
                         f"got {np.shape(dy)} of {getattr(dy, 'dtype', type(dy).__name__)}")


def check_images(x: Array, channels: int | None = None, dtype: np.dtype | None = None) -> None:
    """Raise ValueError unless x is a non-empty (N, H, W, channels) array of this dtype; None: of any, of any float."""
    if not isinstance(x, np.ndarray) or x.ndim != 4 or x.size == 0 or channels not in (None, x.shape[3]):
        raise ValueError(f"expected {channels or 'any number of'} input channels in a non-empty array "
                         f"(N, H, W, {channels or 'C'}), got x of shape {np.shape(x)}")
    if x.dtype != dtype and (dtype is not None or x.dtype.kind != "f"):
        raise ValueError(f"expected x of dtype {dtype or 'float32'}, got {x.dtype}; convert it with x.astype")
