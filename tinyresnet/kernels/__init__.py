"""The hot path. Each kernel stands under its plain-NumPy reference, with the same signature, in the same file."""

from tinyresnet.kernels.im2col import col2im, im2col, out_size
from tinyresnet.kernels.matmul import matmul, matmul_transposed
from tinyresnet.kernels.maxpool import maxpool, maxpool_backward, pool_size

__all__ = ["col2im", "im2col", "matmul", "matmul_transposed", "maxpool", "maxpool_backward", "out_size", "pool_size"]
