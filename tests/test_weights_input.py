"""What an image must go through is in no file: the catalogue knows it by hash, else the names tell, or it is guessed."""

from dataclasses import replace

import other_names
import pytest
from handmade_files import state_of, torch_state
from other_names import as_safetensors, units_of

from tinyresnet import load_model
from tinyresnet.images import IMAGENET
from weights_converter import convert
from weights_converter.catalogue import CATALOGUE
from weights_converter.conversion import sha256_of


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
        assert ("are a guess: timm's training a1" in str(convert(tmp_path / "in", tmp_path / "out.npz"))) == guess
