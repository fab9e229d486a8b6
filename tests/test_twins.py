"""In twins nothing but the blood tells the label, and both are changed alike."""

import numpy as np
import pytest

from tinyresnet import small_resnet
from tinyresnet.gradcheck import numerical_gradient, relative_error
from tinyresnet.ich.phantom import KINDS, WINDOWS, make_phantom, window
from tinyresnet.ich.recipes import Scratch, Settings
from tinyresnet.ich.twins import SIZE, STROKE, make_twins, read_twins, twin_loss
from tinyresnet.images import resize
from tinyresnet.metrics import binary_measures
from tinyresnet.training import predict

BLEEDS = KINDS[1:]


@pytest.fixture(scope="module")
def twins():
    """400 slices of 100 patients."""
    return make_twins(100, seed=11)


def auc(scores, labels):
    scores = np.asarray(scores, float)
    return binary_measures(labels, (scores - scores.min()) / np.ptp(scores))["roc_auc"]


def test_the_same_seed_gives_the_same_twins_and_another_seed_others():
    first, second, third = (make_twins(4, size=48, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.images, second.images)
    assert first.facts == second.facts
    assert (first.images != third.images).any()


def test_every_second_slice_shows_blood_and_no_other(twins):
    np.testing.assert_array_equal([fact["area_mm2"] > 0 for fact in twins.facts], twins.labels == 1)
    assert twins.labels[:4].tolist() == [0, 1, 0, 1]


def test_twins_are_one_patient_on_one_level(twins):
    for normal, bleeding in zip(twins.facts[::2], twins.facts[1::2]):
        assert (normal["seed"], normal["level"]) == (bleeding["seed"], bleeding["level"])


def test_the_bleeds_take_turns(twins):
    assert {kind: sum(fact["kind"] == kind for fact in twins.facts) for kind in BLEEDS} == dict.fromkeys(BLEEDS, 40)


def test_a_group_is_one_patient_and_a_patient_one_group(twins):
    pairs = {(group, fact["seed"]) for group, fact in zip(twins.groups.tolist(), twins.facts)}
    assert len(pairs) == len(set(twins.groups.tolist())) == len({fact["seed"] for fact in twins.facts}) == 100


def test_two_slices_of_a_patient_are_different_levels(twins):
    assert all(twins.facts[n]["level"] != twins.facts[n + 2]["level"] for n in range(0, 400, 4))


def test_shapes_and_dtypes():
    images, labels, groups, facts = make_twins(3, slices=3, size=48, seed=1)
    assert (images.shape, images.dtype, labels.dtype, groups.dtype) == ((18, 48, 48, 3), np.uint8, np.int64, np.int64)
    assert len(facts) == 18


def test_each_channel_is_the_slice_in_its_window(twins):
    fact = twins.facts[3]
    hu = make_phantom(fact["seed"], fact["kind"], fact["level"], size=2 * SIZE).hu
    drawn = np.stack([window(hu, *fact["window"]), window(hu, *STROKE), window(hu, *WINDOWS["subdural"])], axis=-1)
    np.testing.assert_array_equal(twins.images[3], resize(drawn, (SIZE, SIZE)))


# 100 patients: the standard error of an AUC is at most .04
def test_the_border_tells_nothing(twins):
    border = np.ones(twins.images.shape[1:3], bool)
    border[5:-5, 5:-5] = False
    assert 0.45 < auc(twins.images[:, border, 0].mean(axis=1), twins.labels) < 0.55


def test_the_mean_of_the_image_tells_next_to_nothing(twins):
    assert 0.4 < auc(twins.images.mean(axis=(1, 2, 3)), twins.labels) < 0.6


@pytest.mark.parametrize("fact", ["level", "mm_per_pixel", "rotation_deg", "noise_hu"])
def test_nuisance_tells_nothing(twins, fact):
    assert auc([known[fact] for known in twins.facts], twins.labels) == 0.5


def test_with_a_shortcut_of_one_every_bleed_bears_a_letter_and_no_normal_slice_does():
    plain, stamped = make_twins(3, seed=5), make_twins(3, seed=5, shortcut=1)
    assert [fact["letter"] is not None for fact in stamped.facts] == (stamped.labels == 1).tolist()
    assert all(fact["letter"] is None for fact in plain.facts)
    differs = (stamped.images != plain.images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(differs, stamped.labels == 1)
    np.testing.assert_array_equal(stamped.images[:, SIZE // 5:], plain.images[:, SIZE // 5:])  # but for the corner


def test_a_shortcut_tells_the_label_by_the_corner_alone():
    twins = make_twins(40, seed=2, shortcut=0.6)
    corner = twins.images[:, :SIZE // 6, :SIZE // 6].mean(axis=(1, 2, 3))
    assert auc(corner, twins.labels) > 0.7  # (1 + .6) / 2 = .8; the standard error is .05


def test_a_shortcut_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="0 to 1, got 2"):
        make_twins(1, shortcut=2)


def test_both_twins_are_turned_zoomed_and_mirrored_alike():
    pair = np.repeat(make_twins(1, seed=5).images[:1], 2, axis=0)
    x = read_twins(pair, np.random.default_rng(0))
    np.testing.assert_array_equal(x[0], x[1])
    assert (x[0] != read_twins(pair, None)[0]).any()


def test_another_pair_is_changed_in_another_way():
    x = read_twins(np.repeat(make_twins(1, seed=5).images[:1], 4, axis=0), np.random.default_rng(0))
    assert (x[0] != x[2]).any()


def test_a_slice_and_its_mirror_get_the_same_answer():
    twins = make_twins(2, seed=5)
    images = np.concatenate([twins.images, twins.images[:, :, ::-1]])  # (16, ...): eight slices, then their mirror images
    recipe = Scratch(lambda rng: small_resnet(width=4, rng=rng), images, np.tile(twins.labels, 2), Settings(1, 8, 1e-3, 0))
    answers = recipe.fit(np.arange(8), np.arange(16), np.random.default_rng(0)).probabilities
    np.testing.assert_allclose(answers[:8], answers[8:], rtol=1e-6)  # float32 rounding: another place in the batch
    alone = predict(recipe.backbone, recipe.samples(np.arange(16)), 16)[:, 1]
    assert np.abs(alone[:8] / alone[8:] - 1).max() > 1e-4, "without its mirror image each gets another"


@pytest.mark.parametrize("patients, slices", [(0, 2), (2, 0), (2, 5)])
def test_no_patients_or_too_many_slices_are_refused(patients, slices):
    with pytest.raises(ValueError, match=f"1 to 4 slices, got {patients} with {slices}"):
        make_twins(patients, slices=slices)


def test_the_gradient_of_the_twins_loss_is_its_derivative():
    logits, labels = np.random.default_rng(0).standard_normal((6, 2)), np.arange(6) % 2
    numerical = numerical_gradient(lambda: twin_loss(logits, labels)[0], logits)
    assert relative_error(twin_loss(logits, labels)[1], numerical) < 1e-9  # the difference quotient's rounding


def test_the_twins_loss_asks_each_slice_and_each_pair():
    logits, labels = np.array([[0.0, 0], [0, 3]]), np.array([0, 1])
    each = (np.log(2) + np.log1p(np.exp(-3.0))) / 2
    assert twin_loss(logits, labels)[0] == pytest.approx((each + np.log1p(np.exp(-3.0))) / 2, rel=1e-12)  # rounding
