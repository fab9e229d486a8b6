"""Adam and SGD: three steps of one weight worked by hand, then of every parameter of a layer."""

import numpy as np
import pytest
from kit import check_values, normal

from tinyresnet.gradcheck import GradientError
from tinyresnet.layers import Linear

GRADIENTS = (2.0, 1.0, -3.0)


def weights_after_each_step(optimizer_class, gradients=GRADIENTS, **options):
    """The weight, which begins at 1, after each step with one of the gradients."""
    model = Linear(1, 1).astype(np.float64)
    model.weight[:], model.bias[:] = 1.0, 0.0
    optimizer, weights = optimizer_class(model, lr=0.1, **options), []
    for g in gradients:
        model.grads = {"weight": np.array([[g]]), "bias": np.array([0.5])}
        optimizer.step()
        weights.append(model.weight[0, 0])
    return {"weights": np.array(weights)}


def check_steps(name, optimizer, right, **options):
    check_values(name, optimizer, lambda optimizer: weights_after_each_step(optimizer, **options),
                 {"weights": np.array(right)}, bound=1e-7)  # the numbers below have seven digits


STEPS = [{"weight": normal(2, 3, seed=seed), "bias": normal(3, seed=seed + 9)} for seed in range(3)]  # gradients


def layer_after_steps(optimizer_class, *lr, **options):
    """Every parameter of a layer after STEPS. Raises GradientError if a step changes a gradient."""
    model = Linear(2, 3).astype(np.float64)
    model.weight, model.bias = normal(2, 3, seed=5), normal(3, seed=6)
    optimizer = optimizer_class(model, *lr, **options)
    for gradients in STEPS:
        model.grads = {name: g.copy() for name, g in gradients.items()}
        optimizer.step()
        if any(not np.array_equal(model.grads[name], g) for name, g in gradients.items()):
            rule = f"{optimizer_class.__name__} changed a gradient"
            raise GradientError(f"{rule}: it reads them, work on a copy", rule)
    return {"weight": model.weight, "bias": model.bias}


def layer_after(update):
    """The same by the equation: update(w, its gradients so far) is the change of w."""
    right = {"weight": normal(2, 3, seed=5), "bias": normal(3, seed=6)}
    for name, w in right.items():
        seen = []
        for gradients in STEPS:
            seen.append(gradients[name] + 0.1 * w)  # weight decay 0.1
            w -= update(seen)
    return right


@pytest.mark.task("adam", points=2)
def test_adam_steps_every_number_of_every_parameter_with_the_defaults_of_its_paper(Adam):
    def update(seen):
        t = len(seen)
        m_hat = sum(0.1 * 0.9 ** (t - 1 - i) * g for i, g in enumerate(seen)) / (1 - 0.9**t)
        v_hat = sum(0.001 * 0.999 ** (t - 1 - i) * g**2 for i, g in enumerate(seen)) / (1 - 0.999**t)
        return 0.001 * m_hat / (np.sqrt(v_hat) + 1e-8)

    check_values("Adam", Adam, lambda Adam: layer_after_steps(Adam, weight_decay=0.1), layer_after(update))


@pytest.mark.task("sgd", points=1)
def test_sgd_steps_every_number_of_every_parameter(SGD):
    def update(seen):
        return 0.01 * sum(0.9 ** (len(seen) - 1 - i) * g for i, g in enumerate(seen))

    check_values("SGD", SGD, lambda SGD: layer_after_steps(SGD, 0.01, momentum=0.9, weight_decay=0.1), layer_after(update))


@pytest.mark.task("adam", points=2)
def test_three_steps_of_adam(Adam):
    # betas 0.5 and 0.75, eps 0.1, lr 0.1; g = 2, 1, -3
    # t = 1: m = 0.5 * 2 = 1           m_hat = 1 / 0.5 = 2            v = 0.25 * 4 = 1        v_hat = 1 / 0.25 = 4
    #        w = 1 - 0.1 * 2 / (2 + 0.1) = 0.9047619
    # t = 2: m = 0.5 + 0.5 * 1 = 1     m_hat = 1 / 0.75 = 1.3333333   v = 0.75 + 0.25 = 1    v_hat = 1 / 0.4375 = 2.2857143
    #        w = 0.9047619 - 0.1 * 1.3333333 / (1.5118579 + 0.1) = 0.8220416
    # t = 3: m = 0.5 - 0.5 * 3 = -1    m_hat = -1 / 0.875 = -1.1428571  v = 0.75 + 2.25 = 3  v_hat = 3 / 0.578125 = 5.1891892
    #        w = 0.8220416 + 0.1 * 1.1428571 / (2.2779793 + 0.1) = 0.8701016
    check_steps("Adam", Adam, [0.9047619, 0.8220416, 0.8701016], betas=(0.5, 0.75), eps=0.1)


@pytest.mark.task("adam", points=2)
def test_three_steps_of_adam_with_weight_decay_added_to_the_gradient(Adam):
    # as above, with g + 0.5 * w for g: 2.5 at the first step, so m_hat = 2.5, v_hat = 6.25
    #        w = 1 - 0.1 * 2.5 / (2.5 + 0.1) = 0.9038462
    # t = 2: g = 1.4519231, m = 0.625 + 0.7259615 = 1.3509615, m_hat = 1.8012821
    #        v = 0.75 * 1.5625 + 0.25 * 2.1080806 = 1.6988952, v_hat = 3.8831889, root 1.9705808
    #        w = 0.9038462 - 0.1 * 1.8012821 / 2.0705808 = 0.8168522
    # t = 3: g = -2.5915739, m = 0.6754808 - 1.2957869 = -0.6203062, m_hat = -0.7089213
    #        v = 1.2741714 + 0.25 * 6.7162552 = 2.9532352, v_hat = 5.1083, root 2.2601548
    #        w = 0.8168522 + 0.1 * 0.7089213 / 2.3601548 = 0.8468893
    check_steps("Adam", Adam, [0.9038462, 0.8168522, 0.8468893], betas=(0.5, 0.75), eps=0.1, weight_decay=0.5)


@pytest.mark.task("sgd", points=1)
def test_three_steps_of_sgd(SGD):
    # w = 1 - 0.1 * 2 = 0.8, then 0.8 - 0.1 * 1 = 0.7, then 0.7 + 0.1 * 3 = 1
    check_steps("SGD", SGD, [0.8, 0.7, 1.0])


@pytest.mark.task("sgd", points=1)
def test_three_steps_of_sgd_with_momentum_and_weight_decay(SGD):
    # momentum 0.5, weight_decay 0.1, lr 0.1: v = 0.5 * v + (g + 0.1 * w), w = w - 0.1 * v
    # t = 1: v = 2 + 0.1 = 2.1                             w = 1 - 0.21 = 0.79
    # t = 2: v = 1.05 + 1 + 0.079 = 2.129                  w = 0.79 - 0.2129 = 0.5771
    # t = 3: v = 1.0645 - 3 + 0.05771 = -1.87779           w = 0.5771 + 0.187779 = 0.764879
    check_steps("SGD", SGD, [0.79, 0.5771, 0.764879], momentum=0.5, weight_decay=0.1)
