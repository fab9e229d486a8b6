"""A converted network gives what its source's does: compared with float64 NumPy on the file's own arrays."""

from dataclasses import replace

import numpy as np
import other_names
import pytest
from other_names import lively, units_of
from plain_resnet import PlainResNet
from test_kernels import largest_error
from test_weights_schemes import SOURCES, loaded
from test_weights_schemes import file_of as bytes_and_arrays

from tinyresnet import Preprocessing, load_model, preprocess, read_image
from tinyresnet.resnet import ResNet
from weights_converter import convert, read_tensors

FLOAT32 = 1e-4  # of the largest logit: float32 through up to 50 layers; measured 4e-6
SEEN = 1e-2  # a wrong fact changes more than this; measured 0.03 and more


def rgb(image):
    """As torchvision, transformers and Gluon take it"""
    return (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def bgr(*mean):
    """As Keras and Caffe take it: `mean` is of blue, green, red"""
    return lambda image: image[..., ::-1] - np.array(mean)


OWN = {  # what the source's program does: strides, epsilon, pooling, layout, and its input
    "torchvision": ({"v1": False}, rgb),
    "transformers": ({"v1": False}, rgb),
    "Keras": ({"v1": True, "eps": 1.001e-5, "channels_last": True}, bgr(103.939, 116.779, 123.68)),
    "Keras 0.2": ({"v1": True, "eps": 1e-3, "pool": "unpadded", "channels_last": True}, bgr(103.939, 116.779, 123.68)),
    "Caffe": ({"v1": True, "pool": "caffe"}, bgr(103.063, 115.903, 123.152)),
    "Gluon": ({"v1": True}, rgb),
}


def image(seed=0):
    """(70, 64, 3): the pooling meets 35 and 32 rows, and every rule gives another result"""
    return np.random.default_rng(seed).integers(0, 256, (70, 64, 3), dtype=np.uint8)


def both(source, name, folder):
    """The converted network, and its logits and the source's own"""
    content, arrays = bytes_and_arrays(SOURCES[source], name, lively(name))
    model = loaded(content, folder)
    plain = PlainResNet(arrays, SOURCES[source].names(name, units_of(name)), **OWN[source][0])
    return model, logits_of(model), plain.logits(OWN[source][1](image().astype(float)).transpose(2, 0, 1)[None])


def logits_of(model):
    return model.forward(preprocess(image(), replace(model.preprocessing, resize=None, crop=None))[None])


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("source", OWN)
def test_a_converted_network_gives_the_logits_of_its_source(source, name, tmp_path):
    _, ours, theirs = both(source, name, tmp_path)
    assert largest_error(ours, theirs) < FLOAT32


@pytest.mark.parametrize("fact, value", [("stride_in_1x1", False), ("eps", 1e-5), ("keras_pool", False)])
def test_with_a_wrong_fact_the_logits_are_others(fact, value, tmp_path):
    model, _, theirs = both("Keras 0.2", "resnet50", tmp_path)
    facts = model.facts()
    wrong = ResNet.from_facts(facts | {"config": facts["config"] | {fact: value}}).eval()
    wrong.load_state_dict(model.state_dict())
    assert largest_error(logits_of(wrong), theirs) > SEEN


@pytest.mark.parametrize("change", ["blue for red", "mean", "bias"])
def test_without_a_change_of_the_converter_the_logits_are_others(change, tmp_path):
    model, _, theirs = both("Keras 0.2", "resnet50", tmp_path)
    if change == "blue for red":
        model.conv1.weight = np.ascontiguousarray(model.conv1.weight[:, :, ::-1])
    elif change == "mean":
        model.preprocessing = replace(model.preprocessing, mean=(0, 0, 0))
    else:
        model.layer3[0].bn2.running_mean += 1
    assert largest_error(logits_of(model), theirs) > SEEN


# -- MSRA's own file: ResNet-50 up to res4f ---------------------------------------------------------------------------

UNITS = [unit for unit in units_of("resnet50") if unit.stage < 4]
NAMES = other_names.caffe_names("resnet50", UNITS)[0], None
MEAN = (103.063, 115.903, 123.152)  # of blue, green, red in ImageNet's photographs


@pytest.fixture(scope="module")
def msra(shared, tmp_path_factory):
    """The converted network, and the arrays of the file"""
    path, out = shared / "weights" / "msra_resnet50_to_res4f.caffemodel", tmp_path_factory.mktemp("msra") / "msra.npz"
    convert(path, out, partial=True)
    return load_model(out), read_tensors(path)


@pytest.fixture(scope="module")
def photographs(shared):
    """Every other of the 50, (25, 224, 224, 3) uint8 RGB"""
    crop = Preprocessing(256, 224, std=(1 / 255,) * 3)
    paths = sorted((shared / "data" / "imagenet_sample").glob("*.jpg"))[::2]
    return np.stack([np.rint(preprocess(read_image(path), crop)).astype(np.uint8) for path in paths])


def given(images, *, bgr=True, mean=MEAN):
    """What Caffe is given: (N, 3, H, W) float32"""
    images = images[..., ::-1] if bgr else images
    return (images - np.array(mean)).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.shared
def test_msras_network_gives_behind_res4f_what_caffe_would(msra, photographs):
    model, arrays = msra
    plain = PlainResNet(arrays, NAMES, v1=True, pool="caffe").features(given(photographs[:1]).astype(np.float64))
    x = preprocess(photographs[0], replace(model.preprocessing, resize=None, crop=None))[None]
    ours = model.part(to="layer3").forward(x)
    assert largest_error(ours.transpose(0, 3, 1, 2), plain) < 1e-5  # measured 2e-6
    np.testing.assert_allclose(model.features(x, at=("layer3",)), plain.mean((2, 3)), rtol=1e-3, atol=1e-3)


def distances(statistics):
    """From what entered a batch norm to what the file says of it: of the means, in standard deviations, and of the
    logarithms of the variances; averages over the channels that are not all but dead.
    """
    mean, variance, stored_mean, stored_variance = statistics
    alive = stored_variance > 0.01 * np.median(stored_variance)
    ratios = np.log(variance[alive] / stored_variance[alive])
    return np.mean(np.abs(mean - stored_mean)[alive] / np.sqrt(stored_variance[alive])), np.mean(np.abs(ratios))


def stem(arrays, x):
    """What enters the first batch norm, at every fourth pixel"""
    plain = PlainResNet(arrays, NAMES, v1=True, dtype=np.float32)
    plain.unit(x, UNITS[0], stride=4)
    return plain.statistics[UNITS[0]]


@pytest.mark.shared
def test_photographs_enter_msras_first_batch_norm_as_it_remembers_them(msra, photographs):
    """The mean of 25 photographs is as near to ImageNet's as chance allows; of red for blue, or with the mean, far."""
    arrays = msra[1]
    assert distances(stem(arrays, given(photographs)))[0] < 0.03  # measured 0.008
    assert distances(stem(arrays, given(photographs, bgr=False)))[0] > 0.12  # 0.18
    assert distances(stem(arrays, given(photographs, mean=(0, 0, 0))))[0] > 0.5  # 0.72


@pytest.mark.shared
def test_filters_that_see_colour_know_blue_from_red(msra, photographs):
    """Also where the mean is right, but the filters are not turned: what they give varies unlike the file's variance."""
    arrays = msra[1]
    kernel = arrays["conv1/0"]
    colour = kernel - kernel.mean(axis=1, keepdims=True)
    seeing = (colour**2).sum((1, 2, 3)) > 0.5 * (kernel**2).sum((1, 2, 3))
    x = given(photographs)
    right, wrong = (distances([row[seeing] for row in stem(arrays, x)])[1] for x in (x, x[:, ::-1]))
    assert right < 0.75 * wrong  # measured 0.19 and 0.28


@pytest.mark.shared
def test_msras_variances_tell_where_the_stride_is(msra, photographs):
    """What comes behind the first stride varies as the file says only if that is in the first 1x1."""
    units = [unit for unit in UNITS if unit < (2, 2)]
    found = {}
    for v1 in (True, False):
        plain = PlainResNet(msra[1], ({unit: NAMES[0][unit] for unit in units}, None), v1=v1, pool="caffe", dtype=np.float32)
        plain.features(given(photographs[:10]))
        found[v1] = np.mean([distances(plain.statistics[unit])[1] for unit in units if unit[:2] == (2, 1)])
    assert found[True] < 0.15 and found[False] > 0.25  # measured 0.09 and 0.30; with 25 photographs 0.03 and 0.27


@pytest.mark.shared
def test_our_first_batch_norm_is_as_far_from_what_enters_it_as_caffes(msra, photographs):
    """The same in our network: its own preprocessing, turned filters, and the bias of conv1 in the mean."""
    model = msra[0]
    x = np.stack([preprocess(image, replace(model.preprocessing, resize=None, crop=None)) for image in photographs[:8]])
    y = model.conv1.forward(x)
    plain = PlainResNet(msra[1], NAMES, v1=True)
    plain.unit(given(photographs[:8]), UNITS[0], stride=2)
    mean, _, stored, variance = plain.statistics[UNITS[0]]
    far = (y.mean((0, 1, 2)) - model.bn1.running_mean) / np.sqrt(model.bn1.running_var)
    np.testing.assert_allclose(far, (mean - stored) / np.sqrt(variance), atol=1e-4)  # sums of 100,000 float32
