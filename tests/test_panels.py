"""Weights in panels: every number in its place, on processors that like them and on those that do not."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_kernels import numba_only

from tinyresnet.kernels import panels

pytestmark = numba_only
SHAPES = [(1, 1, 5, 3), (3, 3, 7, 64), (1, 1, 65, 130), (3, 3, 64, 65), (1, 1, 200, 256)]


def whole(given):
    """The matrix (rows, columns) in panels (number, rows, width); what lies behind its last column comes along."""
    return np.concatenate(list(given), axis=1)


@pytest.fixture(params=[True, False], ids=["in pieces", "whole"])
def small_matrices(request, monkeypatch):
    monkeypatch.setattr(panels, "SMALL_MATRICES", request.param)
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packed_weights_are_the_weights(shape, small_matrices):
    weight = np.random.default_rng(0).standard_normal(shape)
    O = shape[3]
    found = panels.packed(weight)
    assert found.shape[2] == (64 if small_matrices and O > 64 else O)
    np.testing.assert_array_equal(whole(found)[:, :O], weight.reshape(-1, O))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transposed_weights_are_the_transpose(shape, small_matrices):
    weight = np.random.default_rng(0).standard_normal(shape)
    matrix = weight.reshape(-1, shape[3])
    np.testing.assert_array_equal(whole(panels.transposed(weight))[:, : len(matrix)], matrix.T)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_turned_weights_are_mirrored_in_both_directions(shape, small_matrices):
    weight = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(panels.turned(weight), weight[::-1, ::-1].transpose(0, 1, 3, 2))


def test_a_processor_without_avx512_gets_the_same_numbers(tmp_path):
    """What OpenBLAS takes this one for; products are then not cut into pieces, nor weights into panels."""
    program = ("from test_kernels import PRODUCTS, both, largest_error\n"
               "from tinyresnet.kernels.blas import SMALL_MATRICES\n"
               "assert not SMALL_MATRICES\n"
               "for product in PRODUCTS:\n"
               "    assert largest_error(*both(product, (3, 15, 18, 65), (3, 3, 65, 130), 2, 1, 'float32')) < 2e-6")
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=True,
                   env={**os.environ, "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CACHE_DIR": str(tmp_path)})
