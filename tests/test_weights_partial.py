"""A file that holds a network without its head, or without its last stages and its head: with `partial` it is converted."""

import numpy as np
import pytest
from handmade_files import state_of, without
from other_names import as_safetensors, lively, renamed, transformers_names, units_of

from tinyresnet import load_model, save_weights
from tinyresnet.resnet import DEPTHS
from weights_converter import WeightsFileError, convert


@pytest.mark.parametrize("missing", [["fc"], ["layer4", "fc"], ["layer2", "layer3", "layer4", "fc"]])
@pytest.mark.parametrize("name", DEPTHS)
def test_a_network_whose_end_is_missing_is_refused_by_what_is_missing_and_the_way_out(name, missing, written, tmp_path):
    reason = f"without {' and '.join(missing)}; --partial, in Python partial=True, converts what is there"
    with pytest.raises(WeightsFileError, match=f"in.pth: is a ResNet-.* {reason}"):
        convert(written(without(state_of(name), *missing)), tmp_path / "out.npz")


@pytest.mark.parametrize("missing", [["fc"], ["layer4", "fc"], ["layer2", "layer3", "layer4", "fc"]])
@pytest.mark.parametrize("name", DEPTHS)
def test_what_is_there_of_a_network_is_converted_and_gives_the_same_features(name, missing, written, tmp_path):
    state = lively(name)
    convert(written(state), tmp_path / "whole.npz")
    summary = convert(written(without(state, *missing)), tmp_path / "part.npz", partial=True)
    whole, part = load_model(tmp_path / "whole.npz"), load_model(tmp_path / "part.npz")
    stages = [stage for stage in ("layer1", "layer2", "layer3", "layer4") if stage not in missing]
    x = np.random.default_rng(0).standard_normal((1, 33, 40, 3)).astype(np.float32)
    np.testing.assert_array_equal(part.features(x, at=stages), whole.features(x, at=stages))
    assert [name for name, _ in part.children() if name.startswith("layer")] == stages
    assert f"without {' and '.join(missing)}: {len(without(state, *missing))} arrays" in str(summary)


def test_transformers_backbone_has_names_without_the_first_word(tmp_path):
    names = transformers_names("resnet50", units_of("resnet50"))
    arrays = renamed(state_of("resnet50"), names)
    (tmp_path / "in").write_bytes(as_safetensors({
        name.removeprefix("resnet."): array for name, array in arrays.items() if "classifier" not in name}))
    summary = convert(tmp_path / "in", tmp_path / "out.npz", partial=True)
    assert (summary.scheme, summary.network.missing) == ("transformers", ["fc"])


@pytest.fixture
def backbone(written, tmp_path):
    """A ResNet-18 without head, converted"""
    convert(written(without(lively("resnet18"), "fc")), tmp_path / "part.npz", partial=True)
    return load_model(tmp_path / "part.npz")


def test_in_the_place_of_a_missing_head_are_zeros_for_one_class(backbone):
    assert backbone.config["num_classes"] == 1 and backbone.classes is None
    assert not backbone.forward(np.ones((1, 33, 40, 3), np.float32)).any()


def test_a_network_without_head_takes_a_new_one(backbone):
    backbone.replace_head(3)
    assert backbone.forward(np.ones((1, 33, 40, 3), np.float32)).any()


def test_the_network_remembers_what_was_missing(backbone, tmp_path):
    save_weights(backbone, tmp_path / "again.npz")
    assert load_model(tmp_path / "again.npz").origin["missing"] == ["fc"]


def test_a_whole_network_is_the_same_with_partial(written, tmp_path):
    for partial in (False, True):
        convert(written(state_of()), tmp_path / f"{partial}.npz", partial=partial)
    assert (tmp_path / "True.npz").read_bytes() == (tmp_path / "False.npz").read_bytes()


@pytest.mark.parametrize("missing", [["layer3"], ["layer4.0.conv2.weight", "fc"], ["bn1", "fc"]])
def test_with_a_hole_a_network_is_refused_with_partial_too(missing, written, tmp_path):
    state = {name: array for name, array in state_of("resnet50").items() if not name.startswith(tuple(missing))}
    with pytest.raises(WeightsFileError, match="to ResNet-50, the nearest, it has .* missing"):
        convert(written(state), tmp_path / "out.npz", partial=True)
