"""Published weights in, .npz for tinyresnet out; no framework is needed, and no code from the files is run."""

from tinyresnet.weights import WeightsFileError
from weights_converter.conversion import convert
from weights_converter.read import read_tensors

__all__ = ["WeightsFileError", "convert", "read_tensors"]
