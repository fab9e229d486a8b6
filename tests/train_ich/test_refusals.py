"""What cannot be used is said in a line, and what is half-written does not stay."""

import pytest
from run_examples import EXAMPLES, classify_image, train_ich


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
