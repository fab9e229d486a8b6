"""What a network offers beside its numbers: names, modes, parts, features, states, facts."""

import numpy as np
import pytest

import tinyresnet
from tinyresnet import small_resnet
from tinyresnet.images import Preprocessing
from tinyresnet.layers import BatchNorm2d, Conv2d, GlobalAvgPool, Linear, MaxPool2d, PaddedIdentity, ReLU, Sequential
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet


def images(N=2, H=33, W=40, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((N, H, W, 3)).astype(dtype)


@pytest.mark.parametrize("name, parameters", [  # torchvision's published counts
    ("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("resnet101", 44_549_160),
    ("resnet152", 60_192_808)])
def test_the_five_networks_have_the_published_number_of_parameters(name, parameters):
    assert sum(p.size for _, p in getattr(tinyresnet, name)().named_params()) == parameters


def test_resnet50_has_161_parameters_and_267_arrays():
    model = tinyresnet.resnet50()
    assert len(model.named_params()) == 161
    assert len(model.state_dict()) == 267


def test_names_are_torchvisions():
    names = list(small_resnet(depths=(1, 1)).state_dict())
    assert names == [f"{layer}.{kind}" for layer, kinds in [
        ("conv1", ["weight"]), ("bn1", ["weight", "bias", "running_mean", "running_var"]),
        ("layer1.0.conv1", ["weight"]), ("layer1.0.bn1", ["weight", "bias", "running_mean", "running_var"]),
        ("layer1.0.conv2", ["weight"]), ("layer1.0.bn2", ["weight", "bias", "running_mean", "running_var"]),
        ("layer2.0.conv1", ["weight"]), ("layer2.0.bn1", ["weight", "bias", "running_mean", "running_var"]),
        ("layer2.0.conv2", ["weight"]), ("layer2.0.bn2", ["weight", "bias", "running_mean", "running_var"]),
        ("layer2.0.downsample.0", ["weight"]),
        ("layer2.0.downsample.1", ["weight", "bias", "running_mean", "running_var"]), ("fc", ["weight", "bias"]),
    ] for kind in kinds]


@pytest.mark.parametrize("stride_in_1x1, strides", [(False, (1, 2)), (True, (2, 1))])
def test_the_stride_of_a_bottleneck_sits_where_the_version_says(stride_in_1x1, strides):
    block = Bottleneck(8, 4, stride=2, stride_in_1x1=stride_in_1x1)
    assert (block.conv1.stride, block.conv2.stride) == strides


@pytest.mark.parametrize("block, x", [(BasicBlock(3, 4, stride=2), (2, 7, 8, 3)), (Bottleneck(8, 2), (2, 7, 8, 8))])
def test_a_replaced_relu_inside_a_block_is_called(block, x):
    class Counting(ReLU):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    block.relu1 = Counting()
    block.forward(np.ones(x, np.float32))
    assert block.relu1.calls == 1


def test_new_models_train_and_modes_return_the_model():
    model = small_resnet(width=4)
    assert all(layer.training for _, layer in model.named_layers())
    assert model.eval() is model and not any(layer.training for _, layer in model.named_layers())
    assert model.train() is model and all(layer.training for _, layer in model.named_layers())


def test_backward_without_forward_in_train_mode_is_refused():
    model = small_resnet(width=4)
    dlogits = np.ones_like(model.forward(images()))
    model.backward(dlogits)
    with pytest.raises(RuntimeError, match="needs a forward in train mode"):
        model.backward(dlogits)
    model.eval().forward(images())
    with pytest.raises(RuntimeError, match="needs a forward in train mode"):
        model.backward(dlogits)


def test_eval_keeps_nothing_for_backward_not_even_from_before():
    model = small_resnet(width=4)
    model.forward(images())
    model.eval().forward(images())
    assert all(layer._saved is None for _, layer in model.named_layers())


def test_nothing_is_upcast():
    model = small_resnet(width=4)
    dx = model.backward(model.forward(images()))
    assert dx.dtype == np.float32
    assert {a.dtype for _, a in [*model.named_grads(), *model.state_dict().items()]} == {np.dtype(np.float32)}


def test_forward_and_backward_leave_their_arguments_alone():
    model, x = small_resnet(width=4), images()
    before = x.copy()
    logits = model.forward(x)
    dlogits = np.ones_like(logits)
    model.backward(dlogits)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dlogits, 1)


def test_a_frozen_stage_gets_no_gradients_and_keeps_its_statistics_but_passes_dx_on():
    model = small_resnet(width=4)
    model.freeze("layer2", "bn1")
    before = model.state_dict()
    model.backward(model.forward(images()))
    after, grads = model.state_dict(), dict(model.named_grads())
    frozen = [name for name in before if name.startswith(("layer2.", "bn1."))]
    assert frozen and not any(name in grads for name in frozen)
    assert all(np.array_equal(before[name], after[name]) for name in frozen)
    assert np.abs(grads["conv1.weight"]).max() > 0
    assert not np.array_equal(before["layer3.0.bn1.running_mean"], after["layer3.0.bn1.running_mean"])


def test_unfreezing_brings_the_gradients_back():
    model = small_resnet(width=4)
    model.freeze().unfreeze("fc")
    model.backward(model.forward(images()))
    assert [name for name, _ in model.named_grads()] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("prefix, tops", [
    ("layer1", ["layer1"]), ("layer1.1", ["layer1.1"]), ("layer1.1.conv", ["layer1.1.conv1", "layer1.1.conv2"]),
    ("layer", ["layer1", "layer2", "layer3", "layer4"])])
def test_a_prefix_means_the_layer_of_that_name_or_else_all_that_begin_with_it(prefix, tops):
    model = small_resnet(width=1, depths=(11, 1, 1, 1)).freeze(prefix)  # layer1.10 begins with layer1.1
    assert {name for name, layer in model.named_layers() if layer.frozen} == {
        name for name, _ in model.named_layers() if any(f"{name}.".startswith(f"{top}.") for top in tops)}


def test_freezing_an_unknown_stage_is_refused_before_anything_is_frozen():
    model = small_resnet(width=4)
    with pytest.raises(ValueError, match="no name begins with 'layer9'; the first are conv1, bn1"):
        model.freeze("conv1", "layer9")
    assert not any(layer.frozen for _, layer in model.named_layers())


def test_a_batch_norm_frozen_after_forward_gets_no_gradients():
    layer = BatchNorm2d(3)
    layer.forward(images())
    layer.freeze().backward(images())
    assert layer.named_grads() == []


def test_parts_one_after_the_other_are_the_network():
    model, x = small_resnet(width=4).eval(), images()
    middle = model.part(to="layer2").forward(x)
    np.testing.assert_array_equal(model.part(after="layer2").forward(middle), model.forward(x))


def test_backward_to_a_stage_returns_the_gradient_at_its_output():
    model, x = small_resnet(width=4).astype(np.float64), images(dtype=np.float64)
    middle = model.part(to="layer3").forward(x)
    dlogits = np.random.default_rng(1).standard_normal((2, 2))
    tail = model.part(after="layer3")
    tail.forward(middle)
    expected = tail.backward(dlogits)
    model.forward(x)
    np.testing.assert_array_equal(model.backward(dlogits, to="layer3"), expected)


def test_backward_to_a_stage_leaves_no_gradients_of_an_earlier_backward_before_it():
    model = small_resnet(width=4)
    model.backward(model.forward(images()))
    model.backward(model.forward(images()), to="layer3")
    names = [name for name, _ in model.named_grads()]
    assert names == [name for name, _ in model.named_params() if name.startswith(("layer4.", "fc."))]


def test_an_unknown_stage_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ValueError, match="no stage is named 'layer5'; there are conv1, bn1, .*layer4, avgpool, fc"):
        small_resnet(width=4).part(to="layer5")


def test_features_are_the_averages_of_the_stages_side_by_side_in_the_order_asked_for():
    model, x = small_resnet(width=4).eval(), images()
    layer3, layer4 = (model.part(to=stage).forward(x).mean(axis=(1, 2)) for stage in ("layer3", "layer4"))
    np.testing.assert_array_equal(model.features(x), np.concatenate([layer3, layer4], axis=1))
    np.testing.assert_array_equal(model.features(x, at=("layer4", "layer3")), np.concatenate([layer4, layer3], axis=1))


def test_features_of_an_unknown_stage_are_refused():
    with pytest.raises(ValueError, match="no stage is named 'layer3'; there are conv1, .*layer2, avgpool, fc"):
        small_resnet(width=4, depths=(1, 1)).features(images())


def test_a_new_head_has_the_new_number_of_classes_and_the_rest_stays():
    model = small_resnet(width=4)
    before = model.state_dict()
    model.replace_head(7)
    assert model.forward(images()).shape == (2, 7)
    assert model.config["num_classes"] == 7
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items()
               if not name.startswith(("fc", "bn")) and ".bn" not in name and "downsample.1" not in name)


def test_a_new_head_has_the_dtype_of_the_old():
    model = small_resnet(width=4).astype(np.float64)
    model.replace_head(5)
    assert model.forward(images(dtype=np.float64)).dtype == np.float64


def test_loading_a_state_gives_the_same_logits():
    first, second = small_resnet(width=4, rng=np.random.default_rng(1)).eval(), small_resnet(width=4).eval()
    assert not np.array_equal(first.forward(images()), second.forward(images()))
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(first.forward(images()), second.forward(images()))


def test_a_state_is_a_copy():
    model = small_resnet(width=4)
    state = model.state_dict()
    state["fc.bias"][:] = 9
    model.load_state_dict(state)
    state["fc.bias"][:] = 8
    assert (model.fc.bias == 9).all()


def test_a_strict_load_of_another_network_is_refused_and_changes_nothing():
    model, state = small_resnet(width=4), small_resnet(3, width=4, rng=np.random.default_rng(1)).state_dict()
    del state["conv1.weight"]
    state["extra"] = np.zeros(1)
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"1 missing \(conv1.weight\); 1 unexpected \(extra\); 2 mismatched \(fc.weight"):
        model.load_state_dict(state)
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


@pytest.mark.parametrize("array", [np.array(["a"] * 32), np.ones(32, complex)])
def test_an_array_of_something_else_than_real_numbers_is_refused_and_changes_nothing(array):
    model, state = small_resnet(width=4), small_resnet(width=4, rng=np.random.default_rng(1)).state_dict()
    before = model.state_dict()
    with pytest.raises(ValueError, match="layer4.0.bn2.weight should hold real numbers"):
        model.load_state_dict(state | {"layer4.0.bn2.weight": array})
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_a_partial_load_reports_what_did_not_fit():
    model, state = small_resnet(width=4), small_resnet(3, width=4, rng=np.random.default_rng(1)).state_dict()
    del state["conv1.weight"]
    report = model.load_state_dict(state, strict=False)
    assert report == (["conv1.weight"], [], ["fc.weight", "fc.bias"])
    np.testing.assert_array_equal(model.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_the_printed_table_ends_with_the_total_and_shows_each_block_once():
    lines = str(tinyresnet.resnet50()).splitlines()
    assert lines[-1].split() == ["total", "25,557,032"]
    rows = {line.split()[0]: line for line in lines}
    assert "(N, 14, 14, 1024)" in rows["layer3.5"] and rows["layer3.5"].endswith("1,117,184")
    assert sum("Bottleneck" in line for line in lines) == 16


def test_the_printed_table_is_for_the_size_that_the_preprocessing_gives():
    model = small_resnet(width=4)
    model.preprocessing = Preprocessing((64, 96))
    assert "for images of 64 x 96 pixels" in str(model) and "(N, 32, 48, 4)" in str(model)


def test_a_network_is_named_in_one_line():
    assert repr(tinyresnet.resnet18(7, width=4)) == "ResNet(resnet18, num_classes=7)"


@pytest.mark.parametrize("size", [(224, 224), (97, 64)])
@pytest.mark.parametrize("options", [{}, {"caffe_pool": True, "stride_in_1x1": True}])
def test_predicted_shapes_are_the_shapes_of_forward(size, options):
    model = ResNet(Bottleneck, (1, 1, 1, 1), 5, width=2, **options).eval()
    x = images(1, *size)
    for _, layer in model.children():
        shape, x = layer.output_shape(x.shape), layer.forward(x)
        assert x.shape == shape


def test_no_rng_means_the_same_weights_every_time_and_an_rng_means_others():
    first, second = small_resnet(width=4), small_resnet(width=4)
    third = small_resnet(width=4, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(first.conv1.weight, second.conv1.weight)
    assert not np.array_equal(first.conv1.weight, third.conv1.weight)
    assert not np.array_equal(first.layer1[0].conv1.weight, first.layer1[0].conv2.weight)


@pytest.mark.parametrize("layer, x, message", [
    (Conv2d(3, 4, 3), np.zeros((1, 8, 8, 4), np.float32), "expected 3 input channels"),
    (Conv2d(3, 4, 3), np.zeros((8, 8, 3), np.float32), "expected 3 input channels"),
    (Conv2d(3, 4, 3), np.zeros((0, 8, 8, 3), np.float32), "non-empty"),
    (Conv2d(3, 4, 3), np.zeros((1, 8, 8, 3)), "expected x of dtype float32"),
    (Conv2d(3, 4, 3), np.zeros((1, 2, 8, 3), np.float32), "3x3 window does not fit into 2 pixels"),
    (BatchNorm2d(3), np.zeros((1, 1, 1, 3), np.float32), "more than one value a channel"),
    (BatchNorm2d(3), np.zeros((2, 8, 8, 4), np.float32), "expected 3 input channels"),
    (MaxPool2d(3, 2), np.zeros((1, 2, 8, 4), np.float32), "3x3 window does not fit into 2 pixels"),
    (Linear(3, 2), np.zeros((2, 4), np.float32), r"expected x \(N, 3\)"),
    (small_resnet(width=4), np.zeros((1, 3, 64, 64), np.float32), "expected 3 input channels"),
], ids=str)
def test_input_that_does_not_fit_is_refused_with_what_was_expected(layer, x, message):
    with pytest.raises(ValueError, match=message):
        layer.forward(x)


def test_a_sequential_takes_names_and_numbers():
    named = Sequential(a=Conv2d(1, 1, 1), b=Conv2d(1, 1, 1))
    assert [name for name, _ in named.named_params()] == ["a.weight", "b.weight"]
    assert [name for name, _ in Sequential(*named).named_params()] == ["0.weight", "1.weight"]


@pytest.mark.parametrize("name", ["training", "forward", "grads"])
def test_a_name_that_every_layer_uses_is_refused_for_a_part(name):
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        Sequential(**{name: ReLU()})


def test_about_twenty_five_names_are_public_and_all_of_them_exist():
    assert 20 <= len(tinyresnet.__all__) <= 30
    assert all(hasattr(tinyresnet, name) for name in tinyresnet.__all__)


EVERY_LAYER = [(Conv2d(3, 4, 3), (2, 9, 10, 3)), (MaxPool2d(3, 2), (2, 9, 10, 3)), (BatchNorm2d(3), (2, 9, 10, 3)),
               (PaddedIdentity(3, 4, stride=2), (2, 9, 10, 3)),
               (BatchNorm2d(3).freeze(), (2, 9, 10, 3)), (ReLU(), (2, 9, 10, 3)), (GlobalAvgPool(), (2, 9, 10, 3)),
               (Linear(3, 2), (5, 3)), (BasicBlock(3, 4, stride=2), (2, 9, 10, 3))]


@pytest.mark.parametrize("layer, shape", EVERY_LAYER, ids=str)
@pytest.mark.parametrize("wrong", [lambda y: y[:1], lambda y: y[0], lambda y: y.astype(np.float64), lambda y: y.tolist(),
                                   lambda y: np.ones((4000, *y.shape[1:]), y.dtype)],
                         ids=["fewer", "one dimension less", "float64", "list", "more"])
def test_a_gradient_unlike_the_output_is_refused(layer, shape, wrong):
    y = layer.forward(np.ones(shape, np.float32))
    with pytest.raises(ValueError, match="expected dy of shape"):
        layer.backward(wrong(y))


@pytest.mark.parametrize("layer", [MaxPool2d(3, 2), GlobalAvgPool()], ids=repr)
def test_pooling_refuses_integers(layer):
    with pytest.raises(ValueError, match="expected x of dtype float32, got int64"):
        layer.forward(np.ones((1, 5, 5, 2), np.int64))
