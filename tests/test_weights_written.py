"""The same network, written by torch, safetensors, h5py and onnx themselves, is converted to the same arrays.

Random weights, all five depths; the libraries are the oracles for what a file looks like.
"""

from functools import partial

import numpy as np
import pytest
from handmade_files import state_of
from other_names import (dyadic, gluon_names, keras_names, onnx_nodes, renamed, torchvision_names, transformers_names,
                         units_of)

from tinyresnet.resnet import DEPTHS
from tinyresnet.weights import read_arrays
from weights_converter import convert


def by_torch(name, state, path, **options):
    torch = pytest.importorskip("torch")
    network = {key: torch.from_numpy(array) for key, array in state.items()}
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in network.items()}, "epoch": 90}, path, **options)


def by_safetensors(name, state, path, names):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file(renamed(state, names(name, units_of(name))), path)


def by_h5py(name, state, path):
    h5py = pytest.importorskip("h5py")
    arrays = renamed(state, keras_names(name, units_of(name)), channels_last=True, biases=True, bgr=True)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[f"model_weights/{key}"] = array


def by_onnx(name, state, path):
    onnx = pytest.importorskip("onnx")
    names = gluon_names(name, units_of(name))
    graph = onnx.GraphProto.FromString(onnx_nodes(name, names, v1=True))
    graph.initializer.extend(onnx.numpy_helper.from_array(array, key)
                             for key, array in renamed(state, names, biases=True).items())
    onnx.save(onnx.helper.make_model(graph), path)


WRITERS = {
    "torch zip": by_torch,
    "torch stream": partial(by_torch, _use_new_zipfile_serialization=False),
    "safetensors, timm": partial(by_safetensors, names=torchvision_names),
    "safetensors, transformers": partial(by_safetensors, names=transformers_names),
    "h5py, Keras": by_h5py,
    "onnx, Gluon": by_onnx,
}


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_network_that_a_reference_library_wrote_is_converted_to_its_arrays(writer, name, tmp_path):
    state = dyadic(state_of(name))
    WRITERS[writer](name, state, tmp_path / "in")
    summary = convert(tmp_path / "in", tmp_path / "out.npz")
    arrays = read_arrays(tmp_path / "out.npz")[0]
    assert summary.network.name == name and arrays.keys() == state.keys()
    for key, array in state.items():
        ours = array.transpose({4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim])
        np.testing.assert_array_equal(arrays[key], ours, strict=True, err_msg=key)
