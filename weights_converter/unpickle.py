r"""The machine inside a pickle, and why a weights file can run code.

A pickle is not data, it is a program for a machine with a stack. Each instruction is one byte, and some have operands.
The dictionary {"fc.bias": 1} is the program

    }  X 7 fc.bias  K 1  s  .          push {}; push "fc.bias"; push 1; set item; stop

Harmless so far. But two instructions let the program out of the box:

    GLOBAL  c posix\n system\n         push the function found by importing the module posix and looking up system
    REDUCE  R                          pop a tuple of arguments, pop a function, push function(*arguments)

With `c posix\n system\n X 8 rm -rf ~ \x85 R .` in a .pth file, whoever opens it with pickle.load loses their files.
Here is the machine once more with these two doors closed: GLOBAL imports nothing, it only looks a name up in a table
that the caller gives, and REDUCE calls only what came out of that table. So do NEWOBJ, which makes an object of a
class, and BUILD, which gives it its state: the classes are the caller's own, not those the file names.

Running no code is not enough: 20 bytes may ask for 4 GB, seven lists may stand for 60^7 objects, a dictionary may hold
itself. So no instruction reserves memory for bytes that are not there, each takes time in proportion to its own bytes,
and nothing here walks, compares, hashes or prints what the program has built.

The instructions are those that protocol 2 writes for weights; the names are those of Python's pickletools.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_LINE = 200  # characters of a module's or a function's name
MAX_KEY = 1 << 60  # whole numbers below it hash to themselves, so that no choice of them makes a dictionary slow


class Global(NamedTuple):
    """What GLOBAL pushes: the name of a function. Naming is not calling."""

    module: str
    name: str


# What may be named, and what REDUCE calls then; None: nothing. A class may be called by NEWOBJ, too, and its objects
# have a method set_state, for BUILD.
Calls = dict[Global, Callable[[tuple], object] | None]


class Machine:
    """A program, the place in it, and what it has built so far.

    calls: the allowed globals. persistent: makes an object of a persistent id, with which torch refers to raw data.
    """

    def __init__(self, code: bytes, calls: Calls, persistent: Callable[[object], object], at: int = 0):
        self.code, self.at = code, at
        self.calls, self.persistent = calls, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack that "(" has marked, for "everything since then"
        self.memo: dict[int, Any] = {}  # what the program will use again

    def take(self, count: int) -> bytes:
        """The next bytes of the program."""
        if count > len(self.code) - self.at:
            raise ValueError(f"the pickle asks for {count} bytes after byte {self.at} of {len(self.code)}: "
                             "it is cut, or too long for one of weights")
        self.at += count
        return self.code[self.at - count:self.at]

    def number(self, count: int, signed: bool = False) -> int:
        """The next bytes as a whole number."""
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self) -> str:
        """The next bytes up to the end of the line."""
        end = self.code.find(b"\n", self.at, self.at + MAX_LINE)
        if end < 0:
            raise ValueError(f"the pickle has no name of at most {MAX_LINE} characters at byte {self.at}")
        return self.take(end + 1 - self.at)[:-1].decode("utf-8", "backslashreplace")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self, kind: type | None = None) -> Any:
        """The value on top, which must be of this very type."""
        value = self.top(kind)
        self.stack.pop()
        return value

    def top(self, kind: type | None = None) -> Any:
        """The same, left where it is."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError(f"the pickle takes more from its stack than there is, before byte {self.at}")
        value = self.stack[-1]
        if kind is not None and type(value) is not kind:
            raise ValueError(f"at byte {self.at} a pickle needs a {kind.__name__}, got a {type(value).__name__}")
        return value

    def pop_to_mark(self) -> list:
        """Everything pushed since the last mark."""
        if not self.marks:
            raise ValueError(f"the pickle goes back to a mark that is not there, before byte {self.at}")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values


def run(code: bytes, calls: Calls, persistent: Callable[[object], object], start: int = 0) -> tuple[Any, int]:
    """Run the program that starts at byte `start`: what it has built, and the byte after its end.

    Raises ValueError with the reason for a program that is cut, broken, or asks for more than weights need.
    """
    machine = Machine(code, calls, persistent, start)
    while True:
        opcode = machine.take(1)
        if opcode == b".":  # STOP
            return machine.pop(), machine.at
        if opcode not in OPCODES:
            name = f" ({REFUSED[opcode]})" if opcode in REFUSED else ""
            raise ValueError(f"the pickle's instruction {opcode!r}{name} at byte {machine.at - 1} has no use here")
        OPCODES[opcode](machine)


# -- the doors to code, and the one to raw data --------------------------------------------------------------------


def global_(machine: Machine) -> None:
    """Push a name that is on the list. Python would import it here, and what is imported may run."""
    wanted = Global(machine.line(), machine.line())
    if wanted not in machine.calls:
        raise ValueError(
            f"the pickle asks for {wanted.module}.{wanted.name}, which is code and not weights, so it was not run; "
            "if this is a whole model or a checkpoint with other objects: in torch, save model.state_dict() alone"
        )
    machine.push(wanted)


def reduce(machine: Machine) -> None:
    arguments = machine.pop(tuple)
    wanted = machine.pop(Global)
    call = machine.calls[wanted]
    if call is None:
        raise ValueError(f"the pickle calls {wanted.module}.{wanted.name}, which stands for a type here")
    machine.push(call(arguments))


def newobj(machine: Machine) -> None:
    """Make an object; its class is the caller's."""
    arguments = machine.pop(tuple)
    wanted = machine.pop(Global)
    kind = machine.calls[wanted]
    if not isinstance(kind, type):
        raise ValueError(f"the pickle makes a {wanted.module}.{wanted.name} by NEWOBJ, which has no use here")
    machine.push(kind(arguments))


def build(machine: Machine) -> None:
    """Give the object below its state. That of a state dict is `_metadata`, version numbers of layers: let it go."""
    state = machine.pop()
    target = machine.top()
    if type(target) in machine.calls.values():
        target.set_state(state)
    else:
        machine.top(dict)


def binpersid(machine: Machine) -> None:
    machine.push(machine.persistent(machine.pop()))


# -- numbers and strings -------------------------------------------------------------------------------------------


def proto(machine: Machine) -> None:
    version = machine.number(1)
    if version != 2:
        raise ValueError(f"expected a pickle of protocol 2, which torch.save writes, got protocol {version}")


def decimal(machine: Machine) -> None:
    """A line of text: so Python 2 wrote whole numbers of more than 32 bits."""
    digits = machine.line()
    if not re.fullmatch("-?[0-9]+", digits):
        raise ValueError(f"expected a decimal number before byte {machine.at} of the pickle, got {digits[:80]!r}")
    machine.push(int(digits))


def long1(machine: Machine) -> None:
    machine.push(machine.number(machine.number(1), signed=True))


def binfloat(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


def push_string(machine: Machine, length: int) -> None:
    machine.push(machine.take(length).decode("utf-8", "backslashreplace"))


# -- containers ----------------------------------------------------------------------------------------------------


def push_tuple(machine: Machine, count: int) -> None:
    items = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(items)))


def append(machine: Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def appends(machine: Machine) -> None:
    values = machine.pop_to_mark()
    machine.top(list).extend(values)


def setitem(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    set_items(machine.top(dict), [key, value])


def setitems(machine: Machine) -> None:
    values = machine.pop_to_mark()
    set_items(machine.top(dict), values)


def set_items(target: dict, items: list) -> None:
    """Put key, value, key, value, ... into the dictionary.

    Keys are strings or small whole numbers: to hash a tuple is to walk it, and 40 nested pairs have 2^40 leaves.
    """
    if len(items) % 2:
        raise ValueError("the pickle sets a key without a value")
    for key, value in zip(items[::2], items[1::2]):
        if type(key) is not str and not (type(key) is int and abs(key) < MAX_KEY):
            raise ValueError(f"expected a string or a small whole number as key, got a {type(key).__name__}")
        if key in target:
            raise ValueError(f"the key {str(key)[:80]!r} is in a dictionary twice")
        target[key] = value


# -- the memo ------------------------------------------------------------------------------------------------------


def put(machine: Machine, index: int) -> None:
    if index > len(machine.code):  # every index in use costs at least a byte
        raise ValueError(f"the pickle of {len(machine.code)} bytes keeps a value under number {index}")
    machine.memo[index] = machine.top()


def get(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise ValueError(f"the pickle uses value number {index}, which it has not kept")
    machine.push(machine.memo[index])


OPCODES: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": proto,
    b"c": global_,
    b"R": reduce,
    b"\x81": newobj,
    b"b": build,
    b"Q": binpersid,
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"K": lambda machine: machine.push(machine.number(1)),  # BININT1
    b"M": lambda machine: machine.push(machine.number(2)),  # BININT2
    b"J": lambda machine: machine.push(machine.number(4, signed=True)),  # BININT
    b"I": decimal,  # INT, of Python 2
    b"\x8a": long1,
    b"G": binfloat,
    b"X": lambda machine: push_string(machine, machine.number(4)),  # BINUNICODE
    b"T": lambda machine: push_string(machine, machine.number(4)),  # BINSTRING, of Python 2
    b"U": lambda machine: push_string(machine, machine.number(1)),  # SHORT_BINSTRING, of Python 2
    b"(": lambda machine: machine.marks.append(len(machine.stack)),  # MARK
    b")": lambda machine: machine.push(()),
    b"\x85": lambda machine: push_tuple(machine, 1),
    b"\x86": lambda machine: push_tuple(machine, 2),
    b"\x87": lambda machine: push_tuple(machine, 3),
    b"t": lambda machine: machine.push(tuple(machine.pop_to_mark())),
    b"]": lambda machine: machine.push([]),
    b"a": append,
    b"e": appends,
    b"}": lambda machine: machine.push({}),
    b"s": setitem,
    b"u": setitems,
    b"q": lambda machine: put(machine, machine.number(1)),  # BINPUT
    b"r": lambda machine: put(machine, machine.number(4)),  # LONG_BINPUT
    b"h": lambda machine: get(machine, machine.number(1)),  # BINGET
    b"j": lambda machine: get(machine, machine.number(4)),  # LONG_BINGET
}

REFUSED = {  # other ways to the same doors, by name, for the error message
    b"\x93": "STACK_GLOBAL", b"i": "INST", b"o": "OBJ", b"\x92": "NEWOBJ_EX",
    b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4", b"P": "PERSID",
}
