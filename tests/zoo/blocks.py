"""Residual blocks and networks, each with one mistake."""

from zoo import wrong

from tinyresnet.layers import Sequential
from tinyresnet.resnet import BasicBlock, Bottleneck, ResNet


@wrong("BasicBlock", "skip gradient not added", symptom="trains like a plain network: depth hurts again",
       cause="x was used twice, so its gradients add up; only the branch's was returned")
class SkipNotAdded(BasicBlock):
    def backward(self, dy):
        dx = self.relu.backward(dy)
        self.downsample.backward(dx)
        for layer in reversed(self.branch):
            dx = layer.backward(dx)
        return dx


@wrong("BasicBlock", "ReLU before the addition", symptom="gradients hold; the branch can only add, never take away",
       cause="relu(branch(x)) + x for relu(branch(x) + x)")
class ReLUBeforeAddition(BasicBlock):
    def forward(self, x):
        y = x
        for layer in self.branch:
            y = layer.forward(y)
        return self.relu.forward(y) + self.downsample.forward(x)

    def backward(self, dy):
        dx = self.relu.backward(dy)
        for layer in reversed(self.branch):
            dx = layer.backward(dx)
        return dx + self.downsample.backward(dy)


@wrong("Bottleneck", "stride on the wrong convolution", symptom="every shape fits; published weights lose some percent",
       cause="v1 strides in the first 1x1, v1.5 in the 3x3")
class WrongStride(Bottleneck):
    def __init__(self, in_channels, width, *, stride_in_1x1=False, **options):
        super().__init__(in_channels, width, stride_in_1x1=not stride_in_1x1, **options)


@wrong("ResNet", "inverted stride schedule", symptom="four times the work in the late stages, and a small first one",
       cause="the first stage strides and the others do not; pooling has halved the image before it")
class InvertedStrides(ResNet):
    def __init__(self, block, depths, *arguments, **options):
        super().__init__(block, depths, *arguments, **options)
        for _, stage in self.children():
            if isinstance(stage, Sequential):
                first = stage[0]
                for conv in (first.conv1, first.conv2, first.downsample[0] if first.downsample.children() else None):
                    if conv is not None and stage is not self.layer1:
                        conv.stride = 1
