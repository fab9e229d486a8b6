"""What is on a photograph? The five best of the classes a network was trained on.

    python -m weights_converter download resnet50
    python examples/classify_image.py photograph.jpg --weights resnet50.npz

The names of ImageNet's classes come from WordNet's synsets (Princeton University, WordNet 3.0 licence); they and the
preprocessing travel with the weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from tinyresnet import load_model, preprocess, read_image, softmax
from tinyresnet.files import explain


def main(arguments: list[str] | None = None) -> int:
    """Print the best classes with their probabilities; exit code 2 for a file that cannot be used."""
    parser = argparse.ArgumentParser(prog="classify_image.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help=".npz of `python -m weights_converter convert`")
    args = parser.parse_args(arguments)
    try:
        model = load_model(args.weights)
        x = preprocess(read_image(args.image), model.preprocessing)  # (224, 224, 3)
    except (ValueError, OSError) as error:
        print(f"classify_image: {explain(error)}", file=sys.stderr)
        return 2
    probabilities = softmax(model.forward(x[None]))[0]  # (classes,)
    for k in np.argsort(-probabilities)[:5]:
        print(f"{probabilities[k]:6.1%}  {model.classes[k] if model.classes else f'class {k}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
