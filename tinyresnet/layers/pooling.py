"""Two ways to make a map of features smaller: the maximum of a window, the average of everything."""

from __future__ import annotations

from numpy import ndarray as Array

from tinyresnet.kernels import global_average, global_average_backward, maxpool, maxpool_backward, pool_size
from tinyresnet.layers.base import Layer, check_gradient, check_images


class MaxPool2d(Layer):
    """Maximum over windows; padding counts as negative infinity, of equal values the first wins the gradient.

        y[n, p, q, c] = max_{u, v} x[n, p*stride + u - padding, q*stride + v - padding, c]

    ceil_mode is Caffe's rule: where the stride leaves a remainder, one more window hangs over the right and lower edge.

    Shapes: x (N, H, W, C), y (N, P, Q, C) with P = pool_size(H, kernel_size, stride, padding, ceil_mode).
    Raises ValueError if x does not hold floating-point numbers: integers have no negative infinity.
    """

    def __init__(self, kernel_size: int, stride: int, padding: int = 0, *, ceil_mode: bool = False):
        super().__init__()
        if not 1 <= kernel_size <= 16 or stride < 1 or not 0 <= 2 * padding <= kernel_size:
            raise ValueError(f"expected kernel_size 1 to 16, stride at least 1, padding at most half the kernel, "
                             f"got MaxPool2d({kernel_size}, {stride}, {padding})")
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode

    def forward(self, x: Array) -> Array:
        check_images(x)
        _, P, Q, _ = self.output_shape(x.shape)
        y, winner = maxpool(x, self.kernel_size, self.stride, self.padding, P, Q)
        self.save(winner, x.shape, x.dtype)
        return y

    def backward(self, dy: Array) -> Array:
        winner, shape, dtype = self.saved()
        check_gradient(dy, winner.shape, dtype)
        return maxpool_backward(dy, winner, shape, self.kernel_size, self.stride, self.padding)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        N, H, W, C = shape
        P, Q = (pool_size(size, self.kernel_size, self.stride, self.padding, self.ceil_mode) for size in (H, W))
        return N, P, Q, C

    def __repr__(self) -> str:
        return f"MaxPool2d({self.kernel_size}, stride={self.stride}, padding={self.padding})"


class GlobalAvgPool(Layer):
    """y[n, c] = mean over i, j of x[n, i, j, c]: one number a channel, wherever in the image it was found.

    Shapes: x (N, H, W, C), y (N, C).
    """

    def forward(self, x: Array) -> Array:
        check_images(x)
        self.save(x.shape, x.dtype)
        return global_average(x)

    def backward(self, dy: Array) -> Array:
        (N, H, W, C), dtype = self.saved()
        check_gradient(dy, (N, C), dtype)
        return global_average_backward(dy, (N, H, W, C))  # dy / (H * W) at every pixel

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], shape[3]
