"""The equations of the docstrings, written down once more without a thought for speed: what every forward must give."""

import numpy as np


def convolution(x, weight, stride, padding, bias=0.0):
    K, _, _, O = weight.shape
    N, H, W, _ = x.shape
    P, Q = (H + 2 * padding - K) // stride + 1, (W + 2 * padding - K) // stride + 1
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = np.empty((N, P, Q, O))
    for n, p, q, o in np.ndindex(y.shape):
        window = x[n, p * stride : p * stride + K, q * stride : q * stride + K]  # (K, K, C)
        y[n, p, q, o] = np.sum(window * weight[..., o])
    return y + bias


def batch_norm(x, weight, bias, mean, var, eps=1e-5):
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def moments(x):
    """Mean and biased variance of each channel."""
    return x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))


def max_pool(x, kernel, stride, padding, P, Q):
    N, H, W, C = x.shape
    y = np.full((N, P, Q, C), -np.inf)
    for n, p, q, c, u, v in np.ndindex(N, P, Q, C, kernel, kernel):
        i, j = p * stride + u - padding, q * stride + v - padding
        if 0 <= i < H and 0 <= j < W:
            y[n, p, q, c] = max(y[n, p, q, c], x[n, i, j, c])
    return y


def padded_identity(x, O, stride):
    N, H, W, C = x.shape
    y = np.zeros((N, -(-H // stride), -(-W // stride), O))
    for n, p, q, c in np.ndindex(*y.shape[:3], C):
        y[n, p, q, (O - C) // 2 + c] = x[n, p * stride, q * stride, c]
    return y


def im2col(x, kernel, stride, padding):
    N, H, W, C = x.shape
    P, Q = (H + 2 * padding - kernel) // stride + 1, (W + 2 * padding - kernel) // stride + 1
    cols = np.zeros((N, P, Q, kernel, kernel, C), dtype=x.dtype)
    for n, p, q, u, v in np.ndindex(cols.shape[:5]):
        i, j = p * stride + u - padding, q * stride + v - padding
        if 0 <= i < H and 0 <= j < W:
            cols[n, p, q, u, v] = x[n, i, j]
    return cols.reshape(N * P * Q, kernel * kernel * C)


def col2im(cols, shape, kernel, stride, padding):
    N, H, W, C = shape
    P, Q = (H + 2 * padding - kernel) // stride + 1, (W + 2 * padding - kernel) // stride + 1
    cols, x = cols.reshape(N, P, Q, kernel, kernel, C), np.zeros(shape, dtype=cols.dtype)
    for n, p, q, u, v in np.ndindex(cols.shape[:5]):
        i, j = p * stride + u - padding, q * stride + v - padding
        if 0 <= i < H and 0 <= j < W:
            x[n, i, j] += cols[n, p, q, u, v]
    return x


def residual_block(x, arrays, geometry, stride):
    """arrays by torchvision's names; geometry: stride and padding of each convolution of the branch."""
    def conv_and_norm(x, conv, norm, stride, padding):
        y = convolution(x, arrays[f"{conv}.weight"], stride, padding)
        return batch_norm(y, arrays[f"{norm}.weight"], arrays[f"{norm}.bias"], *moments(y))

    y = x
    for k, (conv_stride, padding) in enumerate(geometry, 1):
        y = conv_and_norm(y if k == 1 else np.maximum(y, 0), f"conv{k}", f"bn{k}", conv_stride, padding)
    if "downsample.0.weight" in arrays:
        x = conv_and_norm(x, "downsample.0", "downsample.1", stride, 0)
    return np.maximum(y + x, 0)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def cross_entropy(logits, labels, label_smoothing):
    N, classes = logits.shape
    loss = 0.0
    for n, k in np.ndindex(N, classes):
        target = (1 - label_smoothing) * (labels[n] == k) + label_smoothing / classes
        loss -= target * np.log(softmax(logits)[n, k]) / N
    return loss
