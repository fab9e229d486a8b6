"""Softmax and cross-entropy."""

import definitions
import numpy as np
import pytest
from kit import check_values, normal

import tinyresnet
from tinyresnet.gradcheck import numerical_gradient

LABELS = np.array([0, 4, 2, 2])


@pytest.mark.task("softmax", points=1)
def test_softmax_is_its_equation(softmax):
    logits = 3 * normal(4, 5)
    check_values("softmax", softmax, lambda softmax: {"p": softmax(logits)}, {"p": definitions.softmax(logits)})


@pytest.mark.task("softmax", points=1)
def test_softmax_survives_large_logits(softmax):
    logits = np.array([[1000.0, 1001, 999], [-1000, -1001, -999]], dtype=np.float32)
    right = definitions.softmax(np.array([[0.0, 1, -1], [0, -1, 1]]))
    check_values("softmax", softmax, lambda softmax: {"p": softmax(logits)}, {"p": right}, bound=1e-6)  # float32


@pytest.mark.task("softmax", points=1)
def test_softmax_in_float32_stays_float32_and_leaves_its_argument_alone(softmax):
    logits = normal(4, 5, dtype=np.float32)
    before = logits.copy()
    assert softmax(logits).dtype == np.float32
    assert np.array_equal(logits, before), "softmax changed its argument"


@pytest.mark.task("cross-entropy", points=2)
@pytest.mark.parametrize("label_smoothing", [0, 0.1])
def test_cross_entropy_is_its_equation(cross_entropy, label_smoothing):
    logits = 3 * normal(4, 5)
    right = definitions.cross_entropy(logits, LABELS, label_smoothing)
    check_values("cross_entropy", cross_entropy, lambda cross_entropy: {
        "loss": np.array([cross_entropy(logits, LABELS, label_smoothing=label_smoothing)[0]])}, {"loss": np.array([right])})


@pytest.mark.task("cross-entropy", points=2)
@pytest.mark.parametrize("label_smoothing", [0, 0.1])
def test_the_gradient_of_cross_entropy_is_its_derivative(cross_entropy, label_smoothing):
    def loss_and_gradient(cross_entropy):
        return cross_entropy(logits, LABELS, label_smoothing=label_smoothing)

    logits = 3 * normal(4, 5)
    numerical = numerical_gradient(lambda: loss_and_gradient(cross_entropy)[0], logits)
    check_values("cross_entropy", cross_entropy, lambda cross_entropy: {"dlogits": loss_and_gradient(cross_entropy)[1]},
                 {"dlogits": numerical}, bound=1e-9)


@pytest.mark.task("cross-entropy", points=2)
def test_cross_entropy_of_a_hopeless_logit_is_finite_and_float32(cross_entropy):
    loss, dlogits = cross_entropy(np.array([[0.0, 2000]], dtype=np.float32), np.array([0]))
    assert loss == 2000 and dlogits.tolist() == [[-1, 1]] and dlogits.dtype == np.float32


@pytest.mark.task("cross-entropy-refusal", points=1)
@pytest.mark.parametrize("labels", [[0, 3], [0, -1], [0], [0.0, 1.0], [[0], [1]]])
def test_labels_that_do_not_fit_the_logits_are_refused(cross_entropy, labels):
    with pytest.raises(ValueError):
        cross_entropy(np.zeros((2, 3)), np.array(labels))


@pytest.mark.parametrize("labels, message", [
    ([0, 3], "all in 0..2"), ([0, -1], "all in 0..2"), ([0], "expected 2 integer labels"),
    ([0.0, 1.0], "expected 2 integer labels"), ([[0], [1]], "expected 2 integer labels"),
])
def test_the_refusal_says_what_was_expected(labels, message):
    with pytest.raises(ValueError, match=message):
        tinyresnet.cross_entropy(np.zeros((2, 3)), np.array(labels))


def test_cross_entropy_of_a_class_that_cannot_be_does_not_disturb_the_others():
    loss, dlogits = tinyresnet.cross_entropy(np.array([[0.0, -np.inf]]), np.array([0]))
    assert loss == 0 and dlogits.tolist() == [[0, 0]]


@pytest.mark.parametrize("logits", [np.zeros(3), np.zeros((2, 3), int)])
def test_logits_of_another_kind_are_refused(logits):
    for function in (tinyresnet.softmax, lambda logits: tinyresnet.cross_entropy(logits, np.array([0, 1]))):
        with pytest.raises(ValueError, match="expected logits"):
            function(logits)
