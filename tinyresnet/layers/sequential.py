"""Layers one after the other."""

from __future__ import annotations

from numpy import ndarray as Array

from tinyresnet.layers.base import Layer
from tinyresnet.layers.fused import grouped


class Sequential(Layer):
    """Layers one after the other, named "0", "1", ... or as given: Sequential(conv, relu) or Sequential(a=conv, b=relu).

    Raises ValueError for a name that means something else here, such as "training".
    """

    def __init__(self, *layers: Layer, **named_layers: Layer):
        super().__init__()
        for name, layer in [*((str(number), layer) for number, layer in enumerate(layers)), *named_layers.items()]:
            if hasattr(self, name):
                raise ValueError(f"a layer cannot be called {name!r} here, that name is taken")
            setattr(self, name, layer)

    def __getitem__(self, number: int) -> Layer:
        return self.children()[number][1]

    def forward(self, x: Array) -> Array:
        for layer in grouped(layer for _, layer in self.children()):
            x = layer.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        for layer in reversed(grouped(layer for _, layer in self.children())):
            dy = layer.backward(dy)
        return dy

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for _, layer in self.children():
            shape = layer.output_shape(shape)
        return shape

    def __repr__(self) -> str:
        return f"Sequential({', '.join(repr(layer) for _, layer in self.children())})"
