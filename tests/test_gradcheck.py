"""The check itself: what it lets pass, what it refuses, and what its report says."""

import numpy as np
import pytest

from tinyresnet.gradcheck import (GradientError, check, directional_errors, gradient_errors, numerical_gradient,
                                  parts, prepared, relative_error)
from tinyresnet.layers import BatchNorm2d, Conv2d, Identity, Linear, MaxPool2d, ReLU, Sequential
from tinyresnet.resnet import BasicBlock, small_resnet


pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def off_the_kinks(*shape, seed=0):
    x = normal(*shape, seed=seed)
    return x + 0.1 * np.sign(x)


class Alone:
    """y = weight * x, by a student who has not heard of Layer."""

    def __init__(self):
        self.weight = np.array([1.5, -2.0])
        self.training, self.frozen, self.grads = True, False, {}
        self.x = None

    def forward(self, x):
        self.x = x if self.training else None
        return x * self.weight

    def backward(self, dy):
        x, self.x = self.x, None
        self.grads = {"weight": (dy * x).reshape(-1, 2).sum(axis=0)}
        return dy * self.weight


def test_a_layer_of_no_class_of_ours_is_checked():
    errors = check(Alone(), normal(3, 2))
    assert set(errors) == {"dx", "weight"}


def test_a_layer_of_no_class_of_ours_is_found_inside_a_block():
    block = prepared(BasicBlock(2, 2))
    block.relu1 = Alone()
    errors = gradient_errors(block, normal(2, 5, 6, 2))
    assert "relu1.weight" in errors and max(errors.values()) < 1e-7


def test_a_cubic_has_the_slope_that_calculus_gives():
    x = normal(5)
    numerical = numerical_gradient(lambda: np.sum(x ** 3), x)
    np.testing.assert_allclose(numerical, 3 * x**2, atol=1e-9)  # h*h = 1e-10, rounding 1e-16 * sum(x^3) / h


def test_an_array_is_as_before_after_its_gradient_was_taken():
    x = normal(5)
    before = x.copy()
    numerical_gradient(lambda: np.sum(x ** 3), x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("a, b, message", [
    (np.ones(2), np.ones(3), "different shapes"), (np.array([np.nan]), np.ones(1), "NaN"),
    (np.zeros(2), np.zeros(2), "proves nothing")])
def test_what_cannot_be_compared_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        relative_error(a, b)


def test_a_gradient_of_zero_is_refused():
    with pytest.raises(ValueError, match="dx is zero: this check proves nothing"):
        gradient_errors(ReLU(), -np.abs(off_the_kinks(2, 3)), np.ones((2, 3)))


def test_a_gradient_that_is_zero_but_for_rounding_is_refused():
    with pytest.raises(ValueError, match="dx is zero: this check proves nothing"):
        gradient_errors(prepared(BatchNorm2d(2)), normal(3, 4, 5, 2), np.ones((3, 4, 5, 2)))


def test_float32_is_refused():
    with pytest.raises(ValueError, match="need float64"):
        gradient_errors(ReLU(), off_the_kinks(2, 3).astype(np.float32))


@pytest.mark.parametrize("shift", [0, 1e-6, 1 / 3 * 1e-5, 0.4e-5, 0.9e-5, -1e-6, -1 / 3 * 1e-5, -0.9e-5])
def test_one_crossed_kink_is_skipped_and_said_wherever_the_step_crosses_it(shift):
    x = off_the_kinks(30)
    x[4] = shift
    errors = gradient_errors(ReLU(), x)
    assert errors["dx"] < 1e-9
    assert "1 elements of dx skipped on a kink" in str(errors)


def test_a_wrong_gradient_on_a_kink_is_not_excused_by_it():
    class Hundredfold(ReLU):
        def backward(self, dy):
            dx = super().backward(dy)
            dx[4] = 100
            return dx

    x = off_the_kinks(30)
    x[4] = 1e-6
    assert gradient_errors(Hundredfold(), x)["dx"] > 0.5


def test_an_input_with_many_kinks_is_refused():
    with pytest.raises(ValueError, match="2 and more of 30 elements sit on a kink"):
        gradient_errors(ReLU(), np.zeros(30))


class Patched(ReLU):
    """A ReLU whose two methods a test replaces."""

    def __init__(self, forward=None, backward=None):
        super().__init__()
        self.forward_instead, self.backward_instead = forward, backward

    def forward(self, x):
        return self.forward_instead(self, x) if self.forward_instead else super().forward(x)

    def backward(self, dy):
        return self.backward_instead(self, dy) if self.backward_instead else super().backward(dy)


def overwrites_dy(self, dy):
    dy *= self.saved()[0]
    return dy


def overwrites_x(self, x):
    y = ReLU.forward(self, x)
    x[...] = y
    return y


@pytest.mark.parametrize("layer, argument", [(Patched(backward=overwrites_dy), "dy"), (Patched(forward=overwrites_x), "x")],
                         ids=["dy", "x"])
def test_a_layer_that_overwrites_its_argument_is_refused(layer, argument):
    with pytest.raises(GradientError, match=f"changed its argument {argument}"):
        gradient_errors(layer, off_the_kinks(2, 3, 4, 5))


def test_a_known_overwriting_is_named():
    with pytest.raises(GradientError, match='exactly what you get with "in place"'):
        gradient_errors(Patched(backward=overwrites_dy), off_the_kinks(2, 3),
                        suspects=[("in place", Patched(backward=overwrites_dy))])


def test_gradients_that_add_up_from_run_to_run_are_refused():
    class Adds(Linear):
        def backward(self, dy):
            before = self.grads.get("weight", 0)
            dx = super().backward(dy)
            self.grads["weight"] = self.grads["weight"] + before
            return dx

    with pytest.raises(GradientError, match="give another gradient of weight"):
        gradient_errors(prepared(Adds(3, 2)), normal(4, 3))


def test_a_parameter_without_a_gradient_is_refused():
    class ForgetsBias(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            del self.grads["bias"]
            return dx

    with pytest.raises(GradientError, match="no gradient of bias"):
        gradient_errors(prepared(ForgetsBias(3, 2)), normal(4, 3))


def test_a_second_backward_without_a_forward_must_raise():
    layer = Patched(forward=lambda self, x: (setattr(self, "mask", x > 0), np.maximum(x, 0))[1],
                    backward=lambda self, dy: dy * self.mask)
    with pytest.raises(GradientError, match="a second backward without a forward"):
        gradient_errors(layer, off_the_kinks(2, 3))
    assert gradient_errors(layer, off_the_kinks(2, 3), once=False)["dx"] < 1e-9


def test_the_identity_keeps_nothing_and_may_run_backward_twice():
    assert gradient_errors(Identity(), normal(2, 3))["dx"] < 1e-9


def test_float32_in_disguise_is_caught_and_named():
    layer = Patched(backward=lambda self, dy: (dy * (self.saved()[0] > 0)).astype(np.float32).astype(np.float64))
    errors = gradient_errors(layer, off_the_kinks(2, 3, 4, 5))
    assert 1e-9 < errors["dx"] < 1e-6
    assert "rounding of float32" in str(errors)


class ForgetsGamma(BatchNorm2d):
    def backward(self, dy):
        return super().backward(dy) / self.weight


def test_the_report_says_shape_extent_worst_element_and_the_known_mistake():
    errors = gradient_errors(prepared(ForgetsGamma(2)), normal(3, 4, 5, 2), suspects=[("gamma forgotten", ForgetsGamma(2))])
    lines = str(errors).splitlines()
    assert lines[0] == "dx is wrong at 100% of its 120 elements (BatchNorm2d(2), training, x (3, 4, 5, 2))."
    assert lines[1].startswith("  worst element (") and ": yours " in lines[1] and ", finite difference " in lines[1]
    assert lines[2] == '  exactly what you get with "gamma forgotten": see docs/gradient-checks.md'
    assert len(lines) == 3


def test_a_known_mistake_that_gives_other_numbers_is_not_named():
    class TwiceThat(ForgetsGamma):
        def backward(self, dy):
            return super().backward(dy) * 2

    errors = gradient_errors(prepared(ForgetsGamma(2)), normal(3, 4, 5, 2),
                             suspects=[("twice", TwiceThat(2)), ("right", BatchNorm2d(2))])
    assert "exactly" not in str(errors)


def test_the_report_for_an_exam_has_the_facts_and_no_cause():
    with pytest.raises(GradientError) as error:
        check(prepared(ForgetsGamma(2)), normal(3, 4, 5, 2), suspects=[("gamma forgotten", ForgetsGamma(2))])
    assert len(error.value.without_hints.splitlines()) == 2
    assert "gamma" not in error.value.without_hints


def test_a_suspect_that_breaks_down_is_no_match_and_no_error():
    class BreaksDown(BatchNorm2d):
        def backward(self, dy):
            raise ArithmeticError

    errors = gradient_errors(prepared(ForgetsGamma(2)), normal(3, 4, 5, 2), suspects=[("breaks down", BreaksDown(2))])
    assert "breaks down" not in str(errors) and "each channel has a factor of its own" in str(errors)


def test_a_whole_network_with_a_wrong_layer_is_caught_and_the_nearest_gradient_is_named_first():
    model = prepared(small_resnet(3, width=2))
    model.layer3[0].bn1.__class__ = ForgetsGamma
    errors = directional_errors(model, normal(2, 33, 40, 3))
    wrong = [name for name, error in errors.items() if error > 1e-7]
    assert wrong[0] == "layer3.0.conv1.weight" and wrong[-1] == "dx"
    first, *_, last = str(errors).splitlines()
    assert first.startswith("layer3.0.conv1.weight is wrong along a random direction")
    assert first.endswith(", training, x (2, 33, 40, 3))")
    assert last.startswith("also wrong: ") and last.endswith(", dx")


def test_the_running_statistics_do_not_blur_the_check():
    """Each forward moves them; a wrong backward that reads them must give the same wrong numbers every time."""
    class EvalFormula(BatchNorm2d):
        def backward(self, dy):
            super().backward(dy)
            return dy * self.weight / np.sqrt(self.running_var + self.eps)

    layer = prepared(EvalFormula(2))
    report = str(gradient_errors(layer, normal(3, 4, 5, 2), suspects=[("eval formula", EvalFormula(2))]))
    assert 'exactly what you get with "eval formula"' in report


def test_max_pooling_of_equal_values_is_refused_as_all_kinks():
    with pytest.raises(ValueError, match="sit on a kink"):
        gradient_errors(MaxPool2d(2, 2), np.ones((1, 4, 6, 2)))


def test_a_convolution_with_a_wrong_bias_only_reports_the_bias_alone():
    class HalfBias(Conv2d):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads["bias"] = self.grads["bias"] / 2
            return dx

    report = str(gradient_errors(prepared(HalfBias(2, 3, 3, bias=True)), normal(2, 5, 6, 2)))
    assert report.startswith("bias is wrong") and "dx" not in report and "0.5 times the right one" in report


@pytest.mark.parametrize("layer, x", [
    (Conv2d(3, 4, 3), 255 * abs(normal(2, 7, 8, 3))), (BatchNorm2d(3), 0.01 * normal(2, 7, 8, 3)),
    (BatchNorm2d(3), 50 * normal(2, 7, 8, 3)),
], ids=["photograph", "small", "large"])
def test_a_right_layer_is_right_for_an_x_of_any_size(layer, x):
    assert max(gradient_errors(prepared(layer), x).values()) < 1e-9


@pytest.mark.parametrize("layer, x", [
    (BatchNorm2d(3), 50 + normal(2, 7, 8, 3)), (BatchNorm2d(3), 1e5 + normal(2, 7, 8, 3)),
    (Linear(5, 3), 255 * normal(4, 5)), (Linear(5, 3), 1e6 * normal(4, 5)),
], ids=["off zero", "far off", "bytes", "huge"])
def test_where_rounding_hides_the_answer_the_check_is_refused_and_nobody_accused(layer, x):
    with pytest.raises(ValueError, match="rounding moves the quotients of .* bring x to mean 0 and spread 1") as error:
        gradient_errors(prepared(layer), x)
    assert not isinstance(error.value, GradientError)


def test_a_check_leaves_running_statistics_as_they_were():
    layer = prepared(BatchNorm2d(3))
    before = layer.state_dict()
    gradient_errors(layer, normal(2, 7, 8, 3))
    assert all(np.array_equal(array, before[name]) for name, array in layer.state_dict().items())


class LooseLinear:
    """Stands alone, and is right."""

    def __init__(self):
        self.training, self.frozen, self.grads = True, False, {"weight": None, "bias": None}
        self.weight, self.bias = normal(5, 3), np.zeros(3)  # a bias that forward does not use

    def forward(self, x):
        self.x = x.copy()
        return x @ self.weight

    def backward(self, dy):
        x, self.x = self.x, None
        self.grads = {"weight": x.T @ dy, "bias": None}
        return dy @ self.weight.T


def test_a_parameter_that_forward_does_not_use_needs_no_gradient():
    assert set(gradient_errors(LooseLinear(), normal(4, 5))) == {"dx", "weight"}


def test_a_layer_under_two_names_is_one_layer():
    layer = LooseLinear()
    layer.itself, layer.again = layer, Sequential(ReLU())
    layer.alias = layer.again
    assert [path for path, _ in parts(layer)] == ["", "again", "again.0"]
    assert max(gradient_errors(layer, normal(4, 5)).values()) < 1e-9


class Learns(LooseLinear):
    def backward(self, dy):
        dx = super().backward(dy)
        self.weight = self.weight - 0.1 * self.grads["weight"]
        return dx


class SaysNothing(LooseLinear):
    def backward(self, dy):
        super().backward(dy)


class Divides(LooseLinear):
    def forward(self, x):
        return super().forward(x) * np.nan


@pytest.mark.parametrize("wrong, message", [
    (Learns, "changed weight, which only an optimiser does"), (SaysNothing, "backward returned a NoneType"),
    (Divides, "forward returned NaN or infinity")])
def test_what_is_no_gradient_at_all_is_called_what_it_is(wrong, message):
    with pytest.raises(GradientError, match=message):
        gradient_errors(wrong(), normal(4, 5))


def test_a_dy_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected dy of shape \(4, 3\), like y, got \(3,\)"):
        gradient_errors(LooseLinear(), normal(4, 5), np.ones(3))


def test_directions_refuse_float32():
    with pytest.raises(ValueError, match="need float64"):
        directional_errors(Linear(5, 3), normal(4, 5).astype(np.float32))
