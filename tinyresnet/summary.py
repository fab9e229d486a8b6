"""The table that print(model) shows: what each layer is, what shape leaves it, how many parameters it has."""

from __future__ import annotations

from tinyresnet.layers import Layer, Sequential


def parameter_count(layer: Layer) -> int:
    return sum(param.size for _, param in layer.named_params())


def summary(model: Sequential, size: tuple[int, int]) -> str:
    """One row a layer, one row a block inside the stages, for images of this height and width in pixels."""
    shape: tuple[int, ...] = (1, *size, 3)
    rows = [("name", "layer", "output shape", "parameters")]
    for name, child in model.children():
        inside = [(f"{name}.{n}", part) for n, part in child.children()] if isinstance(child, Sequential) else []
        for full, layer in inside or [(name, child)]:
            shape = layer.output_shape(shape)
            rows.append((full, repr(layer), f"(N, {', '.join(map(str, shape[1:]))})", f"{parameter_count(layer):,}"))
    rows.append(("total", "", "", f"{parameter_count(model):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    return "\n".join([f"{type(model).__name__} for images of {size[0]} x {size[1]} pixels", *lines])
