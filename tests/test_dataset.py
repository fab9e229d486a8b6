"""Datasets on disk: what is accepted, and that every mistake is refused with file, row and remedy."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyresnet.ich.dataset import DatasetError, crop_to_head, load_dataset, read_images
from tinyresnet.images import ImageFileError

HEAD_CT = Path(__file__).parents[1].parent / "shared" / "data" / "head_ct"


def save_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        Image.new("RGB", (4, 3), (k, k, k)).save(folder / name, format="PNG")


def kaggle(tmp_path, labels=(1, 1, 0, 0), inside="head_ct", rows=None, header="id, hemorrhage"):
    """A folder as Kaggle packs it, with one image a label; `rows` replaces the lines of labels.csv."""
    save_images(tmp_path / inside, [f"{k:03d}.png" for k in range(len(labels))])
    lines = [f"{k},{label}" for k, label in enumerate(labels)] if rows is None else rows
    (tmp_path / "labels.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return tmp_path


def two_folders(tmp_path, positive="hemorrhage", negative="normal"):
    save_images(tmp_path / positive, ["a.png", "b.png"])
    save_images(tmp_path / negative, ["a.png", "c.png", "d.png"])
    return tmp_path


def names(dataset):
    return [path.name for path in dataset.paths]


# labels.csv -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["head_ct", "head_ct/head_ct", "."])
def test_kaggles_layout_is_read_wherever_the_images_are(tmp_path, inside):
    dataset = load_dataset(kaggle(tmp_path, inside=inside))
    assert dataset.paths == [tmp_path / inside / f"{k:03d}.png" for k in range(4)]


def test_labels_are_int64_in_the_order_of_the_rows(tmp_path):
    dataset = load_dataset(kaggle(tmp_path, rows=["3,0", "0,1", "1,1", "2,0"]))
    assert (names(dataset)[0], dataset.labels.tolist(), dataset.labels.dtype) == ("003.png", [0, 1, 1, 0], np.int64)


def test_the_classes_are_normal_and_hemorrhage(tmp_path):
    dataset = load_dataset(kaggle(tmp_path))
    assert (dataset.classes, dataset.positive) == (("normal", "hemorrhage"), "hemorrhage")


@pytest.mark.parametrize("entry", ["0", "00", "000", "000.png", " 000.png "])
def test_an_id_may_be_a_number_or_a_file_name(tmp_path, entry):
    dataset = load_dataset(kaggle(tmp_path, labels=(1, 0), rows=[f"{entry},1", "1,0"]))
    assert names(dataset) == ["000.png", "001.png"]


def test_an_id_without_suffix_means_the_png(tmp_path):
    save_images(tmp_path, ["anna.png", "7.png"])
    (tmp_path / "labels.csv").write_text("id,hemorrhage\nanna,1\n7,0\n")
    assert names(load_dataset(tmp_path)) == ["anna.png", "7.png"]


@pytest.mark.parametrize("header", ["id,hemorrhage", "id, hemorrhage", " id ,hemorrhage ", "\ufeffid,hemorrhage"])
def test_blanks_and_a_byte_order_mark_in_the_header_do_no_harm(tmp_path, header):
    assert load_dataset(kaggle(tmp_path, header=header)).labels.tolist() == [1, 1, 0, 0]


def test_empty_lines_and_windows_line_ends_do_no_harm(tmp_path):
    kaggle(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"id, hemorrhage\r\n0,1\r\n\r\n1,1\r\n2,0\r\n3,0\r\n,\r\n")
    assert load_dataset(tmp_path).labels.tolist() == [1, 1, 0, 0]


def test_the_column_of_the_labels_can_be_named(tmp_path):
    dataset = load_dataset(kaggle(tmp_path, header="id,fracture"), positive_class="fracture")
    assert dataset.classes == ("normal", "fracture")


def test_hidden_files_beside_the_images_are_no_images(tmp_path):
    kaggle(tmp_path)
    (tmp_path / "head_ct" / "._000.png").write_bytes(b"macOS")
    assert len(load_dataset(tmp_path).paths) == 4


@pytest.mark.parametrize("rows, message", [
    (["0,1", "1,1", "2,0", "3,0", "9,0"], r"row 6: id '9' has no image, looked for .*009\.png; add the image or"),
    (["0,1", "1,1", "2,0"], r"image .*003\.png has no row; label it"),
    (["0,1", "1,1", "2,0", "3,0", "000.png,1"], "row 6: id '000.png' occurs before"),
    (["0,1", "1,1", "2,0", "../x.png,0"], "row 5: id '../x.png' leaves the folder"),
    (["0,1", "1,1", "2,0", "/etc/passwd,0"], "row 5: id '/etc/passwd' leaves the folder"),
    (["0,1", "1,1", "2,0", "C:\\x.png,0"], r"row 5: id 'C:\\\\x.png' leaves the folder"),
    (["0,1", "1,1", "2,0", "..,0"], r"row 5: id '\.\.' has no image"),
    (["0,1", "1,1", "2,0", "labels.csv,0"], "row 5: id 'labels.csv' has no image"),
    (["0,1", "1,1", "2,0", "²,0"], "row 5: id '²' has no image"),
    (["0,1", "1,1", "2,0", "3,yes"], "row 5: label 'yes', expected 0 or 1"),
    (["0,1", "1,1", "2,0", "3,"], "row 5: label '', expected 0 or 1"),
    (["0,1", "1,1", "2,0", "3"], "row 5: 1 cells, expected 2"),
    (["0,1", "1,1", "2,0", "3,0,0"], "row 5: 3 cells, expected 2"),
    (["0,1", "1,1", "2,1", "3,1"], "all 4 images are 'hemorrhage' and none 'normal'"),
    (["0,0", "1,0", "2,0", "3,0"], "all 4 images are 'normal' and none 'hemorrhage'"),
    ([], "a header and no rows"),
    (['0,"1', "1,1"], "not a CSV table")])
def test_a_mistake_in_the_labels_is_refused_with_its_row_and_the_remedy(tmp_path, rows, message):
    with pytest.raises(DatasetError, match=message):
        load_dataset(kaggle(tmp_path, rows=rows))


def test_the_message_about_a_row_names_the_file(tmp_path):
    with pytest.raises(DatasetError, match=f"{tmp_path / 'labels.csv'}: 1 mistake\n  row 2"):
        load_dataset(kaggle(tmp_path, rows=["0,2", "1,1", "2,0", "3,0"]))


def test_of_many_mistakes_the_first_are_shown_and_all_are_counted(tmp_path):
    with pytest.raises(DatasetError, match=r"12 mistakes(\n  row \d+: .*){5}\n  \.\.\. and 7 more$"):
        load_dataset(kaggle(tmp_path, rows=[f"{k},1" for k in range(90, 102)]))


@pytest.mark.parametrize("header", ["id,bleed", "name,hemorrhage", "id;hemorrhage", "", "0,1"])
def test_a_missing_column_is_named(tmp_path, header):
    with pytest.raises(DatasetError, match="labels.csv: no column '(id|hemorrhage)' in row 1, expected 'id,hem"):
        load_dataset(kaggle(tmp_path, header=header))


def test_an_empty_table_is_refused(tmp_path):
    kaggle(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"")
    with pytest.raises(DatasetError, match="no column 'id'"):
        load_dataset(tmp_path)


def test_a_table_that_is_not_utf8_is_refused(tmp_path):
    kaggle(tmp_path)
    (tmp_path / "labels.csv").write_bytes("id,hemorrhage\nMüller,1\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="labels.csv: not UTF-8 at byte 15; save it again as CSV UTF-8"):
        load_dataset(tmp_path)


def test_labels_without_images_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("id,hemorrhage\n0,1\n")
    with pytest.raises(DatasetError, match="no images in .*head_ct.*; put them beside labels.csv"):
        load_dataset(tmp_path)


# Class folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positive", ["hemorrhage", "Hemorrhagic", "intracranial HEMORRHAGE"])
def test_the_folder_named_after_hemorrhage_is_the_positive_class(tmp_path, positive):
    dataset = load_dataset(two_folders(tmp_path, positive))
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1] and dataset.classes == ("normal", positive)


def test_the_positive_class_can_be_chosen(tmp_path):
    dataset = load_dataset(two_folders(tmp_path), positive_class="normal")
    assert dataset.classes == ("hemorrhage", "normal") and dataset.labels.sum() == 3


def test_other_files_in_a_class_folder_are_ignored(tmp_path):
    two_folders(tmp_path)
    (tmp_path / "normal" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    assert len(load_dataset(tmp_path).paths) == 5


@pytest.mark.parametrize("positive, negative", [("sick", "healthy"), ("hemorrhage", "no hemorrhage"),
                                                ("ICH", "no_hemorrhage"), ("bleed", "Non-Hemorrhagic")])
def test_a_positive_class_that_cannot_be_told_must_be_passed(tmp_path, positive, negative):
    with pytest.raises(DatasetError, match="which of the folders .* is the positive class.*--positive-class"):
        load_dataset(two_folders(tmp_path, positive, negative))


def test_a_folder_is_not_negative_because_its_name_begins_like_a_negation(tmp_path):
    assert load_dataset(two_folders(tmp_path, "nontraumatic hemorrhage", "healthy")).positive == "nontraumatic hemorrhage"


def test_an_id_finds_its_image_whatever_its_format(tmp_path):
    (tmp_path / "labels.csv").write_text("id,hemorrhage\n0,0\n1,1\n")
    for name in ("000.jpg", "1.bmp"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert [path.name for path in load_dataset(tmp_path).paths] == ["000.jpg", "1.bmp"]


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "000.png")
    (tmp_path / "labels.csv").write_text("id,hemorrhage,hemorrhage\n0,0,1\n")
    with pytest.raises(DatasetError, match="a column's name occurs twice in row 1"):
        load_dataset(tmp_path)


def test_a_positive_class_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"--positive-class with one of these names \(got 'bleed'\)"):
        load_dataset(two_folders(tmp_path), positive_class="bleed")


def test_an_empty_class_folder_is_refused(tmp_path):
    save_images(tmp_path / "hemorrhage", ["a.png"])
    (tmp_path / "normal").mkdir()
    with pytest.raises(DatasetError, match="normal: empty, expected images"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("folders", [[], ["one"], ["a", "b", "c"]])
def test_neither_labels_nor_two_folders_is_refused(tmp_path, folders):
    for name in folders:
        save_images(tmp_path / name, ["a.png"])
    with pytest.raises(DatasetError, match=f"expected labels.csv or two folders, one a class, got {len(folders)} fold"):
        load_dataset(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        load_dataset(tmp_path / "nowhere")


# groups.csv -----------------------------------------------------------------------------------------------------------


def with_groups(tmp_path, text):
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    return tmp_path


def test_without_a_group_file_each_image_is_its_own_group(tmp_path):
    dataset = load_dataset(kaggle(tmp_path))
    assert not dataset.grouped and len(set(dataset.groups)) == 4


def test_groups_are_those_of_the_file_and_other_columns_are_ignored(tmp_path):
    kaggle(with_groups(tmp_path, "id,group_loose,group\n3,x,c\n0,x,a\n2,x,b\n001.png,x,a\n"))
    dataset = load_dataset(tmp_path)
    assert dataset.grouped and dataset.groups.tolist() == ["a", "a", "b", "c"]


def test_groups_of_class_folders_are_found_by_folder_and_file(tmp_path):
    rows = ["normal/a.png,1", "hemorrhage/a.png,2", "hemorrhage/b.png,2", "normal/c.png,3", "normal/d.png,3"]
    dataset = load_dataset(two_folders(with_groups(tmp_path, "\n".join(["id,group", *rows]))))
    assert dataset.groups.tolist() == ["1", "3", "3", "2", "2"]


@pytest.mark.parametrize("text, message", [
    ("id,group\n0,a\n1,a\n2,b\n", r"image .*003\.png has no row; add it with its group"),
    ("id,group\n0,a\n1,a\n2,b\n3,b\n7,c\n", "row 6: id '7' is no image of this dataset"),
    ("id,group\n0,a\n0,b\n2,b\n3,b\n", "row 3: id '0' occurs before"),
    ("id,group\n0,a\n1,\n2,b\n3,b\n", "row 3: no group; give the patient"),
    ("id,patient\n0,a\n", "no column 'group'"), ("", "no column 'id'"), ("id,group\n", "a header and no rows")])
def test_a_mistake_in_the_groups_is_refused_with_its_row_and_the_remedy(tmp_path, text, message):
    with pytest.raises(DatasetError, match=f"groups.csv: (1 mistake\n  )?{message}"):
        load_dataset(kaggle(with_groups(tmp_path, text)))


# limit ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit, expected", [(2, [1, 1]), (4, [2, 2]), (8, [4, 4]), (12, [8, 4]), (99, [10, 4])])
@pytest.mark.parametrize("rare", [0, 1])
def test_a_limit_keeps_that_many_images_and_as_even_classes_as_there_are(tmp_path, rare, limit, expected):
    dataset = load_dataset(kaggle(tmp_path, labels=[rare] * 4 + [1 - rare] * 10), limit=limit)
    assert np.bincount(dataset.labels).tolist() == (expected if rare == 1 else expected[::-1])


def test_of_an_odd_limit_the_odd_image_is_negative(tmp_path):
    assert np.bincount(load_dataset(kaggle(tmp_path, labels=[0, 1] * 5), limit=5).labels).tolist() == [3, 2]


def test_a_limit_keeps_paths_labels_and_groups_together(tmp_path):
    groups = "\n".join(["id,group", *(f"{k},g{k}" for k in range(10))])
    dataset = load_dataset(kaggle(with_groups(tmp_path, groups), labels=[1] * 5 + [0] * 5), limit=4)
    assert all((name, group) == (f"{k:03d}.png", f"g{k}") and label == (k < 5) for name, group, label, k in zip(
        names(dataset), dataset.groups, dataset.labels, (int(name[:3]) for name in names(dataset))))


def test_the_same_seed_keeps_the_same_images(tmp_path):
    kaggle(tmp_path, labels=[0, 1] * 20)
    first, second, other = (names(load_dataset(tmp_path, limit=10, seed=seed)) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("limit", [0, 1, -5])
def test_a_limit_below_one_image_a_class_is_refused(tmp_path, limit):
    with pytest.raises(DatasetError, match=f"limit of at least 2 images, one a class, got {limit}"):
        load_dataset(kaggle(tmp_path), limit=limit)


# read_images ----------------------------------------------------------------------------------------------------------


def test_images_come_in_the_order_of_the_dataset(tmp_path):
    _, images = read_images(load_dataset(kaggle(tmp_path, rows=["3,0", "0,1", "1,1", "2,0"])))
    assert [int(image[0, 0, 0]) for image in images] == [3, 0, 1, 2]


def test_an_unreadable_image_is_refused_by_name_with_the_way_around_it(tmp_path):
    (kaggle(tmp_path) / "head_ct" / "001.png").write_bytes(b"broken")
    with pytest.raises(ImageFileError, match="001.png.*--skip-bad"):
        read_images(load_dataset(tmp_path))


def test_skipping_leaves_the_unreadable_image_out_and_lists_it(tmp_path):
    (kaggle(tmp_path) / "head_ct" / "001.png").write_bytes(b"broken")
    dataset, images = read_images(load_dataset(tmp_path), skip_bad=True)
    assert names(dataset) == ["000.png", "002.png", "003.png"] and len(images) == 3
    assert [(path.name, "001.png" in reason) for path, reason in dataset.skipped] == [("001.png", True)]


def test_skipping_keeps_labels_and_groups_in_step(tmp_path):
    kaggle(with_groups(tmp_path, "id,group\n0,a\n1,b\n2,c\n3,d\n"))
    (tmp_path / "head_ct" / "001.png").write_bytes(b"broken")
    dataset, _ = read_images(load_dataset(tmp_path), skip_bad=True)
    assert (dataset.labels.tolist(), dataset.groups.tolist()) == ([1, 0, 0], ["a", "c", "d"])


def test_reading_leaves_the_dataset_it_was_given_alone(tmp_path):
    (kaggle(tmp_path) / "head_ct" / "001.png").write_bytes(b"broken")
    dataset = load_dataset(tmp_path)
    read_images(dataset, skip_bad=True)
    assert len(dataset.paths) == 4 and dataset.skipped == []


@pytest.mark.parametrize("broken", [["000.png", "001.png"], ["000.png", "001.png", "002.png", "003.png"]])
def test_skipping_a_whole_class_is_refused(tmp_path, broken):
    kaggle(tmp_path)
    for name in broken:
        (tmp_path / "head_ct" / name).write_bytes(b"broken")
    with pytest.raises(DatasetError, match="(both classes|no image is left).*left out, the first: .*000.png"):
        read_images(load_dataset(tmp_path), skip_bad=True)


def test_progress_sees_every_path(tmp_path):
    seen = []
    read_images(load_dataset(kaggle(tmp_path)), progress=lambda paths: [seen.append(path) or path for path in paths])
    assert len(seen) == 4


# crop_to_head ---------------------------------------------------------------------------------------------------------


def head(H, W, centre, radii, air=0, bone=250, brain=100):
    """A skull around a brain, as (H, W, 3)."""
    i, j = np.mgrid[:H, :W]
    distance = np.hypot((i - centre[0]) / radii[0], (j - centre[1]) / radii[1])
    grey = np.where(distance <= 1, np.where(distance > 0.9, bone, brain), air)
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


def assert_crop_is(image, rows, columns, within):
    """The crop starts and ends within so many pixels of the rows and columns."""
    cropped = crop_to_head(image)
    offset = (cropped.ctypes.data - image.ctypes.data) // 3
    top, left = divmod(offset, image.shape[1])
    found = [top, top + cropped.shape[0], left, left + cropped.shape[1]]
    np.testing.assert_allclose(found, [*rows, *columns], atol=within)


@pytest.mark.parametrize("air", [0, 60])
@pytest.mark.parametrize("H, W", [(400, 600), (120, 130), (601, 399)])
def test_the_crop_is_the_box_of_the_head_and_a_small_margin(H, W, air):
    image = head(H, W, (H * 0.4, W * 0.6), (H * 0.35, W * 0.3), air)
    within = 4 * max(1, max(H, W) // 128) + 1  # two pixels of the reduced picture for the margin, two for its grid
    assert_crop_is(image, (H * 0.05, H * 0.75), (W * 0.3, W * 0.9), within)


def test_letters_and_the_headrest_do_not_widen_the_crop():
    clean = head(400, 400, (180, 200), (140, 110))
    dirty = clean.copy()
    dirty[10:40, 10:16] = dirty[10:16, 10:30] = 255  # a letter in a corner
    dirty[316:320, 20:380] = 255  # a thin table that the head lies on
    assert crop_to_head(dirty).shape == crop_to_head(clean).shape


def test_a_head_that_touches_the_edge_is_not_cut():
    image = head(300, 240, (150, 120), (160, 125))
    assert crop_to_head(image).shape == image.shape


@pytest.mark.parametrize("image", [
    np.zeros((50, 60, 3), np.uint8), np.full((50, 60, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8),
    head(300, 300, (150, 150), (12, 12)), head(300, 300, (150, 150), (140, 40))], ids=[
        "black", "white", "one pixel", "too small for a head", "too narrow for a head"])
def test_without_a_head_the_image_comes_back_unchanged(image):
    np.testing.assert_array_equal(crop_to_head(image), image)


# The real data --------------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(not os.path.isdir(HEAD_CT), reason=f"{HEAD_CT} is not there")


@pytest.mark.shared
@real
def test_the_real_dataset_has_two_hundred_slices_half_of_them_positive_in_groups():
    dataset = load_dataset(HEAD_CT)
    assert (len(dataset.paths), int(dataset.labels.sum()), len(set(dataset.groups))) == (200, 100, 110)


@pytest.mark.shared
@real
def test_every_real_slice_is_readable_and_keeps_most_of_its_height_when_cropped():
    _, images = read_images(load_dataset(HEAD_CT))
    assert min(crop_to_head(image).shape[0] / image.shape[0] for image in images) > 0.8  # the least, by eye, is 0.83
