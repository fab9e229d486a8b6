"""What needs ../shared or PyTorch is marked, and skipped where it is missing, with the reason.

pytest --student FILE runs the tests marked as tasks on the student's classes and functions; see docs/gradient-checks.md.
"""

import importlib.util
import os
import unittest
from pathlib import Path

import pytest
from handmade_files import torch_state
from kit import SUBJECTS
from student import SECONDS, Grades, Interrupted, Student, interruptible

from tinyresnet import pytest_options
from tinyresnet.gradcheck import GradientError
from tinyresnet.gradcheck_command import one_thread
from tinyresnet.pytest_options import GRADES
from weights_converter import convert, read_tensors

SHARED = Path(__file__).resolve().parents[2] / "shared"
STUDENT, TO_DO = pytest.StashKey(), pytest.StashKey()
WAYS_OUT = (KeyboardInterrupt, unittest.SkipTest, pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)
MARKERS = ("shared: needs the folder ../shared with real images and weights", "torch: needs PyTorch to compare with",
           "task(name, points): what a student may be asked to write")


def pytest_addoption(parser, pluginmanager):
    if not pluginmanager.has_plugin("tinyresnet"):  # else its entry point has added them, and earlier
        pytest_options.pytest_addoption(parser)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads these options
def pytest_cmdline_main(config):
    """The whole suite runs in two processes where pytest-xdist is installed, unless -n says otherwise."""
    option, worker = config.option, hasattr(config, "workerinput")
    whole = config.args_source is not config.ArgsSource.ARGS and not (option.collectonly or option.usepdb)
    graded = option.student is not None or option.task
    if whole and not graded and not worker and config.pluginmanager.has_plugin("xdist") and option.numprocesses is None:
        option.numprocesses, option.dist = 2, "loadfile"  # of a file's fixtures each is made once


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    path, grade_json = config.getoption("student"), config.getoption("grade_json")
    if grade_json is not None and not is_writable(Path(grade_json)):
        raise pytest.UsageError(f"--grade-json {grade_json!r} cannot be written: its folder is missing, or it is one")
    config.stash[STUDENT] = Student(path) if path is not None else None
    config.stash[GRADES] = Grades()
    if path is not None and not config.pluginmanager.has_plugin("timeout"):
        raise pytest.UsageError("--student needs pytest-timeout, against endless loops: pip install pytest-timeout")


def is_writable(path):
    return not path.is_dir() and path.parent.is_dir() and os.access(path.parent, os.W_OK)


def pytest_generate_tests(metafunc):
    """An argument named as one of the classes or functions is it: the student's, or else the library's."""
    student = metafunc.config.stash[STUDENT]
    for name in subjects_of(metafunc):
        subject = student.subjects.get(name, SUBJECTS[name]) if student else SUBJECTS[name]
        metafunc.parametrize(name, [subject], ids=[name])


def subjects_of(test):
    return [name for name in SUBJECTS if name in getattr(test, "fixturenames", ())]


def task_of(item):
    """Name and points of the task, or none."""
    marker = item.get_closest_marker("task")
    return (marker.args[0], marker.kwargs["points"]) if marker else (None, 0)


def pytest_collection_modifyitems(config, items):
    skip_what_is_missing(items)
    student, grades, asked = config.stash[STUDENT], config.stash[GRADES], config.getoption("task")
    known = sorted({task for task, _ in map(task_of, items) if task})
    for item in items:
        item.user_properties += zip(("task", "points"), task_of(item)) if task_of(item)[0] else []  # for --junitxml
    for task in set(asked) - set(known):
        raise pytest.UsageError(f"no task is named {task!r}; there are {', '.join(known)}")
    if not student and not asked:
        return
    chosen = [item for item in items if task_of(item)[0] in (asked or known)]
    chosen.sort(key=lambda item: task_of(item)[0].endswith("-inside"))  # first alone, then inside blocks
    for item in chosen:
        grades.expect(*task_of(item))
    if student:
        chosen = [item for item in chosen if student.subjects.keys() & set(subjects_of(item))]
        if asked and not chosen:
            raise pytest.UsageError(f"{student.path} has {', '.join(student.subjects)}, and nothing for {', '.join(asked)}")
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
    for item in items if student else ():
        item.add_marker(pytest.mark.filterwarnings("ignore"))  # numbers are graded here, not warnings
        if config.getoption("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


def skip_what_is_missing(items):
    missing = {}
    if not SHARED.is_dir():
        missing["shared"] = f"the real images and weights of {SHARED} are not here"
    if importlib.util.find_spec("torch") is None:
        missing["torch"] = "PyTorch is not installed"
    for item in items:
        for marker in item.iter_markers():
            if marker.name in missing:
                item.add_marker(pytest.mark.skip(reason=missing[marker.name]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A student's name is checked with everything else the library's, and if that fails, with its siblings in the file.

    After its first failure a task is not run on.
    """
    student, grades = item.config.stash[STUDENT], item.config.stash[GRADES]
    if not student:
        return (yield)
    if grades.verdicts[task_of(item)[0]] in ("wrong", "to do"):
        pytest.skip("an earlier test of this task has failed")
    name = subjects_of(item)[0]
    try:
        with interruptible(), student.alone(name):
            return (yield)
    except Interrupted:  # by Ctrl-C
        raise
    except WAYS_OUT as error:  # the tasks themselves never skip in the middle
        raise AssertionError(f"{type(error).__name__} is no answer{f': {error}' if str(error) else ''}").with_traceback(
            error.__traceback__) from None
    except Exception:  # pytest.fail is none, so that what has run out of time is not run again
        if not student.has_siblings(name) or not passes(item):
            raise


def passes(item):
    """Whether the test passes when it is run again: right together with other functions of the file is right."""
    try:
        with interruptible():
            item.runtest()
    except Interrupted:
        raise
    except BaseException:  # the first failure is told
        return False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A wrong gradient is shown as its report, a student's other errors by their place in the file."""
    report = yield
    student, (task, _) = item.config.stash[STUDENT], task_of(item)
    if call.excinfo and call.excinfo.errisinstance(GradientError):
        error = call.excinfo.value
        report.longrepr = error.without_hints if item.config.getoption("no_hints") else str(error)
    elif student and call.excinfo and call.excinfo.errisinstance(NotImplementedError):
        item.stash[TO_DO] = True
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, "Skipped: to do")
    elif student and report.failed:
        report.longrepr = place_in(student, call.excinfo)
    if task in item.config.stash[GRADES].points and (call.when == "call" or report.failed):
        verdict = "wrong" if report.failed else "to do" if TO_DO in item.stash else "right" if report.passed else None
        if verdict:
            item.config.stash[GRADES].add(task, verdict)
    return report


def place_in(student, excinfo):
    """The exception in one line, and the last line of the student's file on the way to it."""
    where = [entry for entry in excinfo.traceback if str(entry.path) == str(student.path)]
    text = excinfo.exconly(tryshort=True)
    return f"{text}\n  at {student.path}:{where[-1].lineno + 1}: {str(where[-1].statement).strip()}" if where else text


def pytest_terminal_summary(terminalreporter, config):
    student, grades = config.stash[STUDENT], config.stash[GRADES]
    if grades.points:
        terminalreporter.section("tasks")
        for line in grades.lines():
            terminalreporter.write_line(line)
    for warning in student.warnings() if student else []:
        terminalreporter.write_line(f"warning: {warning}", yellow=True)


def pytest_sessionfinish(session):
    path = session.config.getoption("grade_json")
    if path and session.config.stash[GRADES].points:
        session.config.stash[GRADES].write(path, session.config.stash[STUDENT])


@pytest.fixture(scope="session")
def shared():
    """The folder with real images and weights; use together with the marker `shared`."""
    return SHARED


@pytest.fixture(scope="session")
def published(shared, tmp_path_factory):
    """The published ResNet-50, converted."""
    path = tmp_path_factory.mktemp("published") / "resnet50.npz"
    convert(shared / "weights" / "resnet50_imagenet_pq.pth", path)
    return path


@pytest.fixture(scope="module", name="one_thread")
def one_thread_fixture():
    with one_thread():
        yield


@pytest.fixture(scope="session")
def real_images(shared):
    """The 200 slices, each (H, W, 3) uint8."""
    from tinyresnet.ich.dataset import load_dataset, read_images

    return read_images(load_dataset(shared / "data" / "head_ct"))[1]


@pytest.fixture(scope="session")
def real_slices(shared):
    """Their names, labels and scans."""
    from tinyresnet.ich.dataset import load_dataset
    from tinyresnet.ich.experiment import Slices

    found = load_dataset(shared / "data" / "head_ct")
    return Slices([path.name for path in found.paths], found.labels, found.groups, found.grouped, found.classes)


@pytest.fixture(scope="session")
def real_features(published, real_images):
    """What the recipe features reads of them without mirrors, (V, 1, n, C): it takes a quarter of a minute."""
    from tinyresnet import load_model
    from tinyresnet.ich.features import features_of

    return features_of(load_model(published), real_images, mirrored=False)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a small finished run of train_ich.py; see small_run.py. It is for reading."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="session")
def run(folder):
    """What that run learned, from what."""
    from small_run import small_run

    return small_run(folder)


@pytest.fixture
def isolated(tmp_path, monkeypatch):
    """Surroundings in which a download touches nothing of ours."""
    from loopback import isolate

    isolate(tmp_path, monkeypatch)


@pytest.fixture
def serve(isolated):
    """A function that starts a web server on this machine; see loopback.servers."""
    from loopback import servers

    with servers() as start:
        yield start


@pytest.fixture
def read(tmp_path):
    """A function that writes bytes to a file and reads its tensors."""
    def read(content):
        (tmp_path / "weights.bin").write_bytes(content)  # the content decides, not the name
        return read_tensors(tmp_path / "weights.bin")
    return read


@pytest.fixture
def written(tmp_path):
    """A function that writes arrays to a torch file and returns its path."""
    def write(arrays):
        (tmp_path / "in.pth").write_bytes(torch_state(arrays))
        return tmp_path / "in.pth"
    return write
