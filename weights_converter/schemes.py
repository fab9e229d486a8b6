r"""The names that frameworks give to the arrays of a residual network: each scheme a pattern, and the place it tells.

All say the same: the stage, the block in it, a convolution of the block or the batch norm behind it, and which array of
that. The weights of one convolution and of the one that fits x to y, and the mean of one batch norm, are

    torchvision, timm  layer3.0.conv2.weight           layer3.0.downsample.0.weight    layer3.0.bn2.running_mean
    transformers       resnet.encoder.stages.2.layers.0.layer.1.convolution.weight     ...layer.1.normalization.running_mean
    Caffe (MSRA)       res4a_branch2b/0                res4a_branch1/0                 bn4a_branch2b/0
    Keras 0.2          res4a_branch2b_W                res4a_branch1_W                 bn4a_branch2b_running_mean
    Keras              conv4_block1_2_conv/kernel      conv4_block1_0_conv/kernel      conv4_block1_2_bn/moving_mean
    Gluon              stage3_conv1_weight             stage3_conv3_weight             stage3_batchnorm1_running_mean
    Caffe, numbered    Convolution17/0                 Convolution15/0                 BatchNorm17/0

A pattern names what it finds: `head`, `stem` or `kind` the word for the layer, `leaf` that for the array, and `stage`,
`block`, `number` as the scheme counts them. Only where the place is counted through does it need the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from tinyresnet.images import IMAGENET, Preprocessing
from tinyresnet.resnet import DEPTHS
from weights_converter.networks import CIFAR, KINDS, Network

Place = tuple[int, int, int]  # stage from 1, block from 0, convolution in it from 1, or 0 for that of the shortcut

CONVOLUTIONS = {"conv", "convolution", "res", "Convolution", "downsample.0", "shortcut.0"}  # other words: batch norms
LEAVES = {"kernel": "weight", "W": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "moving_mean": "running_mean",
          "moving_variance": "running_var", "running_std": "running_var"}  # which in Keras 0.2 is the variance, too
STATISTICS = ("running_mean", "running_var", "factor")
BLOBS = {"bn": STATISTICS, "BatchNorm": STATISTICS}  # by number; of other layers a weight and a bias

FORM = re.VERBOSE | re.ASCII

TORCHVISION = re.compile(r"""
    (?: (?P<stem>conv|bn)1
      | (?:layer|ResBlock)(?P<stage>\d)\.(?P<block>\d+)\.
        (?P<kind>conv(?=[1-3])|bn(?=[1-3])|(?:downsample|shortcut)\.[01](?=\.))(?P<number>[1-3]?)
      | (?P<head>fc|linear)
    )\.(?P<leaf>weight|bias|running_mean|running_var)""", FORM)

TRANSFORMERS = re.compile(r"""
    (?: (?:resnet\.)?
        (?: embedder\.embedder\.(?P<stem>convolution|normalization)
          | encoder\.stages\.(?P<stage>\d)\.layers\.(?P<block>\d+)\.(?:layer\.(?P<number>\d)|shortcut)\.
            (?P<kind>convolution|normalization)
        )
      | (?P<head>classifier\.1)
    )\.(?P<leaf>weight|bias|running_mean|running_var)""", FORM)

CAFFE = re.compile(r"""
    (?: (?P<stem>conv|bn(?=_)|scale(?=_))(?:_conv)?1
      | (?P<kind>res|bn|scale)(?P<stage>\d)(?P<block>[a-z]\d*)_branch(?P<number>1|2[abc])
      | (?P<head>fc\d*)
    )/(?P<leaf>\d)""", FORM)

NUMBERED_CAFFE = re.compile(r"""
    (?: (?P<stem>Convolution|BatchNorm|Scale)1(?=/)
      | (?P<kind>Convolution|BatchNorm|Scale)(?P<number>\d+)
      | (?P<head>InnerProduct1)
    )/(?P<leaf>\d)""", FORM)

EARLY_KERAS = re.compile(r"""
    (?: .*/ )?
    (?P<layer> (?P<stem>conv|bn(?=_))(?:_conv)?1
             | (?P<kind>res|bn)(?P<stage>\d)(?P<block>[a-z]\d*)_branch(?P<number>1|2[abc])
             | (?P<head>fc\d*)
    ) (?:_\d+)? / (?:(?P=layer)_)?
    (?P<leaf>W|b|kernel|bias|gamma|beta|running_mean|running_std|moving_mean|moving_variance)
    (?:_\d+)? (?: :0)?""", FORM)

KERAS = re.compile(r"""
    (?: .*/ )?
    (?: conv1_(?P<stem>conv|bn)
      | conv(?P<stage>\d)_block(?P<block>\d+)_(?P<number>\d)_(?P<kind>conv|bn)
      | (?P<head>probs|predictions)
    ) (?:_\d+)? /
    (?P<leaf>kernel|bias|gamma|beta|moving_mean|moving_variance) (?: :0)?""", FORM)

GLUON = re.compile(r"""
    resnetv1\d+_
    (?: (?P<stem>conv|batchnorm)0
      | stage(?P<stage>\d)_(?P<kind>conv|batchnorm)(?P<number>\d+)
      | (?P<head>dense0)
    )_(?P<leaf>weight|bias|gamma|beta|running_mean|running_var)""", FORM)


# -- the place of an array in a block -------------------------------------------------------------------------------


def torchvision_place(match: re.Match, network: Network) -> Place:
    return int(match["stage"]), int(match["block"]), int(match["number"] or 0)


def transformers_place(match: re.Match, network: Network) -> Place:
    return int(match["stage"]) + 1, int(match["block"]), int(match["number"]) + 1 if match["number"] else 0


def caffe_place(match: re.Match, network: Network) -> Place:
    """Stages count from 2, the stem is the first. Blocks are a, b, c, ..., or, where there are many, a, b1, b2, ..."""
    letter, number = match["block"][0], match["block"][1:]
    block = int(number) if number else ord(letter) - ord("a")
    return int(match["stage"]) - 1, block, ["1", "2a", "2b", "2c"].index(match["number"])


def keras_place(match: re.Match, network: Network) -> Place:
    return int(match["stage"]) - 1, int(match["block"]) - 1, int(match["number"])


def gluon_place(match: re.Match, network: Network) -> Place:
    """Convolutions are counted through each stage; that of the shortcut comes after those of the first block."""
    stage, index = int(match["stage"]), int(match["number"])
    if network.projects(stage):
        if index == network.body:
            return stage, 0, 0
        index -= index > network.body
    return stage, index // network.body, index % network.body + 1


def numbered_place(match: re.Match, network: Network) -> Place:
    """Convolutions are counted through the network from 1, the stem; that of a shortcut comes before those of its block."""
    index = int(match["number"]) - 2
    for stage, depth in enumerate(network.depths, 1):
        index -= network.projects(stage)
        if index < depth * network.body:
            return stage, max(index, 0) // network.body, index % network.body + 1 if index >= 0 else 0
        index -= depth * network.body
    return len(network.depths) + 1, index, 0  # in no stage


# -- the schemes ----------------------------------------------------------------------------------------------------


class Scheme(NamedTuple):
    """How a framework names and lays out arrays, and what its published weights take for granted."""

    title: str
    pattern: re.Pattern[str]
    place: Callable[[re.Match, Network], Place]
    config: dict = {}  # of ResNet: facts that no shape tells
    preprocessing: Preprocessing | None = None  # None: as tinyresnet's networks take it, which follow torchvision
    channels_last: bool = False  # convolutions (K, K, C, O), linear (in, out)
    bgr: bool = False  # blue comes first in the input
    mean_image: bool = False  # was subtracted, and its channels' means are in `preprocessing`
    networks: Collection[str] = DEPTHS  # whose published weights these are: of others the names tell no input

    def our_name(self, match: re.Match, network: Network) -> str:
        """torchvision's name for what this is in the network."""
        found = match.groupdict()
        word, leaf = found["head"] or found["stem"] or found["kind"], found["leaf"]
        if leaf.isdecimal():
            leaf = dict(enumerate(BLOBS.get(word, ("weight", "bias")))).get(int(leaf), leaf)
        leaf = LEAVES.get(leaf, leaf)
        if found["head"]:
            return f"fc.{leaf}"
        kind = "conv" if word in CONVOLUTIONS else "bn"
        if found["stem"]:
            return f"{kind}1.{leaf}"
        stage, block, number = self.place(match, network)
        layer = f"{kind}{number}" if number else f"downsample.{int(kind == 'bn')}"
        return f"layer{stage}.{block}.{layer}.{leaf}"


def zero_to_255(*mean: float) -> Preprocessing:
    """ImageNet's sizes; from the numbers 0 to 255 of R, G, B only their means are subtracted."""
    return Preprocessing(256, 224, "bilinear", tuple(m / 255 for m in mean), (1 / 255,) * 3)  # type: ignore[arg-type]


TIMM = Scheme("timm", TORCHVISION, torchvision_place,  # the same names; its training "a1", shown 95 % of the side
              preprocessing=replace(IMAGENET, resize=235, interpolation="bicubic"))
V1 = {"stride_in_1x1": True}
KERAS_INPUT = zero_to_255(123.68, 116.779, 103.939)
SCHEMES = (
    Scheme("torchvision", TORCHVISION, torchvision_place, networks=KINDS),
    Scheme("transformers", TRANSFORMERS, transformers_place, preprocessing=replace(IMAGENET, interpolation="bicubic")),
    Scheme("Keras", KERAS, keras_place, V1 | {"eps": 1.001e-5}, KERAS_INPUT, channels_last=True, bgr=True),
    Scheme("Keras 0.2", EARLY_KERAS, caffe_place, V1 | {"eps": 1e-3, "keras_pool": True}, KERAS_INPUT, channels_last=True,
           bgr=True),
    Scheme("Caffe", CAFFE, caffe_place, V1 | {"caffe_pool": True}, zero_to_255(123.152, 115.903, 103.063), bgr=True,
           mean_image=True),
    Scheme("Gluon", GLUON, gluon_place, V1),
    Scheme("numbered Caffe", NUMBERED_CAFFE, numbered_place,
           preprocessing=replace(zero_to_255(125.3, 122.95, 113.87), resize=32, crop=32), mean_image=True, networks=CIFAR),
)
