"""The options with which pytest checks a student's file: pytest --student FILE.

They stand in the package, as a plugin that pytest finds by its entry point, because pytest must know them before it
looks for tests: else it takes FILE for a test file. What they do is in tests/conftest.py.
"""

import pytest

GRADES: pytest.StashKey = pytest.StashKey()  # tests/conftest.py puts its grades here when it is configured


def pytest_addoption(parser):
    group = parser.getgroup("student", "checking a student's own layers")
    group.addoption("--student", metavar="FILE", help="check the classes and functions of this file instead of tinyresnet's")
    group.addoption("--task", action="append", default=[], metavar="NAME", help="run this task only; may be repeated")
    group.addoption("--no-hints", action="store_true", help="reports say what is wrong, but not the likely cause")
    group.addoption("--grade-json", metavar="FILE", help="write points by task to this file")


@pytest.hookimpl(trylast=True)  # after the conftest
def pytest_configure(config):
    asked = config.getoption("student") is not None or config.getoption("grade_json") is not None or config.getoption("task")
    if asked and GRADES not in config.stash:
        raise pytest.UsageError("--student, --task and --grade-json need tinyresnet's own tests: run pytest in tinyresnet's "
                                f"folder, not in {config.invocation_params.dir}")
