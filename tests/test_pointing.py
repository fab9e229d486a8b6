"""The pointing game of a run: maps that point at the blood hit, others miss, and chance is what a random place hits."""

import numpy as np
import pytest

from tinyresnet.ich import pointing


@pytest.fixture
def masks():
    """A disc in the upper left of 40 x 40 pixels, twice"""
    i, j = np.mgrid[:40, :40]
    return np.stack([np.hypot(i - 10, j - 10) < 4] * 2)


def scored(monkeypatch, masks, where, elsewhere):
    """With a Grad-CAM that is brightest in one cell and an occlusion that is in another"""
    maps = np.zeros((2, 4, 4))
    maps[0][where] = maps[1][elsewhere] = 1
    monkeypatch.setattr(pointing, "grad_cams", lambda classifier, image: {"Grad-CAM layer4": maps[0]})
    monkeypatch.setattr(pointing, "covered", lambda classifier, image: maps[1])
    return pointing.score_pointing(None, [None] * len(masks), masks)


def test_a_map_that_points_at_the_blood_hits_and_one_that_does_not_misses(monkeypatch, masks):
    found = scored(monkeypatch, masks, (0, 0), (3, 3))  # their middles: (5, 5) and (35, 35)
    assert found["hits"]["Grad-CAM layer4"]["value"] == 0, "5 pixels each way are 7.1 from the middle, 3.1 from the disc"
    found = scored(monkeypatch, masks, (1, 1), (3, 3))  # (15, 15), as far away
    assert found["hits"]["occlusion"] == {"value": 0, "low": 0, "high": pytest.approx(0.842, abs=1e-3)}
    masks[:, 4:8, 4:8] = True
    assert scored(monkeypatch, masks, (0, 0), (3, 3))["hits"]["Grad-CAM layer4"]["value"] == 1


def test_chance_is_the_share_of_the_picture_within_the_tolerance_of_the_blood(monkeypatch, masks):
    found = scored(monkeypatch, masks, (0, 0), (0, 0))
    assert found["slices"] == 2
    blood = np.argwhere(masks[0])
    distances = [np.hypot(*(blood - place).T).min() for place in np.ndindex(40, 40)]
    assert found["chance"] == np.mean(np.array(distances) <= 15 / 224 * 40)
