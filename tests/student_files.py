"""Files as students hand them in."""

RELU = '''
import numpy as np

class ReLU:  # stands alone
    def __init__(self):
        self.training, self.frozen, self.grads = True, False, {}
        self.mask = None

    def forward(self, x):
        self.mask = x > 0 if self.training else None
        return np.maximum(x, 0)

    def backward(self, dy):
        mask, self.mask = self.mask, None
        return dy * mask
'''

LINEAR = '''
import numpy as np

class Linear:  # stands alone
    def __init__(self, in_features, out_features, *, rng=None):
        self.training, self.frozen, self.grads = True, False, {}
        self.weight = np.zeros((in_features, out_features), np.float32)
        self.bias = np.zeros(out_features, np.float32)

    def forward(self, x):
        self.x = x if self.training else None
        return x @ self.weight + self.bias

    def backward(self, dy):
        x, self.x = self.x, None
        if not self.frozen:
            self.grads = {"weight": x.T @ dy, "bias": dy.sum(axis=0)}
        return dy @ self.weight.T
'''

CONV = '''
import numpy as np

class Conv2d:  # stands alone, without a matrix product over windows
    def __init__(self, in_channels, out_channels, kernel_size, *, stride=1, padding=0, bias=False, rng=None):
        self.training, self.frozen, self.grads = True, False, {}
        self.K, self.stride, self.padding = kernel_size, stride, padding
        self.weight = np.ones((kernel_size, kernel_size, in_channels, out_channels), np.float32)
        self.bias = np.zeros(out_channels, np.float32) if bias else None

    def views(self, x):
        s, K = self.stride, self.K
        P, Q = (x.shape[1] - K) // s + 1, (x.shape[2] - K) // s + 1
        return [(u, v, x[:, u : u + P * s : s, v : v + Q * s : s]) for u in range(K) for v in range(K)]

    def forward(self, x):
        p = self.padding
        x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        self.x = x if self.training else None
        y = sum(view @ self.weight[u, v] for u, v, view in self.views(x))
        return y if self.bias is None else y + self.bias

    def backward(self, dy):
        x, self.x, p = self.x, None, self.padding
        dx, dweight = np.zeros_like(x), np.zeros_like(self.weight)
        for (u, v, view), (_, _, dview) in zip(self.views(x), self.views(dx)):
            dweight[u, v] = np.tensordot(view, dy, ((0, 1, 2), (0, 1, 2)))
            dview += dy @ self.weight[u, v].T
        if not self.frozen:
            self.grads = {"weight": dweight} | ({} if self.bias is None else {"bias": dy.sum((0, 1, 2))})
        return dx[:, p : dx.shape[1] - p, p : dx.shape[2] - p]
'''

SOFTMAX = '''
import numpy as np

def softmax(logits):
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)
'''

WRONG_CONV = '''
from tinyresnet.layers import Conv2d as Given

class Conv2d(Given):
    def backward(self, dy):
        dx = super().backward(dy)
        if not self.frozen:
            self.grads["weight"] = self.grads["weight"] / len(dy)
        return dx
'''

WRONG_BATCH_NORM = '''
from tinyresnet.layers import BatchNorm2d as GivenNorm

class BatchNorm2d(GivenNorm):
    def backward(self, dy):
        return super().backward(dy) / self.weight
'''

COUNTED = '''
from pathlib import Path
with open(Path(__file__).with_name("count"), "a") as file:
    file.write("x")
'''

FUNCTIONS_AND_OPTIMISERS = '''
import numpy as np
from tinyresnet.optim import SGD as Given
from definitions import im2col  # the loops of the tests: right, slow, and not the library's

def col2im(cols, shape, kernel, stride, padding):
    N, H, W, C = shape
    x = np.zeros((N, H + 2 * padding, W + 2 * padding, C), cols.dtype)
    P, Q = (x.shape[1] - kernel) // stride + 1, (x.shape[2] - kernel) // stride + 1
    cols = cols.reshape(N, P, Q, kernel, kernel, C)
    for u, v in np.ndindex(kernel, kernel):
        x[:, u : u + P * stride : stride, v : v + Q * stride : stride] = cols[:, :, :, u, v]  # = for +=
    return x[:, padding : padding + H, padding : padding + W]

def cross_entropy(logits, labels, *, label_smoothing=0.0):
    if len(labels) != len(logits) or labels.dtype.kind != "i" or labels.ndim != 1:
        raise ValueError
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError
    N, K = logits.shape
    target = (np.eye(K)[labels] * (1 - label_smoothing) + label_smoothing / K).astype(logits.dtype)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(target * log_p).sum() / N, (np.exp(log_p) - target) / N

class SGD(Given):
    pass

class Adam:  # stands alone; without bias correction
    def __init__(self, model, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        self.model, self.lr, self.betas, self.eps, self.decay = model, lr, betas, eps, weight_decay
        self.m, self.v = {}, {}

    def step(self):
        params = dict(self.model.named_params())
        for name, g in self.model.named_grads():
            g = g + self.decay * params[name]
            self.m[name] = self.betas[0] * self.m.get(name, 0) + (1 - self.betas[0]) * g
            self.v[name] = self.betas[1] * self.v.get(name, 0) + (1 - self.betas[1]) * g * g
            params[name] -= self.lr * self.m[name] / (np.sqrt(self.v[name]) + self.eps)
'''

RIGHT_BLOCK = '''
from tinyresnet.layers import BatchNorm2d, Layer, ReLU
from tinyresnet.resnet import shortcut
import numpy as np

class BasicBlock(Layer):
    expansion = 1

    def __init__(self, in_channels, width, *, stride=1, stride_in_1x1=False, eps=1e-5, rng=None):
        super().__init__()
        self.conv1 = Conv2d(in_channels, width, 3, stride=stride, padding=1)
        self.conv2 = Conv2d(width, width, 3, padding=1)
        self.bn1, self.relu1, self.bn2, self.relu = BatchNorm2d(width), ReLU(), BatchNorm2d(width), ReLU()
        self.downsample = shortcut(in_channels, width, stride, eps, np.random.default_rng(0))

    def forward(self, x):
        y = self.relu1.forward(self.bn1.forward(self.conv1.forward(x)))
        return self.relu.forward(self.bn2.forward(self.conv2.forward(y)) + self.downsample.forward(x))

    def backward(self, dy):
        dsum = self.relu.backward(dy)
        dy = self.relu1.backward(self.conv2.backward(self.bn2.backward(dsum)))
        return self.conv1.backward(self.bn1.backward(dy)) + self.downsample.backward(dsum)
'''

FRIENDS = '''
import numpy as np

def softmax(logits, axis=1):  # with an argument that the library's has not
    exps = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return exps / exps.sum(axis=axis, keepdims=True)

def cross_entropy(logits, labels, *, label_smoothing=0.0):
    N, K = logits.shape
    target = (np.eye(K)[labels] * (1 - label_smoothing) + label_smoothing / K).astype(logits.dtype)
    p = softmax(logits, axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(target * log_p).sum() / N, (p - target) / N
'''
