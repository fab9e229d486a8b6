"""Logistic regression against scikit-learn, and at the edges."""

import numpy as np
import pytest

from tinyresnet import logistic
from tinyresnet.logistic import fit_logistic, probabilities


def case(n, d, seed=0, noise=1.0):
    """Columns of very different mean and size; labels that some of them tell."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    labels = (x[:, : 3].sum(axis=1) + noise * rng.normal(size=n) > 0).astype(int)
    return x * 10.0 ** rng.integers(-3, 4, d) + rng.normal(size=d), labels


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("n, d, noise", [(60, 4, 1.0), (60, 4, 0.0), (40, 300, 1.0), (7, 7, 1.0)])
def test_it_is_the_logistic_regression_of_sklearn(n, d, noise, strength):
    linear = pytest.importorskip("sklearn.linear_model")
    x, labels = case(n, d, noise=noise)
    mean, std = x.mean(axis=0), x.std(axis=0)
    theirs = linear.LogisticRegression(C=1 / strength, tol=1e-12, solver="newton-cholesky", max_iter=1000)
    theirs.fit((x - mean) / std, labels)
    weight, bias = fit_logistic(x, labels, strength)
    # sklearn stops at slopes of 1e-12 times something; where the loss is flat, weights are known to 1e-6 of themselves
    np.testing.assert_allclose(weight * std, theirs.coef_[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bias + mean @ weight, theirs.intercept_[0], rtol=1e-6, atol=1e-6)
    fresh, _ = case(n, d, seed=1)
    np.testing.assert_allclose(probabilities(fresh, weight, bias), theirs.predict_proba((fresh - mean) / std)[:, 1],
                               atol=1e-6)


def test_at_the_solution_the_loss_has_no_slope():
    x, labels = case(50, 6)
    weight, bias = fit_logistic(x, labels, 2.0)
    wrong = probabilities(x, weight, bias) - labels
    slope = x.T @ wrong + 2.0 * x.var(axis=0) * weight
    np.testing.assert_allclose(slope / x.std(axis=0), 0, atol=1e-8)  # float64, through sizes of 1e-3 to 1e3
    assert abs(wrong.sum()) < 1e-9  # the bias is free


def test_without_columns_the_probability_is_the_share_of_positives():
    labels = np.array([1, 0, 0, 1, 0])
    assert probabilities(np.empty((2, 0)), *fit_logistic(np.empty((5, 0)), labels, 1.0)) == pytest.approx([0.4, 0.4])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_a_column_that_does_not_vary_gets_no_weight(constant):
    x, labels = case(30, 3)
    weight, bias = fit_logistic(np.column_stack([x, np.full(30, constant)]), labels, 1.0)
    alone, bias_alone = fit_logistic(x, labels, 1.0)
    assert weight[3] == 0
    assert np.append(weight[:3], bias) == pytest.approx(np.append(alone, bias_alone))


def test_the_unit_of_a_column_does_not_matter():
    x, labels = case(50, 5)
    unit = np.array([1e-3, 1, 7, 1e3, 1e6])
    answers = (probabilities(x, *fit_logistic(x, labels, 1.0)),
               probabilities(x * unit + 5, *fit_logistic(x * unit + 5, labels, 1.0)))
    np.testing.assert_allclose(*answers, atol=1e-9)


def test_more_strength_makes_smaller_weights():
    x, labels = case(50, 5)
    sizes = [np.linalg.norm(fit_logistic(x, labels, s)[0] * x.std(axis=0)) for s in (0.1, 1, 10)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_separable_classes_far_from_the_middle_are_no_difficulty():
    labels = np.arange(200) % 2
    x = np.column_stack([labels * 1e4, np.random.default_rng(0).normal(size=200)])
    answers = probabilities(x, *fit_logistic(x, labels, 1e-6))
    assert ((answers > 0.999) == labels).all()


def test_the_minimum_is_found_where_the_parabola_misleads():
    x = np.exp(4 * np.random.default_rng(1).normal(size=(24, 7)))  # few large numbers among many small ones
    labels = (np.arange(24) < 2).astype(int)
    answers = probabilities(x, *fit_logistic(x, labels, 1e-8))  # with whole steps of Newton the matrix becomes singular
    assert answers.sum() == pytest.approx(2, abs=1e-6)  # the bias is free


def test_the_same_rows_give_the_same_bits_and_stay_as_they_were():
    x, labels = case(40, 100)
    before = x.copy()
    first, second = fit_logistic(x, labels, 1.0), fit_logistic(x, labels, 1.0)
    assert (first[0] == second[0]).all() and first[1] == second[1]
    np.testing.assert_array_equal(x, before)


def test_of_more_columns_than_rows_no_more_unknowns_are_made(monkeypatch):
    sizes, newton = [], logistic._newton
    monkeypatch.setattr(logistic, "_newton", lambda z, *rest: sizes.append(z.shape) or newton(z, *rest))
    fit_logistic(*case(160, 3072), 1.0)
    assert sizes == [(160, 160)]  # centred rows have rank 159, and there is the bias; 3073 would take a minute


@pytest.mark.parametrize("x, labels, strength, message", [
    (np.ones(3), [0, 1, 1], 1, r"expected x \(n, d\).*got \(3,\)"),
    (np.ones((3, 2)), [0, 1], 1, r"got \(3, 2\) and \(2,\)"),
    (np.array([[0.0], [np.nan]]), [0, 1], 1, "finite numbers, got 1 NaN"),
    (np.ones((2, 1)), [1, 1], 1, r"both classes.*got \[1\]"),
    (np.ones((2, 1)), [1, 2], 1, r"both classes.*got \[1, 2\]"),
    (np.ones((2, 1)), [0, 1], 0, "strength of at least 1e-09, got 0")])
def test_what_cannot_be_fitted_is_refused(x, labels, strength, message):
    with pytest.raises(ValueError, match=message):
        fit_logistic(x, np.array(labels), strength)
