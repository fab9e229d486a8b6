"""The same residual network in PyTorch, to compare with; its state_dict has torchvision's names."""

import numpy as np
import torch
from torch import nn


class PaddedIdentity(nn.Module):
    """As published for CIFAR-10 (option A): every other pixel, a quarter of the planes zeros on each side."""

    def __init__(self, planes):
        super().__init__()
        self.planes = planes

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4))


class Block(nn.Module):
    def __init__(self, kind, channels, width, stride, v1, option_a):
        super().__init__()
        if kind == "BasicBlock":
            shapes = [(channels, width, 3, stride), (width, width, 3, 1)]
        else:
            first, second = (stride, 1) if v1 else (1, stride)
            shapes = [(channels, width, 1, first), (width, width, 3, second), (width, width * 4, 1, 1)]
        self.depth = len(shapes)
        for number, (c, o, k, s) in enumerate(shapes, 1):
            setattr(self, f"conv{number}", nn.Conv2d(c, o, k, s, k // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(o))
        self.downsample = nn.Identity()
        out = shapes[-1][1]
        if stride != 1 or channels != out:
            projection = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            self.downsample = PaddedIdentity(out) if option_a else projection

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = torch.relu(y) if number < self.depth else y
        return torch.relu(y + self.downsample(x))


class TorchResNet(nn.Sequential):
    def __init__(self, config):
        super().__init__()
        width, expansion = config["width"], 1 if config["block"] == "BasicBlock" else 4
        self.conv1 = nn.Conv2d(3, width, *((3, 1, 1) if config["cifar_stem"] else (7, 2, 3)), bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        if not config["cifar_stem"]:
            self.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True) if config["caffe_pool"] else nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, depth in enumerate(config["depths"]):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(Block(config["block"], channels, width * 2**stage, stride, config["stride_in_1x1"],
                                    config["option_a"]))
                channels = width * 2**stage * expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(channels, config["num_classes"])
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = config["eps"]


def torch_state(model):
    """The state_dict of our model as TorchResNet (and torchvision) would load it."""
    layouts = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {name: torch.from_numpy(np.ascontiguousarray(a.transpose(layouts[a.ndim])))
            for name, a in model.state_dict().items()}


def images_to_torch(x):
    """(N, H, W, C) -> (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def twin_of(model):
    """A TorchResNet with the weights of our model, in its dtype and its mode."""
    twin = TorchResNet(model.config)
    missing, unexpected = twin.load_state_dict(torch_state(model), strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing) and not unexpected
    return twin.to(torch.float64 if model.fc.weight.dtype == np.float64 else torch.float32).train(model.training)
