"""A network is recognised by the names and shapes of its arrays; what differs from it is named."""

import numpy as np
import pytest
from handmade_files import SIX, state_of

from tinyresnet.resnet import DEPTHS, ResNet
from weights_converter.conversion import in_our_layout
from weights_converter.names import recognise, unwrap
from weights_converter.networks import Network, expected_shapes


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("width", [1, 5])
def test_the_expected_arrays_are_those_of_our_network(name, width):
    ours = ResNet(*DEPTHS[name], 7, width=width).state_dict()
    shapes = expected_shapes(Network(name, width, 7))
    assert shapes.keys() == ours.keys()
    assert {key: in_our_layout(key, np.zeros(shape, np.float32)).shape for key, shape in shapes.items()} == {
        key: array.shape for key, array in ours.items()}


@pytest.mark.parametrize("name", DEPTHS)
def test_each_network_is_recognised(name):
    assert recognise(state_of(name)).network == Network(name, 2, 5)


@pytest.mark.parametrize("wrapper", ["", "state_dict.", "model.", "module.", "state_dict.module.", "model.state_dict."])
def test_wrappers_are_seen_through(wrapper):
    wrapped = {wrapper + name: array for name, array in state_of().items()}
    assert list(unwrap(wrapped)[0]) == list(state_of())


def test_an_optimisers_state_beside_a_wrapped_network_is_left_out():
    wrapped = {f"state_dict.{name}": array for name, array in state_of().items()}
    own, rest = unwrap(wrapped | {"optimizer.state.0.exp_avg": SIX})
    assert list(own) == list(state_of()) and rest == ["optimizer.state.0.exp_avg"]


def test_counters_of_batches_are_left_out():
    assert list(unwrap(state_of() | {"bn1.num_batches_tracked": np.int64(7)})[0]) == list(state_of())


def test_two_networks_in_a_file_are_refused():
    two = {prefix + name: array for prefix in ("state_dict.", "model.") for name, array in state_of().items()}
    with pytest.raises(ValueError, match="holds 2 networks, under 'state_dict.' and 'model.'"):
        unwrap(two)


@pytest.mark.parametrize("beside", ["state_dict_ema.", "teacher.", "best_state_dict.module.", "net."])
def test_a_second_network_under_any_name_is_refused_since_one_of_them_was_meant(beside):
    two = {prefix + name: array for prefix in ("state_dict.", beside) for name, array in state_of().items()}
    with pytest.raises(ValueError, match=f"another network beside the one under 'state_dict.', with '{beside}conv1.weight'"):
        unwrap(two)


def test_a_prefix_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="none of its 102 names, 'net.0.conv1.weight', .* have all a prefix to take off"):
        recognise({f"net.0.{name}": array for name, array in state_of().items()})


def test_a_missing_array_is_named():
    state = state_of("resnet50")
    del state["layer3.5.bn2.running_mean"]
    with pytest.raises(ValueError, match="ResNet-50, the nearest, it has 1 missing: layer3.5.bn2.running_mean"):
        recognise(state)


def test_an_unexpected_array_is_named():
    with pytest.raises(ValueError, match="1 unexpected: layer1.0.se.weight"):
        recognise(state_of() | {"layer1.0.se.weight": SIX})


@pytest.mark.parametrize("name", ["layer1.0.conv0.weight", "layer1.0.downsample.2.weight", "layer1.0.downsample.01.weight"])
def test_a_name_that_is_nearly_one_of_ours_is_unexpected(name):
    with pytest.raises(ValueError, match=f"1 unexpected: {name}"):
        recognise(state_of("resnet50") | {name: SIX})


def test_a_wrong_shape_is_named_with_both():
    state = state_of() | {"layer2.0.conv2.weight": np.zeros((4, 4, 1, 1), np.float32)}
    with pytest.raises(ValueError, match=r"layer2.0.conv2.weight \(4, 4, 1, 1\) instead of \(4, 4, 3, 3\)"):
        recognise(state)


def test_a_wide_resnet50_is_not_taken_for_a_resnet50():
    state = state_of("resnet50")
    state["layer1.0.conv1.weight"] = np.zeros((4, 2, 1, 1), np.float32)
    with pytest.raises(ValueError, match="layer1.0.conv1.weight"):
        recognise(state)


def test_of_many_differences_the_first_three_are_named():
    with pytest.raises(ValueError, match=r"96 missing: conv1.weight, bn1.weight, bn1.bias, \.\.\.; 1 unexpected: w;"):
        recognise({"w": SIX, "bn1.running_mean": SIX})


def test_no_network_is_built_as_large_as_an_empty_array_claims():
    with pytest.raises(ValueError, match=r"fc.weight \(2147483647, 0\) instead of \(2147483647, 16\)"):
        recognise(state_of() | {"fc.weight": np.empty((2**31 - 1, 0), np.float32)})


@pytest.mark.parametrize("name", ["bn1.weight", "fc.weight"])
def test_a_number_in_the_place_of_a_weight_is_refused(name):
    with pytest.raises(ValueError, match="single number"):
        recognise(state_of() | {name: np.float32(1)})
