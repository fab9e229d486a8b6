"""Weights laid out for products: in panels of 64 columns, whose rows lie one after the other.

A piece of a product takes 128 rows of 64 weights. In a matrix of 512 columns those rows begin 2048 bytes apart, compete
for few places of the cache, and throw each other out. In a panel they are one piece of memory: 5 to 20 % faster, most
where few pixels meet many weights.

    weight (rows, O) -> panels (number, rows, 64), panels[o // 64, row, o % 64] = weight[row, o]

What lies behind the last column is never read. Where products are not cut into pieces, one panel holds all columns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.blas import PANEL, SMALL_MATRICES
from tinyresnet.kernels.jit import compiled
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.threads import launch
from tinyresnet.kernels.windows import copy

ROWS = PANEL  # that are moved at a time


def in_panels(rows: int, columns: int) -> tuple[int, int, int]:
    """The shape of a matrix in panels: their number, rows, width."""
    width = PANEL if SMALL_MATRICES and columns > PANEL else columns
    return -(-columns // width), rows, width


def kept(prepared: dict | None, name: str, compute: Callable[[Array], Array], weight: Array) -> Array:
    """compute(weight), from the dictionary if it has it; without a dictionary, nothing is kept."""
    if prepared is None:
        return compute(weight)
    if name not in prepared:
        prepared[name] = compute(weight)
    return prepared[name]


def packed(weight: Array) -> Array:
    """weight (K, K, C, O) -> panels of its matrix (K*K*C, O)."""
    matrix = weight.reshape(-1, weight.shape[3])
    shape = in_panels(*matrix.shape)
    if shape[0] == 1:
        return matrix[None]
    panels = empty(shape, weight.dtype)
    launch(pack_tiles, -(-len(matrix) // ROWS), matrix, panels)
    return panels


def turned(weight: Array) -> Array:
    """weight (K, K, C, O) -> (K, K, O, C), with u and v reversed: the weights that take dy back to dx."""
    K, _, C, O = weight.shape
    result = empty((K, K, O, C), weight.dtype)
    turn(weight.reshape(-1, C, O), result.reshape(1, -1, C))
    return result


def transposed(weight: Array) -> Array:
    """weight (K, K, C, O) -> panels of its matrix (O, K*K*C)."""
    matrix = weight.reshape(1, -1, weight.shape[3])
    panels = empty(in_panels(matrix.shape[2], matrix.shape[1]), weight.dtype)
    turn(matrix, panels)
    return panels


def turn(weight: Array, panels: Array) -> None:
    """Panels (number, n*O, width) of the transposed matrices of weight (n, C, O), the last one first."""
    launch(turn_tiles, len(weight) * -(-weight.shape[1] // ROWS), weight, panels)


@compiled
def pack_tiles(first, last, matrix, panels):
    """Lay the rows of matrix (rows, O) into panels, ROWS at a time."""
    width = panels.shape[2]
    for row in range(first * ROWS, min(len(matrix), last * ROWS)):
        for panel in range(len(panels)):
            copy(matrix[row, panel * width :], panels[panel, row])


@compiled
def turn_tiles(first, last, weight, panels):
    """turn, for blocks of ROWS rows of a matrix, by way of a small square: its columns do not compete for the cache."""
    n, C, O = weight.shape
    width, blocks = panels.shape[2], (C + ROWS - 1) // ROWS
    square = np.zeros((ROWS, ROWS + 16), dtype=weight.dtype)
    for tile in range(first, last):
        matrix, c0 = tile // blocks, tile % blocks * ROWS
        panel, at = panels[c0 // width], c0 % width
        for o0 in range(0, O, ROWS):
            for c in range(min(ROWS, C - c0)):
                copy(weight[matrix, c0 + c, o0 : o0 + ROWS], square[c])
            for o in range(min(ROWS, O - o0)):
                row = panel[(n - 1 - matrix) * O + o0 + o, at : at + ROWS]
                for c in range(len(row)):
                    row[c] = square[c, o]
