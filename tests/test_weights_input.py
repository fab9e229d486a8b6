"""What an image must go through is in no file: the catalogue knows it by hash, else the names tell, or it is guessed."""

from dataclasses import replace

import numpy as np
import other_names
import pytest
from handmade_files import state_of, torch_state
from other_names import as_safetensors, units_of

from tinyresnet import load_model
from tinyresnet.images import IMAGENET
from weights_converter import WeightsFileError, convert
from weights_converter.catalogue import CATALOGUE
from weights_converter.conversion import sha256_of
from weights_converter.schemes import SCHEMES


@pytest.mark.parametrize("ending", ["", "of another file"])
def test_a_file_that_the_catalogue_knows_by_its_hash_gets_the_input_it_was_trained_with(ending, written, tmp_path,
                                                                                        monkeypatch):
    path = written(state_of())
    trained = replace(IMAGENET, resize=232, interpolation="bicubic")
    entry = CATALOGUE["resnet50_v2"]._replace(sha256=sha256_of(path) + ending, preprocessing=trained)
    monkeypatch.setitem(CATALOGUE, "ours", entry)
    summary = convert(path, tmp_path / "out.npz")
    assert load_model(tmp_path / "out.npz").preprocessing == (IMAGENET if ending else trained)
    assert f"input resized to {256 if ending else 232} " in str(summary)


def test_the_summary_says_what_an_image_goes_through(written, tmp_path):
    assert ("; input resized to 256 (bilinear), cropped to 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225; "
            in str(convert(written(state_of()), tmp_path / "out.npz")))


def test_timms_input_is_called_a_guess_and_torchvisions_is_not(tmp_path):
    names = other_names.torchvision_names("resnet18", units_of("resnet18"))
    for content, guess in [(as_safetensors(other_names.renamed(state_of("resnet18"), names)), True),
                           (torch_state(state_of("resnet18")), False)]:
        (tmp_path / "in").write_bytes(content)
        changes = convert(tmp_path / "in", tmp_path / "out.npz").changes
        assert ("a guess: the input of timm's training a1, and no variant with blur" in changes) == guess


@pytest.mark.parametrize("name, guess", [
    ("resnet18", "a guess: the input of torchvision's V1"),
    ("resnet20", "a guess: ImageNet's mean and deviation, and of ten classes the names")])
def test_under_torchvisions_names_the_input_of_an_unknown_file_is_called_a_guess(name, guess, written, tmp_path):
    assert guess in str(convert(written(state_of(name)), tmp_path / "out.npz"))


def test_caffes_weights_under_torchvisions_names_are_refused_because_their_scale_tells(written, tmp_path):
    state = state_of()
    expected = (0.25 / 0.226)**2 * (state["conv1.weight"]**2).sum(axis=(1, 2, 3))
    for scale, refused in [(255 * 0.226, True), (3, False)]:
        path = written(state | {"bn1.running_var": (scale**2 * expected).astype("f4")})
        if refused:
            with pytest.raises(WeightsFileError, match="an input 58 times as large .* perhaps Caffe's weights"):
                convert(path, tmp_path / "out.npz")
        else:
            convert(path, tmp_path / "out.npz")


def test_what_is_left_out_is_named(written, tmp_path):
    wrapped = {f"model.{name}": array for name, array in state_of().items()}
    summary = convert(written(wrapped | {"normalize.mean": np.ones(3, "f4"), "normalize.std": np.ones(3, "f4")}),
                      tmp_path / "out.npz")
    assert "left out 2 arrays, such as normalize.mean" in summary.changes


def test_the_summary_counts_the_parameters_and_not_the_running_statistics(written, tmp_path):
    summary = convert(written(state_of()), tmp_path / "out.npz")
    assert summary.parameters == sum(array.size for _, array in load_model(tmp_path / "out.npz").named_params())


def test_numbered_caffes_mean_is_of_red_green_and_blue():
    scheme = next(scheme for scheme in SCHEMES if scheme.title == "numbered Caffe")
    assert tuple(round(255 * value, 2) for value in scheme.preprocessing.mean) == (125.3, 122.95, 113.87)


def test_the_catalogue_has_the_published_hashes_and_accuracies():
    """From torchvision's page of models and the names of its files."""
    assert {name: (entry.sha256[:8], entry.top1) for name, entry in CATALOGUE.items()} == {
        "resnet18": ("f37072fd", 69.758), "resnet34": ("b627a593", 73.314), "resnet50": ("0676ba61", 76.130),
        "resnet50_v2": ("11ad3fa6", 80.858), "resnet101": ("63fe2227", 77.374), "resnet152": ("394f9c45", 78.312)}
    assert all(entry.sha256[:8] in entry.file and entry.address.endswith(entry.file) for entry in CATALOGUE.values())
