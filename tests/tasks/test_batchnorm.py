"""Batch norm: one formula for training, one for everything else, and the averages that lead from the one to the other."""

import definitions
import numpy as np
import pytest
from kit import built, check_backward, check_float32, check_float32_backward, check_once, check_values, normal

SHAPES = [(3, 4, 5, 2), (1, 4, 5, 3), (4, 1, 1, 3)]  # also batch 1, and one pixel


def make(C, **options):
    return lambda BatchNorm2d: BatchNorm2d(C, **options)


def with_mode(BatchNorm2d, C, *, training, frozen):
    layer = built("BatchNorm2d", BatchNorm2d, make(C))
    layer.training, layer.frozen = training, frozen
    return layer


@pytest.mark.task("batchnorm-forward", points=2)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_in_training_is_its_equation_with_the_moments_of_the_batch(BatchNorm2d, shape):
    x, layer = 0.01 * normal(*shape) + 1, built("BatchNorm2d", BatchNorm2d, make(shape[3]))  # a variance near epsilon
    right = definitions.batch_norm(x, layer.weight, layer.bias, *definitions.moments(x))
    check_values("BatchNorm2d", BatchNorm2d, lambda BatchNorm2d: {
        "y": built("BatchNorm2d", BatchNorm2d, make(shape[3])).forward(x)}, {"y": right}, bound=1e-11)  # x - mean cancels


@pytest.mark.task("batchnorm-forward", points=2)
@pytest.mark.parametrize("training, frozen", [(False, False), (False, True), (True, True)])
def test_batch_norm_otherwise_is_its_equation_with_the_running_moments(BatchNorm2d, training, frozen):
    x, layer = normal(3, 4, 5, 2), with_mode(BatchNorm2d, 2, training=training, frozen=frozen)
    right = definitions.batch_norm(x, layer.weight, layer.bias, layer.running_mean, layer.running_var)
    check_values("BatchNorm2d", BatchNorm2d, lambda BatchNorm2d: {
        "y": with_mode(BatchNorm2d, 2, training=training, frozen=frozen).forward(x)}, {"y": right})


@pytest.mark.task("batchnorm-forward", points=2)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_keeps_to_the_epsilon_it_was_built_with(BatchNorm2d, training):
    def y(BatchNorm2d):
        layer = built("BatchNorm2d", BatchNorm2d, make(2, eps=0.5))
        layer.training = training
        return {"y": layer.forward(x)}

    x, layer = normal(3, 4, 5, 2), built("BatchNorm2d", BatchNorm2d, make(2))
    mean, var = definitions.moments(x) if training else (layer.running_mean, layer.running_var)
    right = layer.weight * (x - mean) / np.sqrt(var + 0.5) + layer.bias
    check_values("BatchNorm2d", BatchNorm2d, y, {"y": right})


@pytest.mark.task("batchnorm-refusal", points=1)
def test_batch_norm_in_training_refuses_one_value_a_channel(BatchNorm2d):
    with pytest.raises(ValueError):
        built("BatchNorm2d", BatchNorm2d, make(2)).forward(normal(1, 1, 1, 2))


@pytest.mark.task("batchnorm-forward", points=2)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_its_statistics_in_float32_stay_float32(BatchNorm2d, training):
    check_float32("BatchNorm2d", BatchNorm2d, make(2), normal(3, 4, 5, 2), training=training)


def statistics_after(BatchNorm2d, batches, **mode):
    layer = with_mode(BatchNorm2d, 2, **mode)
    for x in batches:
        layer.forward(x)
    return {"running_mean": layer.running_mean, "running_var": layer.running_var}


@pytest.mark.task("batchnorm-statistics", points=1)
@pytest.mark.parametrize("batches", [1, 3])
def test_batch_norm_keeps_running_averages_of_mean_and_unbiased_variance(BatchNorm2d, batches):
    batches = [3 * normal(2, 3, 4, 2, seed=seed) + 1 for seed in range(batches)]
    right = statistics_after(BatchNorm2d, [], training=True, frozen=False)
    for x in batches:  # momentum 0.1 is the share of the new batch; M - 1 = 23
        right = {"running_mean": 0.9 * right["running_mean"] + 0.1 * x.mean((0, 1, 2)),
                 "running_var": 0.9 * right["running_var"] + 0.1 * x.var((0, 1, 2), ddof=1)}
    check_values("BatchNorm2d", BatchNorm2d, lambda BatchNorm2d: statistics_after(
        BatchNorm2d, batches, training=True, frozen=False), right)


@pytest.mark.task("batchnorm-statistics", points=1)
def test_batch_norm_keeps_to_the_momentum_it_was_built_with(BatchNorm2d):
    def after(BatchNorm2d):
        layer = built("BatchNorm2d", BatchNorm2d, make(2, momentum=0.3))
        layer.forward(x)
        return {"running_mean": layer.running_mean, "running_var": layer.running_var}

    x, layer = normal(2, 3, 4, 2), built("BatchNorm2d", BatchNorm2d, make(2))
    check_values("BatchNorm2d", BatchNorm2d, after, {
        "running_mean": 0.7 * layer.running_mean + 0.3 * x.mean((0, 1, 2)),
        "running_var": 0.7 * layer.running_var + 0.3 * x.var((0, 1, 2), ddof=1)})


@pytest.mark.task("batchnorm-statistics", points=1)
@pytest.mark.parametrize("training, frozen", [(False, False), (True, True)])
def test_batch_norm_in_eval_mode_or_frozen_keeps_its_running_statistics(BatchNorm2d, training, frozen):
    right = statistics_after(BatchNorm2d, [], training=training, frozen=frozen)
    check_values("BatchNorm2d", BatchNorm2d, lambda BatchNorm2d: statistics_after(
        BatchNorm2d, [normal(2, 3, 4, 2)], training=training, frozen=frozen), right)


@pytest.mark.task("batchnorm-backward", points=3)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_backward_is_the_derivative_of_forward(BatchNorm2d, shape, frozen):
    errors = check_backward("BatchNorm2d", BatchNorm2d, make(shape[3]), normal(*shape), frozen=frozen)
    assert set(errors) == ({"dx"} if frozen else {"dx", "weight", "bias"})


@pytest.mark.task("batchnorm-backward", points=3)
def test_batch_norm_backward_in_float32_stays_float32(BatchNorm2d):
    check_float32_backward("BatchNorm2d", BatchNorm2d, make(2), normal(3, 4, 5, 2))


@pytest.mark.task("batchnorm-once", points=1)
def test_batch_norm_answers_one_backward_for_each_forward_and_none_in_eval_mode(BatchNorm2d):
    check_once("BatchNorm2d", BatchNorm2d, make(2), normal(3, 4, 5, 2))
