"""report.html: how good it is and how sure that is, what else might explain it, the mistakes, and what was run on what.

One file that needs nothing else; it can be sent to whoever should judge the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinyresnet.ich.looks import WRONG, Look
from tinyresnet.ich.paper import EXPERIMENT
from tinyresnet.ich.report import interval
from tinyresnet.page import Page

FIGURES = {  # file: what it shows
    "training_progress.png": "Accuracy and loss of training and test images, by epoch.",
    "confusion_matrix.png": "True classes in rows, answers in columns.",
    "roc.png": "Sensitivity against false alarms, at every threshold.",
    "reliability.png": "Of the images with about this probability, how many are positive? On the dotted line, as many.",
    "referral.png": "Accuracy on the images that are left when the least certain are given to a person.",
}
ZOOM = 0.45  # figures are drawn for print; two of them fit side by side
WORDS = {"roc_auc": "ROC-AUC", "f1": "F1"}  # where underscores are not all that a reader would miss
LOOK_ZOOM = 0.75  # as wide as the page
MAPS = (f"At most {WRONG} are shown. Bright: what speaks for the positive class. Grad-CAM asks the "
        "derivative, in the last stage and the one before; occlusion covers a square and asks again. Each map is drawn up "
        "to its own maximum, however small that is. Below, the training cases that resemble the slice most to the network: "
        "framed blue with the same label, orange with the other. Probabilities are means over repeats and views; maps show "
        "the first view, by a head that has not learned from the slice, unless it says so.")
OUTLINED = " The outline on the slice is the blood that was drawn, where the truth is known."
SINGLY = ("In brackets 95 % intervals: Clopper and Pearson's for accuracy, sensitivity, specificity and precision, for the "
          "others a bootstrap over images, which knows of no mistake where none was made. Both take slices to be "
          "independent, and those of one scan are not.")
BY_SCAN = "In brackets 95 % intervals: bootstrap over scans or patients."
SPLITS = {"grouped": " Grouped: no scan or patient was learned from and asked about at once.",
          "plain": " Plain: slices of a scan may have been, which flatters."}
LIMITS = (
    "The interval says how the figure would vary with other patients of the same kind. It does not know other hospitals, "
    "other scanners, or how these pictures were chosen.",
    "The labels are those of the data set; nobody has checked them here.",
    "Maps show what the network used, not where blood is. A map on blood is no proof, and one beside it no refutation.",
)


def write_report(path: Path, title: str, results: Mapping[str, Any], folders: Mapping[str, Path],
                 looks: Mapping[str, Iterable[Look]], disclaimer: str) -> None:
    """The page, from what results.json holds, and by part of the run ("" if it has one) its figures and cases."""
    page = Page(title)
    page.paragraph(disclaimer, warning=True)
    for warning in results.get("warnings", []):
        page.paragraph(f"Warning: {warning}.", warning=True)
    page.paragraph(summary(results))
    if results["protocol"]["recipe"] == "paper":
        page.paragraph(EXPERIMENT)
    add_measures(page, results)
    add_comparisons(page, results)
    add_calibration(page, results)
    if "pointing_game" in results:
        add_pointing(page, results["pointing_game"])
    for part, folder in folders.items():
        of_part = f": {worded(part)}" if part else ""
        page.heading(f"Figures{of_part}")
        for name, caption in FIGURES.items():
            if (folder / name).exists():
                page.figure((folder / name).read_bytes(), caption, caption, zoom=ZOOM)
        add_looks(page, looks[part], of_part, f"{MAPS}{OUTLINED if 'pointing_game' in results else ''}")
    page.heading("What was run, on what")
    page.table(("", ""), facts_of(results))
    page.heading("Limits")
    for limit in (*LIMITS, disclaimer):
        page.paragraph(limit)
    page.write(path)


def worded(name: str) -> str:
    """A key of results.json in words."""
    return WORDS.get(name, name.replace("_", " "))


def summary(results: Mapping[str, Any]) -> str:
    """What was run, in a sentence; in full it is a table at the end."""
    data, model, protocol = (results[part] for part in ("data", "model", "protocol"))
    return (f"{data['images']} {'synthetic ' if data['synthetic'] else ''}images, {data['positive']} of them positive, in "
            f"{data['groups']} groups (scans or patients, where they are known); network {model['name']}, recipe "
            f"{protocol['recipe']}; divided: {', '.join(map(str, protocol['split']))}.")


def facts_of(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of data, model and protocol; of a list, a row an entry."""
    return [(f"{part}: {worded(name)}", str(entry)) for part in ("data", "model", "protocol")
            for name, value in results[part].items() if value is not None
            for entry in (value if isinstance(value, list) else [value])]


def add_measures(page: Page, results: Mapping[str, Any]) -> None:
    """The measures of all splits side by side."""
    metrics = results["metrics"]
    page.heading("How good it is")
    names = list(dict.fromkeys(name for measures in metrics.values() for name in measures))
    page.table(("", *map(worded, metrics)), [
        (worded(name), *(interval(of[name]) if name in of else "" for of in metrics.values())) for name in names])
    said = "".join(words for split, words in SPLITS.items() if split in metrics)
    page.paragraph(SINGLY if results["protocol"]["recipe"] == "paper" else f"{BY_SCAN}{said}")


def add_comparisons(page: Page, results: Mapping[str, Any]) -> None:
    """Baselines and variants: accuracy and ROC-AUC of each."""
    for part, heading, words in (
            ("baselines", "What it must beat", "Bright blob is a rule of four numbers, majority looks at nothing. Metadata "
             "and brain blanked, where they stand here, never see the brain: what they know, a network may have learned "
             "instead of medicine."),
            ("ahead", "By how much it is better than these", "The difference, from the same draws for both. Where "
             "the interval reaches below 0, it is not shown that the network is better."),
            ("exploratory", "What else might have been done", "Exploratory: tried on the same images that judge them. The "
             "best of these is no result.")):
        if part in results:
            own = {} if part == "ahead" else {"this run": results["metrics"]}
            page.heading(heading)
            splits = list(next(iter(results[part].values())))
            pairs = [(split, measure) for split in splits for measure in ("accuracy", "roc_auc")]
            page.table(("", *(f"{worded(split)}: {worded(measure)}" for split, measure in pairs)),
                       [(worded(name), *(interval(of[split][measure]) for split, measure in pairs))
                        for name, of in {**own, **results[part]}.items()])
            page.paragraph(words)


def add_calibration(page: Page, results: Mapping[str, Any]) -> None:
    """Is a probability what it says, and what would referring the doubtful bring?"""
    page.heading("How far its probabilities can be believed")
    rows = []
    for split, found in results["calibration"].items():
        fitted = (interval(found["brier_with_temperature"]), f"{found['temperature']:.2f}") if "temperature" in found else (
            "not fitted", "")
        rows.append((worded(split), interval(found["brier"]), *fitted))
    page.table(("", "Brier score", "with temperature", "temperature (mean of folds)"), rows)
    page.paragraph("0 is perfect, 0.25 is saying one half each time. A temperature above 1 says that the network is too "
                   "sure; it was fitted on training images only.")
    names = "accuracy", "sensitivity", "specificity"
    page.table(("", "least certain, referred", *(f"{name} on the rest" for name in names)),
               [(worded(split), f"{100 * of['fraction']:.0f} %: between {0.5 - of['half_width']:.2f} and "
                 f"{0.5 + of['half_width']:.2f}", *(interval(of[name]) for name in names))
                for split, entries in results["referral"].items() for of in entries])


def add_pointing(page: Page, found: Mapping[str, Any]) -> None:
    """Where the blood is known: how often each map's brightest place is on it."""
    page.heading("Do the maps find the blood?")
    page.table(("the brightest place of", f"lies on the bleed, of {found['slices']} slices"),
               [*((name, interval(hits)) for name, hits in found["hits"].items()),
                ("a random place", interval({"value": found["chance"]}))])
    page.paragraph("The pointing game, within 15 of 224 pixels. A map of few cells points coarsely: its brightest place is "
                   "the middle of a cell.")


def add_looks(page: Page, looks: Iterable[Look], of_part: str, words: str) -> None:
    """The mistakes, then some right answers. words: how to read them."""
    looks = list(looks)
    wrong, right = [look for look in looks if not look.right], [look for look in looks if look.right]
    page.heading(f"Mistakes, the surest first{of_part}")
    if not wrong:
        page.paragraph("There are none.")
    if looks:
        page.paragraph(words)
    for heading, cases in (("", wrong), (f"Right answers, from the surest to the least sure{of_part}", right)):
        if heading and cases:
            page.heading(heading)
        for look in cases:
            page.figure(look.maps, f"maps of {look.title}", look.title, zoom=LOOK_ZOOM)
            page.figure(look.nearest, f"training cases that resemble {look.title}", zoom=LOOK_ZOOM)
