"""Whom benchmark.py compares tinyresnet with, and why it does not, where one of them is missing or broken."""

from __future__ import annotations

import importlib
from typing import Any

from benchmark_measure import one_line

PEERS = {"PyTorch": ("torch",), "ONNX Runtime": ("onnxruntime", "onnx")}  # and the modules that each needs


def meet(peer: str) -> tuple[Any, list[str]]:
    """The module benchmark_torch or benchmark_onnx; or None, and a line that says why."""
    try:
        for name in PEERS[peer]:
            importlib.import_module(name)
    except (ImportError, OSError) as error:  # an OSError where a shared library cannot be loaded
        missing = isinstance(error, ModuleNotFoundError) and error.name in PEERS[peer]
        reason = 'not installed; pip install -e ".[benchmark]"' if missing else one_line(error)
        return None, [f"{peer} is not compared with: {reason}"]
    return importlib.import_module(f"benchmark_{PEERS[peer][-1]}"), []
