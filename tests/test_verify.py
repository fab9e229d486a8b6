"""verify finds what was done wrong to a file from pictures alone, and says so in words and in the exit code."""

import csv

import numpy as np
import pytest
from PIL import Image
from thin_networks import pictures, trained

from tinyresnet import load_model, read_image, save_weights
from tinyresnet.layers import BatchNorm2d
from weights_converter import verify as module
from weights_converter.__main__ import main
from weights_converter.verify import ENOUGH, Fit, best_change, changes, chance, judge, measure, misfit
from weights_converter.wrong import (Weights, colours_reversed, gamma_and_beta_swapped, kernels_transposed, not_normalised,
                                     other_epsilon, other_stride, statistics_ignored, watching, with_input)

NORMALISED = "pixels less ImageNet's mean, divided by its deviation"
FAULTS = {  # how, what the file then says, and what the numbers say
    colours_reversed: ("red, green, blue", "blue, green, red"),
    not_normalised: ("pixels from 0 to 1", NORMALISED),
    other_epsilon: ("epsilon 0.001", "epsilon 1e-05"),
    other_stride: ("the stride in the first 1x1 convolution (v1)", "the stride in the 3x3 convolution (v1.5)"),
    kernels_transposed: ("square kernels as they are", "their inputs and outputs exchanged"),
    gamma_and_beta_swapped: ("gamma and beta as they are", "gamma for beta"),
}
EITHER_WAY = [way for way in FAULTS if way is not not_normalised]


def by_name(way):
    return getattr(way, "__name__", None)


def names(verdict, way):
    """Whether the verdict names this fault."""
    said, instead = FAULTS[way]
    return f"facts say {said}, the numbers say {instead}: misfit" in verdict.words


@pytest.fixture(scope="module")
def thin():
    return Weights.of(trained())


@pytest.fixture
def folder(tmp_path):
    """Four pictures as files."""
    for number, picture in enumerate(pictures()):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    return tmp_path


# -- the ways ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", EITHER_WAY, ids=by_name)
def test_a_way_done_twice_is_undone(way, thin):
    again = way(way(thin))
    assert again.facts == thin.facts
    for name, array in thin.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


@pytest.mark.parametrize("way", [*FAULTS, statistics_ignored], ids=by_name)
def test_a_way_changes_the_answer_and_leaves_the_right_weights_alone(way, thin):
    before = {name: array.copy() for name, array in thin.arrays.items()}
    assert measure(way(thin), pictures()) != measure(thin, pictures())
    assert all(np.array_equal(array, before[name]) for name, array in thin.arrays.items())


def test_square_kernels_alone_are_transposed(thin):
    wrong = kernels_transposed(thin).arrays
    changed = {name for name, array in thin.arrays.items() if not np.array_equal(wrong[name], array)}
    assert changed == {"layer1.0.conv1.weight", *(f"layer{stage}.0.conv2.weight" for stage in (1, 2, 3))}


def test_every_layer_is_watched_and_then_runs_as_before():
    model, x, seen = trained(), np.ones((1, 32, 32, 3), np.float32), {}
    before = model.forward(x)
    with watching(model, lambda name, x, y: seen.update({name: (x, y)})):
        watched = model.forward(x)
    assert list(seen) == sorted(seen, key=[name for name, layer in model.named_layers() if not layer.children()].index)
    np.testing.assert_array_equal(seen["bn1"][0], seen["conv1"][1])
    np.testing.assert_allclose(watched, before, rtol=1e-4)  # float32, not fused
    np.testing.assert_array_equal(model.forward(x), before)
    assert not any("forward" in vars(layer) for _, layer in model.named_layers())


# -- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"stride_in_1x1": True}, {"eps": 1e-3}, {"block": "BasicBlock"}])
def test_what_is_right_fits(options):
    verdict = judge(Weights.of(trained(**options)), pictures())
    assert verdict.fits and verdict.words.startswith("fits: misfit 0.0")


@pytest.mark.parametrize("pictures_given", [1, ENOUGH])
def test_without_a_head_the_verdict_says_that_colours_cannot_be_told(pictures_given):
    model = trained()
    model.replace_head(1, rng=np.random.default_rng(0))
    verdict = judge(Weights.of(model), pictures(pictures_given))
    assert verdict.fits and verdict.words.endswith("blue for red cannot be seen: there is no head, whose answers would be "
                                                   "less sure")


@pytest.mark.parametrize("way", FAULTS, ids=by_name)
def test_a_fault_is_found_and_named(way, thin):
    verdict = judge(way(thin), pictures())
    assert not verdict.fits and verdict.words.startswith("fits much better when changed: ")
    assert names(verdict, way) and verdict.words.count("the numbers say") == 1


def test_several_faults_are_found_together(thin):
    faults = colours_reversed, other_stride, kernels_transposed
    weights = thin
    for way in faults:
        weights = way(weights)
    verdict = judge(weights, pictures())
    assert not verdict.fits and all(names(verdict, way) for way in faults)


def test_an_input_that_nobody_uses_is_quoted(thin):
    assert "facts say mean (0.1, 0.2, 0.3) and deviation (2, 2, 2)" in judge(
        with_input(thin, (0.1, 0.2, 0.3), (2, 2, 2)), pictures()).words


def test_ignored_statistics_are_named_with_the_first_layer(thin):
    verdict = judge(statistics_ignored(thin), pictures())
    assert not verdict.fits and verdict.words.startswith("nothing fits: ")
    assert "first layer that does not fit is bn1:" in verdict.words and "means are 0 and variances 1" in verdict.words


def test_pictures_of_another_kind_fit_nothing(thin):
    verdict = judge(thin, [picture // 8 + 200 for picture in pictures()])
    assert not verdict.fits and "the pictures are not of the kind" in verdict.words


def test_the_first_layer_that_does_not_fit_is_the_one_that_was_spoilt(thin):
    name = "layer2.0.bn2.running_var"
    verdict = judge(thin._replace(arrays=thin.arrays | {name: thin.arrays[name] * 1e6}), pictures())
    assert "first layer that does not fit is layer2.0.bn2:" in verdict.words


def test_basic_blocks_have_no_stride_to_be_wrong():
    assert not any("stride" in change.said for change in changes(Weights.of(trained("BasicBlock"))))


@pytest.mark.parametrize("number, entropy, found", [(ENOUGH, 0.5, True), (ENOUGH, 0.95, False), (ENOUGH - 1, 0.5, False)])
def test_the_order_of_colours_is_found_by_surer_answers_of_enough_pictures(number, entropy, found, thin, monkeypatch):
    def measured(weights, pictures):
        turned = np.array_equal(weights.arrays["conv1.weight"], colours_reversed(thin).arrays["conv1.weight"])
        return Fit({"bn1": 0.1}, entropy if turned else 1.0)
    monkeypatch.setattr(module, "measure", measured)
    verdict = judge(thin, pictures(number))
    assert verdict.fits != found and names(verdict, colours_reversed) == found


def test_colours_that_entropy_has_turned_are_not_called_back_by_the_misfit(thin, monkeypatch):
    def measured(weights, pictures):
        turned = np.array_equal(weights.arrays["conv1.weight"], colours_reversed(thin).arrays["conv1.weight"])
        return Fit({"bn1": 0.2}, 0.5) if turned else Fit({"bn1": 0.1}, 1.0)
    monkeypatch.setattr(module, "measure", measured)
    verdict = judge(thin, pictures(ENOUGH))
    assert verdict.words.count("the numbers say") == 1 and names(verdict, colours_reversed)


def test_the_misfit_is_in_deviations_of_the_mean_and_logarithms_of_the_variance():
    norm = BatchNorm2d(3)  # means 0, variances 1; the third channel is an outlier
    assert misfit(norm, np.array([2, -2, 99]), np.array([4, 4, 99**2]) + 1) == pytest.approx(2)
    assert misfit(norm, np.zeros(3), np.exp([1, -1, 9])) == pytest.approx(1)


def test_a_dead_channel_fits(thin):
    dead = {name: array.copy() for name, array in thin.arrays.items()}
    dead["conv1.weight"][..., 0] = dead["bn1.running_mean"][0] = dead["bn1.running_var"][0] = 0
    assert np.isfinite(measure(thin._replace(arrays=dead), pictures()).misfits["bn1"])


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way, code, words", [
    (None, 0, "fits: misfit"), (other_stride, 1, "facts say the stride in the first 1x1"),
    (statistics_ignored, 1, "nothing fits")], ids=by_name)
def test_the_exit_code_tells_whether_it_fits(way, code, words, thin, folder, capsys):
    save_weights((way(thin) if way else thin).model(), folder / "thin.npz")
    assert main(["verify", str(folder / "thin.npz"), *map(str, sorted(folder.glob("*.png")))]) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["thin.npz", "0.png"])
def test_a_file_that_cannot_be_used_gives_exit_code_2_and_one_line(missing, thin, folder, capsys):
    save_weights(thin.model(), folder / "thin.npz")
    (folder / missing).write_bytes(b"no")
    assert main(["verify", str(folder / "thin.npz"), str(folder / "0.png")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and missing in captured.err


def test_without_a_picture_nothing_is_said(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["verify", "thin.npz"])
    assert exit.value.code == 2 and "IMAGE" in capsys.readouterr().err


# -- the real network -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(shared):
    """Ten, each of another class."""
    folder = shared / "data" / "imagenet_sample"
    with open(folder / "labels.csv") as file:
        return [read_image(folder / row["file"]) for row in list(csv.DictReader(file))[::5]]


@pytest.fixture(scope="module")
def real(published):
    return Weights.of(load_model(published))


@pytest.mark.shared
def test_the_real_network_fits(real, photographs):
    fit = measure(real, photographs[:2])
    assert fit.misfit < chance(photographs[:2]) and best_change(real, fit, photographs[:2]) is None


@pytest.mark.shared
@pytest.mark.parametrize("way, number", [(not_normalised, 1), (other_stride, 3), (kernels_transposed, 1),
                                         (gamma_and_beta_swapped, 1)], ids=by_name)
def test_a_fault_of_the_real_network_is_named(way, number, real, photographs):
    wrong, seen = way(real), photographs[:number]
    change, fit = best_change(wrong, measure(wrong, seen), seen)
    assert (change.said, change.instead) == FAULTS[way]
    assert fit.misfit < chance(seen)


@pytest.mark.shared
@pytest.mark.parametrize("way, fits", [(Weights._replace, True), (colours_reversed, False)], ids=["right", "reversed"])
def test_the_order_of_colours_of_the_real_network_shows_with_ten_photographs(way, fits, real, photographs, monkeypatch):
    monkeypatch.setattr(module, "changes", lambda weights: [each for each in changes(weights) if each.makes_sure])
    assert judge(way(real), photographs).fits == fits
