"""The head looks like one: what a reader expects at each height is there, in the right place and of the right kind."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tinyresnet.ich import anatomy
from tinyresnet.ich.phantom import make_phantom

PATIENTS = range(20)


def share(level, where, what):
    """Median over patients, of the pixels for which where(side, y, depth) holds: the share for which what(hu) holds."""
    shares = []
    for seed in PATIENTS:
        head = anatomy.draw_head(seed)
        x, y, z, _ = anatomy.plane_at(head, level, 128)
        here = where(np.abs(x), y, anatomy.inner_table(x, y, z))
        shares.append(what(make_phantom(seed, "normal", level).hu[here]).mean())
    return np.median(shares)


def bone(hu):
    return hu > 200


def air(hu):
    return hu < -300


def fluid(hu):
    return (hu > -10) & (hu < 24)  # halfway to brain at most


# 0.5 where a place is wider than what lies there in most heads, 0.8 where it lies inside
@pytest.mark.parametrize("name, level, where, what, least", [
    ("petrous bone", 0, lambda side, y, depth: np.hypot(side - 45, y - 18) < 4, bone, 0.8),
    ("sphenoid bone or its sinus", 0, lambda side, y, depth: np.hypot(side, y + 20) < 5, lambda hu: bone(hu) | air(hu), 0.7),
    ("fat of the orbit", 0, lambda side, y, depth: np.hypot(side - 29, y + 57) < 5, lambda hu: hu < -20, 0.5),
    ("air cells of the mastoid", 0, lambda side, y, depth: np.hypot(side - 60, y - 29) < 6, lambda hu: hu < 0, 0.15),
    ("ethmoid and frontal air", 0, lambda side, y, depth: (side < 14) & (y < -66) & (depth > -6), air, 0.05),
    ("suprasellar cistern", 2, lambda side, y, depth: np.hypot(side, y + 10) < 3, fluid, 0.8),
    ("fourth ventricle", 1, lambda side, y, depth: np.hypot(side, y - 29) < 2, fluid, 0.5),
    ("third ventricle", 6, lambda side, y, depth: (side < 1) & (np.abs(y - 6) < 6), fluid, 0.5),
    ("frontal horn", 7, lambda side, y, depth: np.hypot(side - 9, y + 29) < 2, fluid, 0.5),
    ("body of the ventricle", 10, lambda side, y, depth: np.hypot(side - 9, y) < 1.5, fluid, 0.7),
    ("trigone", 8, lambda side, y, depth: np.hypot(side - 25, y - 34) < 3, lambda hu: fluid(hu) | (hu > 90), 0.7),
])
def test_what_belongs_there_is_there(name, level, where, what, least):
    assert share(level, where, what) >= least


def test_no_bone_crosses_the_brain_above_the_skull_base():
    assert share(7, lambda side, y, depth: (depth > 8) & (side > 5), lambda hu: hu > 400) == 0


def test_the_cerebellum_fills_the_back_of_the_lowest_slice_and_has_no_sulci():
    within = share(0, lambda side, y, depth: (y > 48) & (depth > 8), fluid)
    above = share(14, lambda side, y, depth: (y > 48) & (depth > 2) & (depth < 14), fluid)
    assert within < 0.12 < above  # noise of 6 HU alone takes one pixel in fourteen below 24


def test_sulci_open_much_of_the_cortex_and_stop_before_the_middle_of_a_hemisphere():
    head = anatomy.draw_head(3)
    x, y, z, mm = anatomy.plane_at(head, 12, 256)
    depth = anatomy.inner_table(x, y, z)
    sulci = anatomy.subarachnoid(head, x, y, z, depth)[2]
    assert 0.05 < (sulci[np.abs(depth - 4) < mm] > 0).mean() < 0.5  # on the way round the head, 4 mm deep
    assert (sulci[(depth > 30) & (np.abs(x) > 20)] < 0).all()


def test_the_sulci_of_both_sides_differ():
    head = anatomy.draw_head(3)
    across, down = np.meshgrid(*[np.linspace(-60, 60, 121, dtype=np.float32)] * 2)
    sulci = anatomy.subarachnoid(head, across, down, np.float32(30), anatomy.inner_table(across, down, np.float32(30)))[2]
    open_ = sulci > 0
    assert (open_ & open_[:, ::-1]).sum() < 0.6 * open_.sum()


def test_old_brains_have_wider_ventricles_and_more_fluid_around():
    amounts = {True: [], False: []}
    for seed in range(24):
        head = anatomy.draw_head(seed)
        x, y, z, _ = anatomy.plane_at(head, 9, 96)
        *_, csf = anatomy.subarachnoid(head, x, y, z, anatomy.inner_table(x, y, z))
        amounts[head.hard["atrophy"]].append([(csf > 0).mean(), (anatomy.ventricles(head, x, y, z) > 0).mean()])
    old, young = (np.mean(amounts[key], axis=0) for key in (True, False))
    assert (old > 1.3 * young).all(), (old, young)


def test_neighbouring_levels_fit_together():
    """Slices 5 mm apart are more alike than slices 20 mm apart, from top to bottom."""
    head = anatomy.draw_head(2)

    def overlap(a, b):
        one, other = (anatomy.ventricles(head, *anatomy.plane_at(head, level, 96)[:3]) > 0 for level in (a, b))
        return (one & other).sum() / max((one | other).sum(), 1)
    assert all(overlap(level, level + 1) > overlap(level, level + 4) for level in range(5, 8))


@pytest.mark.parametrize("level", [0, 2, 7, 13])
def test_everything_is_drawn_in_single_precision(level):
    """One number in double would make the whole picture double: slower, and no longer the same as its twin's."""
    head = anatomy.draw_head(4)
    plane = anatomy.plane_at(head, level, 32)
    tissue, fluids = anatomy.brain(head, plane)
    for distance, value, _ in [*tissue, *fluids, *anatomy.skull(head, plane)]:
        assert distance.dtype == np.float32 and not isinstance(value, np.generic)


def test_the_head_does_not_depend_on_the_number_of_threads():
    head = anatomy.draw_head(9)
    x, y, z, _ = anatomy.plane_at(head, 12, 192)
    drawn = []  # the waves of the sulci are a matrix product
    for threads in (1, 2):
        with threadpool_limits(threads):
            drawn.append(anatomy.subarachnoid(head, x, y, z, anatomy.inner_table(x, y, z))[2])
    np.testing.assert_array_equal(*drawn)
