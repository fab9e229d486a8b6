"""A run that was interrupted, is finished, or is in the way: going on, overwriting, and losing nothing."""

import shutil

import pytest
from run_examples import results, train_ich

import tinyresnet


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


def test_interrupted_before_it_began_it_says_that_nothing_was_written(small, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("train_ich_jobs.read_images", interrupt)
    assert train_ich(*small) == 130
    error = capsys.readouterr().err
    assert "nothing was written" in error and "--resume" not in error and not (tmp_path / "run").exists()


def test_a_run_among_the_data_is_refused(slices, small, capsys):
    before = sorted(slices.rglob("*"))
    for folder in (slices, slices / "run"):
        assert train_ich(*small, "--output-dir", folder, "--overwrite") == 2
        assert "would be taken for data" in capsys.readouterr().err
    assert sorted(slices.rglob("*")) == before


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
