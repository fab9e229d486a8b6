"""python -m tinyresnet.gradcheck: the table, its exit code, the two figures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyresnet.gradcheck import H
from tinyresnet.gradcheck_command import STEPS, main, one_thread, v_curve
from tinyresnet.kernels.jit import KERNELS
from tinyresnet.layers import BatchNorm2d

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    done = subprocess.run([sys.executable, "-m", "tinyresnet.gradcheck", "--plot", folder / "new"], capture_output=True,
                          text=True, cwd=Path(__file__).parents[1], timeout=300)
    return done, folder / "new"


def test_the_command_finds_nothing_wrong_and_says_so(command):
    done, _ = command
    assert done.returncode == 0 and "none wrong" in done.stdout and done.stderr == ""


def test_the_table_has_every_kind_of_layer_and_block(command):
    done, _ = command
    for name in ("Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "GlobalAvgPool", "Linear", "Sequential", "cross_entropy",
                 "PaddedIdentity", "BasicBlock", "Bottleneck"):
        assert name in done.stdout


def test_both_figures_are_drawn_and_small(command):
    _, folder = command
    for name in ("v-curve.png", "maps.png"):
        data = (folder / name).read_bytes()
        assert data.startswith(b"\x89PNG") and 5_000 < len(data) < 100_000


def test_a_wrong_layer_is_marked_and_the_command_ends_with_1(monkeypatch, capsys):
    right = BatchNorm2d.backward
    monkeypatch.setattr(BatchNorm2d, "backward", lambda self, dy: right(self, dy) * 1.001)
    assert main([]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_the_curve_is_a_v_in_float64_and_has_no_good_step_in_float32():
    float64, float32 = v_curve()
    assert float64[np.argmin(abs(STEPS - H))] < 1e-9  # rounding at 1e-5: some 1e-10
    assert float64[0] > 1e-3 and float64[-1] > 1e-7  # kinks on the one side, rounding on the other
    assert float32.min() > 1e-5  # 3e-4 at best


def test_the_number_of_threads_is_as_before():
    if KERNELS == "reference":
        pytest.skip("the references have no threads")
    import numba
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    with one_thread():
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
