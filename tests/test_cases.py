"""The cases kept beside a classifier come back as they were, and the most alike are found among all of them."""

import numpy as np
import pytest
from small_run import CLASSES

from tinyresnet.ich.cases import LONGEST, MOST, SIDE, Cases, shortened, thumbnail
from tinyresnet.weights import WeightsFileError, read_arrays, write_arrays


@pytest.fixture(scope="module")
def cases(run):
    return Cases.of(run.classifier, run.slices, run.images, np.array([5, 2, 20]))


def test_they_are_of_the_rows_that_were_asked_for_in_their_order(cases, run):
    np.testing.assert_array_equal(cases.features, run.classifier.features_of_view([run.images[row] for row in (5, 2, 20)]))
    assert cases.names == ["005.png", "002.png", "020.png"] and cases.groups == ["2", "1", "10"]
    assert cases.labels.tolist() == [0, 1, 0] and cases.classes == list(CLASSES)


def test_they_come_back_from_the_file_as_they_were(cases, tmp_path):
    cases.save(tmp_path / "cases.npz")
    back = Cases.load(tmp_path / "cases.npz")
    for before, after in zip(cases[:3], back[:3]):
        np.testing.assert_array_equal(before, after, strict=True)
    assert cases[3:] == back[3:]


def test_of_more_than_are_kept_both_ends_are_there_since_data_come_in_the_order_of_their_labels(run, monkeypatch):
    monkeypatch.setattr("tinyresnet.ich.cases.MOST", 4)
    kept = Cases.of(run.classifier, run.slices, run.images, np.argsort(run.slices.labels, kind="stable"))
    assert kept.labels.tolist() == [0, 0, 1, 1] and kept.names[0] == "000.png" and kept.names[-1] == "023.png"
    assert MOST == 500


def test_a_slice_that_is_among_them_is_nearest_to_itself_and_its_siblings_are_not_passed_over(run, folder):
    every = Cases.load(folder / "cases.npz")
    near, similarities = every.nearest(every.features[7], 24)
    assert near[0].group == "3, 007.png" and near[0].label == "hemorrhage" and similarities[0] == pytest.approx(1)
    assert {case.group for case in near} == {f"{row // 2}, {row:03}.png" for row in range(24)}
    assert similarities == sorted(similarities, reverse=True)


def test_of_fewer_cases_than_asked_for_all_are_given(cases):
    near, similarities = cases.nearest(cases.features[0], 4)
    assert len(near) == len(similarities) == 3


@pytest.mark.parametrize("name", ["", "007.png", "patient0001-0007", "a_long_folder/patient0001-0007.png"])
def test_below_a_picture_stands_as_much_of_a_name_as_fits_and_its_end(name):
    assert len(shortened(name)) == min(len(name), LONGEST) and shortened(name)[1:] == name[-len(shortened(name)):][1:]
    assert (shortened(name) == name) == (len(name) <= LONGEST)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (1, 9), (300, 301)])
def test_a_thumbnail_keeps_proportions_on_a_black_square(size):
    found = thumbnail(np.full((*size, 3), 200, np.uint8))
    white = np.argwhere(found[:, :, 0] > 100)
    height, width = np.ptp(white, axis=0) + 1
    assert found.shape == (SIDE, SIDE, 3) and max(height, width) == SIDE
    assert height / width == pytest.approx(size[0] / size[1], rel=0.02)  # a pixel of 128


def test_a_file_that_is_cut_is_named(cases, tmp_path):
    cases.save(tmp_path / "cases.npz")
    content = (tmp_path / "cases.npz").read_bytes()
    (tmp_path / "cases.npz").write_bytes(content[:len(content) // 2])
    with pytest.raises(WeightsFileError, match="cases.npz"):
        Cases.load(tmp_path / "cases.npz")


@pytest.mark.parametrize("name, value", [
    ("features", None), ("features", np.ones((2, 3))), ("features", np.ones(3)), ("features", np.full((3, 4), np.nan)),
    ("thumbnails", np.zeros((3, 8, 8, 3), np.uint8)), ("thumbnails", np.zeros((3, SIDE, SIDE, 3))),
    ("labels", np.array([0, 1])), ("labels", np.array([0, 1, 2])), ("labels", np.array([0.0, 1.0, 1.0])),
    ("names", ["a", "b"]), ("names", None), ("names", 3), ("groups", []), ("classes", ["bleed"])],
    ids=lambda value: str(np.shape(value)) if isinstance(value, np.ndarray) else None)
def test_cases_that_do_not_go_together_are_refused_by_the_name_of_their_file(name, value, cases, tmp_path):
    cases.save(tmp_path / "cases.npz")
    arrays, facts = read_arrays(tmp_path / "cases.npz")
    part = arrays if name in arrays else facts
    part[name] = value
    if value is None:
        del part[name]
    write_arrays(tmp_path / "cases.npz", arrays, facts)
    with pytest.raises(WeightsFileError, match=f"{tmp_path / 'cases.npz'}: not the cases"):
        Cases.load(tmp_path / "cases.npz")


def test_no_cases_are_refused(cases, tmp_path):
    write_arrays(tmp_path / "cases.npz", {"features": cases.features[:0], "thumbnails": cases.thumbnails[:0],
                                          "labels": cases.labels[:0]}, {"names": [], "groups": [], "classes": list(CLASSES)})
    with pytest.raises(WeightsFileError, match="of 0 names"):
        Cases.load(tmp_path / "cases.npz")


def test_strangeness_is_the_distance_from_the_middle_in_deviations_over_that_of_the_farthest(cases):
    features = np.array([[1.0, 2], [-1, -2], [1, -2], [-1, 2], [3, 0], [-3, 0]])  # means 0, deviations a and b
    z = features / features.std(axis=0)
    farthest = np.sqrt((z ** 2).mean(axis=1)).max()
    known = cases._replace(features=features)
    assert known.strangeness(features[4]) == pytest.approx(1, rel=1e-5)
    x = np.array([5.0, -7])
    assert known.strangeness(x) == pytest.approx(np.sqrt(((x / features.std(axis=0)) ** 2).mean()) / farthest, rel=1e-5)


@pytest.mark.shared
def test_real_slices_are_like_each_other_and_photographs_are_not(shared, published, real_slices, real_features):
    """1.23 for the strangest real slice, each without its own scan; from 2.2 on for photographs."""
    from tinyresnet import load_model, read_image
    from tinyresnet.ich.features import features_of

    features, groups = real_features[0, 0], real_slices.groups
    cases = Cases(features, None, None, [], [], [])
    slices = [cases._replace(features=features[groups != groups[row]]).strangeness(features[row]) for row in range(200)]
    photographs = [read_image(path) for path in sorted((shared / "data").rglob("*.jpg"))[:6]]
    seen = features_of(load_model(published), photographs, views=["head"], mirrored=False)[0, 0]
    assert max(slices) < 1.4 < min(map(cases.strangeness, seen))
