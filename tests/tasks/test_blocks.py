"""Residual blocks: of a student's own, and of ours around a student's layer."""

import definitions
import pytest
from kit import LIBRARY, built, check_backward, check_once, check_values, inside_the_library, normal

from tinyresnet.gradcheck import NETWORK_BOUND
from tinyresnet.layers import BatchNorm2d as OurBatchNorm2d

BASIC = [(4, {}), (3, {"stride": 2})]  # channels of x, options; the width is 4: identity, projection
BOTTLENECK = [(8, {}), (3, {}), (3, {"stride": 2}), (3, {"stride": 2, "stride_in_1x1": True})]  # the width is 2
BLOCKS = [("BasicBlock", 4, *case) for case in BASIC] + [("Bottleneck", 2, *case) for case in BOTTLENECK]


def geometry(name, stride=1, stride_in_1x1=False):
    """Stride and padding of each convolution of the branch."""
    if name == "BasicBlock":
        return [(stride, 1), (1, 1)]
    return [(stride, 0), (1, 1), (1, 0)] if stride_in_1x1 else [(1, 0), (stride, 1), (1, 0)]


def check_block_forward(name, block, width, channels, options):
    def make(block):
        return block(channels, width, **options)

    x, layer = normal(2, 5, 6, channels, seed=3), built(name, LIBRARY[name], make)
    right = definitions.residual_block(x, layer.state_dict(), geometry(name, **options), options.get("stride", 1))
    check_values(name, block, lambda block: {"y": built(name, block, make).forward(x)}, {"y": right})


def check_block_backward(name, block, width, channels, options):
    errors = check_backward(name, block, lambda block: block(channels, width, **options),
                            normal(2, 5, 6, channels, seed=3), bound=NETWORK_BOUND)
    expected = LIBRARY[name](channels, width, **options).named_params()
    assert set(errors) >= {"dx", *dict(expected)}


@pytest.mark.task("basicblock-forward", points=2)
@pytest.mark.parametrize("channels, options", BASIC)
def test_basic_block_forward_is_its_equation(BasicBlock, channels, options):
    check_block_forward("BasicBlock", BasicBlock, 4, channels, options)


@pytest.mark.task("basicblock-backward", points=2)
@pytest.mark.parametrize("channels, options", BASIC)
def test_basic_block_backward_is_the_derivative_of_forward(BasicBlock, channels, options):
    check_block_backward("BasicBlock", BasicBlock, 4, channels, options)


@pytest.mark.task("bottleneck-forward", points=2)
@pytest.mark.parametrize("channels, options", BOTTLENECK)
def test_bottleneck_forward_is_its_equation(Bottleneck, channels, options):
    check_block_forward("Bottleneck", Bottleneck, 2, channels, options)


@pytest.mark.task("bottleneck-backward", points=2)
@pytest.mark.parametrize("channels, options", BOTTLENECK)
def test_bottleneck_backward_is_the_derivative_of_forward(Bottleneck, channels, options):
    check_block_backward("Bottleneck", Bottleneck, 2, channels, options)


def check_inside_blocks(name, layer, kind, width, channels, options):
    """Our block around this layer gives y and gradients as the block's equation says."""
    def make(layer):
        with inside_the_library(name, layer):
            return LIBRARY[kind](channels, width, **options)

    x, ours = normal(2, 5, 6, channels, seed=3), built(name, LIBRARY[name], make)
    right = definitions.residual_block(x, ours.state_dict(), geometry(kind, **options), options.get("stride", 1))
    check_values(name, layer, lambda layer: {"y": built(name, layer, make).forward(x)}, {"y": right})
    check_backward(name, layer, make, x, bound=NETWORK_BOUND)


@pytest.mark.task("conv-inside", points=1)
@pytest.mark.parametrize("kind, width, channels, options", BLOCKS)
def test_blocks_hold_around_this_convolution(Conv2d, kind, width, channels, options):
    check_inside_blocks("Conv2d", Conv2d, kind, width, channels, options)


@pytest.mark.task("batchnorm-inside", points=1)
@pytest.mark.parametrize("kind, width, channels, options", BLOCKS)
def test_blocks_hold_around_this_batch_norm(BatchNorm2d, kind, width, channels, options):
    check_inside_blocks("BatchNorm2d", BatchNorm2d, kind, width, channels, options)


@pytest.mark.task("relu-inside", points=1)
@pytest.mark.parametrize("kind, width, channels, options", BLOCKS)
def test_blocks_hold_around_this_relu(ReLU, kind, width, channels, options):
    check_inside_blocks("ReLU", ReLU, kind, width, channels, options)


@pytest.mark.task("basicblock-once", points=1)
def test_basic_block_answers_one_backward_for_each_forward(BasicBlock):
    check_once("BasicBlock", BasicBlock, lambda BasicBlock: BasicBlock(3, 4, stride=2), normal(2, 5, 6, 3))


@pytest.mark.task("bottleneck-once", points=1)
def test_bottleneck_answers_one_backward_for_each_forward(Bottleneck):
    check_once("Bottleneck", Bottleneck, lambda Bottleneck: Bottleneck(3, 2, stride=2), normal(2, 5, 6, 3))


@pytest.mark.parametrize("kind, width, channels, options", BLOCKS)
def test_a_block_with_frozen_batch_norms_has_the_right_gradient(kind, width, channels, options):
    def make(block):
        layer = block(channels, width, **options)
        for _, part in layer.named_layers():
            part.frozen = isinstance(part, OurBatchNorm2d)
        return layer

    errors = check_backward(kind, LIBRARY[kind], make, normal(2, 5, 6, channels, seed=3), bound=NETWORK_BOUND)
    assert not any("bn" in name or "downsample.1" in name for name in errors)
