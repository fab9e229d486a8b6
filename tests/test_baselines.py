"""Baselines: what they see and what they do not, and that chance stays chance."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tinyresnet import small_resnet
from tinyresnet.ich.baselines import (SUSPICIOUS, baseline_features, bright_blob, compared, out_of_fold_answers, warnings_of)
from tinyresnet.ich.brain import brain_mask
from tinyresnet.ich.experiment import Fold, Outcome, Slices, cross_validation, out_of_fold
from tinyresnet.ich.features import features_of
from tinyresnet.ich.metadata import METADATA
from tinyresnet.ich.phantom import make_phantom, window
from tinyresnet.ich.recipes import Fit
from tinyresnet.images import Preprocessing
from tinyresnet.metrics import binary_measures


def slices_of(labels, groups):
    return Slices([str(n) for n in range(len(labels))], labels, groups, True, ("normal", "hemorrhage"))


def picture(seed, kind, level=8):
    return np.repeat(window(make_phantom(seed, kind, level).hu)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def synthetic():
    """150 images of 60 scans, of which a scan is one class; ten columns, of which the first tells a little."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.append(np.arange(60), rng.integers(0, 60, 90)))
    labels = groups % 2
    features = rng.normal(size=(150, 10)) + rng.normal(size=(60, 10))[groups]  # images of a scan resemble each other
    features[:, 0] += 2 * labels
    return slices_of(labels, groups), features


# The four -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Eight phantoms, four of them with blood, as files and as images, and a network that was never trained."""
    folder = tmp_path_factory.mktemp("phantoms")
    images = [picture(seed, kind) for seed in range(4) for kind in ("normal", "IPH")]
    paths = [folder / f"{n}.png" for n in range(8)]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    backbone = small_resnet(2, rng=np.random.default_rng(0)).eval()
    backbone.preprocessing = Preprocessing(resize=36, crop=32)
    return paths, images, backbone


@pytest.fixture(scope="module")
def four(phantoms):
    return baseline_features(*phantoms)


def test_a_row_is_an_image_and_majority_has_no_column(four):
    assert four["metadata"].shape == (8, len(METADATA)) and four["bright_blob"].shape == (8, 4)
    assert four["majority"].shape == (8, 0) and four["brain_blanked"].shape[0] == 8 and len(four) == 4


def test_what_is_in_the_brain_is_hidden_from_the_blanked_network(four, phantoms):
    paths, images, backbone = phantoms
    images = [image.copy() for image in images]
    images[0][54:74, 54:74] = 150  # brighter than brain, darker than bone
    without, seen = features_of(backbone, [picture(0, "normal"), images[0]], views=["head"])[0, 0]
    hidden = baseline_features(paths, images, backbone)["brain_blanked"] - four["brain_blanked"]
    assert np.abs(hidden).max() < 0.2 * np.abs(seen - without).max()  # not 0: the edge of the mask moves a little


# bright_blob ----------------------------------------------------------------------------------------------------------


def test_the_bright_blob_tells_a_large_bleed_from_none():
    for seed in range(6):
        normal, bleeding = bright_blob(picture(seed, "normal")), painted(picture(seed, "normal"), 12)
        assert bleeding[0] > normal[0] + 0.1, seed


def painted(image, radius, stretch=1, grey=215):
    """The four numbers of a phantom with a disc, or an ellipse, of blood in its middle."""
    image = image.copy()
    i, j = np.mgrid[-64:64, -64:64]
    image[np.hypot(i * stretch, j) < radius] = grey
    return bright_blob(image)


def test_the_numbers_of_the_bright_blob_mean_what_they_say():
    image = picture(1, "normal")
    disc, larger, flat = painted(image, 10), painted(image, 20), painted(image, 20, stretch=4)
    assert larger[0] / disc[0] == pytest.approx(2, abs=0.25)  # twice the radius; edges are blurred over a pixel or two
    assert 0.5 < disc[1] < 1 and disc[3] <= 1.01  # between the brain's median and bone
    assert disc[2] > 0.8 > 0.5 > flat[2]  # a disc fills itself, an ellipse of 4 : 1 a quarter


@pytest.mark.parametrize("brightness, counts", [(0.15, False), (0.4, True)])
def test_from_a_quarter_of_the_way_to_bone_on_it_is_bright(brightness, counts):
    image = picture(1, "normal")
    middle = np.median(image[brain_mask(image)])
    found = painted(image, 14, grey=round(middle + brightness * (255 - middle)))[0]
    assert (found > 0.2) == counts, found  # a disc of this radius is a twentieth of the brain


def test_a_bright_rim_along_the_skull_is_no_blob():
    image = picture(2, "normal")
    brain = brain_mask(image)
    image[brain & ~ndimage.binary_erosion(brain, iterations=5)] = 180  # not as bright as bone
    assert bright_blob(image)[0] < 0.1  # .05; with the rim .43


def test_a_bright_line_across_the_brain_is_no_blob():
    image = picture(2, "normal")
    image[30:100, 63:65] = 215
    assert bright_blob(image)[0] < 0.1


@pytest.mark.parametrize("image", [np.zeros((50, 60, 3), np.uint8), np.full((9, 200, 3), 255, np.uint8)])
def test_where_nothing_is_bright_there_is_no_blob(image):
    assert bright_blob(image).tolist() == [0, 0, 0, 0]


def test_the_size_of_the_picture_does_not_matter():
    image = picture(1, "IPH")
    small, large = bright_blob(image), bright_blob(np.repeat(np.repeat(image, 3, axis=0), 3, axis=1))
    np.testing.assert_allclose(large, small, atol=0.1)


# Through the folds ----------------------------------------------------------------------------------------------------


def test_every_image_is_answered_once_a_repeat_by_a_fit_that_has_not_seen_its_scan(synthetic):
    slices, features = synthetic
    plan = cross_validation(slices, ["grouped"], 5, 2, 0)
    rows, answers = out_of_fold(out_of_fold_answers(features, slices.labels, plan), "grouped")
    assert rows.tolist() == list(range(150)) and answers.shape == (2, 150)
    image = plan[0].valid_rows[0]
    for other in np.flatnonzero(slices.groups == slices.groups[image]):
        changed = features.copy()
        changed[other] = 1e3
        if other != image:
            _, again = out_of_fold(out_of_fold_answers(changed, slices.labels, plan), "grouped")
            assert (again[:, image] == answers[:, image]).all()


def test_majority_answers_with_the_share_of_positives_in_the_training_rows():
    plan = [Fold("plain", 0, 0, np.array([0, 1, 2, 3, 4]), np.array([5, 6]))]
    (_, fit, _), = out_of_fold_answers(np.empty((7, 0)), np.array([1, 1, 1, 0, 0, 0, 1]), plan)
    assert fit.probabilities == pytest.approx([0.6, 0.6])


def test_measures_come_by_name_and_split_and_fit_into_json(synthetic):
    slices, features = synthetic
    plan = cross_validation(slices, ["plain", "grouped"], 3, 2, 0)
    perfect = [Outcome(fold, Fit(slices.labels[fold.valid_rows].astype(float), [], None)) for fold in plan]
    found = compared({"metadata": features, "majority": features[:, :0]}, slices, plan, perfect)
    measured, ahead = found["baselines"], found["ahead"]
    assert list(measured) == list(ahead) == ["metadata", "majority"] and list(measured["metadata"]) == ["plain", "grouped"]
    auc = measured["metadata"]["grouped"]["roc_auc"]
    assert auc["low"] < auc["value"] < auc["high"]
    assert measured["majority"]["grouped"]["accuracy"]["value"] < 0.6 < measured["metadata"]["grouped"]["accuracy"]["value"]
    assert ahead["metadata"]["grouped"]["roc_auc"]["value"] == pytest.approx(1 - auc["value"])
    told = [split for split in ahead["metadata"] if measured["metadata"][split]["accuracy"]["value"] > SUSPICIOUS]
    assert len(found["warnings"]) == len(told) + 1 and found["warnings"][-1].startswith("plain: ")  # siblings
    json.dumps(found, allow_nan=False)


def results(**accuracies):
    return {name: {"grouped": {"accuracy": {"value": value}}, "plain": {"accuracy": {"value": 0.5}}}
            for name, value in accuracies.items()}


def test_shortcuts_above_65_percent_are_warned_of_in_plain_words():
    metadata, blanked = warnings_of(results(metadata=0.731, brain_blanked=0.66, bright_blob=0.9, majority=0.7), {})
    assert metadata.startswith("grouped: from file metadata") and "accuracy of 0.73 (" in metadata
    assert "brain blanked out" in blanked and "0.66" in blanked


def test_nobody_is_warned_of_65_percent_or_of_what_looks_at_the_brain():
    assert warnings_of(results(metadata=SUSPICIOUS, brain_blanked=0.5, bright_blob=0.99), {"grouped": 0.0}) == []
    assert warnings_of({}, {}) == []


def test_siblings_of_the_tested_among_the_learned_are_warned_of():
    warning, = warnings_of({}, {"grouped": 0.0, "as_written": 0.625})
    assert warning.startswith("as written: 62% of the tested slices have a sibling")


# Permuted labels ------------------------------------------------------------------------------------------------------


def mean_auc_of_permuted_labels(features, slices, permutations=20):
    """Grouped cross-validation, with the labels of whole scans given to other scans."""
    rng = np.random.default_rng(0)
    names, of_image = np.unique(slices.groups, return_inverse=True)
    label_of_group = np.array([round(slices.labels[of_image == g].mean()) for g in range(len(names))])
    aucs = []
    for _ in range(permutations):
        permuted = slices._replace(labels=rng.permutation(label_of_group)[of_image])
        plan = cross_validation(permuted, ["grouped"], 5, 1, 0)
        _, (answers,) = out_of_fold(out_of_fold_answers(features, permuted.labels, plan), "grouped")
        aucs.append(binary_measures(permuted.labels, answers)["roc_auc"])
    return np.mean(aucs)


# Chance is .5: the standard error of the mean of 20 is about .015, and we allow three. Pooling folds whose classes are
# not equally many pulls below .5, because a fold with more positives was trained with fewer; folds are stratified.
def test_with_permuted_labels_nothing_is_learned(synthetic):
    slices, features = synthetic
    assert 0.45 < mean_auc_of_permuted_labels(features, slices) < 0.55


@pytest.mark.shared
def test_with_permuted_labels_nothing_is_learned_from_features_of_the_real_slices(real_slices, real_features):
    assert 0.45 < mean_auc_of_permuted_labels(real_features[0, 0], real_slices) < 0.55
