"""Weights in panels: every number in its place, on processors that like them and on those that do not."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_kernels import normals, numba_only

from tinyresnet import Bottleneck, ResNet, fold_batch_norm
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
def test_turned_weights_are_mirrored_in_both_directions(shape):
    weight = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(panels.turned(weight), weight[::-1, ::-1].transpose(0, 1, 3, 2))


def test_a_processor_without_avx512_gets_the_same_numbers(tmp_path):
    """What OpenBLAS takes this one for; products are then not cut into pieces, nor weights into panels. The folded network
    was used here before, where its weights were laid out otherwise."""
    model = ResNet(Bottleneck, (1, 1), 3, width=96).eval()
    folded, x = fold_batch_norm(model), normals((2, 65, 72, 3))[0]
    (tmp_path / "network").write_bytes(pickle.dumps((model, folded, x, folded.forward(x))))
    program = ("import pickle, sys\n"
               "from test_kernels import PRODUCTS, both, largest_error\n"
               "from test_passes import test_backward_of_batch_norm_and_a_1x1_convolution_equals_its_reference as backward\n"
               "from tinyresnet.kernels.blas import SMALL_MATRICES\n"
               "assert not SMALL_MATRICES\n"
               "for product in PRODUCTS:\n"
               "    for stride, bound in ((1, 2e-5), (2, 2e-6)):\n"  # by Winograd's method, and without
               "        fast, plain = both(product, (3, 15, 18, 65), (3, 3, 65, 130), stride, 1, 'float32')\n"
               "        assert largest_error(fast, plain) < bound\n"
               "backward((3, 33, 20, 64), 'float32', 3e-6, True)\n"
               "model, folded, x, logits = pickle.load(open(sys.argv[1], 'rb'))\n"
               "for network in (model, folded):\n"
               "    assert largest_error(network.forward(x), logits) < 1e-4")
    subprocess.run([sys.executable, "-c", program, tmp_path / "network"], cwd=Path(__file__).parent, check=True,
                   env={**os.environ, "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CACHE_DIR": str(tmp_path)})
