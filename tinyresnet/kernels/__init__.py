"""The hot path. Each kernel stands under its plain-NumPy reference, with the same signature, in the same file."""

from tinyresnet.kernels.batchnorm import gradient_sums, input_gradient, moments, scale_and_shift
from tinyresnet.kernels.conv import conv_backward_input, conv_backward_weight, conv_forward
from tinyresnet.kernels.im2col import col2im, im2col, out_size
from tinyresnet.kernels.maxpool import maxpool, maxpool_backward, pool_size

__all__ = ["col2im", "conv_backward_input", "conv_backward_weight", "conv_forward", "gradient_sums", "im2col",
           "input_gradient", "maxpool", "maxpool_backward", "moments", "out_size", "pool_size", "scale_and_shift"]
