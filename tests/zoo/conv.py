"""Convolution, im2col and col2im, each with one mistake."""

import numpy as np
from zoo import wrong

from tinyresnet.kernels import im2col as right_im2col
from tinyresnet.kernels import out_size
from tinyresnet.kernels.im2col import col2im_reference as right_col2im
from tinyresnet.layers import Conv2d


class Unfused(Conv2d):
    """backward as the reference, its steps apart, so that each can be wrong alone."""

    def backward(self, dy):
        x, *_ = self.saved()
        K, _, C, O = self.weight.shape
        dy = dy.reshape(-1, O)  # (N*P*Q, O)
        if not self.frozen:
            cols = right_im2col(x, K, self.stride, self.padding)
            self.grads["weight"] = self.fold_weight(cols.T @ dy, len(x))
            if "bias" in self.param_names:
                self.grads["bias"] = dy.sum(axis=0)
        dcols = dy @ self.weight.reshape(-1, O).T  # (N*P*Q, K*K*C)
        return self.fold_input(dcols, x.shape, K)

    def fold_weight(self, dweight, N):
        return dweight.reshape(self.weight.shape)

    def fold_input(self, dcols, shape, K):
        return right_col2im(dcols, shape, K, self.stride, self.padding)


@wrong("Conv2d", "= for += in col2im", symptom="right for 1x1 kernels, wrong wherever windows overlap",
       cause="each window overwrites what its neighbours had added to the pixel")
class Overwrites(Unfused):
    def fold_input(self, dcols, shape, K):
        return col2im_overwrites(dcols, shape, K, self.stride, self.padding)


@wrong("Conv2d", "rotated kernel in dx", symptom="dweight is right, dx is mirrored; symmetric kernels hide it",
       cause="backward turns the kernel by 180 degrees, which a convolution's would need but a cross-correlation's does not")
class RotatedKernel(Unfused):
    def fold_input(self, dcols, shape, K):
        dcols = dcols.reshape(-1, K, K, shape[3])[:, ::-1, ::-1].reshape(dcols.shape)
        return super().fold_input(dcols, shape, K)


@wrong("Conv2d", "dweight divided by N", symptom="learning depends on the batch size, dx is right",
       cause="the mean over the batch is taken again: dlogits already holds the division by N")
class DividedByN(Unfused):
    def fold_weight(self, dweight, N):
        return dweight.reshape(self.weight.shape) / N


@wrong("Conv2d", "dx ignores the stride", symptom="right for stride 1, for stride 2 the gradient gathers at the top left",
       cause="windows are put back side by side, not `stride` pixels apart")
class IgnoresStride(Unfused):
    def fold_input(self, dcols, shape, K):
        N, H, W, C = shape
        P, Q = (out_size(size, K, self.stride, self.padding) for size in (H, W))
        windows = dcols.reshape(N, P, Q, K, K, C)
        x = np.zeros((N, H + 2 * self.padding, W + 2 * self.padding, C), dcols.dtype)
        for u, v in np.ndindex(K, K):
            x[:, u : u + P, v : v + Q] += windows[:, :, :, u, v]
        return x[:, self.padding : self.padding + H, self.padding : self.padding + W]


@wrong("Conv2d", "remainder at the wrong edge", symptom="right only where the stride leaves no remainder",
       cause="the rows and columns that no window reaches are taken from the top left and not the bottom right")
class RemainderAtTheWrongEdge(Unfused):
    def fold_input(self, dcols, shape, K):
        dx = super().fold_input(dcols, shape, K)
        left_over = [(size + 2 * self.padding - K) % self.stride for size in shape[1:3]]
        return np.roll(dx, left_over, axis=(1, 2))


@wrong("Conv2d", "P and Q swapped in a reshape", symptom="right for square images, for others the picture is torn",
       cause="dcols is unfolded as (N, Q, P, ...), which has as many numbers as (N, P, Q, ...)")
class SwappedSides(Unfused):
    def fold_input(self, dcols, shape, K):
        N, H, W, _ = shape
        P, Q = (out_size(size, K, self.stride, self.padding) for size in (H, W))
        torn = dcols.reshape(N, Q, P, -1).transpose(0, 2, 1, 3) if P != Q else dcols
        return super().fold_input(torn.reshape(dcols.shape), shape, K)


@wrong("Conv2d", "float32 in disguise", symptom="errors of 1e-8 where float64 gives 1e-11; loose checks pass it",
       cause="an array was made without dtype=x.dtype, and the numbers went through float32")
class Float32Inside(Unfused):
    def fold_input(self, dcols, shape, K):
        return super().fold_input(dcols.astype(np.float32), shape, K).astype(dcols.dtype)


@wrong("Conv2d", "backward answers from an old forward", symptom="memory never falls; a batch is answered for twice",
       cause="what forward kept is not let go of, not even in eval mode")
class NeverLetsGo(Conv2d):
    def saved(self):
        return self._saved

    def save(self, *values):
        self._saved = values


@wrong("im2col", "im2col that upcasts", symptom="twice the memory and half the speed; the values are right",
       cause="np.zeros(shape) without dtype makes float64")
def im2col_upcasts(x, kernel, stride, padding):
    return right_im2col(x, kernel, stride, padding).astype(np.float64)


@wrong("col2im", "= for += in col2im", symptom="right for 1x1 kernels, wrong wherever windows overlap",
       cause="each window overwrites what its neighbours had added to the pixel")
def col2im_overwrites(cols, shape, kernel, stride, padding):
    N, H, W, C = shape
    P, Q = (out_size(size, kernel, stride, padding) for size in (H, W))
    windows = cols.reshape(N, P, Q, kernel, kernel, C)
    x = np.zeros((N, H + 2 * padding, W + 2 * padding, C), cols.dtype)
    for u, v in np.ndindex(kernel, kernel):
        x[:, u : u + P * stride : stride, v : v + Q * stride : stride] = windows[:, :, :, u, v]
    return x[:, padding : padding + H, padding : padding + W]


@wrong("col2im", "col2im that averages", symptom="col2im(im2col(x)) is x, which looks like a proof; gradients are too small",
       cause="the inverse was written where the adjoint is needed: <im2col(x), c> = <x, col2im(c)>")
def col2im_averages(cols, shape, kernel, stride, padding):
    times = right_col2im(np.ones_like(cols), shape, kernel, stride, padding)
    return right_col2im(cols, shape, kernel, stride, padding) / np.maximum(times, 1)
