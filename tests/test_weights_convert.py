"""From a published file to a network of ours: transposed, checked, with its facts, from the command line too."""

import csv
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from handmade_files import SIX, state_of

from tinyresnet.resnet import DEPTHS, resnet18
from tinyresnet.weights import load_model, read_arrays, save_weights
from weights_converter import WeightsFileError, convert, read_tensors
from weights_converter.conversion import in_our_layout
from weights_converter.facts import CLASSES_FILE, imagenet_classes
from weights_converter.networks import Network


# -- conversion -----------------------------------------------------------------------------------------------------


def test_a_convolution_is_transposed_to_channels_last(written, tmp_path):
    state = state_of()
    convert(written(state), tmp_path / "out.npz")
    converted = read_arrays(tmp_path / "out.npz")[0]["conv1.weight"]  # (K, K, C, O)
    assert converted[2, 5, 1, 0] == state["conv1.weight"][0, 1, 2, 5]
    assert converted.shape == (7, 7, 3, 2)


def test_the_head_is_transposed(written, tmp_path):
    state = state_of()
    convert(written(state), tmp_path / "out.npz")
    np.testing.assert_array_equal(read_arrays(tmp_path / "out.npz")[0]["fc.weight"], state["fc.weight"].T)


def test_numbers_become_float32(written, tmp_path):
    path = tmp_path / "in.npz"
    np.savez(path, **{name: array.astype(np.float64) for name, array in state_of().items()})
    convert(path, tmp_path / "out.npz")
    assert {array.dtype for array in read_arrays(tmp_path / "out.npz")[0].values()} == {np.dtype(np.float32)}


def test_the_facts_say_what_no_shape_tells(written, tmp_path):
    convert(written(state_of()), tmp_path / "out.npz")
    facts = read_arrays(tmp_path / "out.npz")[1]
    assert facts["config"] == {"block": "BasicBlock", "depths": [2, 2, 2, 2], "num_classes": 5, "width": 2,
                               "stride_in_1x1": False, "eps": 1e-5, "caffe_pool": False, "keras_pool": False,
                               "cifar_stem": False, "option_a": False}
    assert facts["preprocessing"] == {"resize": 256, "crop": 224, "interpolation": "bilinear",
                                      "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert facts["origin"]["file"] == "in.pth" and len(facts["origin"]["sha256"]) == 64


@pytest.mark.parametrize("num_classes", [5, 1000])
def test_the_classes_have_names_only_where_there_are_1000(num_classes, written, tmp_path):
    convert(written(state_of(num_classes=num_classes)), tmp_path / "out.npz")
    assert read_arrays(tmp_path / "out.npz")[1]["classes"] == (imagenet_classes() if num_classes == 1000 else None)


@pytest.mark.parametrize("name", DEPTHS)
def test_a_converted_network_is_loaded_as_a_model(name, written, tmp_path):
    state = state_of(name)
    convert(written(state), tmp_path / "out.npz")
    model = load_model(tmp_path / "out.npz")
    np.testing.assert_array_equal(model.state_dict()["fc.weight"], state["fc.weight"].T)


@pytest.mark.parametrize("value, words", [(np.nan, "NaN"), (-np.inf, "infinity"), (-1, "negative variance")])
def test_a_number_that_no_network_can_use_is_refused(value, words, written, tmp_path):
    state = state_of()
    state["layer3.0.bn1.running_var"][1] = value
    with pytest.raises(WeightsFileError, match=f"in.pth: layer3.0.bn1.running_var holds .*{words}"):
        convert(written(state), tmp_path / "out.npz")


def test_a_float64_beyond_float32_is_refused():
    with pytest.raises(ValueError, match="infinity"):
        in_our_layout("fc.bias", np.array([1e300]))


def test_whole_numbers_are_refused_as_weights():
    with pytest.raises(ValueError, match="expected fc.bias to hold floating-point numbers, got int8"):
        in_our_layout("fc.bias", np.zeros(3, np.int8))


def test_a_refused_file_leaves_nothing_behind(written, tmp_path):
    with pytest.raises(WeightsFileError):
        convert(written({"w": SIX}), tmp_path / "out.npz")
    assert os.listdir(tmp_path) == ["in.pth"]


def test_our_own_file_is_refused_because_nothing_is_left_to_convert(tmp_path):
    save_weights(resnet18(5, width=2), tmp_path / "ours.npz")
    with pytest.raises(WeightsFileError, match="ours.npz: is tinyresnet's own file"):
        convert(tmp_path / "ours.npz", tmp_path / "out.npz")


def test_an_output_that_is_not_npz_is_refused(written, tmp_path):
    with pytest.raises(ValueError, match="expected the output to end in .npz"):
        convert(written(state_of()), tmp_path / "in.pth")


# -- the 1000 classes -----------------------------------------------------------------------------------------------


def test_there_are_1000_different_class_names():
    assert len({name.lower() for name in imagenet_classes()}) == 1000


def test_the_classes_are_in_synset_order():
    lines = CLASSES_FILE.read_text(encoding="utf-8").splitlines()
    ids = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    assert ids == sorted(ids) and len(set(ids)) == 1000


@pytest.mark.parametrize("index, name", [(0, "tench"), (386, "African elephant"), (999, "toilet tissue")])
def test_a_class_has_its_number(index, name):
    assert imagenet_classes()[index] == name


@pytest.mark.shared
def test_the_classes_are_those_of_the_labelled_photographs(shared):
    with open(shared / "data" / "imagenet_sample" / "labels.csv", newline="") as file:
        labels = {int(row["class_index"]): row["name"].replace("_", " ") for row in csv.DictReader(file)}
    assert {index: imagenet_classes()[index] for index in labels} == labels


# -- the real file --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """The real ResNet-50: its path, where it was converted to, and the summary."""
    path, out = shared / "weights" / "resnet50_imagenet_pq.pth", tmp_path_factory.mktemp("real") / "resnet50.npz"
    return path, out, convert(path, out)


@pytest.mark.shared
def test_the_real_file_is_a_resnet50(real):
    assert real[2].network == Network("resnet50", 64, 1000)


@pytest.mark.shared
def test_the_real_model_has_161_parameters_of_25557032_numbers_and_267_arrays(real):
    model = load_model(real[1])
    params = model.named_params()
    assert (len(params), sum(array.size for _, array in params), len(model.state_dict())) == (161, 25_557_032, 267)


@pytest.mark.shared
def test_the_real_convolutions_are_those_of_the_file(real):
    tensors, arrays = read_tensors(real[0]), read_arrays(real[1])[0]
    for name, array in arrays.items():
        back = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        np.testing.assert_array_equal(back, tensors[name])


@pytest.mark.shared
def test_the_real_file_is_converted_within_310_megabytes(shared, tmp_path):
    """Its 102 MB once as read and once as transposed, less what is let go; Python and NumPy take 40 MB more."""
    tracemalloc.start()
    convert(shared / "weights" / "resnet50_imagenet_pq.pth", tmp_path / "out.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 310e6


@pytest.mark.shared
def test_the_real_file_is_converted_within_3_seconds_of_work(shared, tmp_path):
    start = time.process_time()  # measured 0.6 s
    convert(shared / "weights" / "resnet50_imagenet_pq.pth", tmp_path / "out.npz")
    assert time.process_time() - start < 3


def test_the_converter_does_not_import_torch(written):
    script = "import sys, weights_converter as w; w.read_tensors(sys.argv[1]); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script, str(written(state_of()))], capture_output=True, text=True,
                            cwd=Path(__file__).parents[1])
    assert result.stdout == "False\n", result.stderr
