"""Winograd's matrices (winograd.py), applied to LANES channels at a time.

Every transform is one function of a small square of pixels with some channels, d[u, v, c]: it transforms along u and
lays the result down transposed. Called twice, it has transformed along both, and u and v are in their places again.
Constants are made of the dtype of d: Numba would count a bare 4 times a float32 in float64.
"""

from __future__ import annotations

from tinyresnet.kernels.blas import PANEL
from tinyresnet.kernels.jit import compiled
from tinyresnet.kernels.windows import copy

LANES = PANEL  # channels that are transformed together: two 6x6 squares of them fit into the first-level cache


@compiled
def apply_BT(d, points):
    """d (6, 6, LANES) -> points[v, :, c] = B.T d[:, v, c]."""
    two, four, five = d.dtype.type(2), d.dtype.type(4), d.dtype.type(5)
    for v in range(6):
        for c in range(LANES):
            d0, d1, d2, d3, d4, d5 = d[0, v, c], d[1, v, c], d[2, v, c], d[3, v, c], d[4, v, c], d[5, v, c]
            a, b, e, f = d4 - four * d2, d3 - four * d1, d4 - d2, two * (d3 - d1)
            points[v, 0, c] = four * d0 - five * d2 + d4
            points[v, 1, c] = a + b
            points[v, 2, c] = a - b
            points[v, 3, c] = e + f
            points[v, 4, c] = e - f
            points[v, 5, c] = four * d1 - five * d3 + d5


@compiled
def apply_AT(m, y):
    """m (6, V, LANES) -> y[v, :, c] = A.T m[:, v, c], y (V, 4, LANES)."""
    two, four, eight = m.dtype.type(2), m.dtype.type(4), m.dtype.type(8)
    for v in range(m.shape[1]):
        for o in range(LANES):
            m0, m1, m2, m3, m4, m5 = m[0, v, o], m[1, v, o], m[2, v, o], m[3, v, o], m[4, v, o], m[5, v, o]
            a, b, e, f = m1 + m2, m1 - m2, m3 + m4, m3 - m4
            y[v, 0, o] = m0 + a + e
            y[v, 1, o] = b + two * f
            y[v, 2, o] = a + four * e
            y[v, 3, o] = b + eight * f + m5


@compiled
def apply_A(y, points):
    """y (4, V, LANES) -> points[v, :, o] = A y[:, v, o], points (V, 6, LANES): the transpose of apply_AT."""
    two, four, eight = y.dtype.type(2), y.dtype.type(4), y.dtype.type(8)
    for v in range(y.shape[1]):
        for o in range(LANES):
            y0, y1, y2, y3 = y[0, v, o], y[1, v, o], y[2, v, o], y[3, v, o]
            a, b, e, f = y0 + y2, y1 + y3, y0 + four * y2, two * y1 + eight * y3
            points[v, 0, o] = y0
            points[v, 1, o] = a + b
            points[v, 2, o] = a - b
            points[v, 3, o] = e + f
            points[v, 4, o] = e - f
            points[v, 5, o] = y3


@compiled
def apply_G(g, points):
    """g (3, V, LANES) -> points[v, :, i] = G g[:, v, i], points (V, 6, LANES)."""
    two, four, sixth = g.dtype.type(2), g.dtype.type(4), g.dtype.type(1 / 6)
    for v in range(g.shape[1]):
        for i in range(LANES):
            g0, g1, g2 = g[0, v, i], g[1, v, i], g[2, v, i]
            a, b, e = (g0 + g2) * sixth, g1 * sixth, (g0 / four + g2) * sixth
            points[v, 0, i] = g0 / four
            points[v, 1, i] = -a - b
            points[v, 2, i] = -a + b
            points[v, 3, i] = e + b / two
            points[v, 4, i] = e - b / two
            points[v, 5, i] = g2


@compiled
def apply_GT(u, g):
    """u (6, V, LANES) -> g[v, :, i] = G.T u[:, v, i], g (V, 3, LANES): the transpose of apply_G."""
    two, four, sixth = u.dtype.type(2), u.dtype.type(4), u.dtype.type(1 / 6)
    for v in range(u.shape[1]):
        for i in range(LANES):
            u0, u1, u2, u3, u4, u5 = u[0, v, i], u[1, v, i], u[2, v, i], u[3, v, i], u[4, v, i], u[5, v, i]
            a, b, e, f = (u1 + u2) * sixth, (u1 - u2) * sixth, (u3 + u4) * sixth, (u3 - u4) * sixth
            g[v, 0, i] = u0 / four - a + e / four
            g[v, 1, i] = f / two - b
            g[v, 2, i] = u5 - a + e


@compiled
def take(x, n, i, j, c0, d):
    """d[u, v] = LANES channels, from c0 on, of the pixels from (i, j) on; zero outside the image."""
    _, H, W, C = x.shape
    values, size = x.reshape(-1), min(LANES, C - c0)
    for u in range(d.shape[0]):
        for v in range(d.shape[1]):
            at = ((n * H + i + u) * W + j + v) * C + c0
            if 0 <= i + u < H and 0 <= j + v < W:
                copy(values[at : at + size], d[u, v])
            else:
                d[u, v] = 0


@compiled
def put(d, points, at, size):
    """points[u*V + v, at : at + size] = d[u, v]: each point is laid with those of its kind."""
    U, V, _ = d.shape
    for u in range(U):
        for v in range(V):
            copy(d[u, v], points[u * V + v, at : at + size])


@compiled
def take_points(points, at, d):
    """d[u, v] = points[u*V + v, at ...]: the opposite of put."""
    U, V, _ = d.shape
    for u in range(U):
        for v in range(V):
            copy(points[u * V + v, at : at + LANES], d[u, v])
