"""The first start and later ones: what is compiled, kept, said, and what the environment may ask for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_kernels import numba_only

from tinyresnet.kernels import conv_forward, threads
from tinyresnet.kernels.conv import conv_forward_reference

PACKAGE = Path(threads.__file__).parents[1]
RELU = "import numpy as np, tinyresnet.kernels\nprint(tinyresnet.kernels.relu(np.float32([-1, 2])))"
MOMENTS = "import numpy as np, tinyresnet.kernels\nprint(tinyresnet.kernels.moments(np.full((1, 1, 2, 1), 5.0))[0])"


def start(program, folder, *, timeout=None, **environment):
    """Run a program that finds the package in this folder."""
    return subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(folder), **environment},
                          cwd=folder, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def copied(tmp_path):
    """A folder with a copy of the package, without what Python and Numba have kept of it."""
    shutil.copytree(PACKAGE, tmp_path / "tinyresnet", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@numba_only
def test_the_first_start_says_once_that_it_compiles_and_the_second_nothing(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = [start(RELU + "\n" + MOMENTS, PACKAGE.parent, **cache).stderr for _ in range(2)]
    assert said == ["tinyresnet: compiling kernels for this machine; later starts find them ready\n", ""]


@numba_only
@pytest.mark.parametrize("folder", ["file/cache", ""], ids=["NUMBA_CACHE_DIR below a file", "no NUMBA_CACHE_DIR"])
def test_kernels_run_where_nothing_can_be_kept(folder, copied):
    """A file is in the way of every folder that Numba would make; root may write anywhere else."""
    for file in (copied / "file", copied / "tinyresnet" / "kernels" / "__pycache__"):
        file.touch()
    nowhere = {name: str(copied / "file" / "home") for name in ("HOME", "XDG_CACHE_HOME")}
    run = start(RELU, copied, NUMBA_CACHE_DIR=folder and str(copied / folder), PYTHONDONTWRITEBYTECODE="1", **nowhere)
    assert run.stdout == "[0. 2.]\n", run.stderr


@numba_only
def test_the_message_says_what_helps_where_nothing_can_be_kept(copied):
    for file in (copied / "file", copied / "tinyresnet" / "kernels" / "__pycache__"):
        file.touch()
    nowhere = {name: str(copied / "file" / "home") for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    run = start(RELU, copied, **nowhere, PYTHONDONTWRITEBYTECODE="1")
    assert run.stderr == ("tinyresnet: compiling kernels for this machine; set NUMBA_CACHE_DIR to a folder that can keep "
                          "them\n")


def cut(cache, suffix):
    for file in cache.rglob(f"relu.relu_tiles*.{suffix}"):
        file.write_bytes(file.read_bytes()[:100])


@numba_only
@pytest.mark.parametrize("suffix", ["nbi", "nbc"], ids=["index", "code"])
def test_a_kept_kernel_whose_file_was_cut_is_compiled_again_and_kept(suffix, tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    start(RELU, PACKAGE.parent, **cache)
    cut(tmp_path, suffix)
    runs = [start(RELU, PACKAGE.parent, **cache) for _ in range(2)]
    assert [run.stdout for run in runs] == ["[0. 2.]\n"] * 2
    assert [len(run.stderr) > 0 for run in runs] == [True, False]  # compiled, then found


@numba_only
def test_a_kernel_that_cannot_be_kept_costs_no_other_its_place(tmp_path):
    """A disk that is full when relu is compiled for float64 too."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    start(RELU, PACKAGE.parent, **cache)
    full = ("import numba.core.caching as caching\n"
            "def full(*args): raise OSError(28, 'No space left on device')\n"
            "caching.IndexDataCacheFile._save_data = full\n")
    assert start(full + RELU.replace("float32", "float64"), PACKAGE.parent, **cache).stdout == "[0. 2.]\n"
    assert start(RELU, PACKAGE.parent, **cache).stderr == ""


@numba_only
def test_a_folder_that_vanishes_after_the_import_is_not_missed(tmp_path):
    program = ("import os, shutil, tinyresnet.kernels\n"
               "shutil.rmtree(os.environ['NUMBA_CACHE_DIR'])\n"
               "open(os.environ['NUMBA_CACHE_DIR'], 'w').close()\n" + RELU)
    assert start(program, PACKAGE.parent, NUMBA_CACHE_DIR=str(tmp_path / "cache")).stdout == "[0. 2.]\n"


@numba_only
def test_functions_of_others_that_stand_in_no_module_are_compiled_as_ever():
    program = ("import numba, tinyresnet\n"
               "names = {}\n"
               "exec('def f(x): return x + 1', names)\n"
               "print(numba.njit(names['f'])(1))")
    assert start(program, PACKAGE.parent).stdout == "2\n"


@numba_only
def test_a_kernel_is_compiled_for_a_dtype_and_not_for_each_layout_too(tmp_path):
    program = ("import numpy as np\n"
               "from tinyresnet.kernels import direct, conv_finish\n"
               "x, weight, skip = (np.ones(shape, np.float32) for shape in ((2, 30, 31, 8), (3, 3, 8, 8), (1, 1, 1, 8)))\n"
               "x.flags.writeable = False\n"
               "for a in (x, x.copy(), np.asfortranarray(x), x[::-1]):\n"
               "    for b in (None, np.broadcast_to(skip, x.shape), x):\n"
               "        conv_finish(a, weight, 1, 1, None, b, True)\n"
               "print(len(direct.forward_tiles.signatures))")
    assert start(program, PACKAGE.parent, NUMBA_CACHE_DIR=str(tmp_path)).stdout == "1\n"


@numba_only
def test_a_change_of_a_helper_in_another_file_is_noticed_although_kernels_are_kept(copied):
    cache = {"NUMBA_CACHE_DIR": str(copied / "cache")}
    before = start(MOMENTS, copied, **cache).stdout
    helper = copied / "tinyresnet" / "kernels" / "epilogue.py"
    helper.write_text(helper.read_text().replace("mean[o] /= count", "mean[o] /= -count"))
    assert [before, start(MOMENTS, copied, **cache).stdout] == ["[5.]\n", "[-5.]\n"]


def test_reference_mode_runs_a_network_without_importing_numba():
    program = ("import sys, numpy as np, tinyresnet\n"
               "model = tinyresnet.small_resnet(width=4)\n"
               "model.backward(np.ones_like(model.forward(np.ones((2, 33, 40, 3), np.float32))))\n"
               "print('numba' in sys.modules)")
    assert start(program, PACKAGE.parent, TINYRESNET_KERNELS="reference").stdout == "False\n"


@pytest.mark.parametrize("name, text, expected", [("KERNELS", "fast", "'numba' or 'reference'"),
                                                  ("WINOGRAD", "off", "0 or 1")])
def test_a_switch_that_is_set_to_nothing_known_is_refused_by_name(name, text, expected):
    run = start("import tinyresnet", PACKAGE.parent, **{f"TINYRESNET_{name}": text})
    assert f"TINYRESNET_{name} must be {expected}, got '{text}'" in run.stderr


def test_the_kernels_are_not_the_references_unless_asked():
    assert (conv_forward is conv_forward_reference) == (os.environ.get("TINYRESNET_KERNELS") == "reference")
