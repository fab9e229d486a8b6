"""Frozen features: a head for each view that learned from its training rows alone, and the mean of their answers."""

import numpy as np
import pytest
from toy_slices import FACTS, toy_images, toy_labels, toy_network

from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.features import STRENGTH, Features, features_of
from tinyresnet.ich.views import BOTH, seen

TRAIN, VALID = np.arange(30), np.arange(30, 40)
LABELS = toy_labels(40)


@pytest.fixture(scope="module")
def backbone():
    return toy_network()


@pytest.fixture(scope="module")
def features():
    """(V, 2, n, C) as of a network of which layer3 has 4 channels and layer4 8; the classes overlap."""
    rng = np.random.default_rng(0)
    found = rng.normal(3, [1] * 6 + [20] * 6, (2, 2, 40, 12)).astype(np.float32)  # columns of different size
    found[:, :, :, :3] += LABELS[:, None]
    return found


def fit(backbone, features, labels=LABELS, train=TRAIN, valid=VALID, **options):
    return Features(backbone, features, labels, **options).fit(train, valid, np.random.default_rng(0))


# What it reads --------------------------------------------------------------------------------------------------------


def test_it_reads_the_averages_of_the_last_two_stages_of_every_view_and_its_mirror_image(backbone):
    images = toy_images(3)
    found = features_of(backbone, images)
    assert found.shape == (2, 2, 3, 16 + 32)
    for v, view in enumerate(BOTH):
        x = seen(images, view, backbone.preprocessing)
        for side, expected in zip(found[v], (x, x[:, :, ::-1])):
            third = backbone.part(to="layer3").forward(np.ascontiguousarray(expected))
            fourth = backbone.part(after="layer3", to="layer4").forward(third)
            averages = np.concatenate([third.mean(axis=(1, 2)), fourth.mean(axis=(1, 2))], axis=1)
            np.testing.assert_allclose(side, averages, atol=1e-4, rtol=1e-4)  # batch norm was folded, in float32


def test_the_published_network_stays_as_it_is(backbone, features):
    before = backbone.state_dict()
    features_of(backbone, toy_images(1))
    fit(backbone, features)
    assert all((array == before[name]).all() for name, array in backbone.state_dict().items())


# What it learns -------------------------------------------------------------------------------------------------------


def of_sklearn(features, valid):
    """The mean over views and mirrors of what scikit-learn answers, with the recipe as it is written down."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler
    answers = []
    for of_view in features.astype(np.float64):
        x = np.concatenate([of_view[0, TRAIN], of_view[1, TRAIN]])
        model = pipeline(scaler(), linear_model.LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
        model.fit(x, np.concatenate([LABELS[TRAIN], LABELS[TRAIN]]))
        answers += [model.predict_proba(side[valid])[:, 1] for side in of_view]
    return np.mean(answers, axis=0)


def test_the_answers_are_those_of_scikit_learns_pipeline(backbone, features):
    found = fit(backbone, features).probabilities
    np.testing.assert_allclose(found, of_sklearn(features, VALID), atol=1e-6)  # its solver stops a little earlier
    assert np.ptp(found) > 0.2 and STRENGTH == 10


def test_every_view_has_a_head_and_the_answer_is_the_mean_of_four_logistic_functions(backbone, features):
    found = fit(backbone, features)
    assert found.head.weight.shape == (2, 12) and found.head.bias.shape == (2,) and found.history == []
    logits = np.stack([features[v, m, VALID] @ found.head.weight[v] + found.head.bias[v] for v in (0, 1) for m in (0, 1)])
    np.testing.assert_allclose(found.probabilities, (1 / (1 + np.exp(-logits))).mean(axis=0), rtol=1e-12)


def test_a_head_learns_from_its_own_view_and_both_its_sides(backbone, features):
    head = fit(backbone, features).head
    for v, m in np.ndindex(2, 2):
        changed = features.copy()
        changed[v, m, TRAIN] += np.random.default_rng(1).normal(size=(30, 12)).astype(np.float32)
        same = (fit(backbone, changed).head.weight == head.weight).all(axis=1)
        assert not same[v] and same[1 - v], (v, m)


def test_nothing_of_the_images_that_are_asked_about_enters_the_head(backbone, features):
    head = fit(backbone, features).head
    pixels, labels = features.copy(), LABELS.copy()
    pixels[:, :, VALID] = 1e3 * np.random.default_rng(2).normal(size=(2, 2, 10, 12))
    labels[VALID] = 1 - labels[VALID]
    for changed in (fit(backbone, pixels), fit(backbone, features, labels), fit(backbone, features, valid=VALID[:0])):
        assert (changed.head.weight == head.weight).all() and (changed.head.bias == head.bias).all()


def test_an_image_is_answered_alone_as_among_others(backbone, features):
    alone, among = fit(backbone, features, valid=VALID[3:4]).probabilities, fit(backbone, features).probabilities[3:4]
    np.testing.assert_allclose(alone, among, rtol=1e-12)  # a sum of few products, perhaps in another order


def test_without_images_to_ask_about_there_are_no_answers(backbone, features):
    assert fit(backbone, features, valid=VALID[:0]).probabilities.shape == (0,)


def test_nothing_is_random_and_what_was_fitted_before_does_not_matter(backbone, features):
    recipe = Features(backbone, features, LABELS)
    first = recipe.fit(TRAIN, VALID, np.random.default_rng(0))
    recipe.fit(VALID, TRAIN, np.random.default_rng(1))
    again = recipe.fit(TRAIN, VALID, np.random.default_rng(2))
    assert (first.probabilities == again.probabilities).all() and (first.head.weight == again.head.weight).all()


# What else might have been done ---------------------------------------------------------------------------------------


def test_the_variants_say_what_they_are(backbone, features):
    assert [name for name, _ in Features(backbone, features, LABELS).variants()] == [
        "head alone", "interior alone", "without mirror images", "layer3 alone", "layer4 alone", "penalty times 0.01",
        "penalty times 100"]


def test_the_variants_are_what_they_say(backbone, features):
    variants = dict(Features(backbone, features, LABELS).variants())
    for name, expected in {"head alone": features[:1], "interior alone": features[1:],
                           "without mirror images": features[:, :1], "layer3 alone": features[..., :4],
                           "layer4 alone": features[..., 4:]}.items():
        found = variants[name].fit(TRAIN, VALID, np.random.default_rng(0))
        np.testing.assert_array_equal(found.probabilities, fit(backbone, expected).probabilities, name)
    weak, strong = (np.ptp(variants[f"penalty times {factor}"].fit(TRAIN, VALID, np.random.default_rng(0)).probabilities)
                    for factor in ("0.01", "100"))
    assert strong < np.ptp(fit(backbone, features).probabilities) < weak


def test_a_stage_alone_is_cut_where_its_channels_end(backbone):
    variants = dict(Features(backbone, features_of(backbone, toy_images(2)), toy_labels(2)).variants())
    assert [variants[f"{stage} alone"].features.shape[-1] for stage in ("layer3", "layer4")] == [16, 32]


# What it leaves -------------------------------------------------------------------------------------------------------


def test_the_saved_heads_answer_slices_as_the_fit_did(backbone, tmp_path):
    images, labels = toy_images(12), toy_labels(12)
    recipe = Features(backbone, features_of(backbone, images), labels)
    fits = [recipe.fit(rows, np.arange(12), np.random.default_rng(0)) for rows in (np.arange(12), np.arange(6))]
    recipe.save(tmp_path, ("normal", "hemorrhage"), FACTS, [found.head for found in fits])
    classifier = Classifier.load(tmp_path)
    assert classifier.mirrored and classifier.views == list(BOTH)
    found = classifier.probabilities(classifier.features(images))
    np.testing.assert_allclose(found, [fitted.probabilities for fitted in fits], atol=1e-6)  # float32 features
