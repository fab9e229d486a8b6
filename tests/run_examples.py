"""The examples as functions: what python examples/NAME.py does with these arguments."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name, *arguments):
    """The exit code; argparse's own errors raise SystemExit."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def train_ich(*arguments):
    return example("train_ich", *arguments)


def classify_image(*arguments):
    return example("classify_image", *arguments)
