"""Synthetic head CT: axial slices in Hounsfield units with the visible blood as a mask, drawn from a seed.

Nothing here is a patient. The phantom exists so that a fresh machine has something to learn from and the truth is known.
Every structure is a shape in 3-D and a slice is a plane through it: x to the right of the picture, y towards the back of
the head, z upwards, in mm. Shapes are signed distances (mm, positive inside), painted over one another with soft edges;
the scanner then blurs, cups and adds noise. Blood displaces nothing: there is no midline shift.

One seed is one patient, whose head is drawn without knowing of the bleed: make_phantom(7, "normal", 6) is
make_phantom(7, "IPH", 6) without the blood and its oedema, and outside these equal to the last bit.

Sources: tissue, noise and blur Nakamura 2019 (doi 10.4236/act.2019.82003); bone, fat, and volumes and means of the 192
scans of BHSD from FDA DIDSR/InSilicoICH (CC0); sites of IPH Asean J Radiol 237. Ours, by eye: the positions of the
anatomy, the odds of the hard negatives, the sites of the other bleeds, proportions and oedema of the lesions.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array
from scipy import fft
from scipy.ndimage import gaussian_filter

BLEEDS = ("IPH", "IVH", "SDH", "SAH", "EDH")
KINDS = ("normal",) + BLEEDS
LEVELS = tuple(range(16))  # 5 mm apart as in a clinical scan: 0 posterior fossa, 6 basal ganglia, 10 ventricles, 15 vertex
LOWEST, SPACING = -30.0, 5.0  # mm: height of level 0, and from one level to the next
MIN_AREA = 12.5  # mm2, a disc 4 mm across: less blood than this in a slice is neither drawn nor labelled
P95 = 1.645  # the 95th percentile of a standard normal

VOLUME = {"IPH": (8, 59), "IVH": (2.5, 19), "SDH": (6, 56), "SAH": (0.8, 4.6), "EDH": (13, 40)}  # mL: median, p95
BLOOD = {"IPH": (33, 48, 61), "IVH": (25, 39, 55), "SDH": (27, 51, 69), "SAH": (31, 43, 58), "EDH": (37, 56, 72)}
TEXTURE = 0.10  # standard deviation within a lesion, relative to its mean; BLOOD: p5, middle, p95 of lesion means in HU
HARD_NEGATIVES = {"choroid": 0.5, "pineal": 0.6, "falx": 0.35, "atrophy": 0.3}  # odds in every patient, bleeding or not

SITES = {  # kind: {site: (odds, |x|, y, z) in mm}; of SDH and EDH only the direction from the middle counts
    "IPH": {"putamen": (42, 28, -2, 5), "thalamus": (26, 12, 10, 6), "lobar": (12, 36, 25, 25),
            "cerebellum": (10, 20, 46, -24), "brainstem": (9, 3, 12, -22)},
    "IVH": {"ventricles": (1, 0, 0, 5)},
    "SDH": {"frontoparietal": (7, 60, -15, 22), "parietal": (3, 60, 20, 22)},
    "SAH": {"basal cisterns": (4, 8, -10, -18), "Sylvian": (3, 46, -8, -3), "convexity": (3, 40, 5, 35)},
    "EDH": {"temporal": (6, 60, -10, 0), "parietal": (4, 60, 25, 15)},
}

# Strokes: (flatness, points (|x|, y, z, radius) in mm). A flatness below 1 draws the stroke out along z, into a sheet.
VENTRICLES = (
    (0.7, ((16, -37, 3, 2.5), (9, -30, 8, 4.5), (4, -17, 9, 3))),
    (0.7, ((7, -27, 15, 3), (8, -5, 19, 3.5), (14, 16, 19, 4), (25, 33, 10, 5.5), (22, 52, 4, 2.5))),
    (0.8, ((26, 31, 9, 4), (34, 10, -10, 1.5), (29, -6, -16, 2.5))),
    (0.2, ((0, -8, 1, 1.2), (0, 12, 1, 2.2))),
    (0.7, ((0, 29, -27, 4.5), (6, 33, -28, 2))),
)
CISTERNS = (
    (0.3, ((0, -10, -20, 5.5), (14, -15, -19, 2), (30, -14, -13, 2), (46, -8, -3, 1.6), (66, -4, 6, 1.6))),
    (0.3, ((0, -10, -20, 5), (0, -25, -19, 1.5))),
    (0.3, ((2, -6, -20, 3), (15, 8, -17, 1.2), (16, 18, -14, 1.2), (0, 27, -9, 3), (8, 33, -3, 1.2))),
    (0.12, ((35, -13, 3, 1.0), (38, -2, 4, 1.2), (37, 12, 6, 1.0))),
)
NUCLEI = (
    (0.6, ((13, -26, 8, 4.5), (12, -12, 12, 4))),
    (0.6, ((21, -16, 3, 4.5), (27, 6, 4, 6))),
    (0.6, ((8, 3, 5, 6), (13, 15, 6, 7))),
)
BRAINSTEM = ((0.7, ((0, 8, -20, 11), (0, 12, -32, 13))),)
CEREBELLUM = ((1.0, ((0, 44, -30, 21), (32, 44, -42, 24))),)
SKULL_BASE = ((0.8, ((16, -2, -36, 4), (60, 20, -32, 9))), (0.6, ((14, -30, -36, 3), (62, -36, -29, 5))))
CALCIFICATIONS = {
    "choroid": ((1.0, ((23, 31, 10, 1.6), (25, 36, 9, 2.0))),),
    "pineal": ((1.0, ((0, 20, 2, 1.8), (0, 23, 2, 1.8))),),
}
SULCI = 40  # around the head


class Phantom(NamedTuple):
    """A slice: hu (size, size) float32 in HU; mask (size, size) bool, the visible blood; facts, what was drawn."""

    hu: Array
    mask: Array
    facts: dict[str, Any]


def window(hu: Array, width: float = 80, level: float = 40) -> Array:
    """Display window: level - width / 2 (HU) and below is 0, level + width / 2 and above is 255; uint8, shape of hu.

    Raises ValueError for a width that is not positive.
    """
    if not width > 0:
        raise ValueError(f"expected a positive window width in HU, got {width}")
    return np.rint(np.clip((hu - level) / width + 0.5, 0, 1) * 255).astype(np.uint8)


def make_phantom(seed: int, kind: str, level: int, *, size: int = 128) -> Phantom:
    """Slice `level` (of LEVELS) of the patient `seed`, who has a bleed of this kind (of KINDS) or is "normal".

    The mask is empty for "normal", and on a level the bleed does not reach: see visible_levels.
    Raises ValueError for an unknown kind or level.
    """
    head, bleed = _draw_patient(seed, kind)
    if level not in LEVELS:
        raise ValueError(f"expected level to be one of {LEVELS}, got {level!r}")
    x, y, z, mm = _plane(head, level, size)
    hu = _tissue(head, x, y, z, mm)
    mask = np.zeros((size, size), bool)
    if bleed:
        depth = _blood(head, bleed, x, y, z)
        mask = _visible(depth, head)
        if mask.any():
            hu = _pour(hu, bleed, depth, mm, np.random.default_rng([seed, 3, level]))
    hu = _scan(hu, head, x, y, mm, np.random.default_rng([seed, 2, level]))
    return Phantom(hu.astype(np.float32), mask, _facts(seed, kind, level, head, bleed, mask))


def visible_levels(seed: int, kind: str, *, size: int = 128) -> tuple[int, ...]:
    """The levels on which make_phantom(seed, kind, level, size=size) shows blood, lowest first."""
    head, bleed = _draw_patient(seed, kind)
    if bleed is None:
        return ()
    return tuple(v for v in LEVELS if _visible(_blood(head, bleed, *_plane(head, v, size)[:3]), head).any())


def make_phantom_dataset(
    patients: int, *, slices: int = 2, size: int = 128, seed: int = 0
) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
    """Slices as a network sees them: images (N, size, size, 3) uint8, labels (N,), groups (N,) int64, facts; N = patients * slices.

    Every second patient bleeds (label 1), the kinds taking turns, and each of its slices shows blood. The others (label 0)
    are normal, cut at the levels where a bleed of theirs would have shown, so that the level tells nothing. Each
    patient's slices are exported in its own window. A patient whose bleed shows on fewer levels than `slices` is replaced:
    with 2 slices that passes over one SAH in eight and hardly any others.
    Raises ValueError unless 1 <= slices <= 4.
    """
    if not 1 <= slices <= 4:
        raise ValueError(f"expected 1 to 4 slices a patient, got {slices}")
    images, labels, groups, facts = [], [], [], []
    for patient in range(patients):
        kind, bleeds = BLEEDS[patient // 2 % len(BLEEDS)], patient % 2
        number, levels = _find_patient(np.random.default_rng([seed, patient]), kind, slices, size)
        for level in levels:
            phantom = make_phantom(number, kind if bleeds else "normal", level, size=size)
            images.append(window(phantom.hu, *phantom.facts["window"]))
            labels.append(bleeds)
            groups.append(patient)
            facts.append(phantom.facts)
    grey = np.array(images, np.uint8).reshape(-1, size, size, 1)  # (N, size, size, 1)
    return grey.repeat(3, axis=3), np.array(labels, np.int64), np.array(groups, np.int64), facts


def _find_patient(rng: np.random.Generator, kind: str, slices: int, size: int) -> tuple[int, list[int]]:
    while True:
        number = int(rng.integers(2**62))
        levels = visible_levels(number, kind, size=size)
        if len(levels) >= slices:
            return number, rng.permutation(levels)[:slices].tolist()


def _draw_patient(seed: int, kind: str) -> tuple[SimpleNamespace, SimpleNamespace | None]:
    if kind not in KINDS:
        raise ValueError(f"expected kind to be one of {KINDS}, got {kind!r}")
    head = _draw_head(np.random.default_rng([seed, 0]))
    return head, None if kind == "normal" else _draw_bleed(np.random.default_rng([seed, 1, KINDS.index(kind)]), kind, head)


def _draw_head(rng: np.random.Generator) -> SimpleNamespace:
    """Everything about a patient but the bleed, and how the scan is taken: HU, mm, radians."""
    hard = {name: bool(rng.random() < odds) for name, odds in HARD_NEGATIVES.items()}
    length, atrophy = rng.uniform(0.92, 1.06), rng.uniform(0.8, 1.8) if hard["atrophy"] else rng.uniform(-0.5, 0.3)
    sulci = [rng.uniform(0.25, 0.75, SULCI), rng.uniform(0.5, 1.0, SULCI) + 0.35 * atrophy,
             rng.uniform(7, 26, SULCI), rng.uniform(0, 2 * np.pi, SULCI)]  # place in its cell, half width, length, phase
    return SimpleNamespace(
        hard=hard, atrophy=atrophy, sulci=np.array(sulci, np.float32), phases=rng.uniform(0, 6.28, 6).tolist(),
        scale=(length * rng.uniform(0.95, 1.06), length), angle=rng.normal(0, 0.09), field=length * rng.uniform(185, 225),
        shift=rng.uniform(-5, 5, 2).tolist(), lift=rng.uniform(-2.5, 2.5), skull=rng.uniform(5, 9), scalp=rng.uniform(4, 8),
        grey=rng.normal(37, 1.2), white=rng.normal(29, 1.2), csf=rng.uniform(5, 15), fat=rng.uniform(-120, -80),
        table=rng.uniform(1000, 1400), diploe=rng.uniform(500, 800), calcium=rng.uniform(120, 400),
        falx=rng.uniform(55, 75) if hard["falx"] else rng.uniform(38, 46), cupping=rng.uniform(0, 3),
        blur=rng.uniform(0.6, 0.9), noise=rng.uniform(2.5, 6), window=(rng.uniform(70, 130), rng.uniform(32, 48)))


def _draw_bleed(rng: np.random.Generator, kind: str, head: SimpleNamespace) -> SimpleNamespace:
    """Volume (mL) lognormal, mean (HU) normal on either side of its middle, both cut at the 1st and 99th percentile."""
    median, p95 = VOLUME[kind]
    volume = median * (p95 / median) ** (np.clip(rng.normal(), -2.33, 2.33) / P95)
    low, middle, high = BLOOD[kind]
    above = np.clip(rng.normal(), -2.33, 2.33) / P95
    odds = np.array([odds for odds, *_ in SITES[kind].values()])
    site = list(SITES[kind])[rng.choice(len(odds), p=odds / odds.sum())]
    side = int(rng.choice([-1, 1]))
    centre = (np.array(SITES[kind][site][1:]) + rng.normal(0, [3, 5, 4])) * [side, 1, 1]
    bleed = SimpleNamespace(kind=kind, site=site, volume=float(volume), side=side, centre=centre.tolist(),
                            hu=float(middle + above * (high - middle if above > 0 else middle - low)),
                            oedema=rng.uniform(2, 8), phases=rng.uniform(0, 6.28, 3).tolist())
    bleed.extent = _extent(head, bleed, rng).tolist()
    return bleed


def _extent(head: SimpleNamespace, bleed: SimpleNamespace, rng: np.random.Generator) -> Array:
    """How far V mL reach, (3,) in mm of the standard head.

        IPH       half axes R (p, q, 1 / (p q)), V = 4/3 pi R^3: a plane at height h shows about pi (R^2 - h^2)
        SDH, EDH  T (1, l, h): T thick at (1 - u^2 - w^2)^k over an ellipse, V = pi T^3 l h / (k + 1)
        IVH, SAH  t: CSF is filled from the back, or from the site outwards, as far as V goes
    """
    V = 1000 * bleed.volume / (head.scale[0] * head.scale[1])  # mm3
    if bleed.kind == "IPH":
        p, q = rng.uniform(0.8, 1.1), rng.uniform(0.9, 1.3)
        return (3 * V / (4 * np.pi)) ** (1 / 3) * np.array([p, q, 1 / (p * q)])
    if bleed.kind in ("SDH", "EDH"):  # long and even, or short and bulging
        k, l, h = (0.5, rng.uniform(6, 9), rng.uniform(4, 6)) if bleed.kind == "SDH" else (1, rng.uniform(1.8, 2.5), 2)
        return (V * (k + 1) / (np.pi * l * h)) ** (1 / 3) * np.array([1, l, h])
    step = 2.0
    around = np.arange(-40, 41, step, np.float32)
    x, y, z = around[:, None, None], around[:, None] + 10, np.float32(LOWEST) + np.arange(0, 76, SPACING, np.float32)
    if bleed.kind == "SAH":
        x, y = x + bleed.centre[0], y - 10 + bleed.centre[1]
    csf, way = _fluid(head, bleed, x, y, z)
    ways = np.sort(way[csf > 0])
    return np.array([ways[min(int(V / (step * step * SPACING)), len(ways) - 1)], 0, 99])


def _plane(head: SimpleNamespace, level: int, size: int) -> tuple[Array, Array, Array, float]:
    """x, y (size, size) in mm of the standard head, gently warped; z of the plane; mm a pixel."""
    mm = head.field / size
    steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * mm
    right, down = steps - head.shift[0], steps[:, None] - head.shift[1]
    c, s = float(np.cos(head.angle)), float(np.sin(head.angle))
    x, y = (c * right + s * down) / head.scale[0], (c * down - s * right) / head.scale[1]
    z = np.float32(LOWEST + SPACING * level + head.lift)
    p, q, r, s, *_ = head.phases
    x = x + 1.5 * np.sin(y / 26 + p) + 0.6 * np.sin(y / 9 + z / 15 + q)
    y = y + 1.5 * np.sin(x / 26 + r) + 0.6 * np.sin(x / 9 + z / 15 + s)
    return x, y, z, mm / head.scale[1]


def _tissue(head: SimpleNamespace, x: Array, y: Array, z: Array, mm: float) -> Array:
    """The head without blood in HU, (size, size), as it would be before the scanner."""
    depth, side = _inner_table(x, y, z), np.abs(x)
    hu = np.full(x.shape, -1000, np.float32)
    skin = head.skull + head.scalp
    for outside, value in ((skin, 30), (skin - 2.5, head.fat), (head.skull, head.table), (0.75 * head.skull, head.diploe),
                           (0.3 * head.skull, head.table), (0, head.csf), (-1 - max(head.atrophy, 0), head.grey)):
        hu = _paint(hu, depth + outside, value, mm)
    hu = _paint(hu, np.minimum(depth - 5, -_sulci(head, x, y, z, depth) - 2.5), head.white, 2 * mm)
    hu = _paint(hu, _strokes(NUCLEI, side, y, z), head.grey, 2 * mm)
    hu = _paint(hu, _subarachnoid(head, x, y, z), head.csf, mm)
    dense = 0.5 if head.hard["falx"] else 0.0
    hu = _paint(hu, np.minimum(_falx(side, z, depth) + dense, depth), head.falx, mm)
    cerebellum = np.minimum(_strokes(CEREBELLUM, side, y, z), depth - 0.5)
    for distance, value, edge in ((cerebellum + 0.5, head.csf, mm), (cerebellum, head.grey, mm),
                                  (cerebellum - 9, head.white, 4 * mm), (_strokes(BRAINSTEM, side, y, z), head.white + 3, mm),
                                  (_ventricles(head, x, y, z), head.csf, mm)):
        hu = _paint(hu, distance, value, edge)
    for name, strokes in CALCIFICATIONS.items():
        if head.hard[name]:
            hu = _paint(hu, _strokes(strokes, side, y, z), head.calcium, mm)
    return _paint(hu, np.minimum(_strokes(SKULL_BASE, side, y, z), depth + 1), head.diploe, mm)


def _scan(hu: Array, head: SimpleNamespace, x: Array, y: Array, mm: float, rng: np.random.Generator) -> Array:
    """Blur, cupping, and noise whose spectrum rises like a ramp until the blur ends it."""
    hu = gaussian_filter(hu, head.blur / mm, truncate=3)
    hu = hu + head.cupping * (np.minimum((x / 68) ** 2 + (y / 82) ** 2, 1) - 0.5)
    size = len(hu)
    f = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size))  # (size, size // 2 + 1), cycles a pixel
    ramp = f * np.exp(-2 * (np.pi * head.blur / mm * f) ** 2)
    noise = fft.irfft2(fft.rfft2(rng.standard_normal((size, size), np.float32)) * ramp, s=hu.shape)
    return np.maximum(hu + noise * (head.noise / noise.std()), -1000)


def _paint(hu: Array, distance: Array, value: float | Array, edge: float) -> Array:
    return hu + np.clip(distance / edge + 0.5, 0, 1) * (value - hu)


def _strokes(strokes: tuple, side: Array, y: Array, z: Array) -> Array:
    """Signed distance to strokes of changing radius: max over t in 0..1 of r_a + t (r_b - r_a) - |p - a - t (b - a)|."""
    inside = np.full(np.broadcast_shapes(side.shape, y.shape, z.shape), -99, np.float32)
    for flat, points in strokes:
        for (ax, ay, az, a), (bx, by, bz, b) in zip(points, points[1:]):
            px, py, pz = side - ax, y - ay, (z - az) * flat
            ux, uy, uz = bx - ax, by - ay, (bz - az) * flat
            t = np.clip((px * ux + py * uy + pz * uz) / (ux**2 + uy**2 + uz**2), 0, 1)
            gap = np.sqrt((px - t * ux) ** 2 + (py - t * uy) ** 2 + (pz - t * uz) ** 2)
            inside = np.maximum(inside, a + t * (b - a) - gap)
    return inside


def _inner_table(x: Array, y: Array, z: Array) -> Array:
    """Depth below the skull, about (1 - r) / |grad r|, of an ellipsoid squarer than an ellipse and wider at the back."""
    rim = np.sqrt(1 - ((z - 5) / 82) ** 2)
    u, v = x / (67 * rim * (1 + y / 1100)), y / (82 * rim)
    r = np.sqrt(u**2 + v**2 - 0.25 * np.minimum(u**2, 2) * np.minimum(v**2, 2))
    slope = np.hypot(u / (67 * rim), v / (82 * rim)) / np.maximum(r, 0.01)
    return (1 - r) / np.maximum(slope, 1 / 82)


def _folds(head: SimpleNamespace, turn: Array, pitch: float | Array, depth: Array, z: Array) -> Array:
    """Sulci, one to a unit of turn (pitch mm wide), each with its own place, width and length; they come and go with z."""
    cell = np.floor(turn)
    place, half, length, phase = head.sulci[:, cell.astype(np.int64) % SULCI]
    across = np.abs(turn - cell - place) * pitch
    return np.minimum(half - across, np.minimum(length * (0.7 + 0.5 * np.sin(z / 8 + phase)) - depth, depth))


def _sulci(head: SimpleNamespace, x: Array, y: Array, z: Array, depth: Array) -> Array:
    bend = 0.25 * np.sin(depth / 5 + head.phases[4]) + 0.3 * np.sin(z / 14 + head.phases[5])
    around = _folds(head, (np.arctan2(y, x) / (2 * np.pi) + 0.5) * SULCI + bend, 2 * np.pi / SULCI * np.hypot(x, y), depth, z)
    medial = _folds(head, y / 13 + 17 * (x > 0) + 0.3 * np.sin(x / 5 + z / 14), 13.0, np.abs(x) + np.maximum(24 - z, 4), z)
    return np.maximum(around, np.minimum(medial, depth))


def _falx(side: Array, z: Array, depth: Array) -> Array:
    return np.minimum(0.7 - side, 30 + 2 * np.maximum(z - 8, 0) - depth)


def _ventricles(head: SimpleNamespace, x: Array, y: Array, z: Array) -> Array:
    return _strokes(VENTRICLES, np.abs(x), y, z) + head.atrophy


def _subarachnoid(head: SimpleNamespace, x: Array, y: Array, z: Array) -> Array:
    depth, side = _inner_table(x, y, z), np.abs(x)
    fissure = _falx(side, z, depth) + 0.6 + 0.5 * head.atrophy
    outer = np.maximum(_strokes(CISTERNS, side, y, z) + 0.5 * head.atrophy, fissure)
    return np.maximum(_sulci(head, x, y, z, depth), np.minimum(outer, depth))


def _fluid(head: SimpleNamespace, bleed: SimpleNamespace, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """The CSF that IVH or SAH fills, as a signed distance, and the order in which blood gets there (mm)."""
    csf = _ventricles(head, x, y, z) if bleed.kind == "IVH" else _subarachnoid(head, x, y, z)
    a, b, c = bleed.centre
    way = -y if bleed.kind == "IVH" else np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)
    return csf, np.broadcast_to(way, csf.shape)


def _blood(head: SimpleNamespace, bleed: SimpleNamespace, x: Array, y: Array, z: Array) -> Array:
    """Signed distance to the surface of the blood in this plane, (size, size)."""
    thick, long, high = bleed.extent
    px, py, pz = x - bleed.centre[0], y - bleed.centre[1], z - bleed.centre[2]
    if abs(pz) > high * 1.3:
        return np.full(x.shape, -99, np.float32)
    if bleed.kind in ("IVH", "SAH"):
        csf, way = _fluid(head, bleed, x, y, z)
        return np.minimum(csf, thick - way)
    depth = _inner_table(x, y, z)
    if bleed.kind == "IPH":
        u, v, w = px / thick, py / long, pz / high
        for k, phase in zip((2.0, 3.5, 6.0), bleed.phases):  # shears: lobes, and the volume stays
            u, v = u + 0.5 / k * np.sin(k * v + phase + w), v
            u, v = u, v + 0.5 / k * np.sin(k * u + phase - w)
        return np.minimum((1 - np.sqrt(u**2 + v**2 + w**2)) * min(thick, long), depth - 1)
    along = np.arctan2(y, x * bleed.side) - np.arctan2(bleed.centre[1], abs(bleed.centre[0]))
    profile = np.maximum(1 - (along * np.hypot(x, y) / long) ** 2 - (pz / high) ** 2, 0)
    lens = thick * (np.sqrt(profile) if bleed.kind == "SDH" else profile)
    return np.minimum(lens - depth, np.minimum(depth, bleed.side * x - 1))


def _visible(depth: Array, head: SimpleNamespace) -> Array:
    mask = depth > 0
    return mask & (np.count_nonzero(mask) * (head.field / len(mask)) ** 2 >= MIN_AREA)


def _pour(hu: Array, bleed: SimpleNamespace, depth: Array, mm: float, rng: np.random.Generator) -> Array:
    if bleed.kind == "IPH":
        brain = (hu > 20) & (hu < 60)
        hu = hu - 9 * brain * np.clip(1 + depth / bleed.oedema, 0, 1)
    texture = gaussian_filter(rng.standard_normal(hu.shape, np.float32), 1.5 / mm)
    return _paint(hu, depth, bleed.hu * (1 + TEXTURE * texture / texture.std()), mm)


def _facts(
    seed: int, kind: str, level: int, head: SimpleNamespace, bleed: SimpleNamespace | None, mask: Array
) -> dict[str, Any]:
    pixel = head.field / len(mask)
    lesion = {"volume_ml": bleed.volume, "lesion_hu": bleed.hu, "site": bleed.site} if bleed else {
        "volume_ml": 0.0, "lesion_hu": None, "site": None}
    return {"seed": seed, "kind": kind, "level": level, "area_mm2": np.count_nonzero(mask) * pixel**2, **lesion,
            "mm_per_pixel": pixel, "head_mm": (134 * head.scale[0], 164 * head.scale[1]), "noise_hu": head.noise,
            "rotation_deg": float(np.rad2deg(head.angle)), "window": head.window, "hard_negatives": dict(head.hard)}
