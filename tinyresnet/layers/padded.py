"""The shortcut without parameters, for a block whose output is smaller and has more channels than its input."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels import out_size
from tinyresnet.layers.base import Layer, check_gradient, check_images


class PaddedIdentity(Layer):
    """Every stride-th pixel of x, between channels of zeros: the paper's option A.

        y[n, p, q, before + c] = x[n, p*stride, q*stride, c],  all other y = 0,  before = (O - C) // 2

    The pixels are the centres of the windows that a 3x3 convolution of this stride, padded by 1, looks at, so that both
    give ceil(H / stride) rows. The paper (section 3.3) does not say where the zeros go; weights are published with half
    of them on each side, and an odd one at the end.

    Shapes: x (N, H, W, C), y (N, P, Q, O) with P = out_size(H, 1, stride, 0).
    Raises ValueError if x does not hold C channels of floating-point numbers.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1):
        super().__init__()
        if not 1 <= in_channels <= out_channels or stride < 1:
            raise ValueError(f"expected at least one channel, as many or more out, and a stride of at least 1, got "
                             f"PaddedIdentity({in_channels}, {out_channels}, stride={stride})")
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        before = (out_channels - in_channels) // 2
        self.inner = slice(before, before + in_channels)  # the channels of y that are x's

    def forward(self, x: Array) -> Array:
        check_images(x, self.in_channels)
        y = np.zeros(self.output_shape(x.shape), x.dtype)
        y[..., self.inner] = x[:, ::self.stride, ::self.stride]  # (N, P, Q, C)
        self.save(x.shape, x.dtype)
        return y

    def backward(self, dy: Array) -> Array:
        shape, dtype = self.saved()
        check_gradient(dy, self.output_shape(shape), dtype)
        dx = np.zeros(shape, dtype)
        dx[:, ::self.stride, ::self.stride] = dy[..., self.inner]  # (N, P, Q, C)
        return dx

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        N, H, W, _ = shape
        P, Q = (out_size(size, 1, self.stride, 0) for size in (H, W))
        return N, P, Q, self.out_channels

    def __repr__(self) -> str:
        return f"PaddedIdentity({self.in_channels}, {self.out_channels}, stride={self.stride})"
