"""Figures: what they say, that they are written whole, and that they touch no global state."""

import math
import sys

import numpy as np
import pytest
from drawn import remembered, texts
from matplotlib.colors import to_hex
from PIL import Image

from tinyresnet import plots, plots_calibration
from tinyresnet.calibration import brier, referred, reliability
from tinyresnet.plots import plot_confusion_matrix, plot_roc, plot_training_progress
from tinyresnet.plots_calibration import plot_referral, plot_reliability


def history(folds=1, epochs=6, **changes):
    rng = np.random.default_rng(0)
    return [{"split": "train", "repeat": 0, "fold": fold, "epoch": epoch, "lr": 1e-3,
             "train_loss": 0.8 ** epoch + 0.05 * rng.random(), "train_accuracy": 1 - 0.5 * 0.8 ** epoch,
             "valid_loss": 0.9 ** epoch + 0.05 * rng.random(), "valid_accuracy": 0.9 - 0.4 * 0.9 ** epoch, **changes}
            for fold in range(folds) for epoch in range(1, epochs + 1)]


def curves(count=2, n=50):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return {f"model {k}": (labels, (labels + rng.random(n)) / 2) for k in range(count)}


def predictions(n=100):
    """Labels (n,) and probabilities (2, n) of two repeats that are right in three of four cases."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return labels, (labels + 1.5 * rng.random((2, n))) / 2.5


DRAWINGS = {
    "training": lambda path, note="": plot_training_progress(history(3), path, note=note),
    "confusion": lambda path, note="": plot_confusion_matrix([[17, 3], [5, 15]], path, note=note),
    "roc": lambda path, note="": plot_roc(curves(), path, note=note),
    "reliability": lambda path, note="": plot_reliability(*predictions(), path, note=note),
    "referral": lambda path, note="": plot_referral(*predictions(), path, note=note),
}


@pytest.fixture
def figures(monkeypatch):
    """The figures drawn during a test, to look into."""
    return remembered(monkeypatch, plots, plots_calibration)


@pytest.mark.parametrize("name", ["\\frac", "$\\nothing$", "5 $ and 10 $"])
def test_a_dollar_in_the_name_of_a_class_is_a_dollar(name, tmp_path):
    plot_confusion_matrix([[1, 2], [3, 4]], tmp_path / "matrix.png", classes=("normal", name), note=name)
    plot_roc({name: ([0, 1], [0.2, 0.8])}, tmp_path / "roc.png", note=name)
    plot_reliability([0, 1], [0.2, 0.8], tmp_path / "reliability.png", classes=("normal", name), note=name)
    assert len(list(tmp_path.iterdir())) == 3, "as a formula these cannot be drawn"


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_a_readable_picture_with_something_on_it(tmp_path, name):
    DRAWINGS[name](tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.array(picture.convert("L"))
    assert min(pixels.shape) > 700 and pixels.std() > 10


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_content_gives_the_same_file(tmp_path, name):
    DRAWINGS[name](tmp_path / "first.png")
    DRAWINGS[name](tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_note_is_printed_in_the_figure(tmp_path, name, figures):
    DRAWINGS[name](tmp_path / "figure.png", note="Research and teaching only, not for diagnosis")
    assert "Research and teaching only, not for diagnosis" in texts(figures[0])


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_leaves_nothing_but_the_figure_in_the_folder(tmp_path, name):
    DRAWINGS[name](tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_the_suffix_decides_the_format(tmp_path, suffix):
    DRAWINGS["roc"](tmp_path / f"figure.{suffix}")
    assert {"pdf": b"%PDF", "svg": b"<?xml"}[suffix] in (tmp_path / f"figure.{suffix}").read_bytes()[:10]


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def fail(self, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "figure.png").write_bytes(b"old")
    monkeypatch.setattr(plots.Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        DRAWINGS["confusion"](tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == b"old"


@pytest.mark.parametrize("module", [plots, plots_calibration])
def test_pyplot_and_its_global_figures_are_not_used(module):
    with open(module.__file__, encoding="utf-8") as file:
        assert "import matplotlib.pyplot" not in file.read() and "plt" not in vars(sys.modules[module.__name__])


# Training progress ----------------------------------------------------------------------------------------------------


def test_accuracy_in_percent_is_above_and_loss_below(tmp_path, figures):
    plot_training_progress(history(), tmp_path / "a.png")
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["Accuracy (%)", "Loss"]


def test_training_is_blue_and_orange_and_validation_black_and_dashed(tmp_path, figures):
    plot_training_progress(history(), tmp_path / "a.png")
    lines = [[(line.get_color(), line.get_linestyle()) for line in axes.lines] for axes in figures[0].axes]
    assert lines == [[(plots.BLUE, "-"), (plots.BLACK, "--")], [(plots.ORANGE, "-"), (plots.BLACK, "--")]]


def test_the_final_values_are_written(tmp_path, figures):
    plot_training_progress(history(train_accuracy=0.875, valid_accuracy=0.8, train_loss=0.25, valid_loss=0.5),
                           tmp_path / "a.png")
    assert {"87.5 %", "80.0 %", "0.250", "0.500"} <= texts(figures[0])


def test_of_several_folds_the_mean_is_drawn(tmp_path, figures):
    rows = history(2, train_accuracy=0.5)
    for row in rows:
        row["train_accuracy"] = 0.6 if row["fold"] == 0 else 0.9
    plot_training_progress(rows, tmp_path / "a.png")
    np.testing.assert_allclose(figures[0].axes[0].lines[0].get_ydata(), 75)


def test_of_several_folds_a_band_shows_the_range(tmp_path, figures):
    rows = history(2)
    for row in rows:
        row["train_accuracy"] = 0.6 if row["fold"] == 0 else 0.9
    plot_training_progress(rows, tmp_path / "a.png")
    heights = figures[0].axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((60, 90))


def test_one_fold_has_no_band(tmp_path, figures):
    plot_training_progress(history(1), tmp_path / "a.png")
    assert len(figures[0].axes[0].collections) == 0


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_without_validation_only_training_is_drawn(tmp_path, figures, nothing):
    plot_training_progress(history(valid_loss=nothing, valid_accuracy=nothing), tmp_path / "a.png")
    assert [len(axes.lines) for axes in figures[0].axes] == [1, 1]


def test_folds_of_different_length_are_averaged_over_those_that_got_so_far(tmp_path, figures):
    rows = [row for row in history(2) if row["fold"] == 0 or row["epoch"] <= 3]
    plot_training_progress(rows, tmp_path / "a.png")
    assert len(figures[0].axes[1].lines[0].get_xdata()) == 6


def test_training_stands_in_the_middle_of_its_epoch_and_validation_at_its_end(tmp_path, figures):
    plot_training_progress(history(epochs=3), tmp_path / "a.png")
    assert [line.get_xdata().tolist() for line in figures[0].axes[0].lines] == [[0.5, 1.5, 2.5], [1, 2, 3]]


@pytest.mark.parametrize("epochs, shaded", [(1, []), (2, [(1, 2)]), (5, [(1, 2), (3, 4)]), (90, [(3, 6), (9, 12)])])
def test_every_second_epoch_is_shaded_or_every_second_block_of_many(tmp_path, figures, epochs, shaded):
    plot_training_progress(history(epochs=epochs), tmp_path / "a.png")
    for axes in figures[0].axes:
        bands = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches[:2]]
        assert [(round(band.x0, 9), round(band.x1, 9)) for band in bands] == shaded


def test_the_axis_counts_epochs_unless_the_iterations_are_known(tmp_path, figures):
    plot_training_progress(history(epochs=30), tmp_path / "a.png")
    plot_training_progress(history(epochs=30), tmp_path / "b.png", iterations_per_epoch=10)
    labels = [figure.axes[1].get_xlabel() for figure in figures]
    last = [figure.axes[1].get_xticklabels()[-2].get_text() for figure in figures]
    assert (labels, last) == (["Epoch", "Iteration"], ["28", "280"])


def test_on_an_axis_of_iterations_the_epochs_are_named(tmp_path, figures):
    plot_training_progress(history(epochs=30), tmp_path / "a.png", iterations_per_epoch=10)
    named = [text.get_text().strip() for text in figures[0].axes[0].texts if "Epoch" in text.get_text()]
    assert named == [f"Epoch {epoch}" for epoch in (5, 10, 15, 20, 25, 30)]


@pytest.mark.parametrize("epochs", [1, 300])
def test_one_epoch_and_three_hundred_are_drawn_without_a_warning(tmp_path, epochs):
    plot_training_progress(history(epochs=epochs), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_an_empty_history_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one epoch, got none"):
        plot_training_progress([], tmp_path / "a.png")


def test_a_history_without_a_column_is_refused_by_the_name_of_the_column(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "valid_loss"} for row in history()]
    with pytest.raises(ValueError, match="without valid_loss"):
        plot_training_progress(rows, tmp_path / "a.png")


# Confusion matrix -----------------------------------------------------------------------------------------------------


def test_counts_and_the_summaries_of_rows_and_columns_are_written(tmp_path, figures):
    plot_confusion_matrix([[17, 3], [5, 15]], tmp_path / "a.png")
    # rows 17 / 20 and 15 / 20, columns 17 / 22 and 15 / 18
    assert {"17", "3", "5", "15", "85.0 %", "15.0 %", "75.0 %", "25.0 %", "77.3 %", "22.7 %", "83.3 %",
            "16.7 %"} <= texts(figures[0])


def test_every_count_comes_with_its_percent_of_all_and_the_corner_with_the_accuracy(tmp_path, figures):
    plot_confusion_matrix([[17, 3], [5, 15]], tmp_path / "a.png")
    assert {"42.5 %", "7.5 %", "12.5 %", "37.5 %", "80.0 %", "20.0 %"} <= texts(figures[0])


def test_the_right_are_green_and_the_wrong_red(tmp_path, figures):
    plot_confusion_matrix([[17, 3], [5, 15]], tmp_path / "a.png")
    faces = {patch.get_xy(): to_hex(patch.get_facecolor()) for patch in figures[0].axes[0].patches}
    assert {faces[0, 0], faces[1, 1]} == {plots.LIGHT_GREEN} and {faces[1, 0], faces[0, 1]} == {plots.LIGHT_RED}


def test_the_true_class_is_the_row(tmp_path, figures):
    plot_confusion_matrix([[1, 2], [3, 4]], tmp_path / "a.png")
    places = {text.get_text(): text.get_position() for text in figures[0].axes[0].texts}
    assert places["2"] == (1.5, 0.5) and figures[0].axes[0].get_ylabel() == "True class"


def test_a_class_without_images_shows_a_dash(tmp_path, figures):
    plot_confusion_matrix([[9, 0], [0, 0]], tmp_path / "a.png")
    assert "–" in texts(figures[0])


def test_three_classes_are_drawn(tmp_path, figures):
    plot_confusion_matrix(np.diag([3, 4, 5]), tmp_path / "a.png", classes=("a", "b", "c"))
    assert {"a", "b", "c"} <= texts(figures[0])


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1, 2, 3]] * 3, [[1, -1], [0, 2]], [[1, math.nan], [0, 2]]])
def test_what_is_not_a_matrix_of_counts_is_refused(tmp_path, matrix):
    with pytest.raises(ValueError, match=r"expected counts \(2, 2\)"):
        plot_confusion_matrix(matrix, tmp_path / "a.png")


# ROC ------------------------------------------------------------------------------------------------------------------


def test_the_legend_gives_the_area_of_each_curve(tmp_path, figures):
    plot_roc({"good": ([0, 1], [0.1, 0.9]), "bad": ([0, 1, 0, 1], [0.5, 0.2, 0.1, 0.6])}, tmp_path / "a.png")
    names = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert names == ["good (AUC 1.000)", "bad (AUC 0.750)", "Chance (AUC 0.500)"]


def test_the_line_of_chance_is_drawn(tmp_path, figures):
    plot_roc(curves(), tmp_path / "a.png")
    chance = figures[0].axes[0].lines[0]
    np.testing.assert_array_equal(chance.get_xydata(), [[0, 0], [1, 1]])


def test_more_curves_than_colours_are_told_apart(tmp_path, figures):
    plot_roc(curves(9), tmp_path / "a.png")
    looks = {(line.get_color(), line.get_linestyle()) for line in figures[0].axes[0].lines}
    assert len(looks) == 10


def test_no_curve_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one curve"):
        plot_roc({}, tmp_path / "a.png")


# Reliability and referral ---------------------------------------------------------------------------------------------


def test_the_points_of_the_reliability_diagram_are_the_bins_with_their_intervals(tmp_path, figures):
    plot_reliability(*predictions(), tmp_path / "a.png", bins=5)
    (points,) = figures[0].axes[0].containers
    bins = reliability(*predictions(), bins=5)
    np.testing.assert_allclose(points[0].get_xydata(), [(b.predicted, b.observed) for b in bins])
    np.testing.assert_allclose([bar[:, 1] for bar in points[2][0].get_segments()], [(b.low, b.high) for b in bins])


def test_the_diagonal_is_drawn_and_the_brier_score_written(tmp_path, figures):
    plot_reliability(*predictions(), tmp_path / "a.png")
    np.testing.assert_array_equal(figures[0].axes[0].lines[0].get_xydata(), [[0, 0], [1, 1]])
    assert figures[0].axes[0].get_legend().get_title().get_text().startswith(f"Brier score {brier(*predictions()):.3f} (")


def test_the_histogram_below_counts_every_image_once(tmp_path, figures):
    plot_reliability(*predictions(), tmp_path / "a.png")
    heights = [[bar.get_height() for bar in bars] for bars in figures[0].axes[1].containers]
    assert np.sum(heights, axis=1).tolist() == [50, 50]  # of each class, although there are two repeats


def test_groups_widen_the_intervals_of_the_diagram(tmp_path, figures):
    for groups in (None, np.arange(100) // 10):
        plot_reliability(*predictions(), tmp_path / "a.png", bins=1, groups=groups)
    alone, grouped = (figure.axes[0].containers[0][2][0].get_segments()[0] for figure in figures)
    assert np.ptp(grouped[:, 1]) > 1.5 * np.ptp(alone[:, 1])


def test_the_curve_of_referral_is_the_accuracy_on_the_others_in_its_band(tmp_path, figures):
    plot_referral(*predictions(), tmp_path / "a.png")
    axes = figures[0].axes[0]
    entry = referred(*predictions(), [0.2])[0]
    assert axes.lines[0].get_xydata()[4] == pytest.approx([20, 100 * entry["accuracy"]["value"]])
    at_twenty = [y for x, y in axes.collections[0].get_paths()[0].vertices if abs(x - 20) < 1e-6]
    assert (min(at_twenty), max(at_twenty)) == pytest.approx((100 * entry["accuracy"]["low"],
                                                              100 * entry["accuracy"]["high"]))


def test_predictions_that_are_all_alike_are_drawn_without_a_warning(tmp_path):
    plot_reliability([0, 1], [0.6, 0.6], tmp_path / "a.png")
    plot_referral([0, 1], [0.6, 0.6], tmp_path / "a.png")


def test_a_perfect_network_is_drawn_without_a_warning(tmp_path):
    plot_reliability([0, 1] * 20, [0.0, 1.0] * 20, tmp_path / "a.png")
    plot_referral([0, 1] * 20, [0.0, 1.0] * 20, tmp_path / "a.png")
