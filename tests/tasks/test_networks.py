"""Whole networks: forward beside the library's, gradients along one random direction per parameter, weights by name."""

import numpy as np
import pytest
from kit import LIBRARY, SUBJECTS, built, check_values, inside_the_library, normal, with_the_rest_of_layer

from tinyresnet import resnet
from tinyresnet.gradcheck import NETWORK_BOUND, directional_errors

IMAGES = (2, 33, 40, 3)


@pytest.mark.parametrize("model, size", [
    (lambda: resnet.ResNet(resnet.BasicBlock, (2, 2, 2, 2), 7, width=8), (33, 40)),
    (lambda: resnet.ResNet(resnet.Bottleneck, (3, 4, 6, 3), 5, width=4), (33, 40)),
    (lambda: resnet.ResNet(resnet.Bottleneck, (1, 1, 1, 1), 5, width=4, stride_in_1x1=True, caffe_pool=True), (40, 33)),
], ids=["thin ResNet-18", "thin ResNet-50", "thin v1 with Caffe's pooling"])
def test_the_gradient_of_a_whole_network_holds_along_random_directions(model, size):
    model = model().astype(np.float64)
    errors = directional_errors(model, normal(2, *size, 3)).require(NETWORK_BOUND)
    assert len(errors) == 1 + len(model.named_params())


def small_network(name, subject):
    """A small network with this layer or block in the place of ours wherever it has one."""
    block = with_the_rest_of_layer(name, subject) if name in ("BasicBlock", "Bottleneck") else resnet.BasicBlock
    with inside_the_library(name, subject):
        return resnet.ResNet(block, (1, 1), 3, width=2)


def check_inside_a_network(name, subject):
    def make(subject):
        return small_network(name, subject)

    right = built(name, LIBRARY[name], make).forward(normal(*IMAGES))
    check_values(name, subject, lambda subject: {"logits": built(name, subject, make).forward(normal(*IMAGES))},
                 {"logits": right}, bound=1e-11)  # sums in another order
    directional_errors(built(name, subject, make), normal(*IMAGES)).require(NETWORK_BOUND)


@pytest.mark.task("maxpool-inside", points=1)
def test_a_network_holds_around_this_max_pooling(MaxPool2d):
    check_inside_a_network("MaxPool2d", MaxPool2d)


@pytest.mark.task("avgpool-inside", points=1)
def test_a_network_holds_around_this_global_average_pooling(GlobalAvgPool):
    check_inside_a_network("GlobalAvgPool", GlobalAvgPool)


@pytest.mark.task("linear-inside", points=1)
def test_a_network_holds_around_this_linear_layer(Linear):
    check_inside_a_network("Linear", Linear)


@pytest.mark.task("basicblock-inside", points=1)
def test_a_network_of_this_basic_block_holds(BasicBlock):
    check_inside_a_network("BasicBlock", BasicBlock)


@pytest.mark.task("bottleneck-inside", points=1)
def test_a_network_of_this_bottleneck_holds(Bottleneck):
    check_inside_a_network("Bottleneck", Bottleneck)


def test_every_stage_after_the_first_halves_the_image(ResNet):
    model = ResNet(resnet.BasicBlock, (1, 1, 1, 1), 3, width=2)
    x, sizes = np.zeros((1, 64, 96, 3), np.float32), {}
    for name, part in model.eval().children():
        x = part.forward(x)
        sizes[name] = x.shape[1:3]
    assert [sizes[f"layer{stage}"] for stage in (1, 2, 3, 4)] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_a_network_with_loaded_weights_gives_what_the_first_gave(ResNet):
    def logits(ResNet):
        model = ResNet(resnet.BasicBlock, (1, 1), 3, width=2).astype(np.float64)
        model.load_state_dict(first.state_dict())
        return {"logits": model.eval().forward(normal(*IMAGES))}

    first = built("ResNet", SUBJECTS["ResNet"], lambda ResNet: ResNet(resnet.BasicBlock, (1, 1), 3, width=2)).eval()
    check_values("ResNet", ResNet, logits, {"logits": first.forward(normal(*IMAGES))})


def test_a_converted_convolution_gives_what_the_original_gave(in_our_layout):
    """torch keeps (O, C, K, K) and images (N, C, H, W): y[o, p, q] = sum_{c, u, v} x[c, p + u, q + v] w[o, c, u, v]."""
    w, x = normal(4, 3, 2, 2, dtype=np.float32), normal(1, 5, 6, 3, dtype=np.float32)
    right = np.zeros((1, 4, 5, 4))
    for p, q, o, c, u, v in np.ndindex(4, 5, 4, 3, 2, 2):
        right[0, p, q, o] += x[0, p + u, q + v, c] * w[o, c, u, v]

    def output(in_our_layout):
        layer = LIBRARY["Conv2d"](3, 4, 2)
        layer.weight = in_our_layout("conv1.weight", w)
        return {"y": layer.forward(x).astype(np.float64)}

    check_values("in_our_layout", in_our_layout, output, {"y": right}, bound=1e-6)  # float32
