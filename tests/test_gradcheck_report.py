"""A wrong array is recognised by its shape: each cause the report looks for, on an array that has it."""

import numpy as np
import pytest

from tinyresnet.gradcheck import compare
from tinyresnet.gradcheck_report import OWN


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


RIGHT = normal(2, 5, 6, 3)


def with_zeros(where):
    wrong = RIGHT.copy()
    wrong[where] = 0
    return wrong


def with_noise(where):
    wrong = RIGHT.copy()
    wrong[where] += 1
    return wrong


@pytest.mark.parametrize("yours, cause", [
    (2 * RIGHT, "2 times the right one, everywhere"),
    (RIGHT * [1, 2, 3], "a factor of its own (1, 2, 3)"),
    (np.zeros_like(RIGHT), "all zeros"),
    (with_zeros((slice(1, 2),)), "zero where it is wrong"),
    (np.where(RIGHT > 1, np.nan, RIGHT), "NaN or infinite"),
    (RIGHT[:, ::-1, ::-1], "turning it round along axis 1 and 2"),
    (np.roll(RIGHT, 1, axis=2), "moving it by 0 rows and -1 columns"),
    (with_noise((slice(None), -1)), "only the last row or column"),
    (with_noise((slice(None), slice(None), 0)), "only the borders"),
    (RIGHT.transpose(0, 2, 1, 3).reshape(RIGHT.shape), "the right numbers in other places"),
    (RIGHT.transpose(0, 2, 1, 3), "right after transpose(0, 2, 1, 3)"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_array_is_recognised_by_its_shape(yours, cause):
    report = str(compare({"dx": yours}, {"dx": RIGHT}))
    assert cause in report


def test_a_wrong_shape_is_said_first():
    report = str(compare({"dx": RIGHT[:1]}, {"dx": RIGHT}))
    assert report.startswith("dx has shape (1, 5, 6, 3), expected has (2, 5, 6, 3)")


def test_nothing_is_guessed_where_nothing_is_recognised():
    assert len(str(compare({"dx": RIGHT + normal(*RIGHT.shape, seed=1)}, {"dx": RIGHT})).splitlines()) == 2


def test_where_backward_is_the_librarys_and_forward_is_not_the_report_points_at_forward():
    same = {"dx": 2 * RIGHT}
    report = str(compare(same, {"dx": RIGHT}, suspects=[(OWN, lambda: same), ("another mistake", lambda: same)]))
    assert report.endswith("it is forward that is another, and dx does not fit it") and "another mistake" not in report
