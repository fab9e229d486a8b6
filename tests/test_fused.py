"""The library's own layers run together: the same numbers as one after the other, and a layer of yours is really called."""

import numpy as np
import pytest
from test_kernels import normals, numba_only

from tinyresnet.layers import BatchNorm2d, Conv2d, Identity, Layer, ReLU, Sequential, fused
from tinyresnet.layers.base import Later
from tinyresnet.resnet import BasicBlock, Bottleneck, ResidualBlock, ResNet, resnet18

BLOCKS = {
    "BasicBlock": lambda: BasicBlock(8, 8), "BasicBlock, downsample": lambda: BasicBlock(8, 12, stride=2),
    "Bottleneck": lambda: Bottleneck(8, 2), "Bottleneck, downsample": lambda: Bottleneck(8, 4, stride=2),
    "Bottleneck v1": lambda: Bottleneck(8, 4, stride=2, stride_in_1x1=True),
    "BasicBlock, option A": lambda: ResNet(BasicBlock, (1, 1), width=8, cifar_stem=True, option_a=True).layer2[0],
    "ResNet-18": lambda: resnet18(8, width=8),
}
MODES = {
    "train": lambda block: block, "eval": lambda block: block.eval(), "all frozen": lambda block: block.freeze(),
    "batch norm frozen": lambda block: block.freeze(*(n for n, p in block.named_layers() if isinstance(p, BatchNorm2d))),
    "partly frozen": lambda block: block.freeze(*[name for name, _ in block.named_layers()][1::3]),
}
PARTS = ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "bn3", "relu", "downsample", "downsample.0",
         "downsample.1"]


def unfuse(monkeypatch):
    """Run every layer alone."""
    monkeypatch.setattr("tinyresnet.layers.sequential.grouped", list)
    monkeypatch.setattr("tinyresnet.resnet.fused_block", lambda *layers: None)


def shaken(layer, dtype=np.float64):
    """With parameters and running statistics that are not those of a beginning; variances stay positive."""
    rng = np.random.default_rng(1)
    layer.load_state_dict({name: a + rng.uniform(0.1, 0.5, a.shape) * rng.choice([1, 1, 2], a.shape)
                           for name, a in layer.state_dict().items()})
    return layer.astype(dtype)


def image(dtype=np.float64, channels=8):
    return normals((3, 36, 33, channels), dtype=dtype)[0]


def results(layer, x):
    """Everything that a step computes."""
    y = layer.forward(x)
    dx = layer.backward(normals(y.shape, dtype=y.dtype)[0]) if layer.training else y
    return {"y": y, "dx": dx, **{f"d {name}": grad for name, grad in layer.named_grads()}, **layer.state_dict()}


def assert_close(fast, plain, bound):
    assert fast.keys() == plain.keys()
    for name in plain:
        np.testing.assert_allclose(fast[name], plain[name], rtol=0, atol=bound * np.abs(plain[name]).max(), err_msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BLOCKS)
# the moments are summed tile by tile, rounding grows through the layers of a block
@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-12), (np.float32, 5e-5)])
def test_layers_together_give_what_they_give_alone(name, mode, dtype, bound, monkeypatch):
    layer, twin = (MODES[mode](shaken(BLOCKS[name](), dtype)) for _ in range(2))
    x = image(dtype, 3 if name == "ResNet-18" else 8)
    together = results(layer, x)
    unfuse(monkeypatch)
    assert_close(together, results(twin, x), bound)


@numba_only
@pytest.mark.parametrize("name, number", [("BasicBlock", 2), ("BasicBlock, downsample", 3),
                                          ("BasicBlock, option A", 2), ("Bottleneck", 3),
                                          ("Bottleneck, downsample", 4), ("ResNet-18", 20)])
def test_every_convolution_sums_for_its_batch_norm(name, number, monkeypatch):
    calls = []
    monkeypatch.setattr(fused, "conv_moments", lambda *args, real=fused.conv_moments: calls.append(args) or real(*args))
    layer = BLOCKS[name]()
    layer.forward(image(np.float32, 3 if name == "ResNet-18" else 8))
    assert len(calls) == number


@numba_only
@pytest.mark.parametrize("name, number", [("BasicBlock", 0), ("Bottleneck", 2), ("Bottleneck, downsample", 2)])
def test_backward_of_batch_norm_and_a_1x1_convolution_with_stride_1_is_one_pass(name, number, monkeypatch):
    calls, real = [], fused.pointwise_backward
    monkeypatch.setattr(fused, "pointwise_backward", lambda *args: calls.append(args) or real(*args))
    results(BLOCKS[name](), image(np.float32))
    assert len(calls) == number


class OneConvolution(ResidualBlock):
    """The shortest branch."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = Conv2d(8, 8, 3, padding=1), BatchNorm2d(8)
        self.downsample, self.relu = Identity(), ReLU()

    @property
    def branch(self):
        return self.conv1, self.bn1


def test_a_block_of_one_convolution_has_its_gradients(monkeypatch):
    block, twin = (shaken(OneConvolution()) for _ in range(2))
    together = results(block, image())
    unfuse(monkeypatch)
    assert_close(together, results(twin, image()), 1e-12)


def test_a_parameter_that_changes_before_backward_changes_no_gradient_of_the_forward_that_was(monkeypatch):
    def step(block):
        block.forward(image())
        block.bn1.bias += 1
        return {"dx": block.backward(np.ones((3, 36, 33, 8))), **dict(block.named_grads())}

    block, twin = (shaken(BLOCKS["Bottleneck"]()) for _ in range(2))
    together = step(block)
    unfuse(monkeypatch)
    assert_close(together, step(twin), 1e-12)


def by_subclass(layer, method, monkeypatch):
    layer.__class__ = type("Yours", (type(layer),), {method: doubled(type(layer), method)})


def on_the_layer(layer, method, monkeypatch):
    setattr(layer, method, doubled(type(layer), method).__get__(layer))


def on_the_class(layer, method, monkeypatch):
    monkeypatch.setattr(type(layer), method, doubled(type(layer), method))


def doubled(kind, method):
    """A method that gives twice what the class's gives."""
    real = getattr(kind, method)
    return lambda layer, a: 2 * real(layer, a)


@pytest.mark.parametrize("way", [by_subclass, on_the_layer, on_the_class])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_method_of_yours_is_called(method, part, way, monkeypatch):
    def step(block):
        if method == "forward":  # in eval mode, since in training batch norm would undo the doubling
            return {"y": block.eval().forward(image())}
        return results(block, image())

    plain, block, twin = (shaken(Bottleneck(8, 4, stride=2)) for _ in range(3))
    before = step(plain)
    way(dict(block.named_layers())[part], method, monkeypatch)
    if way is not on_the_class:
        way(dict(twin.named_layers())[part], method, monkeypatch)
    yours = step(block)
    unfuse(monkeypatch)
    assert_close(yours, step(twin), 1e-12)  # sums in another order
    assert any(np.abs(yours[name] - before[name]).max() > 1e-3 * np.abs(before[name]).max() for name in before)


class Gate(Layer):
    """Nothing like the layer it replaces, and not one of the library."""

    def forward(self, x):
        self.save(x)
        return np.abs(x)

    def backward(self, dy):
        return dy * np.sign(self.saved()[0])


@pytest.mark.parametrize("part", ["bn1", "relu1", "relu2", "bn3", "relu", "downsample"])
def test_a_layer_of_yours_in_the_place_of_one_of_ours_is_called(part, monkeypatch):
    block, twin = (shaken(Bottleneck(8, 2)) for _ in range(2))
    for changed in (block, twin):
        setattr(changed, part, Gate())
    together = results(block, image())
    unfuse(monkeypatch)
    assert_close(together, results(twin, image()), 1e-12)  # sums in another order


def kept(layer):
    """What the layers below this one keep for backward."""
    return {(name, number): value.array() if isinstance(value, Later) else value
            for name, part in layer.named_layers() for number, value in enumerate(part._saved or ())}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_same_is_kept_for_backward(name, training, monkeypatch):
    layer, twin = (shaken(BLOCKS[name]()).train(training) for _ in range(2))
    x = image(channels=3 if name == "ResNet-18" else 8)
    layer.forward(x)
    unfuse(monkeypatch)
    twin.forward(x)
    ours, theirs = kept(layer), kept(twin)
    assert ours.keys() == theirs.keys()
    for key, a in ours.items():  # sums in another order, through 18 layers
        assert np.allclose(a, theirs[key], atol=1e-10) if isinstance(a, np.ndarray) else a == theirs[key], key


def forgotten(layer):
    layer.forget()


def run_backward(layer):
    layer.backward(np.ones_like(layer.forward(image())))


def in_eval_mode(layer):
    layer.eval().forward(image())


@pytest.mark.parametrize("before", [forgotten, run_backward, in_eval_mode])
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "ResNet-18"])
def test_backward_without_a_forward_of_its_own_is_refused(name, before):
    layer = BLOCKS[name]().astype(np.float64)
    y = layer.forward(image())
    before(layer)
    with pytest.raises(RuntimeError, match="backward needs a forward in train mode before it"):
        layer.backward(y)


@pytest.mark.parametrize("mode", ["train", "eval", "all frozen"])
def test_a_convolution_with_a_bias_keeps_it_before_a_batch_norm(mode, monkeypatch):
    layers, twin = (MODES[mode](shaken(Sequential(Conv2d(8, 5, 3, bias=True), BatchNorm2d(5), ReLU()))) for _ in range(2))
    together = results(layers, image())
    unfuse(monkeypatch)
    assert_close(together, results(twin, image()), 1e-12)  # sums in another order


def test_a_convolution_with_a_bias_has_its_gradient_before_a_batch_norm():
    layers = shaken(Sequential(Conv2d(8, 5, 3, bias=True), BatchNorm2d(5).freeze(), ReLU()))
    assert "d 0.bias" in results(layers, image())


def test_a_batch_norm_without_a_relu_may_give_negative_numbers():
    layers = Sequential(Conv2d(8, 5, 3), BatchNorm2d(5))
    assert layers.forward(image(np.float32)).min() < 0


def test_what_is_kept_of_a_relu_between_two_convolutions_is_computed_again():
    block = shaken(BLOCKS["Bottleneck"]())
    block.forward(image(channels=8))
    (kept_by_relu,), (kept_by_conv,) = block.relu1._saved, block.conv2._saved
    assert kept_by_relu is kept_by_conv and isinstance(kept_by_relu, Later) and kept_by_relu.computed is None


@pytest.mark.parametrize("convolution, norm", [(Conv2d(3, 8, 3), BatchNorm2d(4)), (Conv2d(3, 8, 3), BatchNorm2d(1))])
def test_a_batch_norm_of_other_channels_is_refused(convolution, norm):
    with pytest.raises(ValueError, match="input channels"):
        Sequential(convolution, norm).forward(image(np.float32, channels=3))


@pytest.mark.parametrize("shape", [(slice(None), slice(4), slice(4)), (slice(2),)])
def test_a_shortcut_of_another_shape_is_refused(shape):
    class Cut(Identity):
        def forward(self, x):
            return x[shape]

    block = shaken(BLOCKS["BasicBlock"]())
    block.downsample = Cut()
    with pytest.raises(ValueError, match="broadcast"):
        block.forward(image(channels=8))


def test_a_shortcut_that_broadcasts_is_added_everywhere(monkeypatch):
    class Mean(Identity):
        def forward(self, x):
            return x.mean(axis=(1, 2), keepdims=True)

    block = shaken(BLOCKS["BasicBlock"]())
    block.downsample, x = Mean(), image(channels=8)
    together = block.forward(x)
    unfuse(monkeypatch)
    assert np.allclose(together, block.forward(x), rtol=1e-12)  # sums in another order
