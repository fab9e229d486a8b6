"""Optimisers and learning-rate schedules.

    optimizer.step()

reads the gradients that backward left in the layers and changes the parameters in place. Frozen layers have none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import adam_step
from tinyresnet.layers.base import Layer, names_below


class Optimizer:
    """What Adam and SGD share: the walk over the parameters, weight decay, learning rates by name.

    `weight_decay` is L2 regularisation, coupled as in torch.optim: it is added to the gradient (g + weight_decay * w). With
    arrays in `towards`, by name, it pulls those parameters there and not to 0 (g + weight_decay * (w - towards)): to the
    published weights from which a fine-tuning begins (L2-SP, Li et al. 2018, arXiv:1802.01483, eq. 2).
    `lr_factors` multiplies the learning rate of all parameters below a name: {"fc": 10} trains the head ten times as
    fast; the longest name that fits counts.

    Raises ValueError for a negative or infinite number, or a name in lr_factors or towards that no parameter has.
    """

    slots: tuple[str, ...] = ()  # the running averages kept for each parameter

    def __init__(self, model: Layer, lr: float, *, weight_decay: float = 0.0,
                 lr_factors: Mapping[str, float] | None = None, towards: Mapping[str, Array] | None = None):
        factors = dict(lr_factors or {})
        if not all(0 <= number < math.inf for number in (lr, weight_decay, *factors.values())):
            raise ValueError("lr, weight_decay and lr_factors must be finite and not negative, "
                             f"got lr={lr}, weight_decay={weight_decay}, lr_factors={factors}")
        self.model, self.lr, self.weight_decay = model, lr, weight_decay
        names = [name for name, _ in model.named_params()]
        self.lr_factor: dict[str, float] = {}  # by parameter
        for prefix in sorted(factors, key=len):  # the longest counts, so it comes last
            self.lr_factor |= dict.fromkeys(names_below(prefix, names), factors[prefix])
        self.towards = dict(towards or {})
        if unknown := self.towards.keys() - set(names):
            raise ValueError(f"towards: no parameter is named {', '.join(sorted(unknown))}")
        self.t = 0  # steps taken
        self.steps: dict[str, int] = {}  # steps taken with each parameter: one that was frozen at first has taken fewer
        self.state: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}

    def step(self) -> None:
        """Change every parameter that has a gradient, in place.

        Raises ValueError, before anything is changed, for a gradient or running averages of another shape.
        """
        params, grads = dict(self.model.named_params()), self.model.named_grads()
        for name, g in grads:
            averages = [self.state[slot][name].shape for slot in self.slots if name in self.state[slot]]
            if {g.shape, *averages} != {params[name].shape}:
                raise ValueError(f"{name} has another shape {params[name].shape} than its gradient {g.shape} or averages "
                                 f"{averages}; after a change of a layer run backward again, and make a new optimiser")
        self.t += 1
        for name, g in grads:
            self.steps[name] = self.steps.get(name, 0) + 1
            for slot in self.slots:
                if name not in self.state[slot]:
                    self.state[slot][name] = np.zeros_like(g)
            if self.weight_decay:
                g = g + self.weight_decay * (params[name] - self.towards.get(name, 0))
            self.update(name, params[name], g, self.lr * self.lr_factor.get(name, 1.0))

    def update(self, name: str, param: Array, g: Array, lr: float) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """Copies of the running averages and the numbers of steps, by name ("m/fc.weight", "steps/fc.weight", "t")."""
        arrays = {f"{slot}/{name}": a.copy() for slot in self.slots for name, a in self.state[slot].items()}
        return {"t": np.array(self.t), **{f"steps/{name}": np.array(n) for name, n in self.steps.items()}, **arrays}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Continue where the optimiser stood whose state_dict this is."""
        parts: dict[str, dict[str, Array]] = {part: {} for part in ("steps", *self.slots)}
        for key in state.keys() - {"t"}:
            part, name = key.split("/", 1)
            parts[part][name] = np.array(state[key])
        self.t = int(state["t"])
        self.steps = {name: int(n) for name, n in parts.pop("steps").items()}
        self.state = parts


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v = momentum * v + g, param -= lr * v (Sutskever et al. 2013,
    in the form of torch.optim.SGD, where the learning rate is not part of v)."""

    slots = ("v",)

    def __init__(self, model: Layer, lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0,
                 lr_factors: Mapping[str, float] | None = None, towards: Mapping[str, Array] | None = None):
        super().__init__(model, lr, weight_decay=weight_decay, lr_factors=lr_factors, towards=towards)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in 0..1, 1 not included, got {momentum}")
        self.momentum = momentum

    def update(self, name: str, param: Array, g: Array, lr: float) -> None:
        v = self.state["v"][name]
        v *= self.momentum
        v += g
        param -= lr * v


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980, algorithm 1, same symbols): each parameter gets its own step size, the
    mean of its gradients over the root of the mean of their squares, both corrected for having begun at zero."""

    slots = ("m", "v")

    def __init__(self, model: Layer, lr: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, lr_factors: Mapping[str, float] | None = None,
                 towards: Mapping[str, Array] | None = None):
        super().__init__(model, lr, weight_decay=weight_decay, lr_factors=lr_factors, towards=towards)
        if not all(0 <= beta < 1 for beta in betas) or not eps >= 0:
            raise ValueError(f"betas must lie in 0..1, 1 not included, and eps not be negative, got {betas} and {eps}")
        self.betas, self.eps = betas, eps

    def update(self, name: str, param: Array, g: Array, lr: float) -> None:
        # m = beta1 * m + (1 - beta1) * g,    m_hat = m / (1 - beta1**t)
        # v = beta2 * v + (1 - beta2) * g**2, v_hat = v / (1 - beta2**t)
        # param -= lr * m_hat / (sqrt(v_hat) + eps)
        adam_step(param, g, self.state["m"][name], self.state["v"][name], lr, *self.betas, self.eps, self.steps[name])


def constant(step: int, steps: int) -> float:
    """The same learning rate at every step."""
    return 1.0


def cosine(step: int, steps: int, *, warmup: float = 0.0) -> float:
    """Rise linearly over the share `warmup` of all steps, then fall along half a cosine to zero (arXiv:1608.03983, eq. 5).

    Adam's first steps rest on a few gradients; at the full rate they throw a network about.
    """
    rise = int(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
