"""The hot path. Each kernel stands under its plain-NumPy reference, with the same signature, in the same file."""

from tinyresnet.kernels.adam import adam_step
from tinyresnet.kernels.batchnorm import gradient_sums, input_gradient, moments, normalise
from tinyresnet.kernels.conv import conv_backward_input, conv_backward_weight, conv_finish, conv_forward, conv_moments
from tinyresnet.kernels.im2col import col2im, im2col, out_size
from tinyresnet.kernels.pointwise import pointwise_backward
from tinyresnet.kernels.pooling import global_average, global_average_backward, maxpool, maxpool_backward, pool_size
from tinyresnet.kernels.relu import relu, relu_backward

__all__ = ["adam_step", "col2im", "conv_backward_input", "conv_backward_weight", "conv_finish", "conv_forward",
           "conv_moments", "global_average", "global_average_backward", "gradient_sums", "im2col", "input_gradient",
           "maxpool", "maxpool_backward", "moments", "normalise", "out_size", "pointwise_backward", "pool_size", "relu",
           "relu_backward"]
