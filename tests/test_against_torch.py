"""Layers, blocks and whole networks against PyTorch: forward, backward, running statistics, ten Adam steps."""

import json
from pathlib import Path

import numpy as np
import pytest

from tinyresnet import Adam, SGD, cross_entropy, resnet18, resnet20, small_resnet
from tinyresnet.layers import BatchNorm2d, Conv2d, MaxPool2d
from tinyresnet.resnet import Bottleneck, ResNet

RECORDED = Path(__file__).parent / "recorded_losses.json"
FLOAT64 = {"rtol": 1e-9, "atol": 1e-11}  # sums in another order


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def nhwc(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.torch
@pytest.mark.parametrize("kernel, stride, padding", [(7, 2, 3), (1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1)])
def test_conv2d_gives_what_torch_gives(kernel, stride, padding):
    import torch
    from torch_resnet import images_to_torch
    layer = Conv2d(3, 5, kernel, stride=stride, padding=padding, bias=True, rng=np.random.default_rng(1)).astype(np.float64)
    layer.bias += normal(5, seed=2)
    x = normal(2, 15, 14, 3)
    tensors = [images_to_torch(x), torch.from_numpy(layer.weight.transpose(3, 2, 0, 1).copy()), torch.from_numpy(layer.bias)]
    tx, tw, tb = (tensor.requires_grad_() for tensor in tensors)
    ty = torch.nn.functional.conv2d(tx, tw, tb, stride, padding)
    y = layer.forward(x)
    np.testing.assert_allclose(y, nhwc(ty), **FLOAT64)
    dy = normal(*y.shape, seed=3)
    ty.backward(images_to_torch(dy))
    np.testing.assert_allclose(layer.backward(dy), nhwc(tx.grad), **FLOAT64)
    np.testing.assert_allclose(layer.grads["weight"], tw.grad.numpy().transpose(2, 3, 1, 0), **FLOAT64)
    np.testing.assert_allclose(layer.grads["bias"], tb.grad.numpy(), **FLOAT64)


@pytest.mark.torch
@pytest.mark.parametrize("steps", [1, 3])
def test_batch_norm_keeps_the_running_statistics_that_torch_keeps(steps):
    import torch
    from torch_resnet import images_to_torch
    ours, theirs = BatchNorm2d(4).astype(np.float64), torch.nn.BatchNorm2d(4).double()
    for seed in range(steps):
        x = 3 * normal(2, 3, 5, 4, seed=seed) + 1
        np.testing.assert_allclose(ours.forward(x), nhwc(theirs(images_to_torch(x))), **FLOAT64)
    np.testing.assert_allclose(ours.running_mean, theirs.running_mean.numpy(), **FLOAT64)
    np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy(), **FLOAT64)
    np.testing.assert_allclose(ours.eval().forward(x), nhwc(theirs.eval()(images_to_torch(x))), **FLOAT64)


@pytest.mark.torch
@pytest.mark.parametrize("size", [(9, 12), (8, 7)])
@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", [(3, 2, 1, False), (3, 2, 0, True), (2, 2, 0, False),
                                                                (2, 3, 1, True)])
def test_max_pool_gives_what_torch_gives(kernel, stride, padding, ceil_mode, size):
    import torch
    from torch_resnet import images_to_torch
    layer, x = MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode), np.round(normal(2, *size, 3), 1) - 5  # with ties
    tx = images_to_torch(x).requires_grad_()
    ty = torch.nn.functional.max_pool2d(tx, kernel, stride, padding, ceil_mode=ceil_mode)
    y = layer.forward(x)
    np.testing.assert_array_equal(y, nhwc(ty))
    dy = normal(*y.shape, seed=1)
    ty.backward(images_to_torch(dy))
    np.testing.assert_allclose(layer.backward(dy), nhwc(tx.grad), **FLOAT64)


NETWORKS = {
    "ResNet-18": lambda: resnet18(10),
    "thin ResNet-50 v1.5": lambda: ResNet(Bottleneck, (3, 4, 6, 3), 10, width=8),
    "thin ResNet-50 v1, Caffe's pooling and epsilon": lambda: ResNet(
        Bottleneck, (3, 4, 6, 3), 10, width=8, stride_in_1x1=True, caffe_pool=True, eps=1e-3),
    "CIFAR's ResNet-20, option A": resnet20,
    "CIFAR's ResNet-20, option B": lambda: resnet20(option_a=False),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_whole_network_gives_what_torch_gives(name, mode):
    import torch
    from torch_resnet import images_to_torch, twin_of
    model = NETWORKS[name]().astype(np.float64).train(mode == "train")
    twin, x = twin_of(model), normal(2, 65, 72, 3)
    np.testing.assert_allclose(model.forward(x), twin(images_to_torch(x)).detach().numpy(), rtol=1e-8, atol=1e-9)
    if mode == "train":
        x, dlogits = normal(2, 65, 72, 3, seed=1), normal(2, 10, seed=2)
        tx = images_to_torch(x).requires_grad_()
        twin(tx).backward(torch.from_numpy(dlogits))
        model.forward(x)
        np.testing.assert_allclose(model.backward(dlogits), nhwc(tx.grad), rtol=1e-6, atol=1e-8)
        theirs = {n: p.grad.numpy() for n, p in twin.named_parameters()}
        for n, grad in model.named_grads():
            layout = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[grad.ndim]
            np.testing.assert_allclose(grad, theirs[n].transpose(layout), rtol=1e-6, atol=1e-8, err_msg=n)
        assert theirs.keys() == dict(model.named_grads()).keys()


def our_losses(optimizer_class, dtype=np.float64, **options):
    """Losses of ten steps on one batch: the network overfits, so an error in any gradient shows and grows."""
    model = small_resnet(3, width=8).astype(dtype)
    x, labels = normal(6, 33, 40, 3, dtype=dtype), np.array([0, 1, 2, 2, 1, 0])
    optimizer, losses = optimizer_class(model, **options), []
    for _ in range(10):
        loss, dlogits = cross_entropy(model.forward(x), labels)
        model.backward(dlogits)
        optimizer.step()
        losses.append(loss)
    return losses


def torch_losses(optimizer_class, **options):
    import torch
    from torch_resnet import images_to_torch, twin_of
    twin = twin_of(small_resnet(3, width=8).astype(np.float64))
    x, labels = images_to_torch(normal(6, 33, 40, 3)), torch.tensor([0, 1, 2, 2, 1, 0])
    optimizer, losses = optimizer_class(twin.parameters(), **options), []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(twin(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.torch
@pytest.mark.parametrize("ours, theirs, options", [
    (Adam, "Adam", {"lr": 1e-3}),
    (Adam, "Adam", {"lr": 1e-3, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-3}),
    (SGD, "SGD", {"lr": 0.01}),
    (SGD, "SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
], ids=str)
def test_ten_steps_of_an_optimizer_lose_what_torchs_lose(ours, theirs, options):
    import torch
    np.testing.assert_allclose(our_losses(ours, **options), torch_losses(getattr(torch.optim, theirs), **options), rtol=1e-6)


@pytest.mark.torch
def test_the_recorded_losses_are_torchs():
    import torch
    np.testing.assert_allclose(json.loads(RECORDED.read_text()), torch_losses(torch.optim.Adam, lr=1e-3), rtol=1e-6)


def test_ten_adam_steps_lose_what_is_recorded():
    np.testing.assert_allclose(our_losses(Adam, lr=1e-3), json.loads(RECORDED.read_text()), rtol=1e-6)


def test_ten_adam_steps_in_float32_lose_nearly_what_is_recorded():
    np.testing.assert_allclose(our_losses(Adam, np.float32, lr=1e-3), json.loads(RECORDED.read_text()), rtol=1e-2)


if __name__ == "__main__":  # record anew, where PyTorch is installed
    import torch
    RECORDED.write_text(json.dumps(torch_losses(torch.optim.Adam, lr=1e-3)) + "\n")
