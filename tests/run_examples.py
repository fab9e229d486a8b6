"""The examples as functions: what python examples/NAME.py does with these arguments."""

import importlib.util
import json
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))  # where Python finds their parts when it runs one itself


def example(name, *arguments, **options):
    """The exit code; argparse's own errors raise SystemExit. Options are main's own."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments], **options)


def train_ich(*arguments):
    return example("train_ich", *arguments)


def predict_ich(*arguments):
    return example("predict_ich", *arguments)


def classify_image(*arguments):
    return example("classify_image", *arguments)


def benchmark(*arguments, plan):
    return example("benchmark", *arguments, plan=plan)


def wrong_weights(*arguments):
    return example("wrong_weights", *arguments)


def make_phantoms(*arguments):
    return example("make_phantoms", *arguments)


def results(folder):
    """The numbers that a run of train_ich has left in its folder."""
    return json.loads((folder / "results.json").read_text())
