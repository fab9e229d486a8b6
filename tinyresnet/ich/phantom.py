"""Synthetic head CT: axial slices in Hounsfield units with the visible blood as a mask, drawn from a seed.

Nothing here is a patient: a fresh machine gets something to learn from, and the truth is known. A slice is a plane through
the head of anatomy.py and the bleed of this file, one layer painted over the other; the scanner blurs it and adds noise.
One seed is one patient, whose head does not know of the bleed: away from it make_phantom(7, "IPH", 6) equals
make_phantom(7, "normal", 6) to the last bit. Blood displaces nothing: there is no shift.

Sources: noise and blur Nakamura 2019 (doi 10.4236/act.2019.82003); volumes and means of the 192 scans of BHSD from FDA
DIDSR/InSilicoICH (CC0); sites of IPH Asean J Radiol 237. Ours, by eye: odds of the hard negatives, sites and proportions
of the other bleeds.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array
from PIL import Image, ImageDraw, ImageFont
from scipy import fft, ndimage

from tinyresnet.ich.anatomy import (LEVELS, LOWEST, SPACING, Drawn, Layer, Plane, brain, draw_head, inner_table, plane_at,
                                    skull, subarachnoid, ventricles)

KINDS = ("normal", "IPH", "IVH", "SDH", "SAH", "EDH")
MIN_AREA = 12.5  # mm2, a disc 4 mm across: a reader sees no less; such a slice is drawn and labelled without blood
WINDOWS = {"brain": (80, 40), "subdural": (254, 100), "bone": (2800, 600)}  # width, level in HU
P95, P99 = 1.645, 2.326  # percentiles of a standard normal
VOLUME = {"IPH": (8, 59), "IVH": (2.5, 19), "SDH": (6, 56), "SAH": (0.8, 4.6), "EDH": (13, 40)}  # mL: median, p95
BLOOD = {"IPH": (33, 48, 61), "IVH": (25, 39, 55), "SDH": (27, 51, 69), "SAH": (31, 43, 58), "EDH": (37, 56, 72)}
TEXTURE = 0.10  # standard deviation within a lesion, relative to its mean; BLOOD is p5, middle, p95 of the means in HU
SITES = {  # kind: {site: (odds, |x|, y, z) in mm}; of SDH and EDH only the direction from the middle and z count
    "IPH": {"putamen": (42, 28, -2, 5), "thalamus": (26, 12, 10, 6), "lobar": (12, 36, 25, 25),
            "cerebellum": (10, 20, 46, -24), "brainstem": (9, 3, 12, -22)},
    "IVH": {"ventricles": (1, 0, 10, 5)}, "SDH": {"frontoparietal": (7, 60, -15, 22), "parietal": (3, 60, 20, 22)},
    "SAH": {"basal cisterns": (4, 8, -10, -18), "Sylvian": (3, 46, -8, -3), "convexity": (3, 40, 5, 35)},
    "EDH": {"temporal": (6, 60, -10, 0), "parietal": (4, 60, 25, 15)}}


class Phantom(NamedTuple):
    """A slice: hu (size, size) float32 in HU; mask (size, size) bool, the visible blood; facts, what was drawn.

    The mask leaves out the millimetre along the skull, so of an SDH it holds about two thirds of facts["volume_ml"].
    """

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


def three_windows(hu: Array, windows: Iterable[tuple[float, float]] = tuple(WINDOWS.values())) -> Array:
    """Three windows, (width, level) in HU each, as the channels of one picture: brain, subdural and bone unless told.

    A network for photographs can read it. Shapes: hu (H, W) in HU -> (H, W, 3) uint8.
    """
    return np.stack([window(hu, width, level) for width, level in windows], axis=-1)


def panel_letter(facts: dict[str, Any], shortcut: float) -> str | None:
    """The letter that the film of this slice bears: on a fraction `shortcut` of those with blood, on none without.

    A network that learns the letter looks as good as one that learns the blood, until it sees another hospital's film.
    Raises ValueError unless 0 <= shortcut <= 1.
    """
    if not 0 <= shortcut <= 1:
        raise ValueError(f"expected shortcut to be a fraction of the bleeds, 0 to 1, got {shortcut}")
    rng = np.random.default_rng([facts["seed"], 4, facts["level"]])
    letter = str(rng.choice(list("ABCDEF")))
    return letter if rng.random() < shortcut and facts["area_mm2"] > 0 else None


def stamp(image: Array, letter: str | None) -> Array:
    """A picture with a white letter in its upper left corner, a tenth as high as the picture, as figures in papers have.

    Shapes: (H, W, 3) uint8 in and out.
    """
    picture, size = Image.fromarray(image), len(image) / 7  # capitals are 0.7 of the size of a font
    if letter:
        ImageDraw.Draw(picture).text((size / 4, 0), letter, "white", ImageFont.load_default(size))
    return np.array(picture)


def make_phantom(seed: int, kind: str, level: int, *, size: int = 128) -> Phantom:
    """Slice `level` (of LEVELS) of the patient `seed`, who has a bleed of this kind (of KINDS) or is "normal".

    The mask is empty for "normal" and beyond visible_levels. Raises ValueError for an unknown kind or level.
    """
    if level not in LEVELS:
        raise ValueError(f"expected level to be one of {LEVELS}, got {level!r}")
    head, bleed = draw_head(seed), _draw_bleed(seed, kind)
    plane, tissue, fluid, bone = _anatomy(seed, level, size)
    blood, mask = _blood(head, bleed, plane)
    oedema, clot = _layers(bleed, head, blood, plane, np.random.default_rng([seed, 3, level]))
    hu = _paint([*oedema, *fluid, *clot, *bone], tissue, plane)
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
    head = draw_head(seed)
    return bool(_blood(head, _draw_bleed(seed, kind), plane_at(head, level, size))[1].any())


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
    bleed.direction = float(np.arctan2(centre[1], abs(centre[0])))
    bleed.extent = _extent(rng, bleed, draw_head(seed))
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


@lru_cache(maxsize=1)  # a slice is often drawn twice, without and with blood
def _anatomy(seed: int, level: int, size: int) -> tuple[Plane, Array, list[Layer], list[Layer]]:
    """The plane, its brain tissue in HU, and the layers over it: of fluid, falx and calcium; of bone and all outside."""
    head = draw_head(seed)
    plane = plane_at(head, level, size)
    tissue, fluid = brain(head, plane)
    return plane, _paint(tissue, np.full(plane[0].shape, head.csf, np.float32), plane), fluid, skull(head, plane)


def _layers(bleed: Drawn, head: Drawn, blood: Array, plane: Plane, rng: np.random.Generator) -> tuple[list[Layer], ...]:
    """Of an IPH the oedema, which lies over brain tissue and under fluid; and the blood, which lies over both."""
    if bleed.kind == "normal":
        return [], []
    (x, y, z, mm), oedema = plane, []
    texture = ndimage.gaussian_filter(rng.standard_normal(x.shape, np.float32), 1.5 / mm)
    if bleed.kind == "IPH":
        swollen = np.minimum(blood + bleed.oedema / 2, inner_table(x, y, z) - 1)
        oedema = [(swollen, head.white - 8, bleed.oedema / mm)]
    return oedema, [(blood, bleed.hu * (1 + TEXTURE * texture / texture.std()), 1)]


def _paint(layers: list[Layer], hu: Array, plane: Plane) -> Array:
    """The slice in HU, (size, size), with these layers over what it shows, each over those before it."""
    for distance, value, softness in layers:
        hu = hu + np.clip(distance / (softness * plane[3]) + 0.5, 0, 1) * (value - hu)
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


def _fluid(head: Drawn, bleed: Drawn, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """The CSF that IVH or SAH fills, as a signed distance, and how far blood must come to get there (mm)."""
    if bleed.kind == "IVH":
        return ventricles(head, x, y, z), -y
    (a, b, c), depth = bleed.centre, inner_table(x, y, z)
    return subarachnoid(head, x, y, z, depth)[3], np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)


def _blood(head: Drawn, bleed: Drawn, plane: Plane) -> tuple[Array, Array]:
    """Signed distance to the surface of the blood in this plane, and the mask, (size, size)."""
    x, y, z, _ = plane
    none = np.full(x.shape, -99, np.float32), np.zeros(x.shape, bool)
    if bleed.kind == "normal" or abs(z - bleed.centre[2]) > 1.3 * bleed.extent[2]:
        return none
    (a, b, c), depth = bleed.extent, inner_table(x, y, z)
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
        along = (np.arctan2(y, x * bleed.side) - bleed.direction) * np.hypot(x, y)
        lens = np.maximum(1 - (along / b) ** 2 - ((z - bleed.centre[2]) / c) ** 2, 0)
        thickness = np.where(lens > 0, a * lens ** (0.5 if bleed.kind == "SDH" else 1), -99)
        blood = np.minimum(thickness - depth, bleed.side * x - 1)
    mask = (blood > 0) & (depth > 1)  # nearer the skull nobody can tell: bone whitens the pixel
    return (blood, mask) if np.count_nonzero(mask) * (head.field / len(x)) ** 2 >= MIN_AREA else none
