"""Matrix products inside kernels: SciPy's BLAS, called without the interpreter and without copies.

Numba's np.dot does so, too, but takes whole contiguous matrices only and cannot add to what `c` holds.

On processors with AVX-512, OpenBLAS multiplies small matrices, of up to a million multiplications, without packing them
first. A tile whose parts are in the cache is multiplied faster in such pieces: 5 to 15 % for most of ResNet-50's layers,
up to twice as fast for the gradient of few weights from many pixels. Elsewhere small pieces would be slower.
"""

from __future__ import annotations

import numpy as np

from tinyresnet.kernels.jit import KERNELS, KINDS, compiled

if KERNELS == "numba":
    from llvmlite import binding
    from numba import types
    from numba.extending import get_cython_function_address

    def blas_function(name: str):
        """A function of SciPy's BLAS by a name that compiled code can keep; all 13 arguments are addresses."""
        binding.add_symbol(f"tinyresnet_{name}", get_cython_function_address("scipy.linalg.cython_blas", name))
        return types.ExternalFunction(f"tinyresnet_{name}", types.void(*[types.intp] * 13))

    sgemm, dgemm = blas_function("sgemm"), blas_function("dgemm")


SMALL_MATRICES = any(kind in ("SkylakeX", "Cooperlake", "SapphireRapids") for kind in KINDS)  # OpenBLAS with AVX-512
PANEL = 64  # columns in a piece


@compiled
def product(a, lda, transpose_a, b, ldb, step, c, ldc, M, N, K, beta):
    """c = op(a) @ b + beta * c, with op(a) (M, K), b (K, N), c (M, N), op the identity or the transpose.

    a, b and c are contiguous, one-dimensional and begin with the matrix' first number; lda, ldb and ldc numbers lie
    between the beginnings of two rows. PANEL numbers of a row of b lie together, the next ones PANEL * step further on:
    step is 1, or K for a matrix in panels (panels.py).
    """
    m_block, n_block, k_block = (128, PANEL, 112) if transpose_a else (112, PANEL, 128)
    if not SMALL_MATRICES:
        m_block, n_block, k_block = M, N, K
    for m in range(0, M, m_block):
        for k in range(0, K, k_block):
            for n in range(0, N, n_block):
                gemm(a[k * lda + m if transpose_a else m * lda + k :], lda, transpose_a, b[k * ldb + n * step :], ldb,
                     c[m * ldc + n :], ldc, min(m_block, M - m), min(n_block, N - n), min(k_block, K - k),
                     1 if k > 0 else beta)


@compiled
def gemm(a, lda, transpose_a, b, ldb, c, ldc, M, N, K, beta):
    """product in one call, of a b whose rows are whole.

    BLAS counts along columns: its c is our c transposed, so b comes first.
    """
    sizes = np.array([N, M, K, ldb, lda, ldc], dtype=np.int32)
    factors = np.array([1, beta], dtype=c.dtype)
    letters = np.array([ord("N"), ord("T") if transpose_a else ord("N")], dtype=np.uint8)
    letter, size, one, zero = letters.ctypes.data, sizes.ctypes.data, factors.ctypes.data, factors[1:].ctypes.data
    if c.itemsize == 4:
        sgemm(letter, letter + 1, size, size + 4, size + 8, one, b.ctypes.data, size + 12, a.ctypes.data, size + 16, zero,
              c.ctypes.data, size + 20)
    else:
        dgemm(letter, letter + 1, size, size + 4, size + 8, one, b.ctypes.data, size + 12, a.ctypes.data, size + 16, zero,
              c.ctypes.data, size + 20)
    return letters[0] + sizes[0] + factors[0]  # keeps the three alive until here
