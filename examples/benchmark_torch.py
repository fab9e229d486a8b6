"""The same network in PyTorch, for benchmark.py to compare with: torch.nn's own modules, and our weights in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

LAYOUTS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
WAYS = ("NCHW", "channels last", "NCHW, folded", "channels last, folded", "NCHW, TorchScript")  # of inference


class Residual(nn.Module):
    """relu(branch(x) + downsample(x)), in place where torchvision does it in place."""

    def __init__(self, branch: nn.Module, downsample: nn.Module):
        super().__init__()
        self.branch, self.downsample = branch, downsample

    def forward(self, x):
        y = self.branch(x)
        y += self.downsample(x)
        return torch.relu_(y)


def twin(layer: Any) -> nn.Module:
    """A layer of ours, or a whole network, as PyTorch's modules with copies of the weights, in the same mode."""
    from tinyresnet import layers as ours, resnet  # here, so that a process which loads a finished twin needs no more
    match layer:
        case ours.Conv2d(weight=w):
            module = nn.Conv2d(w.shape[2], w.shape[3], len(w), layer.stride, layer.padding, bias=False)
            return with_arrays(module, layer, (3, 2, 0, 1))
        case ours.BatchNorm2d():
            return with_arrays(nn.BatchNorm2d(len(layer.weight), layer.eps, layer.momentum), layer, (0,))
        case ours.Linear():
            return with_arrays(nn.Linear(*layer.weight.shape), layer, (1, 0))
        case ours.ReLU():
            return nn.ReLU(inplace=True)
        case ours.MaxPool2d():
            return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)
        case ours.GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case ours.Identity():
            return nn.Identity()
        case resnet.ResidualBlock():
            return Residual(nn.Sequential(*map(twin, layer.branch)), twin(layer.downsample))
        case ours.Sequential():
            return nn.Sequential(*(twin(part) for _, part in layer.children())).train(layer.training)
    raise ValueError(f"no twin is known of {layer!r}")


def with_arrays(module: nn.Module, layer: Any, axes: tuple[int, ...]) -> nn.Module:
    """The module with the layer's arrays; those with as many axes as `axes` are transposed."""
    arrays = {name: a.transpose(axes) if a.ndim == len(axes) else a for name, a in layer.state_dict().items()}
    state = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    missing = set(module.load_state_dict(state, strict=False).missing_keys) - {"num_batches_tracked"}
    assert not missing, missing
    return module


def save(model: nn.Module, path: str) -> None:
    torch.save(model, path)


def load(path: str) -> nn.Module:
    """A twin from our own temporary file; it is a pickle, so never one from elsewhere."""
    return torch.load(path, weights_only=False)


def images(x: Array, layout: str) -> torch.Tensor:
    """(N, H, W, C) -> (N, C, H, W), in this order or with channels last in memory."""
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=LAYOUTS[layout])


def training_step(model: nn.Module, x: Array, labels: Array, layout: str, threads: int) -> Callable[[], Array]:
    """As ours; the model is laid as the images are. Adam in its fused form, the fastest that PyTorch has."""
    torch.set_num_threads(threads)
    model.to(memory_format=LAYOUTS[layout]).train()  # type: ignore[call-overload]
    batch, targets = images(x, layout), torch.from_numpy(labels)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    loss_function = nn.CrossEntropyLoss()

    def step() -> Array:
        adam.zero_grad()
        logits = model(batch)
        loss_function(logits, targets).backward()
        adam.step()
        return logits.detach().numpy()

    return step


def inference(model: nn.Module, x: Array, way: str, threads: int) -> Callable[[], Array]:
    """Answers of the model in one of the WAYS, for which it is used up."""
    layout, _, form = way.partition(", ")
    torch.set_num_threads(threads)
    own = FORMS[form](model.eval().to(memory_format=LAYOUTS[layout]))  # type: ignore[call-overload]
    batch = images(x, layout)

    def forward() -> Array:
        with torch.inference_mode():
            return own(batch).numpy()

    return forward


def folded(module: nn.Module) -> nn.Module:
    """In eval mode: each convolution and the batch norm after it as one convolution, as in ours."""
    for name, part in module.named_children():
        setattr(module, name, folded(part))
    if not isinstance(module, nn.Sequential):
        return module
    parts: list[nn.Module] = []
    for part in module:
        if isinstance(part, nn.BatchNorm2d) and parts and isinstance(parts[-1], nn.Conv2d):
            parts[-1] = fuse_conv_bn_eval(parts[-1], part)
        else:
            parts.append(part)
    return nn.Sequential(*parts).eval()


def optimised(module: nn.Module) -> nn.Module:
    """In eval mode: by TorchScript, which folds batch norm too, and lets oneDNN choose the layout of everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # in favour of torch.compile, which needs a C++ compiler
        return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(module)))


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "": lambda module: module, "folded": folded, "TorchScript": optimised}
