"""The loop learns, and goes on from a checkpoint to the same bits."""

import math

import numpy as np
import pytest

from tinyresnet import SGD, Adam, WeightsFileError, small_resnet
from tinyresnet.layers import Linear, Sequential
from tinyresnet.optim import constant, cosine
from tinyresnet.training import Samples, batches, evaluate, predict, train
from tinyresnet.weights import read_arrays


def bright_or_dark(n=24, seed=0):
    """Images whose mean tells their class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    x = rng.standard_normal((n, 33, 40, 3)) + 2 * labels[:, None, None, None]
    return Samples(x.astype(np.float32), labels)


def fit(epochs, checkpoint=None, seed=0, samples=None):
    model, rng = small_resnet(width=4), np.random.default_rng(seed)
    noisy = (samples or bright_or_dark())._replace(
        transform=lambda x, rng: x if rng is None else x + rng.standard_normal(x.shape, dtype=np.float32) / 10)
    optimizer = Adam(model, 1e-2)
    return model, train(model, optimizer, noisy, bright_or_dark(8, seed=1), epochs=epochs, batch_size=7, rng=rng,
                        checkpoint=checkpoint, schedule=lambda step, steps: 1 / (1 + step))


def test_training_learns_what_can_be_learned():
    model, history = fit(8)
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert evaluate(model, bright_or_dark(16, seed=2), 8)[1] == 1


def test_a_row_of_the_history_says_what_an_epoch_did():
    _, history = fit(2)
    assert [row["epoch"] for row in history] == [1, 2]
    assert list(history[0]) == ["epoch", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"]
    assert history[1]["lr"] == 1e-2 / 8  # the eighth of four batches an epoch


def test_a_resumed_training_ends_in_the_same_bits(tmp_path):
    straight, history = fit(5)
    checkpoint = tmp_path / "checkpoint.npz"

    class Cut(Exception):
        pass

    def cut(x, rng):
        cut.calls += 1
        if cut.calls > 14:  # in a later epoch
            raise Cut
        return x if rng is None else x + rng.standard_normal(x.shape, dtype=np.float32) / 10

    cut.calls = 0
    model, rng = small_resnet(width=4), np.random.default_rng(0)
    with pytest.raises(Cut):
        train(model, Adam(model, 1e-2), bright_or_dark()._replace(transform=cut), bright_or_dark(8, seed=1), epochs=5,
              batch_size=7, rng=rng, checkpoint=checkpoint, schedule=lambda step, steps: 1 / (1 + step))
    done = len(read_arrays(checkpoint)[1]["history"])
    assert 0 < done < 5
    resumed, resumed_history = fit(5, checkpoint, seed=99)  # another generator: its state comes from the checkpoint
    assert resumed_history == history
    for name, array in straight.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name], array, err_msg=name)


def test_a_finished_checkpoint_trains_no_further(tmp_path):
    first, _ = fit(2, tmp_path / "checkpoint.npz")
    second, history = fit(2, tmp_path / "checkpoint.npz")
    assert len(history) == 2
    np.testing.assert_array_equal(first.fc.weight, second.fc.weight)


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path):
    fit(1, tmp_path / "checkpoint.npz")
    model = Linear(3, 2)
    samples = Samples(np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))
    with pytest.raises(WeightsFileError, match="checkpoint.npz: not a checkpoint of this training"):
        train(model, SGD(model, 0.1), samples, epochs=2, batch_size=2, rng=np.random.default_rng(0),
              checkpoint=tmp_path / "checkpoint.npz")


@pytest.mark.parametrize("change", [{"epochs": 1}, {"batch_size": 3}])
def test_a_checkpoint_of_a_training_with_other_settings_is_refused(tmp_path, change):
    def fit(epochs=2, batch_size=2):
        model = Linear(3, 2)
        samples = Samples(np.ones((6, 3), np.float32), np.arange(6) % 2)
        train(model, SGD(model, 0.1), samples, epochs=epochs, batch_size=batch_size, rng=np.random.default_rng(0),
              checkpoint=tmp_path / "checkpoint.npz")

    fit()
    with pytest.raises(WeightsFileError, match="checkpoint.npz: not a checkpoint of this training .it began with"):
        fit(**change)


def test_a_loss_that_is_not_finite_stops_the_training_at_once():
    model = Linear(3, 2)
    samples = Samples(np.full((4, 3), np.inf, np.float32), np.array([0, 1, 0, 1]))
    with np.errstate(invalid="ignore"), pytest.raises(FloatingPointError, match="step 1: try a smaller learning rate"):
        train(model, SGD(model, 0.1), samples, epochs=2, batch_size=2, rng=np.random.default_rng(0))


def test_every_sample_comes_once_an_epoch_and_blocks_stay_together():
    samples = Samples(np.arange(12.0), np.arange(12), block=2)
    got = [labels for _, labels in batches(samples, 5, np.random.default_rng(0))]
    assert sorted(np.concatenate(got)) == list(range(12))
    assert all(set(labels // 2 * 2) <= set(labels) and set(labels // 2 * 2 + 1) <= set(labels) for labels in got)
    assert np.concatenate(got).tolist() != list(range(12))


def test_predictions_are_probabilities_and_do_not_depend_on_the_batch():
    model, samples = small_resnet(width=4), bright_or_dark(9)
    p = predict(model, samples, 4)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)  # float32 rounding
    np.testing.assert_allclose(predict(model, samples, 9), p, rtol=1e-5)  # float32 rounding, tiles cut elsewhere


@pytest.mark.parametrize("step, factor", [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_cosine_rises_over_the_warmup_and_falls_to_zero(step, factor):
    assert math.isclose(cosine(step, 100, warmup=0.1), factor, abs_tol=1e-12)


def test_constant_stays():
    assert constant(0, 10) == constant(9, 10) == 1


def test_the_longest_prefix_gives_the_learning_rate_factor():
    model = small_resnet(width=4)
    adam = Adam(model, lr_factors={"layer1": 2, "layer1.0.conv1": 3, "fc": 10})
    assert [adam.lr_factor.get(name, 1) for name in ("layer1.0.conv1.weight", "layer1.0.bn1.bias", "fc.weight",
                                                     "conv1.weight")] == [3, 2, 10, 1]


def test_a_head_with_factor_ten_moves_ten_times_as_far_in_one_step():
    moved = []
    for factor in (1, 10):
        model = Linear(3, 2)
        before = model.weight.copy()
        optimizer = SGD(model, 0.1, lr_factors={"weight": factor})
        model.forward(np.ones((1, 3), np.float32))
        model.backward(np.ones((1, 2), np.float32))
        optimizer.step()
        moved.append(before - model.weight)
    np.testing.assert_allclose(moved[1], 10 * moved[0], rtol=1e-5)  # float32 rounding


def test_frozen_parameters_are_not_decayed():
    model = small_resnet(width=4)
    model.freeze("layer1")
    before = model.layer1[0].conv1.weight.copy()
    model.backward(model.forward(bright_or_dark(2).inputs))
    Adam(model, 0.1, weight_decay=0.5).step()
    np.testing.assert_array_equal(model.layer1[0].conv1.weight, before)


def test_weights_are_pulled_towards_where_they_began_and_others_to_0():
    model = Linear(3, 2, rng=np.random.default_rng(0))
    weight, start = model.weight.copy(), np.full((3, 2), 2, np.float32)
    model.bias[:] = 1
    model.forward(np.zeros((1, 3), np.float32))
    model.backward(np.zeros((1, 2), np.float32))  # no gradient but the pull's
    SGD(model, 0.5, weight_decay=0.2, towards={"weight": start}).step()
    np.testing.assert_allclose(model.weight, weight - 0.1 * (weight - start), rtol=1e-6)  # float32 rounding
    np.testing.assert_allclose(model.bias, 0.9, rtol=1e-6)


def test_a_start_of_no_parameter_is_refused():
    with pytest.raises(ValueError, match="towards: no parameter is named head.weight"):
        Adam(Linear(3, 2), towards={"head.weight": np.ones((3, 2))})


def test_an_unfrozen_parameter_begins_with_its_own_first_step():
    """With the others' count its bias correction would be missing, and its first step a third as long."""
    def moved(steps_before):
        model, x = Linear(3, 2), np.ones((1, 3), np.float32)
        tail = Sequential(a=Linear(3, 3), b=model)
        adam = Adam(tail, 0.1)
        tail.freeze("b")
        for _ in range(steps_before):
            tail.forward(x)
            tail.backward(np.ones((1, 2), np.float32))
            adam.step()
        tail.unfreeze("b")
        before = model.bias.copy()
        tail.forward(x)
        tail.backward(np.ones((1, 2), np.float32))
        adam.step()
        return model.bias - before

    np.testing.assert_array_equal(moved(5), moved(0))


def test_a_learning_rate_factor_for_no_parameter_is_refused():
    with pytest.raises(ValueError, match="no name begins with 'head'; the first are conv1.weight, bn1.weight"):
        Adam(small_resnet(width=4), lr_factors={"head": 10})


@pytest.mark.parametrize("make", [
    lambda model: Adam(model, -1), lambda model: Adam(model, math.nan), lambda model: Adam(model, weight_decay=math.nan),
    lambda model: Adam(model, betas=(0.9, 1.0)), lambda model: Adam(model, eps=-1),
    lambda model: SGD(model, 0.1, momentum=-3), lambda model: SGD(model, 0.1, lr_factors={"weight": -1})])
def test_numbers_that_no_optimiser_can_use_are_refused(make):
    with pytest.raises(ValueError, match="got"):
        make(Linear(3, 2))


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_gradient_of_another_shape_is_refused_before_anything_is_changed(kind):
    layer = Linear(3, 4)
    optimizer = kind(layer, lr=0.1)
    layer.backward(layer.forward(np.ones((2, 3), np.float32)))
    layer.weight, before = np.ones((30, 40), np.float32), layer.bias.copy()
    with pytest.raises(ValueError, match=r"weight has another shape \(30, 40\) than its gradient \(3, 4\)"):
        optimizer.step()
    assert (optimizer.t, optimizer.steps) == (0, {})
    np.testing.assert_array_equal(layer.bias, before)


def test_an_optimiser_of_the_old_head_is_refused_for_a_new_one():
    model = small_resnet(width=4)
    adam, x = Adam(model), bright_or_dark(2).inputs
    model.backward(model.forward(x))
    adam.step()
    model.replace_head(5)
    model.backward(model.forward(x))
    with pytest.raises(ValueError, match="fc.weight has another shape .* make a new optimiser"):
        adam.step()


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_the_schedule_is_told_how_many_steps_there_will_be(batch_size):
    model, told = Linear(3, 2), []
    samples = Samples(np.ones((12, 3), np.float32), np.arange(12) % 2, block=2)
    train(model, SGD(model, 0.1), samples, epochs=2, batch_size=batch_size, rng=np.random.default_rng(0),
          schedule=lambda step, steps: told.append((step, steps)) or 1.0)
    assert told == [(step, len(told)) for step in range(len(told))]
