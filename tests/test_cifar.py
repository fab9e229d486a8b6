"""CIFAR-10's residual networks: their parameters, shapes and facts, and published weights."""

import json

import numpy as np
import pytest
from test_kernels import largest_error

import tinyresnet
from tinyresnet import Preprocessing, load_model, load_weights, preprocess, resnet20, save_weights
from tinyresnet.cifar import CLASSES
from tinyresnet.gradcheck import NETWORK_BOUND, directional_errors, prepared
from tinyresnet.layers import Conv2d, Identity, PaddedIdentity
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet
from tinyresnet.weights import WeightsFileError, read_arrays, write_arrays


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tiny(option_a=True):
    """Three stages of one block."""
    return ResNet(BasicBlock, (1, 1, 1), 3, width=4, cifar_stem=True, option_a=option_a)


# -- the networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, name, millions", [(3, "resnet20", "0.27"), (5, "resnet32", "0.46"), (7, "resnet44", "0.66"),
                                               (9, "resnet56", "0.85"), (18, "resnet110", "1.73")])
def test_the_networks_have_the_papers_number_of_parameters(n, name, millions):
    """The paper's table 6 has these numbers, the last one as 1.7M. By hand, batch norm with 2 a channel:"""
    first = 9 * 3 * 16 + 2 * 16
    stages = [n * 2 * (9 * 16 * 16 + 2 * 16), *(  # the first convolution of a later stage has half as many channels in
        9 * width // 2 * width + (2 * n - 1) * 9 * width * width + 2 * n * 2 * width for width in (32, 64))]
    count = sum(p.size for _, p in getattr(tinyresnet, name)().named_params())
    assert count == first + sum(stages) + 64 * 10 + 10
    assert f"{count / 1e6:.2f}" == millions and f"{count:,} parameters" in getattr(tinyresnet, name).__doc__


@pytest.mark.parametrize("layers", [20, 32, 44, 56, 110])
def test_a_network_is_named_after_its_layers(layers):
    model = getattr(tinyresnet, f"resnet{layers}")(7, width=2)
    assert repr(model) == f"ResNet(resnet{layers}, num_classes=7)"
    assert sum(isinstance(layer, Conv2d) for _, layer in model.named_layers()) + 1 == layers  # and the head


@pytest.mark.parametrize("depths, cifar_stem", [((3, 3, 3), False), ((3, 3, 4), True), ((3, 3), True)])
def test_other_stages_or_a_large_stem_are_not_named_after_cifars(depths, cifar_stem):
    model = ResNet(BasicBlock, depths, width=2, cifar_stem=cifar_stem)
    assert model.name == "-".join(["BasicBlock", *map(str, depths)])


def test_option_b_adds_two_projections_and_their_batch_norms():
    plain, projecting = resnet20().state_dict(), resnet20(option_a=False).state_dict()
    extra = [f"layer{stage}.0.downsample.{array}" for stage in (2, 3)
             for array in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")]
    assert projecting.keys() - plain.keys() == set(extra) and plain.keys() < projecting.keys()


def test_without_parameters_are_the_shortcuts_where_a_stage_begins_and_none_else():
    model = resnet20()
    stages = [model.layer1, model.layer2, model.layer3]
    kinds = [[type(block.downsample) for _, block in stage.children()] for stage in stages]
    assert kinds == [[Identity] * 3, *[[PaddedIdentity, Identity, Identity]] * 2]


def test_a_bottleneck_has_zeros_around_four_times_as_many_channels_too():
    model = ResNet(Bottleneck, (1, 1), 3, width=2, option_a=True).eval()
    assert repr(model.layer1[0].downsample) == "PaddedIdentity(2, 8, stride=1)"
    assert model.forward(normal(1, 33, 40, 3, dtype=np.float32)).shape == (1, 3)


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (9, 12)])
def test_predicted_shapes_are_the_shapes_of_forward(size):
    model, x = tiny().eval(), normal(1, *size, 3, dtype=np.float32)
    for _, layer in model.children():
        shape, x = layer.output_shape(x.shape), layer.forward(x)
        assert x.shape == shape


def test_images_of_32_pixels_enter_the_average_with_8():
    assert resnet20().part(to="layer3").output_shape((1, 32, 32, 3)) == (1, 8, 8, 64)


@pytest.mark.parametrize("option_a", [True, False])
@pytest.mark.parametrize("N, size", [(2, (12, 12)), (2, (13, 10)), (1, (9, 9))])
def test_the_gradient_of_a_network_holds_along_random_directions(N, size, option_a):
    model = prepared(tiny(option_a=option_a))
    directional_errors(model, normal(N, *size, 3)).require(NETWORK_BOUND)


def test_a_frozen_stage_passes_the_gradient_on():
    model = tiny().freeze("layer2")
    dx = model.backward(model.forward(normal(2, 9, 9, 3, dtype=np.float32)))
    assert np.abs(dx).max() > 0 and not any(name.startswith("layer2") for name, _ in model.named_grads())


def test_backward_stops_at_the_stage_asked_for():
    model, x = prepared(tiny()), normal(2, 9, 9, 3)
    middle, tail = model.part(to="layer1").forward(x), model.part(after="layer1")
    dlogits = normal(*tail.forward(middle).shape, seed=1)
    expected = tail.backward(dlogits)
    model.forward(x)
    np.testing.assert_array_equal(model.backward(dlogits, to="layer1"), expected)


def test_option_a_is_drawn_the_same_weights_as_option_b():
    plain, projecting = tiny().state_dict(), tiny(option_a=False).state_dict()
    np.testing.assert_array_equal(plain["layer2.0.conv1.weight"], projecting["layer2.0.conv1.weight"])


# -- the facts ------------------------------------------------------------------------------------------------------


def test_the_facts_say_what_the_network_is_and_what_its_input_went_through():
    facts = json.loads(json.dumps(resnet20().facts()))
    assert facts["config"] == {
        "block": "BasicBlock", "depths": [3, 3, 3], "num_classes": 10, "width": 16, "stride_in_1x1": False, "eps": 1e-5,
        "caffe_pool": False, "cifar_stem": True, "option_a": True}
    assert Preprocessing(**facts["preprocessing"]) == Preprocessing(
        32, 32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize("option_a", [True, False])
def test_a_network_comes_back_from_its_file(option_a, tmp_path):
    model, x = resnet20(option_a=option_a).eval(), normal(1, 32, 32, 3, dtype=np.float32)
    model.classes = list(CLASSES)
    save_weights(model, tmp_path / "w.npz")
    back = load_model(tmp_path / "w.npz")
    assert back.facts() == model.facts() and back.classes[3] == "cat"
    np.testing.assert_array_equal(back.forward(x), model.forward(x))


def test_a_file_from_before_there_were_cifars_networks_is_of_none(tmp_path):
    model = tinyresnet.small_resnet(width=2)
    save_weights(model, tmp_path / "w.npz")
    arrays, facts = read_arrays(tmp_path / "w.npz")
    del facts["config"]["cifar_stem"], facts["config"]["option_a"]
    write_arrays(tmp_path / "old.npz", arrays, facts)
    assert load_model(tmp_path / "old.npz").config == model.config


@pytest.mark.parametrize("model, words", [
    (tiny(option_a=False), r"w.npz: .* 10 missing \(layer2.0.downsample.0.weight"),
    (tinyresnet.small_resnet(3, depths=(1, 1, 1), width=4, option_a=True), r"w.npz: .* 1 mismatched \(conv1.weight\)")])
def test_weights_of_another_shortcut_or_stem_are_refused(model, words, tmp_path):
    save_weights(tiny(), tmp_path / "w.npz")
    with pytest.raises(WeightsFileError, match=words):
        load_weights(model, tmp_path / "w.npz")


# -- published weights ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensors(shared):
    """The state of `resnet20-12fca82f.th` as torch reads it, under our names."""
    torch = pytest.importorskip("torch")
    state = torch.load(shared / "weights" / "small" / "resnet20-12fca82f.th", weights_only=True, map_location="cpu")
    return {name.removeprefix("module.").replace("linear.", "fc."): value for name, value in state["state_dict"].items()}


@pytest.fixture(scope="module")
def images_and_labels(shared):
    rows = np.loadtxt(shared / "data" / "cifar10_sample" / "cifar10_test.csv", delimiter=",", dtype=np.uint8)
    images = rows[:, 1:].reshape(-1, 32, 32, 3)
    return np.stack([preprocess(image, resnet20().preprocessing) for image in images]), rows[:, 0]


def published_network(tensors):
    layouts = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    model = resnet20()
    model.load_state_dict({name: value.numpy().transpose(layouts[value.ndim]) for name, value in tensors.items()})
    return model


@pytest.mark.torch
@pytest.mark.shared
def test_the_published_resnet20_names_most_images(tensors, images_and_labels):
    x, labels = images_and_labels
    logits = published_network(tensors).eval().forward(x)
    assert (logits.argmax(axis=1) == labels).sum() >= 84  # of 100; the published error is 8.27 %


@pytest.mark.torch
@pytest.mark.shared
@pytest.mark.parametrize("training", [True, False])
def test_the_published_resnet20_gives_what_torch_gives(training, tensors, images_and_labels):
    import torch
    from torch_resnet import TorchResNet, images_to_torch
    x, labels = images_and_labels
    model = published_network(tensors).train(training)
    twin = TorchResNet(model.config).train(training)
    missing, unexpected = twin.load_state_dict(tensors, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    tx = images_to_torch(x).requires_grad_()
    theirs = twin(tx)
    assert largest_error(model.forward(x), theirs.detach().numpy()) < 1e-4  # float32 through 20 layers
    if training:
        dlogits = normal(len(x), 10, dtype=np.float32)
        theirs.backward(torch.from_numpy(dlogits))
        assert largest_error(model.backward(dlogits), tx.grad.numpy().transpose(0, 2, 3, 1)) < 1e-4
        for name, parameter in twin.named_parameters():
            layout = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[parameter.ndim]
            assert largest_error(dict(model.named_grads())[name], parameter.grad.numpy().transpose(layout)) < 1e-4, name
