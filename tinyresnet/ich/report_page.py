"""report.html: what was run, on what, how good it is and how sure that is, what else might explain it, and the mistakes.

One file that needs nothing else; it can be sent to whoever should judge the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinyresnet.ich.looks import Look
from tinyresnet.ich.report import interval
from tinyresnet.page import Page

FIGURES = {  # file: what it shows
    "training_progress.png": "Accuracy and loss of training and test images, by epoch.",
    "confusion_matrix.png": "True classes in rows, answers in columns.",
    "roc.png": "Sensitivity against false alarms, at every threshold.",
    "reliability.png": "Of the images with about this probability, how many are positive? On the dotted line, as many.",
    "referral.png": "Accuracy on the images that are left when the least certain are given to a person.",
}
ZOOM = 0.5  # figures are drawn for print
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
    page.heading("What was run, on what")
    page.table(("", ""), facts_of(results))
    page.heading("How good it is")
    add_measures(page, results)
    add_comparisons(page, results)
    add_calibration(page, results)
    for part, folder in folders.items():
        page.heading(f"Figures: {part.replace('_', ' ')}" if part else "Figures")
        for name, caption in FIGURES.items():
            if (folder / name).exists():
                page.figure((folder / name).read_bytes(), caption, caption, zoom=ZOOM)
        add_looks(page, looks[part], part)
    page.heading("Limits")
    for limit in (*LIMITS, disclaimer):
        page.paragraph(limit)
    page.write(path)


def facts_of(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of data, model and protocol."""
    return [(f"{part}: {name.replace('_', ' ')}", ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            for part in ("data", "model", "protocol") for name, value in results[part].items() if value not in (None, [])]


def add_measures(page: Page, results: Mapping[str, Any]) -> None:
    """The measures of all splits side by side."""
    metrics = results["metrics"]
    names = list(dict.fromkeys(name for measures in metrics.values() for name in measures))
    page.table(("", *(split.replace("_", " ") for split in metrics)), [
        (name.replace("_", " "), *(interval(of[name]) if name in of else "" for of in metrics.values())) for name in names])
    page.paragraph("In brackets 95 % intervals: bootstrap over scans or patients; where images were divided singly, "
                   "Clopper and Pearson's. Grouped: no scan was learned from and asked about at once.")


def add_comparisons(page: Page, results: Mapping[str, Any]) -> None:
    """Baselines and variants: accuracy and ROC-AUC of each."""
    for part, heading, words in (
            ("baselines", "What it must beat", "metadata and brain_blanked never see the brain: what they know, a network "
             "may have learned instead of medicine. bright_blob is a rule of four numbers. majority looks at nothing."),
            ("exploratory", "What else might have been done", "Exploratory: tried on the same images that judge them. The "
             "best of these is no result.")):
        if part in results:
            page.heading(heading)
            splits = list(next(iter(results[part].values())))
            pairs = [(split, measure) for split in splits for measure in ("accuracy", "roc_auc")]
            page.table(("", *(f"{split}: {measure}".replace("_", " ") for split, measure in pairs)),
                       [(name, *(interval(of[split][measure]) for split, measure in pairs))
                        for name, of in results[part].items()])
            page.paragraph(words)


def add_calibration(page: Page, results: Mapping[str, Any]) -> None:
    """Is a probability what it says, and what would referring the doubtful bring?"""
    page.heading("How far its probabilities can be believed")
    rows = []
    for split, found in results["calibration"].items():
        cooled = interval(found["brier_with_temperature"]) if "temperature" in found else "not fitted"
        rows.append((split.replace("_", " "), interval(found["brier"]), cooled, round(found.get("temperature", 1), 2)))
    page.table(("", "Brier score", "with temperature", "temperature (mean of folds)"), rows)
    page.paragraph("0 is perfect, 0.25 is saying one half each time. A temperature above 1 says that the network is too "
                   "sure; it was fitted on training images only.")
    names = "accuracy", "sensitivity", "specificity"
    page.table(("", "least certain, referred", *(f"{name} on the rest" for name in names)),
               [(split.replace("_", " "), f"{of['fraction']:.0%}: between {0.5 - of['half_width']:.2f} and "
                 f"{0.5 + of['half_width']:.2f}", *(interval(of[name]) for name in names))
                for split, entries in results["referral"].items() for of in entries])


def add_looks(page: Page, looks: Iterable[Look], part: str) -> None:
    """The mistakes, then some right answers."""
    shown: bool | None = None
    for look in looks:
        if look.right != shown:
            words = "Right answers, from the surest to the least sure" if look.right else "Mistakes, the surest first"
            page.heading(f"{words}: {part.replace('_', ' ')}" if part else words)
            shown = look.right
        page.figure(look.maps, f"maps of {look.title}", look.title, zoom=ZOOM)
        page.figure(look.nearest, f"training cases that resemble {look.title}", zoom=ZOOM)
