"""Backward through batch norm and the 1x1 convolution before it in one pass: 33 of ResNet-50's 53 convolutions.

The gradient between the two, as large as the activations, is made a tile at a time, serves both products while it is in
the cache, and is never written to memory.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from tinyresnet.kernels.batchnorm import input_gradient_pixel, input_gradient_reference
from tinyresnet.kernels.blas import product
from tinyresnet.kernels.conv import conv_backward_input_reference, conv_backward_weight_reference
from tinyresnet.kernels.direct import add_up, groups_of
from tinyresnet.kernels.epilogue import finish
from tinyresnet.kernels.jit import compiled, expect_shapes, faster_than
from tinyresnet.kernels.memory import empty
from tinyresnet.kernels.panels import transposed
from tinyresnet.kernels.threads import launch

TILE = 112  # pixels: as many as a product takes at once; 224 and 448 were 1 to 2 % slower


def pointwise_backward_reference(dy: Array, z: Array, mean: Array, factors: Array, x: Array, weight: Array,
                                 skip: Array | None = None) -> tuple[Array, Array]:
    """dx (N, H, W, C), plus skip if there is one, and dweight (1, 1, C, O) of z = conv(x), y = batch norm of z.

    dy, z (N, H, W, O), mean (O,), factors (3, O) as input_gradient takes them, x (N, H, W, C), weight (1, 1, C, O).
    """
    dz = input_gradient_reference(dy, z, mean, factors)
    return (conv_backward_input_reference(dz, weight, x.shape, 1, 0, skip),
            conv_backward_weight_reference(x, dz, 1, 1, 0))


@faster_than(pointwise_backward_reference)
def pointwise_backward(dy, z, mean, factors, x, weight, skip=None):
    """Same as pointwise_backward_reference."""
    _, _, C, O = weight.shape
    shape = (*x.shape[:3], O)
    expect_shapes(x=(x, (*x.shape[:3], C)), dy=(dy, shape), z=(z, shape), mean=(mean, (O,)), factors=(factors, (3, O)),
                  skip=(skip, x.shape))
    dx = empty(x.shape, x.dtype)
    pixels = x.size // C
    rows, groups = groups_of(pixels, TILE, weight.size)
    sums = empty((groups, 1, 1, C, O), x.dtype)
    skip = np.empty((0, C), x.dtype) if skip is None else skip.reshape(-1, C)
    launch(pointwise_groups, groups, dy.reshape(-1, O), z.reshape(-1, O), mean, factors, x.reshape(-1),
           transposed(weight), skip, rows, sums.reshape(groups, -1), dx.reshape(-1, C))
    return dx, add_up(sums)


@compiled
def pointwise_groups(first, last, dy, z, mean, factors, x, panels, skip, rows, sums, dx):
    """dx (pixels, C), and sums (groups, C * O) over the pixels of each group, so many rows; weights (O, C) in panels."""
    pixels, C = dx.shape
    O, width, step = len(mean), panels.shape[2], 1 if len(panels) == 1 else len(mean)
    dz = np.empty((TILE, O), dtype=dy.dtype)
    nothing = np.empty(0, dtype=dy.dtype)
    for group in range(first, last):
        for start in range(group * rows, min(pixels, (group + 1) * rows), TILE):
            count = min(TILE, (group + 1) * rows - start, pixels - start)
            for pixel in range(count):
                input_gradient_pixel(start + pixel, dy, z, mean, factors, pixel, dz)
            product(x[start * C :], C, True, dz.reshape(-1), O, 1, sums[group], O, C, O, count, int(start > group * rows))
            product(dz.reshape(-1), O, False, panels.reshape(-1), width, step, dx.reshape(-1)[start * C :], C,
                    count, C, O, 0)
            if len(skip):
                finish(dx, start, start + count, 0, C, nothing, skip, False)
