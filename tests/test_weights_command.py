"""The command line that reads, converts and lists files of weights, for people and for machines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade_files import program, state_of, tensor, torch_file, torch_state, without
from hostile_files import HOSTILE

from tinyresnet.weights import write_arrays
from weights_converter import convert
from weights_converter.__main__ import COMMANDS, main


def test_convert_prints_one_line(written, tmp_path, capsys):
    assert main(["convert", str(written(state_of())), str(tmp_path / "out.npz")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ResNet-18, width 2, 5 classes: 102 arrays, ") and out.count("\n") == 1


def test_inspect_lists_names_shapes_dtypes_and_the_network(written, capsys):
    assert main(["inspect", str(written(state_of("resnet50")))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["conv1.weight", "(2,", "3,", "7,", "7)", "float32"]
    assert lines[-1].startswith("network: ResNet-50, v1.5 (stride on the 3x3), width 2, 5 classes: 267 arrays, ")


def test_inspect_shows_the_facts_of_our_own_file(written, tmp_path, capsys):
    convert(written(state_of(num_classes=1000)), tmp_path / "out.npz")
    assert main(["inspect", str(tmp_path / "out.npz")]) == 0
    out = capsys.readouterr().out
    assert "network: in tinyresnet's own layout" in out and "'stride_in_1x1': False" in out
    assert "  classes: 1000, 'tench' to 'toilet tissue'\n" in out and out.count("\n") < 120


def test_inspect_does_not_let_facts_command_the_terminal(tmp_path, capsys):
    write_arrays(tmp_path / "w.npz", {"w": np.ones(3)}, {"network": "\x1b[2J", "x\nnetwork": 1})
    assert main(["inspect", str(tmp_path / "w.npz")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.count("\nnetwork") == 1


def test_inspect_shows_letters_that_the_terminal_has_not_as_codes(tmp_path):
    (tmp_path / "in.pth").write_bytes(torch_state({"gewichte.\u00e4": np.ones(2, "f4")}))
    command = [sys.executable, "-m", "weights_converter", "inspect", str(tmp_path / "in.pth")]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.startswith("gewichte.\\xe4  ")


def test_ctrl_c_speaks_of_a_download_only_where_there_is_one(written, tmp_path, monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    for command, words in [("inspect", "interrupted\n"), ("download", "goes on from there\n")]:
        monkeypatch.setitem(COMMANDS, command, interrupted)
        assert main([command, str(written(state_of()))]) == 130
        assert capsys.readouterr().err.endswith(words)


def test_inspect_says_why_a_file_is_of_no_network(tmp_path, capsys):
    (tmp_path / "in.pth").write_bytes(torch_file(program(w=tensor())))
    assert main(["inspect", str(tmp_path / "in.pth")]) == 0
    assert "network: none: is of no network known here" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "convert"])
@pytest.mark.parametrize("what", ["pickle: a shell command", "zip: cut in the middle", "zip: an HTML page",
                                  "tar: torch's tar, cut", "no file"])
def test_a_bad_file_gives_exit_code_2_and_one_line(command, what, tmp_path, capsys):
    if what != "no file":
        (tmp_path / "in.pth").write_bytes(HOSTILE[what][0]())
    before = os.listdir(tmp_path)
    arguments = [command, str(tmp_path / "in.pth"), str(tmp_path / "out.npz")]
    assert main(arguments[:2 if command == "inspect" else 3]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n"), os.listdir(tmp_path)) == ("", 1, before)
    assert "in.pth" in captured.err


def test_the_module_is_run_with_python_m(written):
    command = [sys.executable, "-m", "weights_converter", "inspect", str(written(state_of()))]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (result.returncode, result.stderr) == (0, "")


KEYS = {"network", "missing", "scheme", "config", "preprocessing", "changes", "arrays", "parameters", "sha256"}


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_json_tells_the_network_its_facts_and_what_was_changed(command, written, tmp_path, capsys):
    arguments = [command, str(written(state_of("resnet50"))), str(tmp_path / "out.npz"), "--json"]
    assert main(arguments if command == "convert" else [*arguments[:2], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == KEYS | {"file", "out" if command == "convert" else "tensors"}
    assert (told["network"], told["scheme"], told["missing"], told["changes"]) == (
        "resnet50", "torchvision", [], ["a guess: the input of torchvision's V1"])
    assert told["arrays"] == 267 and told["config"]["stride_in_1x1"] is False and told["preprocessing"]["crop"] == 224


def test_json_tells_the_arrays_as_stored(written, capsys):
    main(["inspect", str(written(state_of())), "--json"])
    tensors = json.loads(capsys.readouterr().out)["tensors"]
    assert tensors[0] == {"name": "conv1.weight", "shape": [2, 3, 7, 7], "dtype": "float32"} and len(tensors) == 102


def test_json_tells_why_a_file_is_of_no_network(tmp_path, capsys):
    (tmp_path / "in.pth").write_bytes(torch_file(program(w=tensor())))
    assert main(["inspect", str(tmp_path / "in.pth"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["network"] is None and told["reason"].startswith("is of no network known here") and len(told["tensors"]) == 1


def test_json_tells_of_our_own_file_what_it_told_when_it_was_converted(written, tmp_path, capsys):
    main(["convert", str(written(without(state_of(), "fc"))), str(tmp_path / "out.npz"), "--partial", "--json"])
    before = json.loads(capsys.readouterr().out)
    main(["inspect", str(tmp_path / "out.npz"), "--json"])
    after = json.loads(capsys.readouterr().out)
    assert after["scheme"] == "tinyresnet" and after["missing"] == before["missing"] == ["fc"]
    assert {key: after[key] for key in ("network", "config", "preprocessing")} == {
        key: before[key] for key in ("network", "config", "preprocessing")}


def test_inspect_names_a_network_whose_end_is_missing(written, capsys):
    assert main(["inspect", str(written(without(state_of("resnet50"), "layer4", "fc")))]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("network: ResNet-50, v1.5 (stride on the 3x3), width 2, without layer4 and fc: 215 arrays, ")
