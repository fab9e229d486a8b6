"""A student's file: executed once, asked for the names it may replace, and graded."""

import difflib
import itertools
import json
import signal
import sys
import threading
import types
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit import LIBRARY

from tinyresnet.files import replacing
from tinyresnet.kernels.im2col import col2im_reference, im2col_reference

OURS = {**LIBRARY, "im2col": im2col_reference, "col2im": col2im_reference}  # the references take their arguments by name too
SECONDS = 60  # for a test, and for executing the file


class Student:
    """The module, what it replaces by name, and what it may have meant to."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        self.module, self.beside = execute(self.path)
        own = {name: value for name, value in vars(self.module).items() if value is not LIBRARY.get(name)}
        self.subjects = {name: own[name] for name in LIBRARY if callable(own.get(name))}
        written = {self.module.__name__, *(module.__name__ for module in self.beside)}
        self.near_misses = {name: meant for name, value in own.items()
                            if getattr(value, "__module__", "") in written and name not in LIBRARY
                            and (meant := near(name)) and meant not in self.subjects}
        if not self.subjects:
            raise pytest.UsageError(f"{path} replaces nothing: expected one of {', '.join(LIBRARY)} at its top level"
                                    + "".join(f"; {warning}" for warning in self.warnings()))

    def warnings(self):
        return [f"{name} is not checked: did you mean {meant}?" for name, meant in self.near_misses.items()]

    @contextmanager
    def alone(self, name):
        """The student's modules with everything but `name` the library's."""
        with pytest.MonkeyPatch.context() as patch:
            for module, other in itertools.product((self.module, *self.beside), self.subjects.keys() - {name}):
                if vars(module).get(other) is self.subjects[other]:
                    patch.setattr(module, other, OURS[other])
            yield

    def has_siblings(self, name):
        return len(self.subjects.keys() - {name}) > 0


def near(name):
    """The name of ours that this one resembles, or none."""
    plain = {known.lower(): known for known in LIBRARY}
    found = difflib.get_close_matches(name.lower().replace("_", ""), plain, n=1, cutoff=0.75)
    return plain[found[0]] if found else None


def execute(path):
    """The file as a module, and the modules beside it that it has imported.

    Raises pytest.UsageError with one line if it cannot be executed.
    """
    module = types.ModuleType("students_code")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    try:
        with files_beside(path) as beside, warnings.catch_warnings(), interruptible(), at_most(SECONDS):
            warnings.simplefilter("ignore")
            exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except Interrupted:
        raise
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: a file may do anything
        raise pytest.UsageError(f"{path} cannot be executed: {type(error).__name__}: {error}") from None
    return module, beside


@contextmanager
def files_beside(path):
    """In the block, import looks beside the file first, also for names that modules of these tests have (kit).

    Gives the list of modules found there, filled when the block ends. Later imports look beside the file last.
    """
    folder, tests, found = path.parent, Path(__file__).parent, []
    ours = {name: module for name, module in sys.modules.items() if is_in(tests, module) and folder != tests
            and ((folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists())}
    for name in ours:
        del sys.modules[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield found
    finally:
        sys.path.remove(str(folder))
        sys.path.append(str(folder))
        found += [module for name, module in list(sys.modules.items()) if name not in before and is_in(folder, module)]
        sys.modules.update(ours)


def is_in(folder, module):
    """Whether the module is a file of this folder, or a package in it."""
    file = Path(getattr(module, "__file__", None) or "")
    return folder in (file.parent, file.parent.parent if file.name == "__init__.py" else None)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, and not a KeyboardInterrupt that the file raises itself."""


@contextmanager
def interruptible():
    """Ctrl-C in the block raises Interrupted."""
    def interrupt(number, frame):
        raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def at_most(seconds):
    """Raise TimeoutError when the block takes longer, where the system has alarms."""
    def ring(number, frame):
        raise TimeoutError(f"not done after {seconds} seconds")

    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Grades:
    """Points by task: all of them if every test of the task passes, else none."""

    def __init__(self):
        self.points = {}  # what each task is worth
        self.verdicts = {}  # task: "right", "wrong", "to do" or "not in the file"

    def expect(self, task, points):
        self.points[task] = points
        self.verdicts.setdefault(task, "not in the file")

    def add(self, task, verdict):
        """The worst of a task's tests counts."""
        order = ["not in the file", "right", "to do", "wrong"]
        self.verdicts[task] = max(self.verdicts[task], verdict, key=order.index)

    def earned(self, task):
        return self.points[task] if self.verdicts[task] == "right" else 0

    def total(self):
        return sum(map(self.earned, self.points)), sum(self.points.values())

    def lines(self):
        for task, verdict in self.verdicts.items():
            if verdict != "not in the file":
                yield f"{task:24}{self.earned(task):3} of {self.points[task]}   {verdict}"
        absent = [task for task, verdict in self.verdicts.items() if verdict == "not in the file"]
        if absent:
            yield f"{len(absent)} other tasks are not in the file"
        earned, possible = self.total()
        yield f"{earned} of {possible} points"

    def write(self, path, student):
        earned, possible = self.total()
        tasks = {task: {"verdict": verdict, "points": self.earned(task), "possible": self.points[task]}
                 for task, verdict in self.verdicts.items()}
        grade = {"file": str(student.path) if student else None, "points": earned, "possible": possible, "tasks": tasks,
                 "warnings": student.warnings() if student else []}
        with replacing(path) as beside:
            beside.write_text(json.dumps(grade, indent=1) + "\n")
