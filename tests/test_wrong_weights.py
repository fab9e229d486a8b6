"""Eight ways to load weights wrong: what the table says, layer by layer, and that it is measured."""

import csv
import sys

import numpy as np
import pytest
from PIL import Image
from run_examples import EXAMPLES, wrong_weights
from thin_networks import pictures, trained

from tinyresnet import Preprocessing, save_weights
from tinyresnet.images import resize

sys.path.insert(0, str(EXAMPLES))
import wrong_weights as module  # noqa: E402

FIRST = {  # the first layer that differs in a network of bottlenecks
    "as it should be": "none",
    "BGR instead of RGB": "conv1: ",
    "pixels 0..1, not normalised": "conv1: ",
    "no antialias in resizing": "conv1: 0.",
    "the other epsilon (1e-5, 1e-3)": "bn1: ",
    "stride in the other convolution": "layer2.0.conv1: another shape",
    "inputs and outputs exchanged": "layer1.0.conv1: ",
    "gamma and beta exchanged": "bn1: ",
    "running statistics ignored": "bn1: ",
}


@pytest.fixture
def run(tmp_path, capsys):
    """A function from a model to the lines that the example prints."""
    def lines_of(model):
        Image.fromarray(pictures()[0]).save(tmp_path / "picture.png")
        save_weights(model, tmp_path / "thin.npz")
        code = wrong_weights(tmp_path / "picture.png", "--weights", tmp_path / "thin.npz", "--output-dir", tmp_path / "out")
        assert code == 0
        return capsys.readouterr().out.splitlines()
    return lines_of


def rows(lines):
    """The last column by the first."""
    return {line[:33].strip(): line.rpartition("%   ")[2] for line in lines[1:10]}


def test_each_way_has_a_row_with_the_first_layer_that_differs(run):
    found = rows(run(trained()))
    assert list(found) == list(FIRST)
    assert all(found[way].startswith(words) for way, words in FIRST.items()), found


def test_basic_blocks_have_no_stride_variant(run):
    assert rows(run(trained("BasicBlock")))["stride in the other convolution"] == \
        "none: basic blocks have no 1x1 convolution to stride in"


def test_what_changes_nothing_is_not_called_dangerous(run):
    model = trained()
    model.preprocessing = Preprocessing(36, 32)  # pixels 0..1 are right
    lines = run(model)
    assert rows(lines)["pixels 0..1, not normalised"] == "none"
    assert not any(line.startswith("  pixels 0..1") for line in lines)


def test_those_that_keep_the_class_are_named_as_measured():
    Look = module.Look
    text = module.table([Look("right", 7, 0.9, {"a": 0.0}), Look("quiet", 7, 0.8, {"a": 0.1}),
                         Look("same", 7, 0.9, {"a": 0.0}), Look("loud", 6, 0.7, {"a": 0.5})], None)
    assert text.endswith("1 of 3 still say class 7\n  quiet: 80.0% sure instead of 90.0%")


def test_the_figure_is_written(run, tmp_path):
    run(trained())
    with Image.open(tmp_path / "out" / "wrong_weights.png") as figure:
        assert figure.format == "PNG" and np.ptp(np.asarray(figure.convert("L"))) > 200


def test_without_antialias_half_of_fine_stripes_is_seen_and_with_it_their_mean():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 255  # the two columns beside each new pixel's centre
    shrunk = module.without_antialias(stripes, Preprocessing(16, 8))
    assert shrunk.shape == (16, 16, 3) and shrunk.min() == 255  # resized, and not yet cropped
    assert resize(stripes, (16, 16)).max() < 200


def test_another_shape_and_an_overflow_are_differences():
    right = np.ones((1, 2, 2, 3), np.float32)
    assert np.isnan(module.relative_difference(right[:, :1], right))
    assert module.relative_difference(right * np.nan, right) == np.inf
    assert module.relative_difference(right * 1.5, right) == 0.5
    assert module.Look("", 0, 1.0, {"a": 0.009, "b": np.nan}).first == "b"
    assert module.Look("", 0, 1.0, {"a": 0.009, "b": 0.011}).first == "b"


@pytest.mark.parametrize("missing", ["picture.png", "thin.npz"])
def test_a_file_that_cannot_be_used_gives_exit_code_2(missing, run, tmp_path, capsys):
    run(trained())
    (tmp_path / missing).write_bytes(b"no")
    assert wrong_weights(tmp_path / "picture.png", "--weights", tmp_path / "thin.npz") == 2
    assert missing in capsys.readouterr().err


@pytest.mark.shared
def test_the_real_network_keeps_its_class_in_two_ways_and_loses_it_in_six(shared, published, tmp_path, capsys):
    folder = shared / "data" / "imagenet_sample"
    with open(folder / "labels.csv") as file:
        row = next(csv.DictReader(file))
    assert wrong_weights(folder / row["file"], "--weights", published, "--output-dir", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    right = [line[:33].strip() for line in lines[1:10] if line[33:].startswith(row["name"])]
    assert right == ["as it should be", "no antialias in resizing", "the other epsilon (1e-5, 1e-3)"]
    expected = FIRST | {"the other epsilon (1e-5, 1e-3)": "none: at most 1.4e-03"}
    assert all(rows(lines)[way].startswith(words) for way, words in expected.items())
    assert "2 of 8 still say brambling" in "\n".join(lines)
