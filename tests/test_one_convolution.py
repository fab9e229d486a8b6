"""One convolution, eight ways: all the same, and their work is counted as it is done. No test looks at how long one took."""

import sys

import numpy as np
import pytest
from run_examples import EXAMPLES

from tinyresnet.kernels.jit import KERNELS

sys.path.insert(0, str(EXAMPLES))
import one_convolution  # noqa: E402


@pytest.mark.skipif(KERNELS == "reference", reason="the ways are kernels")
@pytest.mark.parametrize("way", one_convolution.WAYS, ids=lambda way: way.__name__)
def test_a_way_is_the_convolution(way):
    rng = np.random.default_rng(2)
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 8, 9, 32), (3, 3, 32, 40)))
    assert 0 < one_convolution.rounding(way, x, weight) < 1e-5  # float32; Winograd's, with few channels, is 3e-6
    with pytest.raises(ArithmeticError, match="differs from the definition by"):
        one_convolution.rounding(lambda x, weight: way(x, weight) * 1.001, x, weight)


def test_loops_do_as_many_multiplications_as_are_counted():
    x, weight = np.ones((2, 4, 5, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
    assert one_convolution.flop_inside(x, weight) == 2 * one_convolution.loops(x, weight).sum()


@pytest.mark.parametrize("module, name, value", [("winograd", "ENABLED", False), ("__main__", "KERNELS", "reference")])
def test_what_is_turned_off_is_not_shown(module, name, value, monkeypatch, capsys):
    monkeypatch.setattr(getattr(one_convolution, module, one_convolution), name, value)
    with pytest.raises(SystemExit) as exit:
        one_convolution.main([])
    assert exit.value.code == 2
    assert "turned off by TINYRESNET_KERNELS=reference or TINYRESNET_WINOGRAD=0" in capsys.readouterr().err
