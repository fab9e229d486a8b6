"""What a run has left answers as the run did, and says where it looked."""

import copy
import shutil

import numpy as np
import pytest
from small_run import CLASSES, small_slices, thin_network

from tinyresnet import fold_batch_norm, small_resnet
from tinyresnet.ich import classifier as module
from tinyresnet.ich.classifier import LONGEST, Classifier
from tinyresnet.ich.features import Features, features_of
from tinyresnet.ich.finetune import Finetune
from tinyresnet.ich.paper import Paper
from tinyresnet.ich.recipes import Scratch, Settings
from tinyresnet.ich.twins import PREPROCESSING
from tinyresnet.ich.views import seen
from tinyresnet.weights import WeightsFileError, read_arrays, write_arrays

SETTINGS = Settings(epochs=2, batch_size=8, lr=1e-3, weight_decay=0.0)
FACTS = {"data": {"synthetic": False}, "refer_half_width": 0.1}


def frozen_features(images, labels):
    backbone = thin_network()
    return Features(backbone, features_of(backbone, images), labels)


def scratch(images, labels):
    def new_backbone(rng):
        model = small_resnet(2, width=4, depths=(1, 1), rng=rng)
        model.preprocessing = PREPROCESSING
        return model

    return Scratch(new_backbone, np.stack(images), labels, SETTINGS)


RECIPES = {"features": frozen_features, "scratch": scratch,
           "finetune": lambda images, labels: Finetune(thin_network(), images, labels, SETTINGS, "layer4"),
           "finetune all": lambda images, labels: Finetune(thin_network(), images, labels, SETTINGS, "conv1"),
           "paper": lambda images, labels: Paper(thin_network(), images, labels, SETTINGS)}


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_has_saved_answers_as_its_fit_did(name, tmp_path):
    slices, images = small_slices()
    rows = np.concatenate([np.arange(0, 24, 4), np.arange(2, 24, 4)]).reshape(2, -1).T.ravel()  # normal, bleed, normal, ...
    images, labels = [images[row] for row in rows], slices.labels[rows]
    recipe = RECIPES[name](images, labels)
    fit = recipe.fit(np.arange(8), np.arange(8, 12), np.random.default_rng(0))
    recipe.save(tmp_path, CLASSES, FACTS, [fit.head])
    classifier = Classifier.load(tmp_path)
    found = classifier.probabilities(classifier.features(images[8:]))
    # batch norms are folded here and were not there: float32 through ten layers; the answers differ by more
    np.testing.assert_allclose(found, fit.probabilities[None], rtol=0, atol=1e-5)
    assert np.ptp(fit.probabilities) > 1e-3


def test_the_first_head_has_learned_from_all_and_the_next_are_those_of_the_folds_in_their_order(run):
    answers = run.classifier.probabilities(run.classifier.features(run.images))  # (1 + 3, 24)
    assert len(answers) == 1 + len(run.outcomes) == 4
    for of_head, (fold, fit, _) in zip(answers[1:], run.outcomes):
        np.testing.assert_allclose(of_head[fold.valid_rows], fit.probabilities, rtol=0, atol=1e-6)  # float32, once
        assert abs(of_head - answers[0]).max() > 1e-3


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(OSError, match="backbone.npz"):
        Classifier.load(tmp_path)


def changed(**changes):
    """A function that takes the arrays and facts of head.npz and gives them with these changes; None removes."""
    def change(arrays, facts):
        for name, value in changes.items():
            part = arrays if name in ("weight", "bias") else facts
            part[name] = value(part[name]) if callable(value) else value
            if value is None:
                del part[name]
    return change


@pytest.mark.parametrize("change", [
    changed(weight=None), changed(weight=lambda w: w[:, :, 1:]), changed(weight=lambda w: w[:, :1]),
    changed(weight=lambda w: w[0]), changed(weight=lambda w: w[:0], bias=lambda b: b[:0]), changed(bias=lambda b: b[:-1]),
    changed(weight=lambda w: w * np.nan), changed(at=None), changed(at=[]), changed(at=["layer3", "layer9"]),
    changed(at="layer4"), changed(at=["layer4", "layer4"]), changed(at=7), changed(views=None), changed(views=[]),
    changed(views=["head", "sideways"]), changed(views=["head", {}]), changed(mirrored=None), changed(mirrored="yes"),
    changed(classes=["bleed"]), changed(classes=[0, 1]), changed(data=None), changed(data=[]), changed(data={}),
    changed(refer_half_width=None), changed(refer_half_width="wide"), changed(refer_half_width=7)])
def test_heads_that_do_not_fit_are_refused_by_the_name_of_their_file(change, run, folder, tmp_path):
    shutil.copy(folder / "backbone.npz", tmp_path)
    arrays, facts = read_arrays(folder / "head.npz")
    change(arrays, facts)
    write_arrays(tmp_path / "head.npz", arrays, facts)
    with pytest.raises(WeightsFileError, match=f"{tmp_path / 'head.npz'}: not the heads"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("name", ["backbone.npz", "head.npz"])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:len(content) // 2],
                                    lambda content: b"weights"], ids=["empty", "cut", "text"])
def test_a_damaged_file_is_named(name, damage, run, folder, tmp_path):
    for file in ("backbone.npz", "head.npz"):
        shutil.copy(folder / file, tmp_path)
    (tmp_path / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(WeightsFileError, match=str(tmp_path / name)):
        Classifier.load(tmp_path)


def test_each_files_place_taken_by_the_other_is_told(run, folder, tmp_path):
    shutil.copy(folder / "backbone.npz", tmp_path / "head.npz")
    shutil.copy(folder / "head.npz", tmp_path / "backbone.npz")
    with pytest.raises(WeightsFileError, match="backbone.npz: has no network's facts"):
        Classifier.load(tmp_path)


# Looking inside -------------------------------------------------------------------------------------------------------


@pytest.fixture
def exact(run, monkeypatch):
    """The classifier in float64, as a derivative by differences needs it."""
    monkeypatch.setattr(module, "seen", lambda *arguments: seen(*arguments).astype(np.float64))
    return run.classifier._replace(backbone=copy.deepcopy(run.classifier.backbone).astype(np.float64))


def split(classifier, head=0):
    """Of a head for the first view: {stage: its weights (C,)}."""
    return dict(zip(classifier.at, np.split(classifier.weight[head, 0], [classifier.weight.shape[2] // 3])))


def test_at_the_last_stage_the_map_is_the_class_activation_map(exact, run):
    x = module.seen(run.images[:1], "head", exact.backbone.preprocessing)
    A = fold_batch_norm(exact.backbone.part(to="layer4")).forward(x)[0]  # (h, w, C)
    expected = A @ split(exact, head=2)["layer4"] / (A.shape[0] * A.shape[1])
    found = exact.grad_cam(run.images[0], "layer4", head=2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * abs(expected).max())  # rounding


def test_what_every_stage_adds_directly_adds_up_to_the_logit_less_its_bias(exact, run):
    first_alone = exact._replace(weight=exact.weight.copy())
    first_alone.weight[:, :, first_alone.weight.shape[2] // 3:] = 0  # what layer3 adds by way of layer4 is not direct
    total = first_alone.grad_cam(run.images[3], "layer3").sum() + exact.grad_cam(run.images[3], "layer4").sum()
    x = module.seen(run.images[3:4], "head", exact.backbone.preprocessing)
    assert total + exact.bias[0, 0] == pytest.approx(exact.logit().forward(x).item(), abs=1e-10)  # float64, ten layers


@pytest.mark.parametrize("at", ["layer2", "layer3"])
def test_the_weight_of_a_channel_is_how_the_logit_moves_with_its_mean(at, exact, run):
    x = module.seen(run.images[:1], "head", exact.backbone.preprocessing)
    A = exact.backbone.part(to=at).forward(x)  # (1, h, w, C)
    weights, step = split(exact, 1), 1e-6

    def logit(A):
        middle = exact.backbone.part(after=at, to="layer3").forward(A)
        last = exact.backbone.part(after="layer3", to="layer4").forward(middle)
        return float(middle.mean(axis=(0, 1, 2)) @ weights["layer3"] + last.mean(axis=(0, 1, 2)) @ weights["layer4"])

    alpha = [(logit(A + d) - logit(A - d)) / (2 * step * A[0, :, :, 0].size) for d in step * np.eye(A.shape[3])]
    expected = A[0] @ alpha
    # a step of 1e-6 may cross the kink of a few of some thousand ReLUs
    np.testing.assert_allclose(exact.grad_cam(run.images[0], at, 1), expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_after_the_last_stage_that_is_read_nothing_matters(run):
    third_alone = run.classifier._replace(weight=run.classifier.weight[:, :, :16], at=["layer3"])
    assert not third_alone.grad_cam(run.images[0], "layer4").any()
    assert third_alone.grad_cam(run.images[0], "layer3").any()


@pytest.mark.parametrize("at, message", [("layer9", "no stage is named 'layer9'"), ("avgpool", "before the average"),
                                         ("fc", "before the average")])
def test_a_stage_without_a_map_is_refused(at, message, run):
    with pytest.raises(ValueError, match=message):
        run.classifier.grad_cam(run.images[0], at)


def test_the_logit_is_the_features_by_the_heads_weights_and_its_bias(run):
    weight, bias = run.classifier.weight[3, 0], run.classifier.bias[3, 0]
    x = seen(run.images, "head", run.classifier.backbone.preprocessing)
    expected = run.classifier.features_of_view(run.images) @ weight + bias
    np.testing.assert_allclose(run.classifier.logit(3).forward(x)[:, 0], expected, rtol=0, atol=1e-4)  # other batches


def test_the_features_of_the_first_view_are_those_of_the_slice_as_it_is(run):
    found = run.classifier.features_of_view(run.images)
    np.testing.assert_array_equal(found, run.classifier.features(run.images)[0, 0])


def test_asking_leaves_the_network_as_it_was(run):
    backbone = run.classifier.backbone
    before = backbone.state_dict()
    modes = [(layer.training, layer.frozen, layer._saved, dict(layer.grads)) for _, layer in backbone.named_layers()]
    run.classifier.features(run.images[:1])
    run.classifier.grad_cam(run.images[0], "layer2")
    run.classifier.logit().forward(np.zeros((1, 64, 64, 3), np.float32))
    assert [(layer.training, layer.frozen, layer._saved, dict(layer.grads)) for _, layer in backbone.named_layers()] == modes
    assert all(np.array_equal(array, before[name]) for name, array in backbone.state_dict().items())


@pytest.mark.parametrize("size", [(48, 40), (40, 120), (1, 1000), (1000, 1), (8, 8)])
def test_what_a_person_is_shown_is_no_strip(size, run):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    height, width, _ = run.classifier.shown(image).shape
    assert max(height, width) <= LONGEST * min(height, width) and (height, width) in (size, (224, 224))
