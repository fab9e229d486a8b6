"""The benchmark on a tiny network: that it measures what it says, compares the right way round, and leaves it all in JSON.

No test looks at how long something took.
"""

import json
import os
import sys

import numpy as np
import pytest
from run_examples import EXAMPLES, benchmark

import tinyresnet
from tinyresnet import plots
from tinyresnet.kernels.jit import KERNELS

sys.path.insert(0, str(EXAMPLES))
import benchmark_measure as measure  # noqa: E402
import benchmark_peers as peers  # noqa: E402
import benchmark_sections as sections  # noqa: E402
from benchmark_samples import CLASSES, samples  # noqa: E402
from benchmark_tables import ms, number, spread  # noqa: E402
from test_benchmark_tables import MEASURED, rows  # noqa: E402

TINY = measure.Plan("small_resnet", batch=2, size=64, batches=(1, 2), sizes=(48, 64), batch_of_sizes=2, product=64)
QUICK = ("step", "inference", "layers", "kernels", "growth", "frozen")  # no new processes


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Nothing here depends on how long something takes."""
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(measure, "AWAKE", 0)


@pytest.fixture
def nobody_else(monkeypatch):
    """A machine without PyTorch and ONNX Runtime."""
    for name in (name for modules in peers.PEERS.values() for name in modules):
        monkeypatch.setitem(sys.modules, name, None)  # what Python does not look for


def test_jobs_take_turns_at_being_first_and_the_first_rounds_do_not_count():
    calls = []
    seconds = measure.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    a_first, b_first = ["a", "a", "b", "b"], ["b", "b", "a", "a"]  # short ones are called twice
    assert calls == ["a", "b"] + b_first + a_first + b_first + a_first
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


@pytest.mark.parametrize("wrong", [lambda: np.ones(3) * 1.01, lambda: np.full(3, np.nan)], ids=["other", "nan"])
def test_a_comparison_of_different_networks_is_void(wrong):
    with pytest.raises(ValueError, match="void: logits of PyTorch differ"):
        measure.check_same({"tinyresnet": lambda: np.ones(3), "PyTorch": wrong})


@pytest.mark.torch
@pytest.mark.parametrize("block", [tinyresnet.BasicBlock, tinyresnet.Bottleneck])
def test_the_twin_in_pytorch_is_the_same_network(block):
    pytest.importorskip("torch")
    import benchmark_torch

    model = tinyresnet.ResNet(block, (1, 2, 1), CLASSES, width=8)
    x, labels = samples(2, 64)
    jobs = {f"PyTorch {layout}": benchmark_torch.training_step(benchmark_torch.twin(model), x, labels, layout, 1)
            for layout in benchmark_torch.LAYOUTS}
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
        x, _ = samples(batch, 64)
        measure.check_same({"tinyresnet": lambda: folded.forward(x), "ONNX": benchmark_onnx.inference(path, x, 1)}, 1e-5)


def test_who_is_not_installed_is_named(nobody_else, capsys):
    assert benchmark("--only", "inference", "--repeats", 1, plan=TINY) == 0
    out = capsys.readouterr().out
    for peer in ("PyTorch", "ONNX Runtime"):
        assert f'{peer} is not compared with: not installed; pip install -e ".[benchmark]"\n' in out
    assert "Against" not in out


def test_json_holds_every_timing_of_every_section_and_the_machine(nobody_else, tmp_path, capsys):
    path, plot = tmp_path / "all.json", tmp_path / "growth.PNG"
    assert benchmark("--only", *QUICK, "--repeats", 2, "--json", path, "--plot", plot, plan=TINY) == 0
    report = json.loads(path.read_text())
    assert sorted(report) == ["machine", "plan", "sections"] and list(report["sections"]) == list(QUICK)
    assert {"numpy", "scipy", "python"} <= report["machine"]["versions"].keys() and report["machine"]["cpu"]
    found = report["sections"]
    assert list(found["step"]["seconds"]) == ["tinyresnet", "large matrix product in NumPy"]
    assert [len(step["kernels"]) > 5 for step in found["kernels"]["steps"]] == [KERNELS == "numba"] * 2
    timings = [found["step"]["seconds"], *(s["seconds"] for s in found["inference"].values()), found["frozen"]["steps"],
               *(row["seconds"] for row in found["layers"]["rows"]), *(p["seconds"] for p in found["growth"]["sizes"])]
    assert all(len(times) == 2 for seconds in timings for times in seconds.values())
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.json", "growth.PNG"]
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


@pytest.mark.torch
def test_everybody_is_measured_and_weighed(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import benchmark_torch

    timed, weighed = tmp_path / "timed.json", tmp_path / "weighed.json"
    assert benchmark("--only", "step", "inference", "--repeats", 1, "--json", timed, plan=TINY) == 0
    assert benchmark("--only", "memory", "startup", "--repeats", 1, "--json", weighed, plan=TINY._replace(batch=1)) == 0
    found = json.loads(timed.read_text())["sections"] | json.loads(weighed.read_text())["sections"]
    steps = [measure.OURS, *(f"PyTorch {layout}" for layout in benchmark_torch.LAYOUTS)]
    answers = [measure.OURS, *(f"PyTorch {way}" for way in benchmark_torch.WAYS), "ONNX Runtime"]
    assert list(found["step"]["seconds"]) == [*steps, measure.PRODUCT]
    assert [list(section["seconds"]) for section in found["inference"].values()] == [[*answers, measure.PRODUCT]] * 2
    assert [(row["task"], row["name"]) for row in found["memory"]["rows"]] == [
        *(("step", name) for name in steps), *(("inference", name) for name in answers)]
    assert all(20e6 < row["after import"] < row["peak"] for row in found["memory"]["rows"])
    assert {name: len(runs) for name, runs in found["startup"]["runs"].items()} == {
        "import": 1, "inference": 1, "step, empty cache": 1}
    printed = rows(capsys.readouterr().out)
    for name, times in found["step"]["seconds"].items():
        assert [name, ms(times), spread(times)] in [row[:3] for row in printed]
    for row in found["memory"]["rows"]:
        weights = [number(row[part] / 1e6) for part in ("after import", "peak")]
        assert [f"{row['task']}, batch 1", row["name"], *weights] in [row[:4] for row in printed]


@pytest.mark.torch
def test_a_step_that_learns_nothing_is_void(monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(measure.Adam, "step", lambda adam: None)
    assert benchmark("--only", "step", "--repeats", 1, plan=TINY) == 2
    assert "void: logits of PyTorch NCHW differ from ours" in capsys.readouterr().err


@pytest.mark.torch
def test_pytorch_folds_every_batch_norm():
    torch = pytest.importorskip("torch")
    import benchmark_torch

    folded = benchmark_torch.folded(benchmark_torch.twin(tinyresnet.resnet50(7, width=4).eval()))
    kinds = [type(module) for module in folded.modules()]
    assert kinds.count(torch.nn.Conv2d) == 53 and torch.nn.BatchNorm2d not in kinds


def test_a_peer_that_cannot_be_loaded_is_named_with_the_reason(monkeypatch):
    def broken(name):
        raise OSError("libtorch.so: cannot open shared object file\nNo such file")

    monkeypatch.setattr(peers.importlib, "import_module", broken)
    assert peers.meet("PyTorch") == (None, [
        "PyTorch is not compared with: libtorch.so: cannot open shared object file"])


@pytest.mark.skipif(KERNELS == "reference", reason="layers run alone")
def test_backward_of_a_layer_is_what_training_runs():
    geometries = {(1, 1, 0): "pointwise_groups", (1, 2, 0): "scatter_tiles", (3, 1, 1): "multiply"}
    for (kernel, stride, padding), expected in geometries.items():
        jobs = sections.layer_jobs((2, 12, 13, 32), (kernel, kernel, 32, 32), stride, padding)
        with sections.timed_kernels() as launched:
            jobs.get("dx + dw", jobs.get("dx"))()
        assert expected in launched
        assert len(jobs) == (2 if expected == "pointwise_groups" else 3)


@pytest.mark.parametrize("code, end", [(-9, "was ended by SIGKILL"), (3, "ended with exit code 3")])
def test_a_process_that_fails_says_how(code, end):
    assert measure.end_of(measure.subprocess.CompletedProcess([], code, "", "")) == f"{end}: no message"


@pytest.mark.parametrize("kernels, words", [
    ("numba", "kernels: numba, Winograd's method on"), ("reference", "kernels: reference")])
def test_the_heading_ends_with_the_kernels(kernels, words, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["tinyresnet.kernels.jit"], "KERNELS", kernels)  # benchmark.py is read anew
    monkeypatch.setattr(sections.winograd, "ENABLED", True)
    monkeypatch.setitem(sections.SECTIONS, "step", out_of_memory)
    assert benchmark("--only", "step", plan=TINY) == 2
    out, err = capsys.readouterr()
    assert out.rstrip().endswith(f"; {words}")
    assert err.splitlines()[-1] == "benchmark: not enough memory: of 1 TB"


def out_of_memory(plan):
    raise MemoryError("of 1 TB")


@pytest.mark.parametrize("first, kept", [(lambda plan: MEASURED, True), (None, False)])
def test_an_interrupted_run_says_truly_whether_something_was_kept(first, kept, monkeypatch, tmp_path, capsys):
    def interrupted(plan):
        raise KeyboardInterrupt

    path = tmp_path / "all.json"
    path.write_text("of an earlier run")
    monkeypatch.setitem(sections.SECTIONS, "step", first or interrupted)
    monkeypatch.setitem(sections.SECTIONS, "inference", interrupted)
    assert benchmark("--only", "step", "inference", "--json", path, plan=TINY) == 130
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "interrupted" + (f"; what was finished is in {path}" if kept else "")
    assert ("PyTorch NCHW" in out) == kept == (path.read_text() != "of an earlier run")


def test_a_symbolic_link_stays_one_when_it_is_written_to(monkeypatch, tmp_path):
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    link.symlink_to(target)
    monkeypatch.setitem(sections.SECTIONS, "step", lambda plan: MEASURED)
    assert benchmark("--only", "step", "--json", link, plan=TINY) == 0
    assert link.is_symlink() and "step" in json.loads(target.read_text())["sections"]


def test_what_is_neither_missing_nor_a_file_is_not_replaced(monkeypatch, tmp_path, capsys):
    os.mkfifo(pipe := tmp_path / "pipe")  # a device of the machine would be lost if this failed
    monkeypatch.setitem(sections.SECTIONS, "step", lambda plan: MEASURED)
    with pytest.raises(SystemExit):
        benchmark("--only", "step", "--json", pipe, plan=TINY)
    assert pipe.is_fifo() and f"--json: {pipe} cannot be written" in capsys.readouterr().err


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
