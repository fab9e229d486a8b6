"""A layer of whatever class, seen from outside: its parts, its arrays by name, its forward as a function of x alone.

A student's layer need not know how ours keep their names. Whatever has forward and backward is a layer, `weight` and
`bias` are its parameters unless `param_names` says otherwise, `running_mean` and `running_var` its statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy import ndarray as Array

PARAMS, STATISTICS = ("weight", "bias"), ("running_mean", "running_var")


def parts(layer: Any, path: str = "", seen: list | None = None) -> Iterator[tuple[str, Any]]:
    """Pairs of dotted name and layer: this one, and all that are among its attributes, each once, of whatever class."""
    seen = [] if seen is None else seen
    if any(layer is one for one in seen):
        return
    seen.append(layer)
    yield path, layer
    for name, part in getattr(layer, "__dict__", {}).items():
        if hasattr(part, "forward") and hasattr(part, "backward"):
            yield from parts(part, f"{path}.{name}" if path else name, seen)


def slots(layer: Any) -> Iterator[tuple[str, Any, str]]:
    """Full name, part and attribute of every parameter and running statistic."""
    for path, part in parts(layer):
        for key in (*(getattr(part, "param_names", ()) or PARAMS), *(getattr(part, "buffer_names", ()) or STATISTICS)):
            if isinstance(getattr(part, key, None), np.ndarray):
                yield f"{path}.{key}" if path else key, part, key


def arrays(layer: Any) -> dict[str, Array]:
    """Parameters and running statistics by name, not copies."""
    return {name: getattr(part, key) for name, part, key in slots(layer)}


def trained(layer: Any) -> dict[str, Array]:
    """The parameters of which backward must give a gradient, by name."""
    return {name: getattr(part, key) for name, part, key in slots(layer) if key not in STATISTICS and not part.frozen}


def copy_arrays(state: dict[str, Array], layer: Any) -> None:
    """Give the layer copies of the arrays named as its own."""
    for name, part, key in slots(layer):
        setattr(part, key, state[name].copy())


def prepared(layer: Any, seed: int = 7) -> Any:
    """The layer in float64, its batch norms as training leaves them: gamma of both signs, away from 0 and 1."""
    rng = np.random.default_rng(seed)
    for _, part, key in list(slots(layer)):
        array = getattr(part, key)
        if hasattr(part, "running_var"):
            C = len(array)
            array = {"weight": rng.uniform(1.2, 2, C) * rng.choice([-1, 1], C), "bias": rng.standard_normal(C),
                     "running_mean": rng.standard_normal(C), "running_var": rng.uniform(0.5, 2, C)}[key]
        setattr(part, key, np.array(array, dtype=np.float64))
    return layer


def description(layer: Any, x: Array) -> str:
    """What was checked, as a report names it."""
    try:
        name = repr(layer)
    except Exception:  # it may speak of attributes that a student's class calls otherwise
        name = ""
    if type(layer).__repr__ is object.__repr__ or not 0 < len(name) <= 100:
        name = type(layer).__name__
    mode = "frozen" if getattr(layer, "frozen", False) else "training" if layer.training else "eval"
    return f"{name}, {mode}, x {x.shape}"


def fixed_forward(layer: Any) -> Callable[[Array], Array]:
    """The layer's forward, every time from the running statistics of now, so that it is a function of x alone."""
    kept = [(part, key, getattr(part, key).copy()) for _, part, key in slots(layer) if key in STATISTICS]

    def forward(x: Array) -> Array:
        for part, key, value in kept:
            setattr(part, key, value.copy())
        return layer.forward(x)

    return forward
