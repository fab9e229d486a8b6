"""pytest --student FILE, run on students' files as they come: right, wrong, unfinished, endless, and no Python at all."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
from student import at_most
from student_files import (CONV, COUNTED, FRIENDS, FUNCTIONS_AND_OPTIMISERS, LINEAR, RELU, RIGHT_BLOCK, SOFTMAX,
                           WRONG_BATCH_NORM, WRONG_CONV)

ROOT = Path(__file__).resolve().parents[1]


def run(folder, source, *options):
    """pytest --student on a file with this source (None: no file)."""
    file, grade = folder / "mine.py", folder / "grade.json"
    if source is not None:
        file.write_text(source)
    done = subprocess.run([sys.executable, "-m", "pytest", "tests/tasks", "-q", "-p", "no:cacheprovider", "--student",
                           file, "--grade-json", grade, *options], cwd=ROOT, capture_output=True, text=True, timeout=300)
    tasks = json.loads(grade.read_text())["tasks"] if grade.exists() else {}
    return SimpleNamespace(code=done.returncode, output=done.stdout + done.stderr, folder=folder,
                           verdicts={task: grade["verdict"] for task, grade in tasks.items()},
                           points={task: grade["points"] for task, grade in tasks.items()})


@pytest.fixture(scope="module")
def three_right_two_wrong(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    source = COUNTED + RELU + LINEAR + SOFTMAX + WRONG_CONV + WRONG_BATCH_NORM
    return run(folder, source, "--junitxml", folder / "report.xml")


def test_three_right_and_two_wrong_are_graded_as_they_are(three_right_two_wrong):
    found = three_right_two_wrong.verdicts
    right = {task for task, verdict in found.items() if verdict == "right"}
    assert {task for task, verdict in found.items() if verdict == "wrong"} == {
        "conv-backward", "conv-inside", "batchnorm-backward", "batchnorm-inside"}
    assert right == {"relu-forward", "relu-backward", "relu-once", "relu-inside", "linear-forward", "linear-backward",
                     "linear-once", "linear-inside", "softmax", "conv-forward", "conv-once", "batchnorm-forward",
                     "batchnorm-statistics", "batchnorm-refusal", "batchnorm-once"}


def test_something_wrong_ends_with_1(three_right_two_wrong):
    assert three_right_two_wrong.code == 1


def test_a_right_task_earns_its_points_and_a_wrong_one_none(three_right_two_wrong):
    points = three_right_two_wrong.points
    assert (points["linear-backward"], points["softmax"], points["conv-backward"], points["adam"]) == (2, 1, 0, 0)


def test_a_failure_is_a_report_and_not_a_traceback(three_right_two_wrong):
    output = three_right_two_wrong.output
    assert '\n  exactly what you get with "dweight divided by N": see docs/gradient-checks.md\n' in output
    assert '\n  exactly what you get with "gamma forgotten": see docs/gradient-checks.md\n' in output
    assert "Traceback" not in output and "kit.py" not in output


def test_only_tasks_are_run(three_right_two_wrong):
    cases = xml.etree.ElementTree.parse(three_right_two_wrong.folder / "report.xml").iter("testcase")
    found = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    assert found and all(set(properties) == {"task", "points"} for properties in found)
    assert {"task": "conv-backward", "points": "3"} in found


def test_the_file_is_executed_once(three_right_two_wrong):
    assert (three_right_two_wrong.folder / "count").read_text() == "x"


def test_an_exam_gives_the_facts_and_no_cause(tmp_path):
    result = run(tmp_path, WRONG_BATCH_NORM, "--no-hints", "--task", "batchnorm-backward")
    assert "dx is wrong at 100%" in result.output and "worst element" in result.output
    assert "exactly what" not in result.output and "factor" not in result.output


def test_everything_right_ends_with_0(tmp_path):
    result = run(tmp_path, RELU + LINEAR)
    assert result.code == 0 and set(result.verdicts.values()) == {"right", "not in the file"}


def test_a_convolution_that_stands_alone_is_right_alone_and_inside_blocks(tmp_path):
    result = run(tmp_path, CONV)
    assert result.code == 0, result.output
    assert {task for task, verdict in result.verdicts.items() if verdict == "right"} == {
        "conv-forward", "conv-backward", "conv-once", "conv-inside"}


@pytest.mark.parametrize("source", [
    RELU.replace("    def __init__", "    __slots__ = 'training', 'frozen', 'grads', 'mask'\n\n    def __init__"),
    CONV.replace("{} if self.bias is None", "{'bias': None} if self.bias is None"),
    CONV.replace("self.stride", "self.step"),
    CONV.replace("np.float32) if bias else None", "np.float32)\n        self.biased = bias").replace(
        "self.bias is None", "not self.biased"),
], ids=["slots", "None for no gradient", "no attribute stride", "a bias that is not used"])
def test_another_way_to_write_it_is_right(tmp_path, source):
    result = run(tmp_path, source)
    assert result.code == 0 and set(result.verdicts.values()) == {"right", "not in the file"}, result.output


@pytest.mark.parametrize("source, task, message", [
    (LINEAR.replace("if not self.frozen", "if True"), "linear-backward", "a frozen Linear left a gradient of weight"),
    (LINEAR.replace("        return x @", "        self.bias += 1e-9\n        return x @"), "linear-backward",
     "forward or backward of Linear changed bias"),
    (RELU.replace("np.maximum(x, 0)", "np.where(x > 0, x, x.dtype.type(0))"), "relu-forward", "of NaN, 1 and -1"),
])
def test_what_is_in_no_gradient_is_seen_and_said(tmp_path, source, task, message):
    result = run(tmp_path, source, "--task", task)
    assert result.verdicts == {task: "wrong"} and message in result.output


def test_one_task_alone_can_be_asked_for(tmp_path):
    assert run(tmp_path, RELU + LINEAR, "--task", "relu-backward").verdicts == {"relu-backward": "right"}


def test_a_near_miss_warns_and_the_rest_is_checked(tmp_path):
    result = run(tmp_path, SOFTMAX + RELU.replace("ReLU", "Relu"))
    assert "warning: Relu is not checked: did you mean ReLU?" in result.output
    assert result.code == 0 and result.verdicts["softmax"] == "right"


@pytest.mark.parametrize("source, message", [
    ("x = 1\n", "replaces nothing: expected one of Conv2d"),
    ("from tinyresnet.layers import Conv2d, ReLU\n", "replaces nothing"),
    ("class Relu: pass\n", "did you mean ReLU?"),
    ("def f(:\n", "SyntaxError"),
    ("import no_such_module\n", "No module named 'no_such_module'"),
    ("raise SystemExit\n", "SystemExit"),
    ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    (None, "FileNotFoundError"),
])
def test_a_file_that_cannot_be_used_ends_with_4_and_a_line_that_says_why(tmp_path, source, message):
    result = run(tmp_path, source)
    assert result.code == 4
    lines = [line for line in result.output.splitlines() if line]
    assert len(lines) == 1 and message in lines[0] and "mine.py" in lines[0]


@pytest.mark.parametrize("task, message", [("relu-backwards", "no task is named 'relu-backwards'; there are adam, "),
                                           ("adam", "has ReLU, and nothing for adam")])
def test_a_task_that_cannot_be_run_ends_with_4(tmp_path, task, message):
    result = run(tmp_path, RELU, "--task", task)
    assert result.code == 4 and message in result.output


def pytest_in(folder, *options, path=()):
    """Exit code and output of pytest run in this folder, with more folders on Python's path."""
    path = os.pathsep.join([str(ROOT), *map(str, path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options], cwd=folder,
                          capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    return done.returncode, done.stdout + done.stderr


def installed(folder):
    """A folder for Python's path with the entry point of setup.cfg, laid down by hand."""
    facts = folder / "installed" / "tinyresnet_options-0.dist-info"
    facts.mkdir(parents=True)
    facts.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: tinyresnet-options\nVersion: 0\n")
    facts.joinpath("entry_points.txt").write_text("[pytest11]\ntinyresnet = tinyresnet.pytest_options\n")
    return facts.parent


def test_a_student_without_a_name_ends_with_4():
    code, output = pytest_in(ROOT, "tests/tasks", "--student", "")
    assert code == 4 and "cannot be executed" in output


@pytest.mark.parametrize("place", ["missing/grade.json", ""])
def test_grades_that_cannot_be_written_end_with_4_before_anything_is_run(tmp_path, place):
    (tmp_path / "mine.py").write_text(RELU)
    code, output = pytest_in(ROOT, "tests/tasks", "--student", tmp_path / "mine.py", "--grade-json", tmp_path / place)
    assert code == 4 and "cannot be written" in output and "passed" not in output and "Traceback" not in output


def test_in_another_folder_it_ends_with_4_and_names_the_right_one(tmp_path):
    (tmp_path / "mine.py").write_text(RELU)
    code, output = pytest_in(tmp_path, "--student", "mine.py", path=[installed(tmp_path)])
    assert code == 4 and "run pytest in tinyresnet's folder" in output


@pytest.mark.parametrize("way_out", ["raise KeyboardInterrupt", "__import__('pytest').skip('to do')",
                                     "raise __import__('unittest').SkipTest", "__import__('pytest').xfail('no')",
                                     "__import__('pytest').exit('done')"])
def test_a_way_out_of_a_test_is_wrong_and_the_rest_is_checked(tmp_path, way_out):
    result = run(tmp_path, SOFTMAX + RELU.replace("return dy * mask", way_out))
    assert result.code == 1 and "is no answer" in result.output
    assert result.verdicts["relu-backward"] == "wrong" and result.verdicts["softmax"] == "right"


def test_what_is_not_implemented_is_to_do_and_not_wrong(tmp_path):
    result = run(tmp_path, LINEAR + RELU.split("    def backward")[0] + "    def backward(self, dy):\n"
                 "        raise NotImplementedError\n")
    assert result.code == 0
    assert result.verdicts["relu-backward"] == "to do" and result.points["relu-backward"] == 0
    assert result.verdicts["relu-forward"] == "right"
    assert result.verdicts["linear-backward"] == "right"


def test_an_endless_loop_is_ended_and_wrong(tmp_path):
    result = run(tmp_path, RELU.replace("        return dy", "        while True: pass\n        return dy") + SOFTMAX,
                 "--timeout", "2")
    assert result.code == 1 and "Timeout" in result.output
    assert result.verdicts["relu-backward"] == "wrong" and result.verdicts["softmax"] == "right"


def test_an_exception_is_told_with_its_line_in_the_students_file(tmp_path):
    result = run(tmp_path, RELU.replace("return dy * mask", "return dz * mask"), "--task", "relu-backward")
    assert "NameError: name 'dz' is not defined" in result.output
    assert "mine.py:15: return dz * mask" in result.output


def test_a_layer_that_never_lets_go_loses_one_point_and_no_more(tmp_path):
    result = run(tmp_path, RELU.replace("mask, self.mask = self.mask, None", "mask = self.mask").replace(
        " if self.training else None", ""))
    assert {task for task, verdict in result.verdicts.items() if verdict == "wrong"} <= {"relu-once", "relu-inside"}
    assert result.verdicts["relu-once"] == "wrong" and result.verdicts["relu-inside"] == "right"


def test_functions_and_optimisers_are_checked(tmp_path):
    result = run(tmp_path, FUNCTIONS_AND_OPTIMISERS)
    assert {task: verdict for task, verdict in result.verdicts.items() if verdict != "not in the file"} == {
        "im2col": "right", "col2im": "wrong", "cross-entropy": "right", "cross-entropy-refusal": "right", "sgd": "right",
        "adam": "wrong"}
    assert '"Adam without bias correction"' in result.output and '"= for += in col2im"' in result.output


def test_a_right_block_is_right_beside_a_wrong_layer_of_the_same_file(tmp_path):
    """Each name is checked with everything else the library's, also in the student's own file."""
    result = run(tmp_path, WRONG_CONV + RIGHT_BLOCK)
    assert {task for task, verdict in result.verdicts.items() if verdict == "wrong"} == {"conv-backward", "conv-inside"}
    assert {result.verdicts[f"basicblock-{part}"] for part in ("forward", "backward", "once", "inside")} == {"right"}


def test_what_is_right_only_together_with_the_rest_of_the_file_is_right(tmp_path):
    result = run(tmp_path, FRIENDS)
    assert result.verdicts["softmax"] == result.verdicts["cross-entropy"] == "right"
    assert result.verdicts["cross-entropy-refusal"] == "wrong" and result.points["cross-entropy"] == 2


def test_files_beside_the_students_are_found_first_and_searched_for_near_misses_and_rest(tmp_path):
    """Also one that is named as ours: kit.py."""
    (tmp_path / "kit.py").write_text(RELU.replace("ReLU", "Relu") + WRONG_CONV + RIGHT_BLOCK)
    result = run(tmp_path, "from kit import BasicBlock, Conv2d, Relu\n")
    assert "warning: Relu is not checked: did you mean ReLU?" in result.output
    assert {task for task, verdict in result.verdicts.items() if verdict == "wrong"} == {"conv-backward", "conv-inside"}
    assert result.verdicts["basicblock-backward"] == "right"


def test_the_option_is_known_before_pytest_takes_the_file_for_a_test(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(SOFTMAX)
    code, output = pytest_in(ROOT, "--student", file, path=[installed(tmp_path)])
    assert code == 0 and "1 of 1   right" in output, output


def test_a_file_that_is_never_done_is_given_up():
    with pytest.raises(TimeoutError, match="not done after 1 seconds"), at_most(1):
        while True:
            pass
