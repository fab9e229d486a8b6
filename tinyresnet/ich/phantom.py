"""Synthetic head CT: axial slices in Hounsfield units with the visible blood as a mask, drawn from a seed.

Nothing here is a patient: a fresh machine gets something to learn from, and the truth is known. Shapes are 3-D signed
distances (mm, positive inside; x to the right of the picture, y to the back of the head, z up). A slice is a plane
through them, one painted over the other; the scanner blurs it and adds noise. One seed is one patient, whose head does
not know of the bleed: away from it make_phantom(7, "IPH", 6) equals make_phantom(7, "normal", 6) to the last bit.

Sources: tissue, noise and blur Nakamura 2019 (doi 10.4236/act.2019.82003); bone, fat, and volumes and means of the 192
scans of BHSD from FDA DIDSR/InSilicoICH (CC0); sites of IPH Asean J Radiol 237. Ours, by eye: the positions of the
anatomy, odds of the hard negatives, sites of the other bleeds, proportions of all. Blood displaces nothing: no shift.
"""

from functools import lru_cache
from types import SimpleNamespace as Drawn
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array
from scipy import fft, ndimage

KINDS = ("normal", "IPH", "IVH", "SDH", "SAH", "EDH")
LEVELS = tuple(range(16))  # 5 mm apart as in a clinical scan: 0 posterior fossa, 7 basal ganglia, 15 near the vertex
LOWEST, SPACING = -30.0, 5.0  # mm: height of level 0, and from one level to the next
MIN_AREA = 12.5  # mm2, a disc 4 mm across: a reader sees no less; such a slice is drawn and labelled without blood
P95, P99 = 1.645, 2.326  # percentiles of a standard normal
VOLUME = {"IPH": (8, 59), "IVH": (2.5, 19), "SDH": (6, 56), "SAH": (0.8, 4.6), "EDH": (13, 40)}  # mL: median, p95
BLOOD = {"IPH": (33, 48, 61), "IVH": (25, 39, 55), "SDH": (27, 51, 69), "SAH": (31, 43, 58), "EDH": (37, 56, 72)}
TEXTURE = 0.10  # standard deviation within a lesion, relative to its mean; BLOOD is p5, middle, p95 of the means in HU
HARD_NEGATIVES = {"choroid": 0.5, "pineal": 0.6, "falx": 0.35, "atrophy": 0.3}  # odds in every patient, bleeding or not
SITES = {  # kind: {site: (odds, |x|, y, z) in mm}; of SDH and EDH only the direction from the middle and z count
    "IPH": {"putamen": (42, 28, -2, 5), "thalamus": (26, 12, 10, 6), "lobar": (12, 36, 25, 25),
            "cerebellum": (10, 20, 46, -24), "brainstem": (9, 3, 12, -22)},
    "IVH": {"ventricles": (1, 0, 10, 5)}, "SDH": {"frontoparietal": (7, 60, -15, 22), "parietal": (3, 60, 20, 22)},
    "SAH": {"basal cisterns": (4, 8, -10, -18), "Sylvian": (3, 46, -8, -3), "convexity": (3, 40, 5, 35)},
    "EDH": {"temporal": (6, 60, -10, 0), "parietal": (4, 60, 25, 15)}}
# Strokes: (flatness, points (|x|, y, z, radius) in mm). A flatness below 1 draws the stroke out along z, into a sheet.
VENTRICLES = ((0.7, ((16, -37, 3, 2.5), (9, -30, 8, 4.5), (4, -17, 9, 3))), (0.2, ((0, -8, 1, 1.2), (0, 12, 1, 2.2))),
              (0.7, ((7, -27, 15, 3), (8, -5, 19, 3.5), (14, 16, 19, 4), (25, 33, 10, 5.5), (22, 52, 4, 2.5))),
              (0.7, ((0, 29, -27, 4.5), (6, 33, -28, 2))), (0.8, ((26, 31, 9, 4), (34, 9, -10, 1.5), (29, -6, -16, 2))))
CISTERNS = ((0.3, ((0, -10, -20, 5.5), (14, -15, -19, 2), (30, -14, -13, 2), (46, -8, -3, 1.6), (66, -4, 6, 1.6))),
            (0.3, ((0, -10, -20, 5), (0, -25, -19, 1.5))), (0.12, ((35, -13, 3, 1), (38, -2, 4, 1.2), (37, 12, 6, 1))),
            (0.3, ((2, -6, -20, 3), (15, 8, -17, 1.2), (16, 18, -14, 1.2), (0, 27, -9, 3), (8, 33, -3, 1.2))))
NUCLEI = ((0.6, ((13, -26, 8, 4.5), (12, -12, 12, 4))), (0.6, ((21, -16, 3, 4.5), (27, 6, 4, 6))),
          (0.6, ((8, 3, 5, 6), (13, 15, 6, 7))))
BRAINSTEM, CEREBELLUM = ((0.7, ((0, 8, -20, 11), (0, 12, -32, 13))),), ((1, ((0, 44, -30, 21), (32, 44, -42, 24))),)
SKULL_BASE = ((0.8, ((16, -2, -36, 4), (60, 20, -32, 9))), (0.6, ((14, -30, -36, 3), (62, -36, -29, 5))))
CALCIUM = {"choroid": ((1, ((23, 31, 10, 1.6), (25, 36, 9, 2))),), "pineal": ((1, ((0, 20, 2, 1.8), (0, 23, 2, 1.8))),)}
SULCI = 38  # around the head
Plane = tuple[Array, Array, Array, float]  # x, y (size, size) and z in mm of the standard head; mm a pixel
Layer = tuple[Array, float | Array, float]  # signed distance in mm, HU, softness of the edge in pixels


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

    The mask is empty for "normal" and beyond visible_levels. Raises ValueError for an unknown kind or level.
    """
    if level not in LEVELS:
        raise ValueError(f"expected level to be one of {LEVELS}, got {level!r}")
    head, bleed = _draw_head(seed), _draw_bleed(seed, kind)
    plane, inner, outer = _anatomy(seed, level, size)
    blood, mask = _blood(head, bleed, plane)
    inner = _with_bleed(inner, head, bleed, blood, plane, np.random.default_rng([seed, 3, level]))
    hu = _paint([*inner, *outer], head.csf, plane)
    facts = {"seed": seed, "kind": kind, "level": level, "site": bleed.site, "volume_ml": bleed.volume,
             "lesion_hu": bleed.hu, "area_mm2": np.count_nonzero(mask) * (head.field / size) ** 2,
             "mm_per_pixel": head.field / size, "head_mm": (134 * head.scale[0], 164 * head.scale[1]),
             "rotation_deg": float(np.rad2deg(head.angle)), "noise_hu": head.noise, "window": head.window,
             "hard_negatives": dict(head.hard)}
    return Phantom(_scan(head, hu, plane, np.random.default_rng([seed, 2, level])), mask, facts)


def visible_levels(seed: int, kind: str, *, size: int = 128) -> tuple[int, ...]:
    """The levels on which make_phantom(seed, kind, level, size=size) shows blood, lowest first; for "normal" none."""
    return tuple(level for level in LEVELS if shows_blood(seed, kind, level, size=size))


def shows_blood(seed: int, kind: str, level: int, *, size: int = 128) -> bool:
    """Whether the mask of make_phantom(seed, kind, level, size=size) would hold anything; quicker than drawing it."""
    head = _draw_head(seed)
    return bool(_blood(head, _draw_bleed(seed, kind), _plane(head, level, size))[1].any())


@lru_cache(maxsize=1)
def _draw_head(seed: int) -> Drawn:
    """Everything about a patient but the bleed, and how the scan is taken: HU, mm, radians."""
    rng = np.random.default_rng([seed, 0])
    hard = {name: bool(rng.random() < odds) for name, odds in HARD_NEGATIVES.items()}
    length, atrophy = rng.uniform(0.92, 1.06), rng.uniform(0.8, 1.8) if hard["atrophy"] else rng.uniform(-0.5, 0.3)
    sulci = [rng.uniform(0.25, 0.75, SULCI), rng.uniform(0.5, 1.2, SULCI) + 0.35 * atrophy,
             rng.uniform(7, 26, SULCI), rng.uniform(0, 6.28, SULCI)]  # place in its cell, half width, length, phase
    return Drawn(
        hard=hard, atrophy=atrophy, sulci=np.array(sulci, np.float32), phases=rng.uniform(0, 6.28, 6).tolist(),
        scale=(length * rng.uniform(0.95, 1.06), length), field=length * rng.uniform(185, 225), skull=rng.uniform(5, 9),
        angle=rng.normal(0, 0.09), shift=rng.uniform(-5, 5, 2).tolist(), lift=rng.uniform(-2.5, 2.5),
        grey=rng.normal(37, 1.2), white=rng.normal(29, 1.2), csf=rng.uniform(5, 15), fat=rng.uniform(-120, -80),
        table=rng.uniform(1000, 1400), diploe=rng.uniform(500, 800), calcium=rng.uniform(120, 400),
        falx=rng.uniform(*(55, 75) if hard["falx"] else (38, 46)), scalp=rng.uniform(4, 8), blur=rng.uniform(0.6, 0.9),
        noise=rng.uniform(2.5, 6), cupping=rng.uniform(0, 3), window=(rng.uniform(70, 130), rng.uniform(32, 48)))


@lru_cache(maxsize=2)
def _draw_bleed(seed: int, kind: str) -> Drawn:
    """Volume lognormal, mean HU normal with a width for either side; both are cut at their 1st and 99th percentile."""
    if kind not in KINDS:
        raise ValueError(f"expected kind to be one of {KINDS}, got {kind!r}")
    if kind == "normal":
        return Drawn(kind=kind, site=None, hu=None, volume=0.0)
    rng = np.random.default_rng([seed, 1, KINDS.index(kind)])
    (median, p95), (low, middle, high), sites = VOLUME[kind], BLOOD[kind], SITES[kind]
    larger, brighter = np.clip(rng.normal(size=2), -P99, P99).tolist()
    odds = np.array([odds for odds, *_ in sites.values()])
    site, side = str(rng.choice(list(sites), p=odds / odds.sum())), int(rng.choice([-1, 1]))
    centre = (sites[site][1:] + rng.normal(0, [3, 5, 4])) * [side, 1, 1]
    bleed = Drawn(kind=kind, site=site, side=side, centre=centre.tolist(), oedema=rng.uniform(2, 8),
                  volume=median * (p95 / median) ** (larger / P95), phases=rng.uniform(0, 6.28, 3).tolist(),
                  hu=middle + brighter / P95 * (high - middle if brighter > 0 else middle - low))
    bleed.extent = _extent(rng, bleed, _draw_head(seed))
    return bleed


def _extent(rng: np.random.Generator, bleed: Drawn, head: Drawn) -> list[float]:
    """How far V mL reach, in mm of the standard head.

        IPH       half axes R (p, q, 1 / (p q)), V = 4/3 pi R^3: a plane at height h shows about pi (R^2 - h^2)
        SDH, EDH  T (1, p, q): T (1 - u^2 - w^2)^k thick over an ellipse, V = pi T^3 p q / (k + 1)
        IVH, SAH  CSF is filled from the back, or from the site outwards, as far as V goes
    """
    V = 1000 * bleed.volume / (head.scale[0] * head.scale[1])  # mm3
    if bleed.kind == "IPH":
        p, q = rng.uniform(0.8, 1.1), rng.uniform(0.9, 1.3)
        return [(3 * V / (4 * np.pi)) ** (1 / 3) * axis for axis in (p, q, 1 / (p * q))]
    if bleed.kind in ("SDH", "EDH"):  # long and even, or short and bulging
        k, p, q = (0.5, rng.uniform(6, 9), rng.uniform(4, 6)) if bleed.kind == "SDH" else (1, rng.uniform(1.8, 2.5), 2)
        return [(V * (k + 1) / (np.pi * p * q)) ** (1 / 3) * axis for axis in (1, p, q)]
    step = np.arange(-45, 46, 2, dtype=np.float32)
    x, y = bleed.centre[0] + step[:, None, None], bleed.centre[1] + step[:, None]
    csf, way = _fluid(head, bleed, x, y, LOWEST + SPACING * np.arange(len(LEVELS), dtype=np.float32))
    ways = np.sort(np.broadcast_to(way, csf.shape)[csf > 0])
    return [ways[min(int(V / (2 * 2 * SPACING)), len(ways) - 1)], 0, 99]  # 99: at any height


def _plane(head: Drawn, level: int, size: int) -> Plane:
    mm, (a, b, c, d, *_) = head.field / size, head.phases
    steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * mm
    right, down = steps - head.shift[0], steps[:, None] - head.shift[1]
    cos, sin = float(np.cos(head.angle)), float(np.sin(head.angle))
    x, y = (cos * right + sin * down) / head.scale[0], (cos * down - sin * right) / head.scale[1]
    z = np.array(LOWEST + SPACING * level + head.lift, np.float32)
    x = x + 1.5 * np.sin(y / 26 + a) + 0.6 * np.sin(y / 9 + z / 15 + b)  # no head is symmetrical
    y = y + 1.5 * np.sin(x / 26 + c) + 0.6 * np.sin(x / 9 + z / 15 + d)
    return x, y, z, mm / head.scale[1]


@lru_cache(maxsize=1)  # a slice is often drawn twice, without and with blood
def _anatomy(seed: int, level: int, size: int) -> tuple[Plane, list[Layer], list[Layer]]:
    """The plane, and the layers that blood lies over and under, from the brain outwards."""
    head = _draw_head(seed)
    plane = x, y, z, mm = _plane(head, level, size)
    depth, side = _inner_table(x, y, z), np.abs(x)
    sulci, falx, csf = _subarachnoid(head, x, y, z, depth)
    cerebellum, outside = np.minimum(_strokes(CEREBELLUM, side, y, z), depth - 0.5), -depth - head.skull
    inner: list[Layer] = [
        (depth - 1 - max(head.atrophy, 0), head.grey, 1), (np.minimum(depth - 5, -sulci - 2.5), head.white, 2),
        (_strokes(NUCLEI, side, y, z), head.grey, 2), (csf, head.csf, 1),
        (falx + 0.5 * head.hard["falx"], head.falx, 1), (cerebellum + 0.5, head.csf, 1),
        (cerebellum, (head.grey + head.white) / 2, 1), (_strokes(BRAINSTEM, side, y, z), head.white + 3, 1),
        (_strokes(VENTRICLES, side, y, z) + head.atrophy, head.csf, 1),
        *((_strokes(CALCIUM[name], side, y, z), head.calcium, 1) for name in CALCIUM if head.hard[name])]
    outer: list[Layer] = [
        (np.minimum(_strokes(SKULL_BASE, side, y, z), depth + 1), head.diploe, 1), (-depth, head.table, 1),
        (-depth - 0.3 * head.skull, head.diploe, 1), (-depth - 0.75 * head.skull, head.table, 1),
        (outside, head.fat, 1), (outside - head.scalp + 2.5, 30, 1), (outside - head.scalp, -1000, 1)]
    return plane, inner, outer


def _with_bleed(inner: list[Layer], head: Drawn, bleed: Drawn, blood: Array, plane: Plane,
                rng: np.random.Generator) -> list[Layer]:
    """The inner layers, and blood over them; of an IPH the oedema too, over grey and white matter, under the CSF."""
    if bleed.kind == "normal":
        return inner
    (x, *_, mm), depth = plane, _inner_table(*plane[:3])
    texture = ndimage.gaussian_filter(rng.standard_normal(x.shape, np.float32), 1.5 / mm)
    layers = [*inner, (blood, bleed.hu * (1 + TEXTURE * texture / texture.std()), 1)]
    if bleed.kind == "IPH":
        layers.insert(3, (np.minimum(blood + bleed.oedema / 2, depth - 1), head.white - 8, bleed.oedema / mm))
    return layers


def _paint(layers: list[Layer], below: float, plane: Plane) -> Array:
    """The slice in HU, (size, size), before the scanner: each layer over those before it, and `below` under all."""
    x, *_, mm = plane
    hu: Array = np.full(x.shape, below, np.float32)
    for distance, value, softness in layers:
        hu = hu + np.clip(distance / (softness * mm) + 0.5, 0, 1) * (value - hu)
    return hu


def _scan(head: Drawn, hu: Array, plane: Plane, rng: np.random.Generator) -> Array:
    """Blur, cupping, and noise whose spectrum rises like a ramp until the blur ends it."""
    x, y, _, mm = plane
    hu = ndimage.gaussian_filter(hu, head.blur / mm, truncate=3)
    hu = hu + head.cupping * (np.minimum((x / 68) ** 2 + (y / 82) ** 2, 1) - 0.5)
    f = np.hypot(fft.fftfreq(len(hu))[:, None], fft.rfftfreq(len(hu)))  # (size, size // 2 + 1), cycles a pixel
    ramp = f * np.exp(-2 * (np.pi * head.blur / mm * f) ** 2)
    noise = fft.irfft2(fft.rfft2(rng.standard_normal(hu.shape, np.float32)) * ramp, s=hu.shape)
    return np.maximum(hu + noise * (head.noise / noise.std()), -1000).astype(np.float32)


def _strokes(strokes: tuple, side: Array, y: Array, z: Array) -> Array:
    """Signed distance to strokes of changing radius: max, 0 <= t <= 1, of r_a + t (r_b - r_a) - |p - a - t (b - a)|."""
    inside = np.full(np.broadcast_shapes(side.shape, y.shape, z.shape), -99, np.float32)
    for flat, points in strokes:
        for (ax, ay, az, a), (bx, by, bz, b) in zip(points, points[1:]):
            if flat * max(min(az, bz) - z.max(), z.min() - max(az, bz)) > max(a, b) + 6:
                continue  # too far above or below to be seen
            px, py, pz, ux, uy, uz = side - ax, y - ay, (z - az) * flat, bx - ax, by - ay, (bz - az) * flat
            t = np.clip((px * ux + py * uy + pz * uz) / (ux**2 + uy**2 + uz**2), 0, 1)
            gap = np.sqrt((px - t * ux) ** 2 + (py - t * uy) ** 2 + (pz - t * uz) ** 2)
            inside = np.maximum(inside, a + t * (b - a) - gap)
    return inside


def _inner_table(x: Array, y: Array, z: Array) -> Array:
    """Depth below the skull, about (1 - r) / |grad r|, of an ellipsoid made squarer, and wider at the back."""
    rim = np.sqrt(1 - ((z - 5) / 82) ** 2)
    u, v = x / (67 * rim * (1 + y / 1100)), y / (82 * rim)
    r = np.sqrt(u**2 + v**2 - 0.25 * np.minimum(u**2, 2) * np.minimum(v**2, 2))
    return (1 - r) / np.maximum(np.hypot(u / (67 * rim), v / (82 * rim)) / np.maximum(r, 0.01), 1 / 82)


def _folds(head: Drawn, turn: Array, pitch: float | Array, depth: Array, z: Array) -> Array:
    """Sulci, one to a unit of turn (pitch mm wide), each with its place, width and length; they come and go with z."""
    cell = np.floor(turn)
    place, half, length, phase = head.sulci[:, cell.astype(np.int64) % SULCI]
    length = length * (0.7 + 0.5 * np.sin(z / 8 + phase))
    return np.minimum(half - np.abs(turn - cell - place) * pitch, np.minimum(length - depth, depth))


def _subarachnoid(head: Drawn, x: Array, y: Array, z: Array, depth: Array) -> tuple[Array, Array, Array]:
    """Sulci, falx, and all CSF outside the brain, which is sulci, cisterns and the fissure along the falx."""
    side, turn = np.abs(x), np.arctan2(y, x) * (SULCI / (2 * np.pi)) + SULCI / 2
    bend = 0.25 * np.sin(depth / 5 + head.phases[4]) + 0.3 * np.sin(z / 14 + head.phases[5])
    around = _folds(head, turn + bend, 2 * np.pi / SULCI * np.hypot(x, y), depth, z)
    turn = y / 13 + 17 * (x > 0) + 0.3 * np.sin(x / 5 + z / 14)
    sulci = np.maximum(around, np.minimum(_folds(head, turn, 13.0, side + np.maximum(38 - z, 5), z), depth))
    falx = np.minimum(0.7 - side, 30 + 2 * np.maximum(z - 8, 0) - depth)
    clefts = np.maximum(_strokes(CISTERNS, side, y, z), falx + 0.6) + 0.5 * head.atrophy
    return sulci, falx, np.maximum(sulci, np.minimum(clefts, depth))


def _fluid(head: Drawn, bleed: Drawn, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """The CSF that IVH or SAH fills, as a signed distance, and how far blood must come to get there (mm)."""
    if bleed.kind == "IVH":
        return _strokes(VENTRICLES, np.abs(x), y, z) + head.atrophy, -y
    (a, b, c), depth = bleed.centre, _inner_table(x, y, z)
    return _subarachnoid(head, x, y, z, depth)[2], np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)


def _blood(head: Drawn, bleed: Drawn, plane: Plane) -> tuple[Array, Array]:
    """Signed distance to the surface of the blood in this plane, and the mask, (size, size)."""
    x, y, z, _ = plane
    none = np.full(x.shape, -99, np.float32), np.zeros(x.shape, bool)
    if bleed.kind == "normal" or abs(z - bleed.centre[2]) > 1.3 * bleed.extent[2]:
        return none
    (a, b, c), depth = bleed.extent, _inner_table(x, y, z)
    if bleed.kind in ("IVH", "SAH"):
        csf, way = _fluid(head, bleed, x, y, z)
        blood = np.minimum(csf, a - way)
    elif bleed.kind == "IPH":
        u, v, w = (x - bleed.centre[0]) / a, (y - bleed.centre[1]) / b, (z - bleed.centre[2]) / c
        for k, phase in zip((2.0, 3.5, 6.0), bleed.phases):  # shears make lobes and keep the volume
            u = u + 0.5 / k * np.sin(k * v + phase + w)
            v = v + 0.5 / k * np.sin(k * u + phase - w)
        blood = np.minimum((1 - np.sqrt(u**2 + v**2 + w**2)) * min(a, b), depth - 1)
    else:
        along = (np.arctan2(y, x * bleed.side) - np.arctan2(bleed.centre[1], abs(bleed.centre[0]))) * np.hypot(x, y)
        lens = np.maximum(1 - (along / b) ** 2 - ((z - bleed.centre[2]) / c) ** 2, 0)
        thickness = np.where(lens > 0, a * lens ** (0.5 if bleed.kind == "SDH" else 1), -99)
        blood = np.minimum(thickness - depth, bleed.side * x - 1)
    mask = (blood > 0) & (depth > 1)  # nearer the skull nobody can tell: bone whitens the pixel
    return (blood, mask) if np.count_nonzero(mask) * (head.field / len(x)) ** 2 >= MIN_AREA else none
