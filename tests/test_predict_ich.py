"""predict_ich.py: every slice gets its answer or its problem, whatever it is, and nothing else is touched."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from run_examples import predict_ich

from tinyresnet.ich.cases import Cases
from tinyresnet.ich.phantom import make_phantom, window
from tinyresnet.ich.report import DISCLAIMER
from tinyresnet.weights import read_arrays, write_arrays

COLUMNS = ["image", "probability", "low", "high", "answer", "refer", "known", "problem"]


@pytest.fixture(scope="module")
def head():
    """A head on black film, (200, 200) uint8."""
    phantom = make_phantom(3, "IPH", 7, size=200)
    return window(phantom.hu, *phantom.facts["window"])


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take most of the time."""
    monkeypatch.setattr("tinyresnet.overlays.plot_maps", lambda *arguments, **options: None)
    monkeypatch.setattr("tinyresnet.overlays.plot_nearest", lambda *arguments, **options: None)


@pytest.fixture
def ask(run, folder, tmp_path):
    """A function that asks about a file or folder and returns the exit code and the rows."""
    def asked(path, *, model=folder, out=tmp_path / "out"):
        code = predict_ich(path, "--model", model, "--output-dir", out)
        table = out / "predictions.csv"
        if not table.exists():
            return code, []
        with open(table, encoding="utf-8", newline="") as file:
            return code, list(csv.DictReader(file))
    return asked


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def test_one_slice_gets_a_row_two_pictures_and_a_line_with_the_disclaimer(run, ask, tmp_path, capsys):
    code, rows = ask(save(tmp_path / "slice.png", run.images[3]))
    assert code == 0 and list(rows[0]) == COLUMNS and rows[0]["image"] == "slice.png" and not rows[0]["problem"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.csv", "slice.png_maps.png", "slice.png_nearest.png"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"slice.png: {float(rows[0]['probability']):.2f} (") and DISCLAIMER in printed


def test_the_probability_is_the_first_heads_and_the_range_that_of_the_folds_heads(run, ask, undrawn, tmp_path):
    _, rows = ask(save(tmp_path / "slice.png", run.images[3]))
    expected = run.classifier.probabilities(run.classifier.features([run.images[3]]))[:, 0]
    found = [float(rows[0][name]) for name in ("probability", "low", "high")]
    np.testing.assert_allclose(found, [expected[0], expected[1:].min(), expected[1:].max()], atol=5.1e-5)  # four digits
    assert found[1] < found[2]


def test_what_shows_no_brain_or_is_like_no_slice_is_referred(run, head, ask, undrawn, tmp_path, monkeypatch):
    save(tmp_path / "in" / "black.png", np.zeros((50, 50), np.uint8))
    save(tmp_path / "in" / "head.png", head)
    monkeypatch.setattr(Cases, "strangeness", lambda cases, features: 1.3)
    _, (black, slice_) = ask(tmp_path / "in")
    assert black["refer"] == "True" and black["problem"] == "no brain was found in the picture" and black["probability"]
    assert slice_["problem"] == ""
    monkeypatch.setattr(Cases, "strangeness", lambda cases, features: 1.5)
    _, rows = ask(tmp_path / "in" / "head.png", out=tmp_path / "strange")
    assert rows[0]["refer"] == "True" and "unlike all slices" in rows[0]["problem"]


def test_a_name_too_long_for_two_pictures_is_shortened_and_the_row_keeps_it(run, ask, undrawn, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("tinyresnet.overlays.plot_maps", lambda image, maps, path, **options: drawn.append(str(path)))
    names = [f"{'n' * 248}{letter}.png" for letter in "ab"]
    for name in names:
        save(tmp_path / "in" / name, run.images[3])
    code, rows = ask(tmp_path / "in")
    assert code == 0 and [row["image"] for row in rows] == names and len(set(drawn)) == 2
    assert all(len(path.rsplit("/", 1)[-1]) < 100 for path in drawn)


def test_a_slice_that_was_learned_from_is_known_and_another_is_not(run, head, ask, undrawn, tmp_path, capsys):
    save(tmp_path / "in" / "learned.png", run.images[3])
    save(tmp_path / "in" / "new.png", head)
    _, rows = ask(tmp_path / "in")
    assert [(row["image"], row["known"]) for row in rows] == [("learned.png", "True"), ("new.png", "False")]
    assert capsys.readouterr().out.count("it has learned from this slice") == 1


def with_head(folder, copy, change):
    """A copy of the model's folder in which head.npz is changed."""
    shutil.copytree(folder, copy)
    arrays, facts = read_arrays(copy / "head.npz")
    change(arrays, facts)
    write_arrays(copy / "head.npz", arrays, facts)
    return copy


@pytest.mark.parametrize("bias, answer, refer", [(0.1, "hemorrhage", "True"), (-0.1, "normal", "True"),
                                                 (5, "hemorrhage", "False"), (-5, "normal", "False")])
def test_a_probability_in_the_band_is_referred(bias, answer, refer, run, folder, ask, undrawn, tmp_path, capsys):
    def constant(arrays, facts):
        arrays["weight"][:], arrays["bias"][:] = 0, bias

    model = with_head(folder, tmp_path / "model", constant)
    _, rows = ask(save(tmp_path / "slice.png", run.images[0]), model=model)
    assert (rows[0]["answer"], rows[0]["refer"]) == (answer, refer)
    assert ("refer to a person" in capsys.readouterr().out) == (refer == "True")


def test_without_heads_of_folds_there_is_no_range(run, folder, ask, undrawn, tmp_path, capsys):
    def one(arrays, facts):
        arrays.update({name: array[:1] for name, array in arrays.items()})

    _, rows = ask(save(tmp_path / "slice.png", run.images[0]), model=with_head(folder, tmp_path / "model", one))
    assert rows[0]["low"] == rows[0]["high"] == "" and rows[0]["probability"]
    assert "by the heads of the folds" not in capsys.readouterr().out


def test_a_folder_gets_a_row_an_image_and_files_of_one_stem_have_their_own_pictures(run, ask, tmp_path):
    for row, name in enumerate(["a.png", "a.bmp", "a_png.png"]):
        save(tmp_path / "in" / name, run.images[row])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    code, rows = ask(tmp_path / "in")
    assert code == 0 and [row["image"] for row in rows] == ["a.bmp", "a.png", "a_png.png"]
    assert len(list((tmp_path / "out").glob("*.png"))) == 6 and len({row["probability"] for row in rows}) == 3


def test_an_unreadable_image_is_a_row_with_its_problem_and_the_others_are_answered(run, ask, undrawn, tmp_path, capsys):
    for row, name in enumerate(["a.png", "b.png", "c.png"]):
        save(tmp_path / "in" / name, run.images[row])
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "b.png").read_bytes()[:200])
    (tmp_path / "in" / "d.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "in" / "e.png").mkdir()
    code, rows = ask(tmp_path / "in")
    assert code == 0 and [bool(row["problem"]) for row in rows] == [False, True, False, True, True]
    assert "damaged" in rows[1]["problem"] and not rows[1]["probability"] and str(tmp_path) not in rows[1]["problem"]
    assert rows[3]["problem"] == "No such file or directory" and "folder" in rows[4]["problem"]
    assert "b.png: cannot be decoded" in capsys.readouterr().out


def test_a_folder_of_which_nothing_can_be_read_is_an_error_and_leaves_the_reasons(ask, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "in" / name).write_bytes(b"no image")
    code, rows = ask(tmp_path / "in")
    assert code == 2 and [bool(row["problem"]) for row in rows] == [True, True]
    assert capsys.readouterr().err == f"predict_ich: none of the 2 images could be read; the reasons are in {tmp_path}/out\n"


def test_every_row_is_in_the_table_before_the_next_slice_is_looked_at(run, ask, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the third: the first two are there, complete."""
    for row in range(4):
        save(tmp_path / "in" / f"{row}.png", run.images[row])

    def interrupt(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    calls = []
    monkeypatch.setattr("tinyresnet.overlays.plot_maps", interrupt)
    monkeypatch.setattr("tinyresnet.overlays.plot_nearest", lambda *arguments, **options: None)
    code, rows = ask(tmp_path / "in")
    assert code == 130 and [row["image"] for row in rows] == ["0.png", "1.png"] and all(row["answer"] for row in rows)
    assert f"interrupted; what was answered, if anything, is in {tmp_path / 'out'}" in capsys.readouterr().err


# Odd images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 1000), (1000, 1), (30, 900), (5, 3)])
def test_odd_sizes_are_answered_and_drawn_on_a_page(size, ask, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    code, rows = ask(save(tmp_path / "odd.png", image))
    assert code == 0 and 0 <= float(rows[0]["probability"]) <= 1
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as picture:
            assert max(picture.size) < 4000


@pytest.mark.parametrize("value", [0, 90, 255])
def test_an_even_image_is_answered(value, ask, undrawn, tmp_path):
    code, rows = ask(save(tmp_path / "even.png", np.full((60, 50), value, np.uint8)))
    assert code == 0 and rows[0]["answer"]


def test_grey_16_bit_palette_and_transparent_files_of_one_slice_get_one_answer(head, ask, undrawn, tmp_path):
    grey = Image.fromarray(head)
    opaque = grey.convert("RGBA")
    save(tmp_path / "in" / "grey.png", grey)
    save(tmp_path / "in" / "rgb.png", grey.convert("RGB"))
    save(tmp_path / "in" / "rgba.png", opaque)
    save(tmp_path / "in" / "palette.gif", grey.convert("P"))
    save(tmp_path / "in" / "sixteen.png", Image.fromarray(head.astype(np.uint16) * 257))
    code, rows = ask(tmp_path / "in")
    assert code == 0 and len(rows) == 5 and len({row["probability"] for row in rows}) == 1


def answers_for(ask, tmp_path, **images):
    for name, image in images.items():
        save(tmp_path / "in" / f"{name}.png", image)
    return {row["image"].removesuffix(".png"): float(row["probability"]) for row in ask(tmp_path / "in")[1]}


def test_film_around_the_head_and_a_letter_on_it_change_nothing(head, ask, undrawn, tmp_path):
    """The head is cut out of it: the pixels that are read are the same ones."""
    film = np.pad(head, 40)
    lettered = film.copy()
    lettered[8:26, 8:11] = lettered[23:26, 8:20] = 255  # an L
    found = answers_for(ask, tmp_path, film=film, lettered=lettered)
    assert found["film"] == found["lettered"]


def test_grey_film_is_no_other_head(head, ask, run, undrawn, tmp_path):
    """The head is found on film that is not black; a margin of another shade may still be in the picture."""
    film = np.full((300, 280), 70, np.uint8)
    film[50:250, 40:240] = np.maximum(head, 70)
    shown = run.classifier.shown(np.repeat(film[:, :, None], 3, axis=2))
    assert shown.shape[0] < 210 and shown.shape[1] < 210 and ask(save(tmp_path / "film.png", film))[0] == 0


def test_a_name_with_signs_that_obey_a_terminal_or_begin_a_formula_is_text(run, ask, tmp_path, capsys):
    save(tmp_path / "in" / "$\\frac$ \x1b[2J.png", run.images[0])
    code, rows = ask(tmp_path / "in")
    assert code == 0 and rows[0]["image"] == "$\\frac$ \ufffd[2J.png" and rows[0]["answer"]
    assert "\x1b" not in capsys.readouterr().out


# Refusals -------------------------------------------------------------------------------------------------------------


def refused(code, capsys, *words):
    lines = capsys.readouterr().err.splitlines()
    return code == 2 and len(lines) == 1 and lines[0].startswith("predict_ich: ") and all(word in lines[0] for word in words)


@pytest.mark.parametrize("name", ["missing.png", "text.png", "empty"])
def test_a_path_without_an_image_is_refused(name, ask, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    assert refused(ask(tmp_path / name)[0], capsys, name) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("left", [[], ["backbone.npz"], ["backbone.npz", "head.npz"], ["head.npz", "cases.npz"]])
def test_a_folder_that_is_no_finished_run_is_refused(left, folder, run, ask, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    for name in left:
        shutil.copy(folder / name, tmp_path / "model")
    code, _ = ask(save(tmp_path / "slice.png", run.images[0]), model=tmp_path / "model")
    assert refused(code, capsys, "model is not the folder of a finished run", "missing") and not (tmp_path / "out").exists()


def test_a_model_that_is_missing_or_a_file_is_refused(run, folder, ask, tmp_path, capsys):
    path = save(tmp_path / "slice.png", run.images[0])
    assert refused(ask(path, model=tmp_path / "nowhere")[0], capsys, "nowhere")
    assert refused(ask(path, model=folder / "head.npz")[0], capsys, "head.npz")


def test_of_the_papers_run_an_arm_is_asked_for(run, ask, tmp_path, capsys):
    (tmp_path / "model" / "own_input").mkdir(parents=True)
    code, _ = ask(save(tmp_path / "slice.png", run.images[0]), model=tmp_path / "model")
    assert refused(code, capsys, f"give one, {tmp_path / 'model' / 'own_input'}")


@pytest.mark.parametrize("name", ["backbone.npz", "head.npz", "cases.npz"])
def test_a_damaged_file_of_the_model_is_named(name, run, folder, ask, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes((folder / name).read_bytes()[:300])
    code, _ = ask(save(tmp_path / "slice.png", run.images[0]), model=tmp_path / "model")
    assert refused(code, capsys, name) and not (tmp_path / "out").exists()


def test_cases_of_another_run_are_refused(run, folder, ask, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "model")
    cases = Cases.load(folder / "cases.npz")
    cases._replace(features=cases.features[:, 1:]).save(tmp_path / "model" / "cases.npz")
    code, _ = ask(save(tmp_path / "slice.png", run.images[0]), model=tmp_path / "model")
    assert refused(code, capsys, "not of one run")


def test_an_output_folder_with_something_in_it_is_refused_and_stays_as_it_was(run, ask, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert refused(ask(save(tmp_path / "slice.png", run.images[0]))[0], capsys, "not an empty folder")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_neither_the_model_nor_the_images_are_touched(run, folder, ask, undrawn, tmp_path):
    save(tmp_path / "in" / "a.png", run.images[0])
    files = [path for place in (folder, tmp_path / "in") for path in place.rglob("*")]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in files}
    assert ask(tmp_path / "in")[0] == 0
    after = [path for place in (folder, tmp_path / "in") for path in place.rglob("*")]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in after} == before


def test_pictures_by_what_has_learned_from_phantoms_say_so(run, folder, ask, tmp_path, monkeypatch):
    notes = []
    for name in ("plot_maps", "plot_nearest"):
        monkeypatch.setattr(f"tinyresnet.overlays.{name}", lambda *arguments, note, **options: notes.append(note))

    def synthetic(arrays, facts):
        facts["data"]["synthetic"] = True

    path = save(tmp_path / "slice.png", run.images[0])
    ask(path, model=with_head(folder, tmp_path / "model", synthetic))
    ask(path, out=tmp_path / "real")
    synthetic, real = f"slice.png. Learned from synthetic phantoms. {DISCLAIMER}", f"slice.png. {DISCLAIMER}"
    label = "The test case's label is the answer. "  # which decides how neighbours are framed
    assert notes == [synthetic, label + synthetic, real, label + real]
