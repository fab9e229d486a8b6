"""The main job from the command line, on small settings: what it leaves behind, how it goes on, what it refuses."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from run_examples import EXAMPLES, classify_image, train_ich
from PIL import Image

import tinyresnet
from tinyresnet.ich.dataset import crop_to_head
from tinyresnet.images import Preprocessing
from tinyresnet.weights import read_arrays

OUTPUTS = ["args.json", "backbone.npz", "cases.npz", "confusion_matrix.png", "head.npz", "predictions.csv", "referral.png",
           "reliability.png", "report.html", "results.json", "roc.png", "summary.csv"]
MEASURES = ["accuracy", "sensitivity", "specificity", "precision", "f1", "balanced_accuracy", "roc_auc"]


@pytest.fixture(autouse=True)
def few_and_small_pictures(monkeypatch):
    """They are most of the time of a run, and looked at elsewhere: test_looks.py, test_plots.py."""
    monkeypatch.setattr("tinyresnet.ich.looks.RIGHT", 2)
    for module in ("plots", "plots_calibration", "overlays"):
        monkeypatch.setattr(f"tinyresnet.{module}.DPI", 30)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.npz"
    model = tinyresnet.small_resnet(5, width=4)
    model.preprocessing = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    tinyresnet.save_weights(model, path)
    return path


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """24 slices in Kaggle's layout, of 12 scans; a bright square is a bleed."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "head_ct" / "head_ct").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(24):
        image = rng.integers(60, 120, (48, 40), dtype=np.uint8)
        if number < 12:
            image[10:25, 12:28] += 110
        Image.fromarray(image).save(folder / "head_ct" / "head_ct" / f"{number:03}.png")
    (folder / "labels.csv").write_text("id, hemorrhage\n" + "".join(f"{i},{int(i < 12)}\n" for i in range(24)))
    (folder / "groups.csv").write_text("id,group\n" + "".join(f"{i},{i // 2}\n" for i in range(24)))
    return folder


def small_run(slices, weights, folder):
    return ["--data-path", slices, "--weights", weights, "--folds", 3, "--repeats", 2, "--output-dir", folder]


@pytest.fixture
def small(slices, weights, tmp_path):
    return small_run(slices, weights, tmp_path / "run")


@pytest.fixture(scope="module")
def kept_run(slices, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train_ich(*small_run(slices, weights, folder)) == 0
    return folder


@pytest.fixture
def finished(kept_run, small, tmp_path):
    """What the arguments `small` leave when they have come to their end."""
    shutil.copytree(kept_run, tmp_path / "run")
    return small


@pytest.fixture
def tuned(slices, weights, tmp_path):
    """Fine-tuning, small"""
    return ["--data-path", slices, "--weights", weights, "--folds", 3, "--recipe", "finetune", "--unfreeze-from", "layer3",
            "--epochs", 2, "--output-dir", tmp_path / "run"]


def results(folder):
    return json.loads((folder / "results.json").read_text())


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


def test_real_slices_are_judged_by_both_cross_validations(small, tmp_path, capsys):
    assert train_ich(*small) == 0
    found, printed = results(tmp_path / "run"), capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == OUTPUTS
    assert list(found["metrics"]) == ["grouped", "plain"]
    assert list(found["baselines"]) == list(found["ahead"]) == ["metadata", "brain_blanked", "bright_blob", "majority"]
    assert found["data"] | {"images": 24, "positive": 12, "groups": 12, "synthetic": False} == found["data"]
    assert found["model"]["name"] == "BasicBlock-1-1-1-1" and len(found["model"]["sha256"]) == 64
    assert found["metrics"]["plain"]["roc_auc"]["value"] > 0.8, "the bright square is easy"
    assert "grouped" in printed and "plain" in printed and "not for diagnosis" in printed
    assert "24 images, 12 of them positive ('hemorrhage'), the others 'normal'" in printed


def test_every_image_is_answered_once_a_repeat_and_no_scan_straddles_a_grouped_fold(finished, tmp_path):
    with open(tmp_path / "run" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 24
    for split in ("grouped", "plain"):
        for repeat in ("0", "1"):
            images = [row["image"] for row in rows if (row["split"], row["repeat"]) == (split, repeat)]
            assert len(set(images)) == len(images) == 24
    folds_of_scan = {}
    for row in rows:
        if row["split"] == "grouped":
            folds_of_scan.setdefault((row["repeat"], row["group"]), set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in folds_of_scan.values())


def test_the_summary_has_a_row_an_epoch_of_every_fold(tuned, tmp_path):
    train_ich(*tuned)
    with open(tmp_path / "run" / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2
    assert list(rows[0])[:4] == ["split", "repeat", "fold", "epoch"]


def test_the_saved_network_and_heads_answer_without_the_training_code(finished, slices, tmp_path):
    backbone, (head, facts) = tinyresnet.load_model(tmp_path / "run/backbone.npz"), read_arrays(tmp_path / "run/head.npz")
    assert facts["classes"] == ["normal", "hemorrhage"] and facts["views"] == ["head", "interior"]
    assert head["weight"].shape[:2] == (1 + 6, 2), "of all images and of each grouped fold, in two views"
    answers = []
    for number in (0, 23):
        image = tinyresnet.read_image(slices / "head_ct" / "head_ct" / f"{number:03}.png")
        x = tinyresnet.preprocess(crop_to_head(image), backbone.preprocessing)[None]
        answers.append(float(backbone.features(x, facts["at"])[0] @ head["weight"][0, 0] + head["bias"][0, 0]))
    assert answers[0] > 0 > answers[1]


def test_finetuning_runs_and_its_training_loss_falls(tuned, tmp_path):
    assert train_ich(*tuned, "--epochs", 6, "--lr", 1e-3) == 0
    with open(tmp_path / "run" / "summary.csv") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["fold"] == "0"]
    assert losses[-1] < losses[0]
    assert results(tmp_path / "run")["protocol"] | {"unfreeze_from": "layer3", "split": ["grouped"], "repeats": 1} == \
        results(tmp_path / "run")["protocol"]
    model = tinyresnet.load_model(tmp_path / "run" / "backbone.npz")
    assert model.classes == ["normal", "hemorrhage"] and model.origin["before"] == "random initialisation"


def interrupt_after(calls, module, name, monkeypatch):
    """From so many calls of the function on, Ctrl-C is pressed behind it."""
    function, called = getattr(module, name), []

    def interrupt(*arguments):
        function(*arguments)
        called.append(1)
        if len(called) >= calls:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, name, interrupt)


def check_it_goes_on_to_the_same_bits(arguments, module, name, calls, tmp_path, monkeypatch, capsys):
    assert train_ich(*arguments) == 0
    whole = tmp_path / "whole"
    shutil.move(tmp_path / "run", whole)
    with monkeypatch.context() as interrupted:
        interrupt_after(calls, module, name, interrupted)
        assert train_ich(*arguments) == 130
    assert "--resume" in capsys.readouterr().err
    assert train_ich(*arguments, "--resume") == 0
    for path in whole.rglob("*.*"):
        if path.name not in ("args.json", "results.json", "report.html"):  # which tell the time, or the folder
            assert (tmp_path / "run" / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert results(tmp_path / "run")["metrics"] == results(whole)["metrics"]


def test_interrupted_features_go_on_to_the_same_bits(small, tmp_path, monkeypatch, capsys):
    from tinyresnet.ich import experiment
    check_it_goes_on_to_the_same_bits(small, experiment, "keep", 5, tmp_path, monkeypatch, capsys)


def test_interrupted_finetuning_goes_on_to_the_same_bits(tuned, tmp_path, monkeypatch, capsys):
    from tinyresnet import training
    check_it_goes_on_to_the_same_bits(tuned, training, "save_checkpoint", 3, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("calls", [1, 3], ids=["first arm", "second arm"])
def test_an_interrupted_paper_goes_on_to_the_same_bits(calls, slices, weights, tmp_path, monkeypatch, capsys):
    from tinyresnet import training
    arguments = ["--data-path", slices, "--weights", weights, "--recipe", "paper", "--epochs", 2,
                 "--output-dir", tmp_path / "run"]
    check_it_goes_on_to_the_same_bits(arguments, training, "save_checkpoint", calls, tmp_path, monkeypatch, capsys)


def test_class_folders_work_without_groups_and_say_what_that_means(slices, small, tmp_path, capsys):
    for number in range(24):
        folder = tmp_path / "folders" / ("with hemorrhage" if number < 12 else "healthy")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(slices / "head_ct" / "head_ct" / f"{number:03}.png", folder)
    assert train_ich(*small, "--data-path", tmp_path / "folders") == 0
    assert "no groups.csv" in capsys.readouterr().out
    assert list(results(tmp_path / "run")["metrics"]) == ["plain"]


def test_unreadable_images_are_left_out_and_listed_only_when_asked(slices, small, tmp_path, capsys):
    shutil.copytree(slices, tmp_path / "damaged")
    broken = tmp_path / "damaged" / "head_ct" / "head_ct" / "005.png"
    broken.write_bytes(broken.read_bytes()[:300])
    assert train_ich(*small, "--data-path", tmp_path / "damaged") == 2
    assert "005.png" in capsys.readouterr().err
    assert train_ich(*small, "--data-path", tmp_path / "damaged", "--skip-bad-images", "--overwrite") == 0
    found = results(tmp_path / "run")["data"]
    assert found["images"] == 23 and len(found["skipped"]) == 1 and "005.png" in found["skipped"][0]


def test_a_folder_with_something_in_it_is_refused_and_overwritten_only_when_asked(small, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    assert train_ich(*small) == 2
    assert "not empty" in capsys.readouterr().err
    assert train_ich(*small, "--overwrite") == 0
    assert (tmp_path / "run" / "thesis.txt").exists()


def test_overwriting_removes_nothing_that_no_run_left(small, tmp_path):
    (tmp_path / "run" / "folds" / "dir.d").mkdir(parents=True)
    (tmp_path / "run" / "folds" / "notes.txt").write_text("mine")
    assert train_ich(*small, "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "run" / "folds").iterdir()) == ["dir.d", "notes.txt"]


def test_a_disk_that_is_full_at_the_beginning_costs_the_old_run_nothing(finished, tmp_path, monkeypatch):
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinyresnet.ich.folder.write_json", full)
    assert train_ich(*finished, "--overwrite") == 2
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


def test_a_finished_run_has_nothing_to_go_on_with(finished, tmp_path, capsys):
    before = (tmp_path / "run" / "results.json").read_bytes()
    assert train_ich(*finished, "--resume") == 0
    assert "has come to its end" in capsys.readouterr().out
    assert (tmp_path / "run" / "results.json").read_bytes() == before


@pytest.mark.parametrize("preprocessing, size", [(Preprocessing((40, 48)), (40, 48)), (Preprocessing(), (224, 224)),
                                                 (Preprocessing(40, 32), (32, 32))])
def test_slices_come_at_the_size_the_weights_ask_for(small, preprocessing, size, tmp_path):
    model = tinyresnet.small_resnet(5, width=4, depths=(1, 1))  # fewer stages than published networks have
    model.preprocessing = preprocessing
    tinyresnet.save_weights(model, tmp_path / "tiny.npz")
    assert train_ich(*small, "--weights", tmp_path / "tiny.npz", "--split", "plain", "--repeats", 1) == 0
    assert tinyresnet.load_model(tmp_path / "run" / "backbone.npz").preprocessing.size == size
    assert read_arrays(tmp_path / "run" / "head.npz")[1]["at"] == ["layer1", "layer2"]


def test_resuming_with_other_arguments_is_refused_and_says_which(finished, capsys):
    assert train_ich(*finished, "--resume", "--seed", 5) == 2
    assert "seed was 0, now 5" in capsys.readouterr().err


def test_resuming_with_other_labels_or_other_weights_is_refused(slices, small, weights, tmp_path, capsys):
    shutil.copytree(slices, tmp_path / "data")
    shutil.copy(weights, tmp_path / "weights.npz")
    small += ["--data-path", tmp_path / "data", "--weights", tmp_path / "weights.npz"]
    assert train_ich(*small) == 0
    groups = (tmp_path / "data" / "groups.csv")
    groups.write_text(groups.read_text().replace("23,11", "23,new"))
    assert train_ich(*small, "--resume") == 2
    assert "images was" in capsys.readouterr().err
    shutil.copy(slices / "groups.csv", groups)
    model = tinyresnet.load_model(weights)
    model.fc.bias += 1
    tinyresnet.save_weights(model, tmp_path / "weights.npz")
    assert train_ich(*small, "--resume") == 2
    assert "weights was" in capsys.readouterr().err


@pytest.mark.parametrize("change", [["--data-path", "nowhere"], ["--weights", "nowhere.npz"], ["--folds", 13],
                                    ["--recipe", "finetune", "--unfreeze-from", "layer9"]])
def test_input_that_cannot_be_used_leaves_the_run_that_was_to_be_overwritten_as_it_was(finished, change, tmp_path):
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    assert train_ich(*finished, *change, "--overwrite") == 2
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


def test_an_overwritten_run_leaves_nothing_behind(finished, tmp_path, monkeypatch):
    args = (tmp_path / "run" / "args.json").read_bytes()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyresnet.ich.experiment.keep", interrupt)
    assert train_ich(*finished, "--seed", 5, "--overwrite") == 130
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["args.json", "folds"]
    assert (tmp_path / "run" / "args.json").read_bytes() != args and not list((tmp_path / "run" / "folds").iterdir())


def test_an_args_file_of_something_else_is_refused(small, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "args.json").write_text("[1, 2]")
    assert train_ich(*small, "--resume") == 2
    assert "args.json is not what a run leaves there" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    (["--folds", 13], "at least 13 groups"),
    (["--model", "resnet50"], "holds weights of BasicBlock-1-1-1-1, --model asks for resnet50"),
    (["--data-path", "nowhere"], "nowhere: no such folder"),
    (["--weights", "nowhere.npz"], "train_ich: nowhere.npz: No such file or directory"),
    (["--weights", EXAMPLES / "train_ich.py"], "is not an .npz file"),
    (["--recipe", "finetune", "--unfreeze-from", "layer9"], "no stage is named 'layer9'"),
    (["--output-dir", EXAMPLES / "train_ich.py"], "train_ich.py is a file"),
])
def test_what_cannot_be_used_is_refused_in_one_line(small, change, message, capsys):
    assert train_ich(*small, *change) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_full_disk_is_reported_with_the_file_and_leaves_no_half_written_one(small, tmp_path, monkeypatch, capsys):
    from tinyresnet import weights as weights_module
    write = weights_module.np.lib.format.write_array

    def full(file, array, **options):
        if array.size > 5_000:
            raise OSError(28, "No space left on device")
        write(file, array, **options)

    monkeypatch.setattr(weights_module.np.lib.format, "write_array", full)
    assert train_ich(*small) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and ".npz" in error
    assert not list((tmp_path / "run").rglob("*.part*")) and not (tmp_path / "run" / "backbone.npz").exists()


@pytest.mark.parametrize("arguments, message", [
    (["--resume"], "--resume needs --output-dir"),
    (["--data-path", "x"], "--data-path needs --weights"),
    (["--weights", "x"], "--weights: only with --data-path"),
    (["--folds", "4", "--split", "plain"], "--split, --folds: only with --data-path"),
    (["--data-path", "x", "--weights", "x", "--lr", "1"], "--lr: not with --recipe features"),
    (["--data-path", "x", "--weights", "x", "--recipe", "paper", "--repeats", "2"], "--repeats: not with --recipe paper"),
    (["--resume", "--overwrite", "--output-dir", "x"], "give one of them"),
    (["--data-path", "x", "--weights", "x", "--unfreeze-from", "conv1"], "--unfreeze-from: only with --recipe finetune"),
    (["--weight-decay", "inf"], "--weight-decay: expected at least 0, got inf"),
    (["--epochs", "0"], "--epochs: expected at least 1, got 0"),
    (["--limit", "7"], "--limit: expected at least 8, got 7"),
    (["--seed", "-1"], "--seed: expected at least 0, got -1"),
    (["--data-path", "x", "--weights", "x", "--repeats", "0"], "--repeats: expected at least 1, got 0"),
    (["--lr", "nan"], "--lr: expected a positive number, got nan"),
    (["--weight-decay", "nan"], "--weight-decay: expected at least 0, got nan"),
    (["--epoch"], "expected one argument"),
])
def test_the_command_line_says_what_is_missing(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        train_ich(*arguments)
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_help_is_one_page(capsys):
    with pytest.raises(SystemExit):
        train_ich("--help")
    page = capsys.readouterr().out
    assert len(page.splitlines()) < 70 and "--unfreeze-from" in page and "not for diagnosis" in page


def test_classify_image_prints_five_classes_with_probabilities(weights, slices, capsys):
    image = slices / "head_ct" / "head_ct" / "000.png"
    assert classify_image(image, "--weights", weights) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all("%" in line for line in lines)


def test_classify_image_refuses_what_is_no_image_in_one_line(weights, capsys):
    assert classify_image(EXAMPLES / "train_ich.py", "--weights", weights) == 2
    assert "train_ich.py: not an image" in capsys.readouterr().err
