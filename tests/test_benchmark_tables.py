"""What the benchmark prints, of figures that were made up: each in its column, compared the right way round."""

import re
import sys

import pytest
from run_examples import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
import benchmark_measure as measure  # noqa: E402
import benchmark_tables as tables  # noqa: E402

MEASURED = {"batch": 2, "flop": 5e9, "product_flop": 0.4e9, "missing": [], "differences": {"logits": {}}, "seconds": {
    "tinyresnet": [0.2, 0.1, 0.4], "PyTorch NCHW": [0.3, 0.5, 0.3], "large matrix product in NumPy": [0.01]}}
WEIGHED = {"missing": [], "rows": [
    {"task": "step", "batch": 2, "name": "tinyresnet", "after import": 1e8, "peak": 2e8},
    {"task": "step", "batch": 2, "name": "PyTorch NCHW", "after import": 2.5e8, "peak": 3e8}]}
LAYERS = {"batch": 2, "rows": [
    {"input": (8, 9, 64), "kernel": 1, "stride": 1, "outputs": 32, "count": 3, "flop": 5e9, "method": "1x1",
     "seconds": {"forward": [0.2], "dx + dw": [0.5]}},
    {"input": (8, 9, 16), "kernel": 3, "stride": 2, "outputs": 64, "count": 1, "flop": 5e9, "method": "tiles",
     "seconds": {"forward": [0.1], "dx": [0.3], "dw": [0.1]}}]}
PROFILED = {"batch": 2, "steps": [
    {"total": total, "kernels": {"one_tiles": {"module": "tinyresnet.kernels.conv", "calls": 7, "seconds": seconds}}}
    for total, seconds in ((0.5, 0.3), (0.6, 0.2), (0.7, 0.5))]}
GROWN = {"batch": 2, "size": 64, "flop": 2.5e9, "seconds": {"forward": [0.1, 0.1, 0.3], "step": [0.4, 0.3, 0.5]}}
STARTED = {"batch": 2, "runs": {"inference": [{"import": 0.5, "build": 0.25, "first call": 1, "whole process": 2}] * 2}}


def rows(text):
    """The lines of a table as their cells; empty ones are not seen."""
    return [re.split(r" {3,}", line.strip()) for line in text.splitlines()]


@pytest.mark.parametrize("section, data, row", [
    ("step", MEASURED, ["tinyresnet", "200", "100..400", "10", "25", "50 %"]),
    ("step", MEASURED, ["PyTorch NCHW", "300", "300..500", "6.67", "16.7", "33 %", "1.50"]),
    ("step", MEASURED, ["large matrix product in NumPy", "10", "10..10", "40", "80 %"]),
    ("inference", {"2": MEASURED}, ["PyTorch NCHW", "300", "300..500", "6.67", "16.7", "33 %", "1.50"]),
    ("memory", WEIGHED, ["step, batch 2", "tinyresnet", "100", "200"]),
    ("memory", WEIGHED, ["step, batch 2", "PyTorch NCHW", "250", "300", "1.50"]),
    ("memory", WEIGHED, ["Step, batch 2. Against the best of each: PyTorch NCHW 1.50."]),
    ("startup", STARTED, ["first inference, batch 1, warm cache", "0.50", "0.25", "1.00", "2.00", "2.00..2.00", "2"]),
    ("layers", LAYERS, ["3", "8x9x64", "1x1", "1", "32", "5", "1x1", "200", "25", "50 %", "500", "20", "40 %"]),
    ("layers", LAYERS, ["1", "8x9x16", "3x3", "2", "64", "5", "tiles", "100", "50", "100 %", "300", "100", "400", "25",
                        "50 %"]),
    ("layers", LAYERS, ["4", "all", "20", "700", "28.6", "57 %", "1,900", "21.1", "42 %"]),
    ("kernels", PROFILED, ["one_tiles", "conv.py", "7", "300", "50.0 %"]),
    ("kernels", PROFILED, ["outside of kernels", "200", "33.3 %"]),
    ("growth", {"batches": [GROWN], "sizes": []},
     ["2", "64x64", "100", "100..300", "20", "50 %", "400", "300..500", "5", "38 %"]),
    ("frozen", {"batch": 2, "features": {"a": [0.1], "b": [0.3]}, "steps": {"c": [0.2], "d": [0.5]}},
     ["features, folded network", "100", "100..100", "20", "3.00"]),
])
def test_a_table_has_everything_in_its_column(section, data, row):
    assert row in rows(tables.TABLES[section](data, 50e9))


def test_the_best_product_of_all_sections_is_the_measure_of_speed():
    sections = {"step": {"seconds": {measure.PRODUCT: [0.3, 0.2, 0.1]}}, "layers": {measure.PRODUCT: [0.5, 0.5]},
                "growth": {"sizes": [{"seconds": {measure.PRODUCT: [0.1]}}]}}
    assert tables.peak(sections, 1e9) == 10e9
    assert tables.peak({"step": sections["step"]}, 1e9) == 5e9


def test_a_ratio_above_one_says_that_we_are_faster_than_the_better_layout():
    seconds = {"tinyresnet": [1.0, 2.0, 9.0], "PyTorch NCHW": [8.0, 8.0, 1.0], "PyTorch channels last": [3.0, 3.0, 5.0]}
    assert tables.against(seconds) == ["Against the best of each: PyTorch channels last 1.50."]  # medians 3 / 2
    assert tables.against({"tinyresnet": [1.0]}) == []
