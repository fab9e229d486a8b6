"""The pickle machine builds what Python's own builds, as long as the program is about data."""

import collections
import pickle

import pytest

from weights_converter.torch_tensors import CALLS
from weights_converter.unpickle import Global, run


def nothing_persistent(_persistent_id):
    raise ValueError("no persistent ids here")


def built(code, calls=CALLS):
    value, end = run(code, calls, nothing_persistent)
    assert end == len(code)
    return value


def test_the_first_example_of_the_lesson_is_a_dictionary():
    assert built(b"}X\7\0\0\0fc.biasK\1s.") == {"fc.bias": 1}


def test_pythons_own_pickle_runs_the_function_that_the_file_names():
    assert pickle.loads(b"cbuiltins\nsum\n](K\1K\2e\x85R.") == 3


def test_our_machine_does_not_run_it():
    with pytest.raises(ValueError, match="asks for builtins.sum, which is code and not weights"):
        built(b"cbuiltins\nsum\n](K\1K\2e\x85R.")


@pytest.mark.parametrize("value", [
    None, True, False, 0, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, -(2**200), 0.0, -1.5, 1e300, "", "é日",
    (), (1,), (1, 2), (1, 2, 3), tuple(range(9)), [], [1], list(range(3000)), {}, {"a": 1},
    {i: str(i) for i in range(3000)},
    {"epoch": 90, "lr": 0.1, "optimizer": {"state": {0: {"step": 3}}, "groups": [{"betas": (0.9, 0.999), "on": True}]}},
    collections.OrderedDict(a=1, b=collections.OrderedDict()),
], ids=lambda value: repr(value)[:30])
def test_values_of_protocol_2_are_what_pickle_makes_of_them(value):
    assert built(pickle.dumps(value, protocol=2)) == value


def test_a_list_that_is_used_twice_is_one_list():
    part = [1]
    first, second = built(pickle.dumps([part, part], protocol=2))
    assert first is second


def test_attributes_of_an_ordered_dictionary_are_let_go():
    state = collections.OrderedDict(w=1)
    state._metadata = collections.OrderedDict(version=1)  # as torch's state_dict carries it
    assert built(pickle.dumps(state, protocol=2)) == {"w": 1}


def test_programs_can_stand_one_after_the_other():
    code = b"K\1.K\2."
    first, end = run(code, CALLS, nothing_persistent)
    second, end = run(code, CALLS, nothing_persistent, end)
    assert (first, second, end) == (1, 2, 6)


def test_a_persistent_id_is_handed_to_the_caller():
    assert run(b"K\7Q.", CALLS, lambda persistent_id: persistent_id + 1) == (8, 4)


def test_strings_of_python_2_are_read():
    assert built(b"U\3abcT\3\0\0\0def\x86.") == ("abc", "def")


def test_a_whole_number_of_python_2_stands_in_a_line_of_text():
    assert built(b"I94020255495056\nI-7\n\x86.") == (94020255495056, -7)


@pytest.mark.parametrize("line", [b"", b"-", b"1_0", b"0x1f", b"1.5", b"\xd9\xa3", b" 1"])
def test_a_line_that_is_no_whole_number_is_refused(line):
    with pytest.raises(ValueError, match="expected a decimal number"):
        built(b"I" + line + b"\n.")


class Kept:
    """A class of the caller's, for NEWOBJ"""

    def __init__(self, arguments):
        self.arguments, self.state = arguments, None

    def set_state(self, state):
        self.state = state


def test_an_object_is_of_the_callers_class_and_what_its_name_says_is_not_called():
    first, second = built(b"cposix\nsystem\nK\1\x85\x81q\0X\1\0\0\0abh\0\x86.", {Global("posix", "system"): Kept})
    assert (type(first), first.arguments, first.state) == (Kept, (1,), "a") and first is second


def test_an_object_of_what_is_a_function_is_refused():
    with pytest.raises(ValueError, match="NEWOBJ"):
        built(b"ccollections\nOrderedDict\n)\x81.")


def test_an_ordered_dictionary_of_python_2_is_made_of_its_pairs():
    assert built(b"ccollections\nOrderedDict\n](](U\1aK\1e](U\1bK\2ee\x85R.") == {"a": 1, "b": 2}
    assert built(b"ccollections\nOrderedDict\n]\x85R.") == {}


def test_pairs_make_one_dictionary_and_no_second():
    with pytest.raises(ValueError, match="not used before"):
        built(b"ccollections\nOrderedDict\nq\0](](U\1aK\1eeq\1\x85Rh\0h\1\x85R\x86.")


KNOWN = b"\x80cR\x81bQN\x88\x89KMJI\x8aGXTU()\x85\x86\x87t]ae}suqrhj."


@pytest.mark.parametrize("opcode", sorted(set(range(256)) - set(KNOWN)))
def test_any_other_instruction_is_refused(opcode):
    with pytest.raises(ValueError, match="has no use here"):
        built(bytes([opcode]) + b"N.")
