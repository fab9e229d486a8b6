"""Loading and converting weights, each with one mistake."""

import numpy as np
from zoo import wrong

from tinyresnet.resnet import ResNet
from weights_converter.conversion import in_our_layout as right


@wrong("ResNet", "running statistics not loaded", symptom="the loss in training is right, evaluation is at chance",
       cause="only the parameters are copied; the statistics are weights too")
class NoStatistics(ResNet):
    def load_state_dict(self, state, *, strict=True):
        own = {name: array for name, array in self.state_dict().items() if "running" in name}
        return super().load_state_dict({**state, **own}, strict=strict)


@wrong("ResNet", "weights loaded by position", symptom="no error, and a network that knows nothing",
       cause="two lists of arrays were zipped; in the other library the shortcut's come first")
class ByPosition(ResNet):
    def load_state_dict(self, state, *, strict=True):
        left, taken = sorted(state, key=lambda name: "downsample" not in name), {}
        for name, array in self.state_dict().items():
            fits = [other for other in left if state[other].shape == array.shape and other[-4:] == name[-4:]]
            taken[name] = state[fits[0]]
            left.remove(fits[0])
        return super().load_state_dict(taken, strict=strict)


@wrong("in_our_layout", "kernels reshaped instead of transposed", symptom="every shape fits, no number is in its place",
       cause="(O, C, K, K) has as many numbers as (K, K, C, O), and reshape asks no more")
def reshaped(name, array):
    O, C, K, _ = array.shape if array.ndim == 4 else (0, 0, 0, 0)
    return array.reshape(K, K, C, O).astype(np.float32) if array.ndim == 4 else right(name, array)
