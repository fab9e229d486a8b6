"""The paper's experiment: its split, its two arms, its whole network, its six measures by its equations."""

import copy
import csv
import importlib
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from run_examples import EXAMPLES
from toy_slices import toy_images, toy_labels, toy_network

from tinyresnet import training
from tinyresnet.ich import paper
from tinyresnet.ich.analysis import published
from tinyresnet.ich.experiment import Fold, rng_of
from tinyresnet.ich.paper import ARMS, PUBLISHED, TEST_FRACTION, Paper, arm_preprocessing
from tinyresnet.ich.recipes import Settings
from tinyresnet.ich.splits import stratified_split
from tinyresnet.images import IMAGENET
from tinyresnet.layers import BatchNorm2d
from tinyresnet.metrics import binary_measures, exact_intervals
from tinyresnet.optim import Adam

IMAGES, LABELS = toy_images(12), toy_labels(12)
TRAIN, VALID = np.array([7, 0, 1, 2, 3, 5, 6, 8]), np.array([4, 11, 9, 10])
SETTINGS = Settings(epochs=2, batch_size=4, lr=1e-3, weight_decay=0.0)
SIX = ("sensitivity", "specificity", "precision", "f1", "accuracy", "balanced_accuracy")


def arm(name):
    network = toy_network()
    network.preprocessing = arm_preprocessing(name, network.preprocessing)
    return Paper(network, IMAGES, LABELS, SETTINGS)


@pytest.fixture(scope="module")
def prepared():
    return arm("own_input")


@pytest.fixture
def recipe(prepared):
    return copy.deepcopy(prepared)


def fitted(recipe, train=TRAIN, valid=VALID, seed=0, **options):
    return recipe.fit(train, valid, np.random.default_rng(seed), **options)


# What was published ---------------------------------------------------------------------------------------------------


def by_the_papers_equations(TP, FN, FP, TN):
    TPR, TNR, PPV = Fraction(TP, TP + FN), Fraction(TN, TN + FP), Fraction(TP, TP + FP)
    return {"sensitivity": TPR, "specificity": TNR, "precision": PPV, "f1": 2 * PPV * TPR / (PPV + TPR),
            "accuracy": Fraction(TP + TN, TP + FN + FP + TN), "balanced_accuracy": (TPR + TNR) / 2}


@pytest.mark.parametrize("TP, FN, FP, TN", [(13, 7, 3, 17), (16, 4, 4, 16), (1, 9, 20, 5)])
def test_the_six_measures_are_those_of_the_papers_equations(TP, FN, FP, TN):
    labels = np.repeat([1, 1, 0, 0], [TP, FN, FP, TN])
    probabilities = np.repeat([0.5, 0.49, 0.9, 0.2], [TP, FN, FP, TN])  # from one half on it is called positive
    found = binary_measures(labels, probabilities)
    for name, value in by_the_papers_equations(TP, FN, FP, TN).items():
        assert found[name] == pytest.approx(float(value), rel=1e-12), name


def test_the_paper_reports_80_percent_six_times_and_no_area_under_a_curve():
    found = published()
    assert PUBLISHED == (16, 20) and set(found) == set(SIX)
    for name, value in by_the_papers_equations(16, 4, 4, 16).items():
        assert found[name]["value"] == pytest.approx(float(value)) == 0.8, name


def test_32_of_40_may_be_anything_from_644_to_909_in_a_thousand():
    found = published()["accuracy"]
    assert (round(found["low"], 3), round(found["high"], 3)) == (0.644, 0.909)
    for name in ("sensitivity", "specificity", "precision"):  # 16 of 20
        assert (round(published()[name]["low"], 3), round(published()[name]["high"], 3)) == (0.563, 0.943), name
    assert exact_intervals(np.repeat([0, 1], 20), np.repeat([0, 1, 0, 1], [16, 4, 4, 16]))["accuracy"] == found


# Split and arms -------------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_split_of_the_real_slices_is_that_of_scikit_learn(shared):
    train_test_split = pytest.importorskip("sklearn.model_selection").train_test_split
    with open(shared / "data" / "head_ct" / "labels.csv", encoding="utf-8") as file:
        labels = np.array([int(row[1]) for row in list(csv.reader(file))[1:]])
    expected = train_test_split(np.arange(200), test_size=0.2, stratify=labels, random_state=0)
    for rows, theirs in zip(stratified_split(labels, TEST_FRACTION, 0), expected):
        np.testing.assert_array_equal(rows, theirs)
    assert labels[expected[1]].sum() == 20 and len(expected[1]) == 40


def test_the_commands_defaults_are_the_papers(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    jobs = importlib.import_module("train_ich_jobs")
    assert jobs.DEFAULTS["paper"] == Settings(epochs=30, batch_size=16, lr=1e-4, weight_decay=0.0)
    assert TEST_FRACTION == 0.2


def raw(image):
    """Of the whole slice, at the size of the weights' input."""
    return np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) / 255.0


def test_as_written_divides_by_255_and_does_nothing_else():
    x = arm("as_written").x
    np.testing.assert_allclose(x, [raw(image) for image in IMAGES], atol=1e-7)  # float32
    assert x.min() == 0 and 0.9 < x.max() <= 1


def test_own_input_is_normalised_with_the_weights_mean_and_deviation(recipe):
    asked = toy_network().preprocessing
    expected = (np.array([raw(image) for image in IMAGES]) - asked.mean) / asked.std
    np.testing.assert_allclose(recipe.x, expected, atol=1e-6)  # float32


def test_the_arms_differ_in_mean_and_deviation_alone():
    written, own = (arm_preprocessing(name, IMAGENET) for name in ARMS)
    assert list(ARMS) == ["as_written", "own_input"]
    assert written.size == own.size == (224, 224) and written.crop is own.crop is None
    assert written.interpolation == own.interpolation and (own.mean, own.std) == (IMAGENET.mean, IMAGENET.std)
    assert (written.mean, written.std) == ((0, 0, 0), (1, 1, 1))


def begun(recipe, name, monkeypatch):
    """The weights a training begins with, its images in the order of its first epoch, and those it is asked about."""
    told = {}

    def watched(model, optimizer, train_set, valid_set, *, batch_size, rng, **options):
        told["weights"] = model.state_dict()
        rows = train_set._replace(inputs=np.arange(len(train_set.labels)))
        told["order"] = [x.tolist() for x, _ in training.batches(rows, batch_size, rng)]
        told["labels"] = train_set.labels.tolist(), valid_set.labels.tolist()
        return []

    monkeypatch.setattr(paper, "train", watched)
    fold = Fold(name, 0, 0, TRAIN, VALID)
    recipe.fit(TRAIN, VALID, rng_of(fold, 0))
    return told


def test_both_arms_begin_with_the_same_weights_and_head_and_see_the_same_images_in_the_same_order(monkeypatch):
    one, other = (begun(arm(name), name, monkeypatch) for name in ARMS)
    assert one["order"] == other["order"] and one["labels"] == other["labels"] == (LABELS[TRAIN].tolist(),
                                                                                   LABELS[VALID].tolist())
    assert all((other["weights"][name] == array).all() for name, array in one["weights"].items())


# What trains ----------------------------------------------------------------------------------------------------------


def test_a_fit_begins_with_the_published_weights_and_a_new_head_that_the_seed_decides(recipe, monkeypatch):
    published_weights = toy_network().state_dict()
    fitted(recipe)  # which moves everything
    weights = begun(recipe, "as_written", monkeypatch)["weights"]
    for name, array in weights.items():
        if not name.startswith("fc"):
            assert (array == published_weights[name]).all(), name
    assert weights["fc.weight"].shape == (32, 2) and np.ptp(weights["fc.weight"]) > 0
    fitted(recipe, seed=1)
    assert not np.array_equal(recipe.backbone.fc.weight, weights["fc.weight"])


def test_the_whole_network_trains_and_batch_norms_take_the_statistics_of_the_batches(recipe):
    before = toy_network().state_dict()
    fitted(recipe)
    after = recipe.backbone.state_dict()
    assert not [name for name in before if not name.startswith("fc") and np.array_equal(before[name], after[name])]
    assert not any(layer.frozen for _, layer in recipe.backbone.named_layers())


def test_the_statistics_are_those_of_the_slices_that_learn(recipe):
    """Nothing moves here, so the first batch norm meets the same batch, of all of them, in every epoch."""
    recipe.settings = SETTINGS._replace(lr=0.0, epochs=60, batch_size=8)
    x = recipe.backbone.conv1.forward(recipe.x[TRAIN])
    fitted(recipe)
    norm = recipe.backbone.bn1
    assert isinstance(norm, BatchNorm2d)
    np.testing.assert_allclose(norm.running_mean, x.mean(axis=(0, 1, 2)), atol=5e-3)  # .9**60 = .002 of what it was
    np.testing.assert_allclose(norm.running_var, x.var(axis=(0, 1, 2)), rtol=5e-3, atol=5e-3)


def test_nothing_of_the_images_that_are_asked_about_enters_the_network(recipe):
    fitted(recipe)
    weights = recipe.backbone.state_dict()
    recipe.x[VALID] = 100
    recipe.labels = np.where(np.isin(np.arange(12), VALID), 1 - LABELS, LABELS)
    fitted(recipe)
    assert all((array == weights[name]).all() for name, array in recipe.backbone.state_dict().items())


def test_the_same_seed_gives_the_same_answers_whatever_was_fitted_before(recipe):
    first = fitted(recipe).probabilities
    fitted(recipe, TRAIN[:6], VALID[:2], seed=1)
    np.testing.assert_array_equal(fitted(recipe).probabilities, first)


def test_the_rate_stays_and_every_epoch_is_judged_for_the_figure(recipe):
    history = fitted(recipe).history
    assert [row["lr"] for row in history] == [1e-3, 1e-3] and all(row["valid_accuracy"] is not None for row in history)


def test_adam_decays_weights_only_as_far_as_it_is_told(recipe, monkeypatch):
    made = []
    monkeypatch.setattr(paper, "Adam", lambda model, lr, **options: made.append((lr, options)) or Adam(model, lr, **options))
    for decay in (0.0, 0.01):
        recipe.settings = recipe.settings._replace(weight_decay=decay, epochs=1)
        fitted(recipe)
    assert made == [(recipe.settings.lr, {"weight_decay": 0.0}), (recipe.settings.lr, {"weight_decay": 0.01})]


def test_the_answer_is_the_networks_for_the_slice_as_it_is(recipe):
    found = fitted(recipe)
    logits = recipe.backbone.eval().forward(recipe.x[VALID])
    np.testing.assert_allclose(found.probabilities, training.softmax(logits)[:, 1], atol=1e-6)  # float32
    features = recipe.backbone.features(recipe.x[VALID], recipe.at)
    read = 1 / (1 + np.exp(-(features @ found.head.weight[0] + found.head.bias[0])))
    np.testing.assert_allclose(read, found.probabilities, atol=1e-5)
    assert recipe.views == ("slice",) and not recipe.mirrored


def test_an_interrupted_arm_goes_on_to_the_same_bits(recipe, tmp_path, monkeypatch):
    again, save = copy.deepcopy(recipe), training.save_checkpoint
    whole = fitted(recipe)

    def interrupted(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted(again, checkpoint=tmp_path / "part.npz")
    monkeypatch.undo()
    resumed = fitted(again, checkpoint=tmp_path / "part.npz")
    assert (resumed.probabilities == whole.probabilities).all() and resumed.history == whole.history
    weights = recipe.backbone.state_dict()
    assert all((array == weights[name]).all() for name, array in again.backbone.state_dict().items())
