"""Readers behind a fence: what a file makes them do is seen, and what it makes them take is limited.

Python tells audit hooks what it does: opens a file, imports a module, starts a program. The kernel counts the memory and
the work of a process: beyond its limits it gives no more of the one, and for more of the other ends it. What a limit
stops must not be the tests themselves, so each task runs in a process of its own, forked from a program without threads,

    python tests/guard.py         a line of JSON in, ["module", "function", [arguments]]; a line of JSON out, its result

An outcome is a pair of words: "returned" and what was printed, or the name of an error and its message; or "did" and
"left", and what should not have been done or left behind; or "ended" and the signal.
"""

import gc
import importlib
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from tinyresnet.weights import WeightsFileError, load_model, read_arrays
from weights_converter import convert, read_tensors
from weights_converter.__main__ import main
from weights_converter.networks import allowed_shapes, candidates
from weights_converter.read import read_graph

SECONDS, ROOM = 5, 150_000_000  # for each reader; the promise is 20 s and 200 MB, of which Python and NumPy take 40
OLDER = b"an older file"

# -- what is done ---------------------------------------------------------------------------------------------------

WATCHING = []  # while the list is not empty, the hook below notes what Python does
DONE = []
HARMLESS = {"object.__getattr__", "object.__setattr__", "sys._getframe", "gc.collect", "builtins.id"}


def note(event, arguments):
    if WATCHING and event not in HARMLESS:
        DONE.append((event, *map(str, arguments[:2])))


sys.addaudithook(note)  # cannot be taken away again, hence the switch


def outcome_of(reader, path):
    """What came of reader(path), a pair of words; it may open `path` to read, and write out.npz beside it, at one go."""
    out, beside = path.with_name("out.npz"), path.with_name(f".out.{os.getpid()}.part.npz")
    allowed = {("open", str(path), "r"), ("open", str(out), "r"), ("open", str(beside), "w+"),
               ("os.rename", str(beside), str(out)), ("os.remove", str(beside), "-1")}
    DONE.clear()
    WATCHING.append(path)
    try:
        printed = reader(path)
        outcome = "returned", printed if type(printed) is str else ""
    except Exception as error:
        outcome = type(error).__name__, str(error)
    finally:
        WATCHING.clear()
    more = [event for event in DONE if event not in allowed]
    return ("did", str(more[:3])) if more else outcome


# -- what is taken --------------------------------------------------------------------------------------------------


def limit(seconds, room):
    """This process may take that much more: whole seconds of work, of one processor, and bytes of memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = {resource.RLIMIT_CPU: int(time.process_time()) + 1 + seconds, resource.RLIMIT_CORE: 0,
              resource.RLIMIT_AS: pages * resource.getpagesize() + room}  # what is reserved counts, used or not
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def in_fork(function, *arguments):
    """The function's result, by way of JSON, from a process of its own; or ("ended", why)."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        answer(write_end, function, arguments)
    os.close(write_end)
    with open(read_end) as pipe:
        result = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(result) if code == 0 else ("ended", signal.Signals(-code).name if code < 0 else f"code {code}")


def answer(write_end, function, arguments):
    """What the fork does: it never comes back."""
    code = 1
    try:
        warnings.simplefilter("error")
        with open(write_end, "w") as pipe:
            json.dump(function(*arguments), pipe)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


@contextmanager
def fenced():
    """Inside, ask(function, *arguments) is the result that the function, of a module, has in a fork of a new Python."""
    single = dict.fromkeys(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"], "1")  # a fork has none of the threads
    with subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=os.environ | single) as server:
        def ask(function, *arguments):
            print(json.dumps([function.__module__, function.__name__, arguments]), file=server.stdin, flush=True)
            return json.loads(server.stdout.readline())
        yield ask
        server.stdin.close()


def serve():
    answers, sys.stdout = sys.stdout, sys.stderr
    for network in candidates(width=1, num_classes=5):
        allowed_shapes(network)  # what convert builds once, every fork would build again
    gc.freeze()
    for line in sys.stdin:
        module, name, arguments = json.loads(line)
        function = getattr(importlib.import_module(module), name)
        print(json.dumps(in_fork(function, *arguments)), file=answers, flush=True)


# -- the doors through which a file comes in ------------------------------------------------------------------------


def out_of(path):
    """Where its conversion is written"""
    return path.with_name("out.npz")


def command(*arguments):
    """What the command line prints; its one line about a file that it refuses is raised again."""
    printed, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(complaint):
        code = main([str(argument) for argument in arguments])
    if code == 0:
        return printed.getvalue()
    line = re.fullmatch("weights_converter: (.*)\n", complaint.getvalue())
    raise WeightsFileError(line[1]) if code == 2 and line else AssertionError(code, complaint.getvalue())


def convert_and_load(path):
    """What is written can be read."""
    convert(path, out_of(path))
    load_model(out_of(path))


DOORS = {
    "read_tensors": read_tensors,
    "read_graph": read_graph,
    "convert": convert_and_load,
    "convert command": lambda path: command("convert", path, out_of(path)),
    "inspect command": lambda path: command("inspect", path),
    "inspect --json": lambda path: command("inspect", path, "--json"),
    "read_arrays": read_arrays,
    "load_model": load_model,
}


def tried(reader, path, seconds=SECONDS, room=ROOM):
    """The outcome of one reader and one file within limits; without success an older out.npz stays, and nothing else."""
    out_of(path).write_bytes(OLDER)
    limit(seconds, room)
    outcome = outcome_of(reader, path)
    left = {file.name for file in path.parent.iterdir()} - {path.name, "out.npz"}
    if outcome[0] != "did" and (left or outcome[0] != "returned" and out_of(path).read_bytes() != OLDER):
        return "left", f"{sorted(left)}, out.npz of {out_of(path).stat().st_size} bytes"
    return outcome


def complaint(path, outcome):
    """What is wrong with an outcome; "" if it is a result, or a refusal that names the file in one line of a fair length."""
    kind, words = outcome
    line = words.replace("\n", " ") if kind == "returned" else words
    sound = kind == "returned" or kind == "WeightsFileError" and words.startswith(f"{path}: ") and len(words) < 1000
    return "" if sound and line.isprintable() else f"{kind}: {words[:1000]!r}"  # what is not commands the terminal


def first_complaint(files, doors, path, room=ROOM):
    """About the first of these bytes that one of the doors does not treat well; "" if there are none. The path has them."""
    for number, data in enumerate(files):
        path.write_bytes(data)
        for door in doors:
            if words := complaint(path, tried(DOORS[door], path, room=room)):
                return f"{path}, number {number}: {door}: {words}"
    return ""


if __name__ == "__main__":
    serve()
