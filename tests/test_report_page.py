"""The report stands alone, hides no warning, and has what a reader needs to doubt it."""

import copy
import io

import numpy as np
import pytest
from html_reader import HOSTILE, Reader, assert_stands_alone, in_browser
from PIL import Image

from tinyresnet.ich.analysis import analyse, published
from tinyresnet.ich.experiment import Outcome, Slices, cross_validation
from tinyresnet.ich.looks import Look
from tinyresnet.ich.recipes import Fit
from tinyresnet.ich.report import DISCLAIMER
from tinyresnet.ich.report_page import LIMITS, write_report
from tinyresnet.page import printable

MEASURED = {"value": 0.912, "low": 0.845, "high": 0.967}
AHEAD = {"value": 0.02, "low": -0.01, "high": 0.05}
SPLITS = "grouped", "plain"
WARNINGS = ["from file metadata alone, labels are told", "a second one"]


def picture(kind, colour):
    buffer = io.BytesIO()
    Image.new("RGB", (60, 20), colour).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def results():
    """As results.json has them, of 40 images answered at random, mostly right."""
    labels, rng = np.arange(40) % 2, np.random.default_rng(0)
    slices = Slices([str(n) for n in range(40)], labels, np.arange(40) // 4, True, ("normal", "hemorrhage"))
    outcomes = [Outcome(fold, Fit(np.clip(labels[fold.valid_rows] * 0.4 + rng.random(len(fold.valid_rows)) * 0.6, 0, 1),
                                  [], None), 1.2345) for fold in cross_validation(slices, SPLITS, 2, 1, 0)]
    compared = {split: {"accuracy": MEASURED, "roc_auc": MEASURED} for split in SPLITS}
    return {"data": {"source": "head_ct", "images": 40, "positive": 20, "groups": 10, "synthetic": False, "skipped": []},
            "model": {"name": "resnet50", "weights": "resnet50.npz", "sha256": "0123abc"},
            "protocol": {"recipe": "features", "seed": 0, "split": list(SPLITS), "folds": 2, "penalty": 10.0},
            **analyse(slices, outcomes), "warnings": WARNINGS,
            "baselines": {name: compared for name in ("metadata", "brain_blanked", "bright_blob", "majority")},
            "ahead": {"bright_blob": {split: {"accuracy": AHEAD, "roc_auc": AHEAD} for split in SPLITS}},
            "exploratory": {"head alone": compared, "layer3 alone": compared}}


LOOKS = [Look(f"{name}: hemorrhage 0.9, true label normal", right, picture("JPEG", "navy"), picture("JPEG", "maroon"))
         for name, right in (("a.png", False), ("b.png", False), ("c.png", True))]


@pytest.fixture
def page(results, tmp_path):
    """A function that writes the report of these results, with changes, and returns it as it was written."""
    def write(looks=LOOKS, title="Bleed or not?", **changes):
        (tmp_path / "roc.png").write_bytes(picture("PNG", "white"))
        write_report(tmp_path / "report.html", title, {**copy.deepcopy(results), **changes}, {"": tmp_path}, {"": looks},
                     DISCLAIMER)
        return (tmp_path / "report.html").read_text(encoding="utf-8")
    return write


def said(text):
    return "\n".join(Reader(text).text)


def rows_below(text, heading):
    """The rows of the first table below this heading, a list of cells each."""
    table = text.split(f"<h2>{heading}</h2>")[1].split("</table>")[0]
    return [[cell for cell in Reader(f"{row}</tr>").text if cell.strip()] for row in table.split("\n") if "<tr>" in row
            for row in [row.removesuffix("</tr>")]]


def test_the_report_stands_alone(page):
    assert_stands_alone(page())


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_names_and_warnings_are_text_and_no_tags(page, text, results):
    def report(word):
        looks = [Look(word, right, *LOOKS[0][2:]) for right in (False, True)]
        data = {**results["data"], "source": word, "skipped": [word, word]}
        return page(looks, word, data=data, model={**results["model"], "weights": word}, warnings=[word],
                    exploratory={word: results["exploratory"]["head alone"]})
    plain, hostile = report("harmless"), report(text)
    assert_stands_alone(hostile)
    assert [tag for tag, _ in Reader(hostile).tags] == [tag for tag, _ in Reader(plain).tags]
    assert said(hostile).count(printable(text)) == said(plain).count("harmless") == 10


def test_what_it_is_not_for_and_all_warnings_stand_before_any_result(page):
    text = said(page())
    places = [text.index(words) for words in (DISCLAIMER, *(f"Warning: {warning}." for warning in WARNINGS))]
    assert places == sorted(places) and places[-1] < text.index("40 images") < text.index("How good it is")
    warned = [tag for tag, attributes in Reader(page()).tags if attributes.get("class") == "warning"]
    assert warned == ["p"] * (1 + len(WARNINGS))


def test_a_run_without_warnings_has_none(page):
    text = page(warnings=[])
    assert "Warning:" not in text and DISCLAIMER in text


def test_every_measure_of_every_split_stands_side_by_side_with_its_interval(page, results):
    head, *rows = rows_below(page(), "How good it is")
    assert head == ["grouped", "plain"]
    assert [row[0] for row in rows] == ["accuracy", "sensitivity", "specificity", "precision", "F1", "balanced accuracy",
                                        "ROC-AUC"]
    of = results["metrics"]["plain"]["roc_auc"]
    assert rows[-1][2] == f"{of['value']:.3f} ({of['low']:.3f} to {of['high']:.3f})"


def test_what_was_published_has_intervals_only_where_they_are_known(page, results):
    _, *rows = rows_below(page(metrics={"published": published(), **results["metrics"]}), "How good it is")
    found = {row[0]: row[1] for row in rows}
    assert found["accuracy"] == "0.800 (0.644 to 0.909)" and found["F1"].startswith("0.800 (0.6")
    roc_auc = rows[-1]
    assert roc_auc[0] == "ROC-AUC" and len(roc_auc) == 3, "nobody has published it: the first cell is empty"


@pytest.mark.parametrize("heading, names", [
    ("What it must beat", ["metadata", "brain blanked", "bright blob", "majority"]),
    ("What else might have been done", ["head alone", "layer3 alone"])])
def test_others_are_compared_with_the_run_itself_in_the_first_row(heading, names, page, results):
    head, own, *rows = rows_below(page(), heading)
    assert head == ["grouped: accuracy", "grouped: ROC-AUC", "plain: accuracy", "plain: ROC-AUC"]
    assert own[0] == "this run" and own[1].startswith(f"{results['metrics']['grouped']['accuracy']['value']:.3f} (")
    assert [row[0] for row in rows] == names and {cell for row in rows for cell in row[1:]} == {"0.912 (0.845 to 0.967)"}


def test_how_far_it_is_ahead_of_a_baseline_stands_with_its_interval(page):
    head, row = rows_below(page(), "By how much it is better than these")
    assert row == ["bright blob", *["0.020 (-0.010 to 0.050)"] * 4]


def test_exploratory_variants_are_called_so(page):
    assert "Exploratory" in said(page())


def test_a_run_without_comparisons_has_no_heading_for_them(results, tmp_path):
    few = {name: part for name, part in results.items() if name not in ("baselines", "ahead", "exploratory", "warnings")}
    write_report(tmp_path / "report.html", "Phantoms", few, {"": tmp_path}, {"": []}, DISCLAIMER)
    text = (tmp_path / "report.html").read_text()
    assert "What it must beat" not in text and "What else" not in text and "There are none." in text


def test_calibration_says_what_was_fitted(page, results):
    _, grouped, _ = rows_below(page(), "How far its probabilities can be believed")
    assert grouped[0] == "grouped" and grouped[3] == "1.23" and "(" in grouped[1] and "(" in grouped[2]
    bare = {split: {"brier": MEASURED} for split in SPLITS}
    _, grouped, _ = rows_below(page(calibration=bare), "How far its probabilities can be believed")
    assert grouped == ["grouped", "0.912 (0.845 to 0.967)", "not fitted"]


def test_the_band_to_refer_is_told_by_its_ends(page, results):
    of = results["referral"]["grouped"][1]
    assert f"20 %: between {0.5 - of['half_width']:.2f} and {0.5 + of['half_width']:.2f}" in said(page())


def test_mistakes_come_before_right_answers_each_with_its_caption_and_two_pictures(page):
    text = page()
    places = [text.index(words) for words in ("Mistakes, the surest first", "a.png: hem", "b.png: hem", "Right answers",
                                              "<figcaption>c.png: hem", "<h2>Limits")]
    assert places == sorted(places)
    assert text.count("data:image/jpeg") == 6 and text.count("data:image/png") == 1
    assert all(attributes["alt"] for tag, attributes in Reader(text).tags if tag == "img")


def test_a_run_without_mistakes_says_so_and_still_shows_what_was_right(page):
    text = page(LOOKS[2:])
    assert text.index("Mistakes, the surest first") < text.index("There are none.") < text.index("Right answers")


def test_the_arms_of_a_run_have_figures_and_mistakes_of_their_own(results, tmp_path):
    for arm in ("as_written", "own_input"):
        (tmp_path / arm).mkdir()
        (tmp_path / arm / "roc.png").write_bytes(picture("PNG", "white"))
    write_report(tmp_path / "report.html", "Arms", results, {arm: tmp_path / arm for arm in ("as_written", "own_input")},
                 {"as_written": LOOKS, "own_input": LOOKS[:1]}, DISCLAIMER)
    text = (tmp_path / "report.html").read_text()
    assert text.index("Figures: as written") < text.index("Mistakes, the surest first: as written") \
        < text.index("Figures: own input") < text.index("Mistakes, the surest first: own input")


def test_the_limits_and_the_last_sentence_stand_at_the_end(page):
    text = said(page())
    assert all(text.index(limit) > text.index("What was run, on what") for limit in LIMITS)
    assert text.rstrip().endswith(DISCLAIMER)


def test_what_was_run_is_told_in_full_and_what_is_unknown_or_empty_left_out(page, results):
    text = page(model={**results["model"], "weights": None}, data={**results["data"], "skipped": ["one.png: cut", "two"]})
    rows = [tuple(row) for row in rows_below(text, "What was run, on what")]
    assert {("data: source", "head_ct"), ("model: sha256", "0123abc"), ("protocol: penalty", "10.0"),
            ("data: skipped", "one.png: cut"), ("data: skipped", "two"), ("protocol: split", "plain")} <= set(rows)
    assert "model: weights" not in {row[0] for row in rows if row}
    assert "40 images, 20 of them positive, in 10 groups" in said(text)


def test_phantoms_are_called_synthetic(page, results):
    assert "40 synthetic images" in said(page(data={**results["data"], "synthetic": True}))


def test_a_browser_shows_it_offline(page, tmp_path):
    page(title="a name & its <b>")
    shown = in_browser(tmp_path / "report.html", tmp_path / "profile")
    assert "a name &amp; its &lt;b&gt;" in shown and shown.count("data:image/jpeg") == 6
