"""Every backward is the derivative of its forward: all elements of dx and of every parameter, in float64.

The bounds: central differences with h = 1e-5 err by about 1e-10 of the gradient's norm; float32 arithmetic in
disguise would err by 1e-8. Below 1e-9 for layers, 1e-7 for blocks and networks, whose curvature is larger.
"""

import numpy as np
import pytest

from tinyresnet.gradcheck import directional_errors, gradient_errors, numerical_gradient, relative_error
from tinyresnet.layers import BatchNorm2d, Conv2d, GlobalAvgPool, Identity, Linear, MaxPool2d, ReLU, Sequential
from tinyresnet.loss import cross_entropy, softmax
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet, resnet18

RESNET50_GEOMETRIES = [(7, 2, 3), (1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1)]  # kernel, stride, padding


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def off_the_kinks(*shape, seed=0):
    """Random numbers with |x| > 0.1, so that a step of 1e-5 never crosses a ReLU's kink."""
    x = normal(*shape, seed=seed)
    return x + 0.1 * np.sign(x)


def float64_layer(layer):
    """The layer in float64 with batch norms as they are in trained networks: gamma of both signs, away from 0 and 1."""
    rng = np.random.default_rng(7)
    for _, part in layer.named_layers():
        if isinstance(part, BatchNorm2d):
            C = len(part.weight)
            part.weight = rng.uniform(1.2, 2, C).astype(np.float32) * rng.choice([-1, 1], C).astype(np.float32)
            part.bias = rng.standard_normal(C, dtype=np.float32)
            part.running_mean = rng.standard_normal(C, dtype=np.float32)
            part.running_var = rng.uniform(0.5, 2, C).astype(np.float32)
    return layer.astype(np.float64)


@pytest.mark.parametrize("size", [(7, 8), (8, 9)])  # odd and even, never square; each leaves a remainder
@pytest.mark.parametrize("kernel, stride, padding", RESNET50_GEOMETRIES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("N", [1, 2])
def test_conv2d_backward_is_the_derivative_of_forward(kernel, stride, padding, size, bias, N):
    layer = float64_layer(Conv2d(3, 4, kernel, stride=stride, padding=padding, bias=bias))
    errors = gradient_errors(layer, normal(N, *size, 3))
    assert set(errors) == {"dx", "weight"} | ({"bias"} if bias else set())
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (1, 4, 5, 2), (4, 1, 1, 3)])
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_backward_is_the_derivative_of_forward(shape, frozen):
    layer = float64_layer(BatchNorm2d(shape[3]))
    layer.frozen = frozen
    errors = gradient_errors(layer, normal(*shape))
    assert set(errors) == ({"dx"} if frozen else {"dx", "weight", "bias"})
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", [(3, 2, 1, False), (3, 2, 0, True), (2, 2, 0, False)])
@pytest.mark.parametrize("offset", [0, -40])  # all negative: padding must not win as zero would
def test_max_pool_backward_is_the_derivative_of_forward(kernel, stride, padding, ceil_mode, offset):
    x = np.random.default_rng(0).permutation(2 * 7 * 8 * 3).reshape(2, 7, 8, 3) / 10 + offset  # no two within 0.1
    errors = gradient_errors(MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode), x)
    assert errors["dx"] < 1e-9


@pytest.mark.parametrize("layer, x", [
    (ReLU(), off_the_kinks(2, 3, 4, 5)),
    (GlobalAvgPool(), normal(2, 3, 4, 5)),
    (GlobalAvgPool(), normal(2, 1, 1, 5)),
    (Identity(), normal(2, 3, 4, 5)),
    (Linear(5, 3), normal(4, 5)),
    (Linear(5, 3), normal(1, 5)),
    (Sequential(Conv2d(2, 3, 3), ReLU(), GlobalAvgPool(), Linear(3, 4)), normal(2, 5, 6, 2)),
], ids=repr)
def test_backward_of_the_plain_layers_is_the_derivative_of_forward(layer, x):
    errors = gradient_errors(float64_layer(layer), x)
    assert max(errors.values()) < 1e-9, errors


BLOCKS = {
    "basic, identity": lambda: BasicBlock(4, 4),
    "basic, projection": lambda: BasicBlock(3, 4, stride=2),
    "bottleneck, identity": lambda: Bottleneck(8, 2),
    "bottleneck, projection of stride 1": lambda: Bottleneck(3, 2),
    "bottleneck v1.5, projection of stride 2": lambda: Bottleneck(3, 2, stride=2),
    "bottleneck v1, projection of stride 2": lambda: Bottleneck(3, 2, stride=2, stride_in_1x1=True),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("frozen", [False, True])
def test_the_blocks_backward_is_the_derivative_of_forward(name, frozen):
    block = float64_layer(BLOCKS[name]())
    for _, layer in block.named_layers():
        layer.frozen = frozen and isinstance(layer, BatchNorm2d)
    channels = block.conv1.weight.shape[2]
    errors = gradient_errors(block, normal(2, 5, 6, channels, seed=3))
    assert len(errors) == 1 + len([n for n, _ in block.named_params() if not frozen or "conv" in n or "downsample.0" in n])
    assert max(errors.values()) < 1e-7, errors


@pytest.mark.parametrize("model, size", [
    (resnet18(7), (33, 40)),
    (ResNet(Bottleneck, (3, 4, 6, 3), 5, width=4), (33, 40)),
    (ResNet(Bottleneck, (1, 1, 1, 1), 5, width=4, stride_in_1x1=True, caffe_pool=True), (40, 33)),
], ids=["ResNet-18", "thin ResNet-50", "thin v1 with Caffe's pooling"])
def test_the_gradient_of_a_whole_network_holds_along_random_directions(model, size):
    errors = directional_errors(model.astype(np.float64), normal(2, *size, 3))
    assert len(errors) == 1 + len(model.named_params())
    assert max(errors.values()) < 1e-7, errors


@pytest.mark.parametrize("label_smoothing", [0, 0.1])
def test_the_gradient_of_cross_entropy_is_its_derivative(label_smoothing):
    logits, labels = 3 * normal(4, 5), np.array([0, 4, 2, 2])
    _, dlogits = cross_entropy(logits, labels, label_smoothing=label_smoothing)
    numerical = numerical_gradient(lambda: cross_entropy(logits, labels, label_smoothing=label_smoothing)[0], logits)
    assert relative_error(dlogits, numerical) < 1e-9


def test_softmax_survives_large_logits_and_sums_to_one():
    p = softmax(np.array([[1000.0, 1001, 999], [-1000, -1001, -999]], dtype=np.float32))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)  # float32 rounding
    np.testing.assert_allclose(p[0], np.exp([1.0, 2, 0]) / np.exp([1.0, 2, 0]).sum(), rtol=1e-5)  # float32 rounding of exp


def test_cross_entropy_of_a_hopeless_logit_is_finite():
    loss, dlogits = cross_entropy(np.array([[0.0, 2000]], dtype=np.float32), np.array([0]))
    assert loss == 2000 and dlogits.tolist() == [[-1, 1]] and dlogits.dtype == np.float32


def test_cross_entropy_of_a_class_that_cannot_be_does_not_disturb_the_others():
    loss, dlogits = cross_entropy(np.array([[0.0, -np.inf]]), np.array([0]))
    assert loss == 0 and dlogits.tolist() == [[0, 0]]


@pytest.mark.parametrize("logits", [np.zeros(3), np.zeros((2, 3), int)])
def test_logits_of_another_kind_are_refused(logits):
    for function in (softmax, lambda logits: cross_entropy(logits, np.array([0, 1]))):
        with pytest.raises(ValueError, match="expected logits"):
            function(logits)


@pytest.mark.parametrize("labels, message", [
    ([0, 3], "all in 0..2"), ([0, -1], "all in 0..2"), ([0], "expected 2 integer labels"),
    ([0.0, 1.0], "expected 2 integer labels"), ([[0], [1]], "expected 2 integer labels"),
])
def test_labels_that_do_not_fit_the_logits_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy(np.zeros((2, 3)), np.array(labels))


class ForgetsGamma(BatchNorm2d):
    def backward(self, dy):
        return super().backward(dy) / self.weight


class OverwritesItsArgument(ReLU):
    def backward(self, dy):
        dy *= self.saved()[0]
        return dy


def test_the_check_catches_a_batch_norm_that_forgets_gamma():
    assert gradient_errors(float64_layer(ForgetsGamma(2)), normal(3, 4, 5, 2))["dx"] > 0.1


def test_the_check_catches_a_relu_that_overwrites_its_argument():
    with pytest.raises(ValueError, match="changed its argument"):
        gradient_errors(OverwritesItsArgument(), off_the_kinks(2, 3, 4, 5))


def test_the_check_refuses_to_compare_zero_with_zero():
    with pytest.raises(ValueError, match="proves nothing"):
        gradient_errors(ReLU(), -np.abs(off_the_kinks(2, 3)), np.ones((2, 3)))


def test_the_check_refuses_float32():
    with pytest.raises(ValueError, match="need float64"):
        gradient_errors(ReLU(), off_the_kinks(2, 3).astype(np.float32))
