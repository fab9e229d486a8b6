"""The hot path. Each kernel stands under its plain-NumPy reference, with the same signature, in the same file."""

from tinyresnet.kernels.conv import conv_backward_input, conv_backward_weight, conv_forward
from tinyresnet.kernels.im2col import col2im, im2col, out_size
from tinyresnet.kernels.maxpool import maxpool, maxpool_backward, pool_size
from tinyresnet.kernels.sums import channel_dots, channel_sums

__all__ = ["channel_dots", "channel_sums", "col2im", "conv_backward_input", "conv_backward_weight", "conv_forward",
           "im2col", "maxpool", "maxpool_backward", "out_size", "pool_size"]
