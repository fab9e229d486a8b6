"""The benchmark on a tiny network: that it measures what it says, compares the right way round, and leaves it all in JSON.

No test looks at how long something took.
"""

import importlib.util
import json
import sys

import numpy as np
import pytest
from run_examples import EXAMPLES, benchmark

import tinyresnet
from tinyresnet import plots
from tinyresnet.kernels.jit import KERNELS

sys.path.insert(0, str(EXAMPLES))
import benchmark_measure as measure  # noqa: E402
import benchmark_sections as sections  # noqa: E402
import benchmark_tables as tables  # noqa: E402

TINY = measure.Plan("small_resnet", batch=2, size=64, batches=(1, 2), sizes=(48, 64), batch_of_sizes=2, product=64)
QUICK = ("step", "inference", "layers", "kernels", "growth", "frozen")  # no new processes


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Nothing here depends on how long something takes."""
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: None)


@pytest.fixture
def nobody_else(monkeypatch):
    """A machine without PyTorch and ONNX Runtime."""
    find = importlib.util.find_spec
    strangers = {name for modules in sections.PEERS.values() for name in modules}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in strangers else find(name, *rest))


def test_jobs_take_turns_and_the_first_rounds_do_not_count():
    calls = []
    seconds = measure.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "b"] + ["a", "a", "b", "b"] * (measure.WARM_UP + 3 - 1)  # short ones are called twice
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_the_convolutions_of_resnet50_add_up_to_the_published_work():
    model = measure.Plan().model()
    assert measure.forward_flop(model, 1, 224) == pytest.approx(2 * 4.089e9, rel=1e-3)  # torchvision: 4.09 GFLOPS
    pairs = list(measure.convolutions(model, (1, 224, 224, 3)))
    assert len(pairs) == 53
    assert len({(shape, conv.weight.shape, conv.stride) for conv, shape in pairs}) == 23


def test_the_shape_that_enters_a_convolution_is_the_one_it_meets(monkeypatch):
    model, met = tinyresnet.small_resnet(width=4).eval(), []
    told = [(id(conv), shape) for conv, shape in measure.convolutions(model, (1, 33, 40, 3))]
    forward = sections.Conv2d.forward
    monkeypatch.setattr(sections.Conv2d, "forward", lambda conv, x: met.append((id(conv), x.shape)) or forward(conv, x))
    model.forward(np.zeros((1, 33, 40, 3), np.float32))
    assert sorted(met) == sorted(told)


def test_a_ratio_above_one_says_that_we_are_faster_than_the_better_layout():
    seconds = {"tinyresnet": [1.0, 2.0, 9.0], "PyTorch NCHW": [8.0, 8.0, 1.0], "PyTorch channels last": [3.0, 3.0, 5.0]}
    assert measure.ratio(seconds, "PyTorch") == 1.5  # medians 3 / 2
    assert tables.better(seconds, "PyTorch") == " (channels last)"
    assert measure.ratio(seconds, "ONNX Runtime") is None


@pytest.mark.parametrize("wrong", [lambda: np.ones(3) * 1.01, lambda: np.full(3, np.nan)], ids=["other", "nan"])
def test_a_comparison_of_different_networks_is_void(wrong):
    with pytest.raises(ValueError, match="void: logits of PyTorch differ"):
        measure.check_same({"tinyresnet": lambda: np.ones(3), "PyTorch": wrong})


@pytest.mark.torch
@pytest.mark.parametrize("block", [tinyresnet.BasicBlock, tinyresnet.Bottleneck])
def test_the_twin_in_pytorch_is_the_same_network(block):
    pytest.importorskip("torch")
    import benchmark_torch

    model = tinyresnet.ResNet(block, (1, 2, 1), measure.CLASSES, width=8)
    x, labels = measure.samples(2, 64)
    jobs = {f"PyTorch {layout}": benchmark_torch.training_step(benchmark_torch.twin(model), x, labels, layout, 1)
            for layout in sections.TENSOR_LAYOUTS}
    jobs = {"tinyresnet": measure.training_step(model, x, labels), **jobs}
    measure.check_same(jobs, 1e-5)  # rounding; batch norm over 32 numbers a channel enlarges it a little
    measure.check_same(jobs, 1e-2)  # a step changes them by 0.5; Adam makes much of gradients that are but rounding


@pytest.mark.parametrize("caffe_pool", [False, True])
def test_the_onnx_graph_is_the_same_network_for_any_number_of_images(caffe_pool, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import benchmark_onnx

    folded = tinyresnet.fold_batch_norm(tinyresnet.resnet50(7, width=8, caffe_pool=caffe_pool))
    benchmark_onnx.write_graph(folded, path := str(tmp_path / "model.onnx"), 64)
    for batch in (1, 3):
        x, _ = measure.samples(batch, 64)
        measure.check_same({"tinyresnet": lambda: folded.forward(x), "ONNX": benchmark_onnx.inference(path, x, 1)}, 1e-5)


def test_who_is_not_installed_is_named(nobody_else, capsys):
    assert benchmark("--only", "inference", "--repeats", 1, plan=TINY) == 0
    out = capsys.readouterr().out
    assert "PyTorch is not compared with: not installed (torch)" in out
    assert "ONNX Runtime is not compared with: not installed (onnxruntime, onnx)" in out
    assert "Against" not in out


def test_json_holds_every_timing_of_every_section_and_the_machine(nobody_else, tmp_path, capsys):
    path, plot = tmp_path / "all.json", tmp_path / "growth.png"
    assert benchmark("--only", *QUICK, "--repeats", 2, "--json", path, "--plot", plot, plan=TINY) == 0
    report = json.loads(path.read_text())
    assert sorted(report) == ["machine", "plan", "sections"] and list(report["sections"]) == list(QUICK)
    assert {"numpy", "scipy", "python"} <= report["machine"]["versions"].keys() and report["machine"]["cpu"]
    found = report["sections"]
    assert sorted(found["step"]["seconds"]) == ["matrix product", "tinyresnet"]
    timings = [found["step"]["seconds"], *(s["seconds"] for s in found["inference"].values()), found["frozen"]["steps"],
               *(row["seconds"] for row in found["layers"]["rows"]), *(p["seconds"] for p in found["growth"]["sizes"])]
    assert all(len(times) == 2 for seconds in timings for times in seconds.values())
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.json", "growth.png"]
    out = capsys.readouterr().out
    assert all(title in out for title in ("Training step, batch 2", "Inference, batch 1", "Convolutions", "Where the time",
                                          "How the cost grows", "What a frozen part saves"))


@pytest.mark.skipif(KERNELS == "reference", reason="the references are not launched")
def test_kernels_launch_as_before_once_they_have_been_timed():
    model, x = tinyresnet.small_resnet(width=4).eval(), np.zeros((1, 32, 32, 3), np.float32)
    with sections.timed_kernels() as rows:
        model.forward(x)
    calls = {name: row["calls"] for name, row in rows.items()}
    model.forward(x)
    assert calls == {name: row["calls"] for name, row in rows.items()}
    assert calls["forward_tiles"] == 13  # 12 convolutions and the head


def test_a_fresh_process_weighs_itself_and_not_its_parent():
    ballast = np.ones(400_000_000, dtype=np.uint8)  # more than NumPy, Numba and a tiny network need
    report = measure.fresh("tinyresnet", "inference", "small_resnet", 1, 32, 1, 1)
    memory, seconds = report["memory"], report["seconds"]
    assert 10e6 < memory["after import"] <= memory["peak"] < ballast.nbytes
    assert sorted(seconds) == ["build", "first call", "import", "whole process"]


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no_such_network"):
        measure.fresh("tinyresnet", "inference", "no_such_network", 1, 32, 1, 1)


@pytest.mark.parametrize("section, data", [
    ("memory", {"missing": ["PyTorch is not compared with"], "rows": [
        {"task": "step", "batch": 2, "name": name, "after import": 1e8, "peak": peak}
        for name, peak in (("tinyresnet", 2e8), ("PyTorch NCHW", 4e8))]}),
    ("startup", {"batch": 2, "runs": {"import": [{"import": 0.5, "whole process": 0.75}]}}),
])
def test_tables_of_fresh_processes_show_what_was_found(section, data):
    text = tables.TABLES[section](data)
    assert ("0.50" in text and "not compared" in text) if section == "memory" else ("0.75" in text)


@pytest.mark.parametrize("arguments, message", [
    (("--only", "speed"), "invalid choice: 'speed'"),
    (("--repeats", 0), "--repeats: expected at least 1, got 0"),
    (("--threads", 0), "--threads: expected at least 1, got 0"),
    (("--json", "/proc/x.json"), "--json: /proc/x.json cannot be written"),
    (("--json", "nowhere/x.json"), "--json: nowhere/x.json cannot be written"),
    (("--json", "."), "--json: . cannot be written"),
    (("--plot", "growth.txt"), "--plot: expected a file that ends in .png, .pdf, .svg, got growth.txt"),
    (("--only", "step", "--plot", "growth.png"), "--plot draws the section growth"),
])
def test_what_cannot_be_done_is_refused_before_anything_is_measured(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        benchmark(*arguments, plan=TINY)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_void_comparison_ends_with_one_line(monkeypatch, capsys):
    def void(plan):
        raise ValueError("the comparison is void")

    monkeypatch.setitem(sections.SECTIONS, "step", void)
    assert benchmark("--only", "step", plan=TINY) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "benchmark: the comparison is void"


def test_growth_is_not_drawn_without_points(tmp_path):
    with pytest.raises(ValueError, match="expected points for both panes, got 0 and 0"):
        plots.plot_growth([], [], tmp_path / "growth.png")
