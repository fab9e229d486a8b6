"""Fine-tuning: from the linear probe on, batch norms frozen, pulled to the published weights, mirrors in turn."""

import copy
import importlib
import math

import numpy as np
import pytest
from run_examples import EXAMPLES
from toy_slices import FACTS, toy_images, toy_labels, toy_network

from tinyresnet import training
from tinyresnet.ich import finetune
from tinyresnet.ich.classifier import Classifier
from tinyresnet.ich.finetune import Finetune, check_stage
from tinyresnet.ich.recipes import Settings
from tinyresnet.ich.views import BOTH, seen
from tinyresnet.layers import BatchNorm2d

IMAGES, LABELS = toy_images(12), toy_labels(12)
TRAIN, VALID = np.array([0, 1, 2, 3, 5, 6, 8, 11]), np.array([4, 7, 9, 10])
STILL = Settings(epochs=1, batch_size=4, lr=0.0, weight_decay=0.0)  # nothing moves
SOME = Settings(epochs=3, batch_size=6, lr=1e-3, weight_decay=0.01)


@pytest.fixture(scope="module")
def prepared():
    """A recipe that trains from layer3 on."""
    return Finetune(toy_network(), IMAGES, LABELS, SOME, "layer3")


@pytest.fixture
def recipe(prepared):
    return copy.deepcopy(prepared)


def fitted(recipe, settings=SOME, train=TRAIN, valid=VALID, **options):
    recipe.settings = settings
    return recipe.fit(train, valid, np.random.default_rng(0), **options)


def same(one, other):
    """Whether two fits are the same to the last bit."""
    return all(np.array_equal(a, b) for a, b in zip((one.probabilities, *one.head), (other.probabilities, *other.head)))


# What it begins with --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["conv1", "layer1", "layer2", "layer4"])
def test_what_enters_the_first_stage_that_trains_is_what_the_network_gives_there(stage):
    network, images = toy_network(), IMAGES[:2]
    recipe = Finetune(toy_network(), images, LABELS[:2], SOME, stage)
    before = {"conv1": None, "layer1": "maxpool", "layer2": "layer1", "layer4": "layer3"}[stage]
    for v, view in enumerate(BOTH):
        x = seen(images, view, network.preprocessing)
        for m, side in enumerate((x, np.ascontiguousarray(x[:, :, ::-1]))):
            expected = network.part(to=before).forward(side) if before else side
            np.testing.assert_allclose(recipe.entering[v, m], expected, atol=1e-4, rtol=1e-4)  # batch norm was folded
            np.testing.assert_allclose(recipe.features[v, m], network.part(to="avgpool").forward(side), atol=1e-4,
                                       rtol=1e-4)


def probe_of_sklearn(features):
    """Logits (V, 2, n) of one logistic regression for both views, as the recipe is written down."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler
    model = pipeline(scaler(), linear_model.LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
    model.fit(np.concatenate([side[TRAIN] for view in features for side in view]).astype(np.float64),
              np.tile(LABELS[TRAIN], 4))
    return np.array([[model.decision_function(side.astype(np.float64)) for side in view] for view in features])


def test_before_the_first_step_the_logits_are_those_of_the_logistic_regression(recipe):
    tail, expected = recipe.probed(TRAIN).eval(), probe_of_sklearn(recipe.features)
    for v, m in np.ndindex(2, 2):
        logits = tail.forward(recipe.entering[v, m])
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected[v, m], atol=1e-3)  # float32, some of them are 3


def test_where_nothing_moves_the_answer_is_the_mean_of_the_probes_four(recipe):
    found = fitted(recipe, STILL).probabilities
    expected = (1 / (1 + np.exp(-probe_of_sklearn(recipe.features)[:, :, VALID]))).mean(axis=(0, 1))
    np.testing.assert_allclose(found, expected, atol=1e-4)  # as above, a logistic function has a slope of 1/4
    assert np.ptp(found) > 0.2


def test_every_fit_begins_with_the_published_weights_whatever_was_fitted_before(recipe):
    first = fitted(recipe)
    assert not same(fitted(recipe, train=VALID, valid=TRAIN), first)
    assert same(fitted(recipe), first)


def test_nothing_of_the_images_that_are_asked_about_enters_the_fit(recipe):
    weights = fitted(recipe).head, recipe.backbone.state_dict()
    recipe.entering[:, :, VALID] = np.random.default_rng(1).normal(size=recipe.entering[:, :, VALID].shape)
    recipe.features[:, :, VALID] = 1e3
    recipe.labels = np.where(np.isin(np.arange(12), VALID), 1 - LABELS, LABELS)
    for valid in (VALID, VALID[:0]):
        again = fitted(recipe, valid=valid).head, recipe.backbone.state_dict()
        assert all((a == b).all() for a, b in zip(weights[0], again[0]))
        assert all((again[1][name] == array).all() for name, array in weights[1].items())


# What moves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage, moving", [("layer4", ("layer4", "fc")), ("layer3", ("layer3", "layer4", "fc")),
                                           ("conv1", ("",))])
def test_every_convolution_moves_from_the_stage_on_and_no_batch_norm_and_nothing_before(stage, moving):
    recipe = Finetune(toy_network(), IMAGES[:6], LABELS[:6], SOME, stage)
    before = recipe.backbone.state_dict()
    fitted(recipe, train=np.arange(6), valid=VALID[:0])
    norms = {name for name, layer in recipe.backbone.named_layers() if isinstance(layer, BatchNorm2d)}
    for name, array in recipe.backbone.state_dict().items():
        trains = name.startswith(moving) and name.rsplit(".", 1)[0] not in norms
        changed = name.startswith("fc") or array.tobytes() != before[name].tobytes()
        assert changed == trains, name


def test_the_head_moves_ten_times_as_far_as_the_stages_below_it(recipe):
    """Adam's first step is lr for every number, whatever its gradient."""
    begin = recipe.probed(TRAIN).state_dict()
    fitted(recipe, Settings(epochs=1, batch_size=100, lr=1e-3, weight_decay=0.0))
    for name, array in recipe.backbone.state_dict().items():
        if name == "fc.weight" or name in begin and array.ndim == 4:
            factor = 10 if name == "fc.weight" else 1
            assert np.abs(array - begin[name]).max() == pytest.approx(factor * 1e-3, rel=0.01), name  # float32 of a weight


def test_the_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing(recipe, monkeypatch):
    rates, step = [], finetune.Adam.step
    monkeypatch.setattr(finetune.Adam, "step", lambda adam: (rates.append(adam.lr), step(adam)))
    fitted(recipe, Settings(epochs=10, batch_size=8, lr=1e-3, weight_decay=0.0))
    assert len(rates) == 20 and rates[0] == 0.5e-3 and rates[1] == rates[2] == 1e-3
    expected = [0.5e-3 * (1 + math.cos(math.pi * k / 18)) for k in range(18)]
    np.testing.assert_allclose(rates[2:], expected, rtol=1e-12)


def test_stages_are_pulled_to_the_published_weights_and_the_head_is_not_pulled_to_the_probe(recipe):
    """By an overwhelming pull: whatever is pulled to where it began stays there but for a step or two."""
    def moved(weight_decay):
        begin = recipe.probed(TRAIN).state_dict()
        fitted(recipe, Settings(epochs=20, batch_size=16, lr=1e-3, weight_decay=weight_decay))
        after = recipe.backbone.state_dict()
        return {name: np.abs(after[name] - array).mean() for name, array in begin.items()}

    free, pulled = moved(0.0), moved(1e4)
    for name in free:
        if name.endswith(("conv1.weight", "conv2.weight", "downsample.0.weight")):
            assert pulled[name] < 0.2 * free[name], name
    assert pulled["fc.weight"] > 0.5 * free["fc.weight"]


def test_the_head_which_has_no_published_weights_is_pulled_to_zero(recipe):
    """As in L2-SP. Adam's first step goes where an overwhelming pull goes."""
    begin = recipe.probed(TRAIN).fc.weight
    fitted(recipe, Settings(epochs=1, batch_size=100, lr=1e-3, weight_decay=1e6))
    far = np.abs(begin) > 0.02
    np.testing.assert_allclose((recipe.backbone.fc.weight - begin)[far], -0.01 * np.sign(begin[far]), rtol=1e-3)


# What an epoch shows --------------------------------------------------------------------------------------------------


def shown(recipe, epochs=4, **options):
    """The (view, mirrored, row) of the inputs of every epoch of a training, in order, and their labels."""
    known = {recipe.entering[place].tobytes(): place for place in np.ndindex(2, 2, 12)}
    inputs = []

    def watched(model, optimizer, train_set, *arguments, **more):
        def transform(x, rng):
            y = train_set.transform(x, rng)
            inputs.extend(known[one.tobytes()] for one in y)
            return y
        return training.train(model, optimizer, train_set._replace(transform=transform), *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", watched)
        try:
            fitted(recipe, SOME._replace(epochs=epochs), **options)
        except KeyboardInterrupt:
            pass
    return [inputs[start:start + 2 * len(TRAIN)] for start in range(0, len(inputs), 2 * len(TRAIN))]


def test_an_epoch_shows_every_image_once_in_each_view_of_which_one_is_mirrored(recipe):
    for epoch in shown(recipe):
        for row in TRAIN:
            sides = {view: mirrored for view, mirrored, image in epoch if image == row}
            assert sorted(sides) == [0, 1] and sides[0] != sides[1]
        assert len(epoch) == 2 * len(TRAIN) == len(set(epoch))


def test_two_epochs_in_turn_show_each_of_the_four_once(recipe):
    epochs = shown(recipe)
    every = {(view, mirrored, row) for view in (0, 1) for mirrored in (0, 1) for row in TRAIN}
    for first, second in zip(epochs, epochs[1:]):
        assert set(first) | set(second) == every and not set(first) & set(second)


def test_the_order_is_another_in_every_epoch(recipe):
    rows = [[image for _, _, image in epoch] for epoch in shown(recipe)]
    assert len(set(map(tuple, rows))) == 4


@pytest.mark.parametrize("finished", [1, 2])
def test_after_an_interruption_the_mirrors_go_on_where_they_were(recipe, finished, tmp_path, monkeypatch):
    whole, weights = shown(recipe), recipe.backbone.state_dict()
    again, save = copy.deepcopy(recipe), training.save_checkpoint

    def interrupted(path, model, optimizer, rng, history, begun):
        save(path, model, optimizer, rng, history, begun)
        if len(history) == finished:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", interrupted)
    assert shown(again, checkpoint=tmp_path / "part.npz") == whole[:finished]
    monkeypatch.undo()
    assert shown(again, checkpoint=tmp_path / "part.npz") == whole[finished:]
    assert all((array == weights[name]).all() for name, array in again.backbone.state_dict().items())


def test_an_input_keeps_its_label(recipe):
    samples = recipe.samples(TRAIN, [(0, 0), (1, 1)])
    expected = [recipe.entering[view, view, row] for view in (0, 1) for row in TRAIN]
    np.testing.assert_array_equal(samples.transform(samples.inputs, None), expected)
    assert samples.labels.tolist() == [*LABELS[TRAIN], *LABELS[TRAIN]]


# What it answers ------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_mean_over_views_and_mirrors_of_the_network_as_it_then_is(recipe):
    found, network = fitted(recipe), recipe.backbone.eval()
    answers = []
    for view in BOTH:
        x = seen([IMAGES[row] for row in VALID], view, network.preprocessing)
        answers += [training.softmax(network.forward(np.ascontiguousarray(side)))[:, 1] for side in (x, x[:, :, ::-1])]
    np.testing.assert_allclose(found.probabilities, np.mean(answers, axis=0), atol=1e-4)  # float32, batch norm was folded


def test_the_history_has_a_row_an_epoch(recipe):
    assert [row["epoch"] for row in fitted(recipe).history] == [1, 2, 3]
    assert all(row["valid_loss"] is None for row in fitted(recipe, valid=VALID[:0]).history)


def test_the_saved_network_answers_slices_as_the_fit_did(recipe, tmp_path):
    found = fitted(recipe, train=np.arange(12), valid=np.arange(12))
    recipe.save(tmp_path, ("normal", "hemorrhage"), FACTS, [found.head])
    classifier = Classifier.load(tmp_path)
    answers = classifier.probabilities(classifier.features(IMAGES))
    np.testing.assert_allclose(answers, found.probabilities[None], atol=1e-4)  # float32, batch norm was folded
    assert classifier.backbone.classes == ["normal", "hemorrhage"] and classifier.mirrored


# Which stages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["fc", "avgpool", "relu", "maxpool", "bn1", "layer5", ""])
def test_a_stage_in_which_nothing_trains_is_refused_with_those_in_which_something_does(stage):
    with pytest.raises(ValueError, match="no stage is named.*there are conv1, layer1, layer2, layer3, layer4$"):
        check_stage(toy_network(), stage)


@pytest.mark.parametrize("options", [{"depths": (1, 1, 1), "cifar_stem": True}, {"option_a": True}])
def test_training_may_begin_at_any_stage_of_any_network(options):
    for stage in ("conv1", "layer1", "layer2", "layer3"):
        recipe = Finetune(toy_network(**options), IMAGES[:4], LABELS[:4], SOME, stage)
        assert np.isfinite(fitted(recipe, train=np.arange(4), valid=np.arange(4)).probabilities).all()


def test_the_commands_defaults_are_those_that_were_written_down(monkeypatch):
    """docs/head-ct.md: 10 epochs, batches of 16, learning rate 1e-4, L2-SP 0.01."""
    monkeypatch.syspath_prepend(EXAMPLES)
    jobs = importlib.import_module("train_ich_jobs")
    assert jobs.DEFAULTS["finetune"] == Settings(epochs=10, batch_size=16, lr=1e-4, weight_decay=0.01)
    assert finetune.HEAD_FACTOR == 10 and jobs.STRENGTH == finetune.STRENGTH == 1 / 0.1  # C
