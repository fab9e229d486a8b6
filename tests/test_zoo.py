"""Every member of the zoo fails a check, and nearly every one is called by its name.

    python tests/test_zoo.py      prints the table: members down, checks across
"""

import importlib
import itertools
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
import zoo
from kit import SUBJECTS

from tinyresnet.gradcheck_command import one_thread

pytestmark = pytest.mark.usefixtures("one_thread")
TASKS = Path(__file__).parent / "tasks"
NAMELESS = {  # caught by a rule, not by wrong numbers that a report could compare
    "im2col that upcasts", "backward answers from an old forward"}


@cache
def checks():
    """The functions of tests/tasks that take one of ours by its name."""
    sys.path.insert(0, str(TASKS))
    modules = [importlib.import_module(path.stem) for path in sorted(TASKS.glob("test_*.py"))]
    functions = [value for module in modules for name, value in vars(module).items() if name.startswith("test_")]
    return [function for function in functions if SUBJECTS.keys() & set(function.__code__.co_varnames)]


def cases(function):
    """The arguments of each of a parametrized test's runs."""
    axes = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names = [name.strip() for name in mark.args[0].split(",")]
            axes.append([dict(zip(names, values if len(names) > 1 else [values])) for values in mark.args[1]])
    return [{name: value for part in parts for name, value in part.items()} for parts in itertools.product(*axes)]


def verdict(check, member):
    """What the check says of the member: the report of the first case that fails, or nothing."""
    for case in cases(check):
        try:
            check(**{member.replaces: member}, **case)
        except Exception as error:  # a check may fail in any way, as long as it fails
            return str(error) or repr(error)
    return ""


@cache
def verdicts(member):
    """By check, of the checks that take what the member replaces."""
    return {check: verdict(check, member) for check in checks() if member.replaces in signature(check)}


def is_inside(check):
    return any(mark.name == "task" and mark.args[0].endswith("-inside") for mark in getattr(check, "pytestmark", []))


def signature(check):
    return check.__code__.co_varnames[:check.__code__.co_argcount]


MEMBERS = {f"{member.replaces}: {member.title}": member for member in zoo.members()}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_wrong_implementation_is_caught_alone_before_a_block_is_built_around_it(name):
    assert any(report for check, report in verdicts(MEMBERS[name]).items() if not is_inside(check))


@pytest.mark.parametrize("name", [name for name, member in MEMBERS.items() if member.title not in NAMELESS])
def test_a_wrong_implementation_is_called_by_its_name(name):
    assert any(f'"{MEMBERS[name].title}"' in report for report in verdicts(MEMBERS[name]).values())


@pytest.mark.parametrize("name", MEMBERS)
def test_a_report_of_a_wrong_implementation_accuses_it_of_nothing(name):
    assert not any("your mistake" in report for report in verdicts(MEMBERS[name]).values())


def test_there_are_thirty_to_forty_members_with_symptom_and_cause():
    assert 30 <= len(MEMBERS) <= 40 and all(member.symptom and member.cause for member in MEMBERS.values())


@pytest.mark.parametrize("name", MEMBERS)
def test_the_page_on_gradient_checks_tells_symptom_and_cause(name):
    member, page = MEMBERS[name], Path(__file__).parents[1] / "docs" / "gradient-checks.md"
    row = f"| `{member.replaces}` | {member.title} | {member.symptom} | {member.cause} |"
    assert row in page.read_text()


def table():
    """One row a member: X where a check fails, N where its report names the member, . where it passes."""
    for replaces, members in itertools.groupby(zoo.members(), lambda member: member.replaces):
        columns = [check for check in checks() if replaces in signature(check)]
        yield f"\n{replaces}"
        yield from (f"  {letter}  {check.__name__.removeprefix('test_').replace('_', ' ')}"
                    for letter, check in zip("abcdefghijklmnop", columns))
        yield f"  {'':48}{' '.join('abcdefghijklmnop'[:len(columns)])}"
        for member in members:
            found = verdicts(member)
            signs = ["." if not found[check] else "N" if f'"{member.title}"' in found[check] else "X" for check in columns]
            yield f"  {member.title:48}{' '.join(signs)}{'' if any(found.values()) else '   NOT CAUGHT'}"
    caught = sum(any(verdicts(member).values()) for member in zoo.members())
    named = sum(any(f'"{member.title}"' in report for report in verdicts(member).values()) for member in zoo.members())
    yield f"\n{caught} of {len(MEMBERS)} caught, {named} called by their name"


if __name__ == "__main__":
    print("X: the check fails    N: and its report names the mistake    .: the check passes")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("error")  # as in pytest
        for line in table():
            print(line)
