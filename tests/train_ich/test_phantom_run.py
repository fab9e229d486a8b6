"""Without arguments: what is learned from phantoms, and what is left behind."""

import csv
import json
import os
import subprocess
import sys
from argparse import Namespace

from run_examples import EXAMPLES, results, train_ich

import tinyresnet
from tinyresnet.ich.cases import Cases
from tinyresnet.weights import read_arrays

OUTPUTS = ["args.json", "backbone.npz", "cases.npz", "confusion_matrix.png", "head.npz", "predictions.csv", "referral.png",
           "reliability.png", "report.html", "results.json", "roc.png", "summary.csv"]
MEASURES = ["accuracy", "sensitivity", "specificity", "precision", "f1", "balanced_accuracy", "roc_auc"]


def test_without_arguments_but_small_it_learns_from_phantoms(tmp_path, capsys):
    assert train_ich("--limit", 80, "--epochs", 2, "--output-dir", tmp_path / "run") == 0
    found = results(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted([*OUTPUTS, "training_progress.png"])
    assert found["data"]["synthetic"] and found["data"]["source"] == "phantoms" and found["data"]["images"] == 80
    assert found["data"]["positive"] == 40 and found["data"]["groups"] == 20
    assert found["protocol"] | {"recipe": "scratch", "seed": 0} == found["protocol"]
    assert found["model"] == {"name": "small_resnet", "weights": None, "sha256": None}
    assert list(found["metrics"]) == ["grouped"] and list(found["metrics"]["grouped"]) == MEASURES
    assert list(found["baselines"]) == list(found["ahead"]) == ["bright_blob", "majority"]
    printed = capsys.readouterr().out
    assert "Synthetic head-CT phantoms" in printed and "python -m weights_converter download resnet50" in printed


def test_no_phantom_patient_learns_and_tests(tmp_path):
    train_ich("--limit", 80, "--epochs", 1, "--output-dir", tmp_path / "run")
    with open(tmp_path / "run" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["group"]) for row in rows} == set(range(16, 20))  # the last patients; the first sixteen learned


def test_neither_the_network_nor_a_baseline_learns_from_a_patient_that_is_tested():
    """Nor does either waste one: sixteen patients are there to learn from, and baselines are given three."""
    from train_ich_jobs import phantoms

    job = phantoms(Namespace(limit=80, seed=0, model=None, epochs=1, batch_size=None, lr=None, weight_decay=None))
    for (fold,), learners in ((job.plan, range(16)), (job.beside, range(3))):
        assert set(job.slices.groups[fold.train_rows]) == set(learners)
        assert set(job.slices.groups[fold.valid_rows]) == set(range(16, 20))


def test_cases_to_compare_with_are_of_patients_that_were_learned_from(tmp_path):
    train_ich("--limit", 80, "--epochs", 1, "--output-dir", tmp_path / "run")
    assert {int(group) for group in Cases.load(tmp_path / "run" / "cases.npz").groups} == set(range(16))


def test_the_network_that_was_trained_says_on_what_and_is_built_and_fed_from_its_file_alone(tmp_path):
    train_ich("--limit", 80, "--epochs", 1, "--output-dir", tmp_path / "run")
    model = tinyresnet.load_model(tmp_path / "run" / "backbone.npz")
    assert model.classes == ["normal", "hemorrhage"] and model.preprocessing.size == (64, 64)
    assert model.origin["data"]["synthetic"] and model.origin["protocol"]["recipe"] == "scratch"
    assert read_arrays(tmp_path / "run" / "head.npz")[1]["data"]["synthetic"]


def test_it_runs_where_numba_is_not_installed(tmp_path):
    """Neither the module nor its metadata can be found, as after `pip uninstall numba`."""
    program = f"""if True:
        import sys, importlib.metadata as metadata
        sys.modules["numba"] = None
        installed = metadata.version
        def version(name):
            if name == "numba":
                raise metadata.PackageNotFoundError(name)
            return installed(name)
        metadata.version = version
        sys.path.insert(0, {str(EXAMPLES)!r})
        import train_ich
        sys.exit(train_ich.main(["--limit", "8", "--epochs", "1", "--output-dir", {str(tmp_path / "run")!r}]))"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "TINYRESNET_KERNELS": "reference"},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "numba" not in json.loads((tmp_path / "run" / "args.json").read_text())["versions"]
