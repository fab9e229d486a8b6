"""A head without its bleed: what is drawn of a patient, and the tissues that a slice at a given height cuts through.

Shapes are 3-D signed distances (mm, positive inside; x to the right of the picture, y to the back of the head, z up from
the basal ganglia), so that a level is a plane through them and neighbouring levels fit together. Most are strokes, as
of a brush that changes its width; the sulci are where a random field on the cortex changes its sign.

Positions and sizes are ours, by eye, after textbook sections. HU are Nakamura's (doi 10.4236/act.2019.82003); those of
bone and fat are of FDA DIDSR/InSilicoICH (CC0).
"""

from functools import lru_cache
from types import SimpleNamespace as Drawn

import numpy as np
from numpy import ndarray as Array

LEVELS = tuple(range(16))  # 5 mm apart as in a clinical scan: 0 posterior fossa, 7 basal ganglia, 15 near the vertex
LOWEST, SPACING = -30.0, 5.0  # mm: height of level 0, and from one level to the next
HARD_NEGATIVES = {"choroid": 0.5, "pineal": 0.6, "falx": 0.35, "atrophy": 0.3}  # odds in every patient, bleeding or not
AIR = -1000
# Strokes: (flatness, points (|x|, y, z, radius) in mm). A flatness below 1 draws the stroke out along z, into a sheet.
VENTRICLES = (  # frontal horn and body; body, trigone and occipital horn; temporal horn; third, aqueduct; fourth
    (0.7, ((16, -38, 4, 2), (10, -31, 8, 4.5), (4.5, -16, 10, 3))), (0.7, ((11, -34, 13, 2.5), (6, -16, 18, 3.5))),
    (0.7, ((6, -16, 18, 3.5), (9, 0, 20, 3.5), (14, 16, 19, 4), (25, 33, 10, 5.5), (20, 56, 5, 2))),
    (0.8, ((26, 31, 9, 4), (34, 9, -10, 1.5), (29, -6, -16, 2))), (0.2, ((0, -8, 1, 1), (0, 12, 1, 2))),
    (0.7, ((0, 19, -4, 0.8), (0, 21, -14, 0.9), (0, 29, -26, 4))), (0.7, ((0, 29, -26, 4), (7, 32, -29, 2))))
CISTERNS = (  # suprasellar star and Sylvian fissure; in front of the pons; insula; around midbrain and vermis; angle
    (0.3, ((0, -10, -20, 5.5), (14, -15, -19, 2), (30, -14, -13, 2), (46, -9, -3, 1.8), (66, -6, 5, 2.2))),
    (0.3, ((0, -10, -20, 5), (0, -25, -19, 1.5))), (0.5, ((0, -3, -27, 3), (12, 2, -28, 1.5))),
    (0.15, ((34, -19, 3, 0.8), (39, -4, 4, 1.4), (37, 12, 6, 0.8))), (0.15, ((39, -4, 4, 1.4), (66, -10, 7, 1.8))),
    (0.3, ((2, -6, -20, 3), (15, 8, -17, 1.2), (16, 18, -14, 1.2), (0, 27, -9, 3), (8, 33, -3, 1.2))),
    (0.6, ((13, 14, -27, 1.5), (26, 17, -30, 3))))
NUCLEI = (  # caudate, lentiform, thalamus
    (0.6, ((13, -26, 8, 4.5), (12, -12, 12, 4))), (0.6, ((21, -16, 3, 4), (27, 6, 4, 6))),
    (0.6, ((8, 3, 5, 6), (13, 15, 6, 7))))
BRAINSTEM = ((0.7, ((0, 8, -20, 11), (0, 12, -32, 13))),)
SKULL_BASE = (  # petrous bone; sphenoid wing, body; dorsum sellae, clinoid; crista galli; frontal bone
    (1, ((11, 3, -31, 4), (38, 15, -32, 6), (64, 27, -33, 11))),
    (1, ((10, -22, -27, 3), (34, -36, -27, 2.5), (66, -32, -26, 6))), (1, ((0, -36, -38, 12), (0, -12, -38, 11))),
    (1, ((0, -4, -28, 2.5), (8, -5, -26, 1.8))), (1, ((10, -22, -27, 3), (11, -14, -25, 2))),
    (0.7, ((0, -64, -32, 4), (0, -78, -24, 3))), (1, ((0, -78, -40, 16), (0, -82, -18, 5))))
ORBIT = ((1, ((32, -66, -37, 18), (13, -36, -37, 5))),)
GLOBE, NERVE = ((1, ((33, -71, -36, 12), (33, -70, -36, 12))),), ((1, ((33, -64, -33, 2), (14, -38, -33, 1.5))),)
SINUSES = (  # sphenoid; ethmoid; frontal; mastoid cells
    (1, ((0, -33, -38, 10), (5, -22, -39, 9))), (1, ((4, -74, -40, 11), (5, -46, -40, 9))),
    (0.8, ((3, -85, -32, 8), (12, -84, -12, 4))), (1, ((56, 26, -33, 6), (66, 34, -34, 9))))
CALCIUM = {"choroid": ((1, ((23, 31, 10, 1.6), (25, 36, 9, 2))),), "pineal": ((1, ((0, 20, 2, 1.8), (0, 23, 2, 1.8))),)}
WAVES, LENGTH = 8, 15.0  # of the field whose zeros are the sulci; mm
Plane = tuple[Array, Array, Array, float]  # x, y (size, size) and z in mm of the standard head; mm a pixel
Layer = tuple[Array, float | Array, float]  # signed distance in mm, HU, softness of the edge in pixels


@lru_cache(maxsize=1)
def draw_head(seed: int) -> Drawn:
    """Everything about a patient but the bleed, and how the scan is taken: HU, mm, radians."""
    rng = np.random.default_rng([seed, 0])
    hard = {name: bool(rng.random() < odds) for name, odds in HARD_NEGATIVES.items()}
    length, atrophy = rng.uniform(0.92, 1.06), rng.uniform(0.8, 2.4) if hard["atrophy"] else rng.uniform(-0.7, 0.4)
    waves = rng.normal(size=(WAVES, 3))
    waves *= 2 * np.pi / LENGTH / np.linalg.norm(waves, axis=1, keepdims=True)
    return Drawn(
        hard=hard, atrophy=atrophy, waves=waves.astype(np.float32), phases=rng.uniform(0, 6.28, 8).tolist(),
        scale=(length * rng.uniform(0.95, 1.06), length), field=length * rng.uniform(185, 225), skull=rng.uniform(5, 9),
        angle=rng.normal(0, 0.09), shift=rng.uniform(-5, 5, 2).tolist(), lift=rng.uniform(-2.5, 2.5),
        grey=rng.normal(37, 1.2), white=rng.normal(29, 1.2), csf=rng.uniform(5, 15), fat=rng.uniform(-120, -80),
        table=rng.uniform(1000, 1400), diploe=rng.uniform(500, 800), calcium=rng.uniform(120, 400),
        falx=rng.uniform(*(55, 75) if hard["falx"] else (38, 46)), scalp=rng.uniform(4, 8), blur=rng.uniform(0.6, 0.9),
        noise=rng.uniform(2.5, 6), cupping=rng.uniform(0, 3), window=(rng.uniform(70, 130), rng.uniform(32, 48)),
        uneven=rng.normal(0, 0.4), air=rng.uniform(-3, 1))


def plane_at(head: Drawn, level: int, size: int) -> Plane:
    """Where the pixels of a slice lie in the standard head."""
    mm, (a, b, c, d, *_) = head.field / size, head.phases
    steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * mm
    right, down = steps - head.shift[0], steps[:, None] - head.shift[1]
    cos, sin = float(np.cos(head.angle)), float(np.sin(head.angle))
    x, y = (cos * right + sin * down) / head.scale[0], (cos * down - sin * right) / head.scale[1]
    z = np.array(LOWEST + SPACING * level + head.lift, np.float32)
    x = x + 1.5 * np.sin(y / 26 + a) + 0.6 * np.sin(y / 9 + z / 15 + b)  # no head is symmetrical
    y = y + 1.5 * np.sin(x / 26 + c) + 0.6 * np.sin(x / 9 + z / 15 + d)
    return x, y, z, mm / head.scale[1]


def brain(head: Drawn, plane: Plane) -> tuple[list[Layer], list[Layer]]:
    """Layers of tissue and, over them, of the fluid in and around the brain, the falx and calcium."""
    x, y, z, _ = plane
    depth, side = inner_table(x, y, z), np.abs(x)
    cerebellum, falx, sulci, csf = subarachnoid(head, x, y, z, depth)
    tissue: list[Layer] = [
        (depth - 1 - max(head.atrophy, 0) / 2, head.grey, 1), (np.minimum(depth - 4.5, -sulci - 2.5), head.white, 2),
        (_strokes(NUCLEI, side, y, z), head.grey, 2), (cerebellum, (head.grey + head.white) / 2, 1),
        (_strokes(BRAINSTEM, side, y, z), head.white + 3, 1)]
    over: list[Layer] = [
        (csf, head.csf, 1), (falx + 0.5 * head.hard["falx"], head.falx, 1), (ventricles(head, x, y, z), head.csf, 1),
        *((_strokes(CALCIUM[name], side, y, z), head.calcium, 1) for name in CALCIUM if head.hard[name])]
    return tissue, over


def skull(head: Drawn, plane: Plane) -> list[Layer]:
    """Layers from the skull base outwards, to the air around the head."""
    x, y, z, _ = plane
    depth, side = inner_table(x, y, z), np.abs(x)
    outside, ridge = -depth - head.skull, 3.5 - 0.1 * np.abs(z + 10) - np.hypot(side, depth)  # in front and behind
    base = np.minimum(np.maximum(_strokes(SKULL_BASE, side, y, z), ridge), depth + 1)
    layers: list[Layer] = [
        (base, head.diploe, 1), (-depth, head.table, 1), (-depth - 0.3 * head.skull, head.diploe, 1),
        (-depth - 0.75 * head.skull, head.table, 1), (outside, head.fat, 1),
        (np.minimum(outside, 0.15 * (28 - z - np.abs(y + 12)) - outside), 50, 1),  # the temporal muscle
        (outside - head.scalp + 2.5, 30, 1)]
    return [*layers, *(_face(head, x, y, z, outside) if z < -5 else ()), (outside - head.scalp, AIR, 1)]


def _face(head: Drawn, x: Array, y: Array, z: Array, outside: Array) -> list[Layer]:
    """Orbits with the eyes, and the air of the sinuses; that of the mastoid is broken into cells."""
    side = np.abs(x)
    orbit, globe = (np.minimum(_strokes(part, side, y, z), 2 - outside) for part in (ORBIT, GLOBE))
    cells = np.where(side > 45, np.sin(x * 1.1 + head.phases[0]) + np.sin(y * 1.3 + np.sin(x)) + 1, 9)
    return [(orbit + 1, head.diploe, 1), (orbit, head.fat, 1), (_strokes(NERVE, side, y, z), 35, 1), (globe, 45, 1),
            (globe - 2, 10, 1), (np.minimum(_strokes(SINUSES, side, y, z) + head.air, cells), AIR, 1)]


def ventricles(head: Drawn, x: Array, y: Array, z: Array) -> Array:
    """Signed distance; they are wider in old age, and never quite alike."""
    return _strokes(VENTRICLES, np.abs(x), y, z) + head.atrophy + head.uneven * np.sign(x)


def subarachnoid(head: Drawn, x: Array, y: Array, z: Array, depth: Array) -> tuple[Array, Array, Array, Array]:
    """Cerebellum, falx with tentorium, sulci, and all CSF outside the brain: sulci, cisterns, the fissure at the falx."""
    side = np.abs(x)
    tent = 0.7 * (30 - 2.2 * z - y) - 0.7 * side  # its two leaves meet at the back, the lower the farther
    petrous = 0.9 * (y - 6 - np.maximum(z + 20, 0)) - 0.45 * side
    cerebellum = np.minimum(np.minimum(tent, petrous), depth - 0.5)
    away = depth - 30 - 4 * np.maximum(z - 20, 0)  # from the region that the falx divides: the corpus callosum ends it
    falx = np.minimum(np.minimum(0.7 - side, -away), -cerebellum)
    sulci = np.minimum(_sulci(head, x, y, z, np.minimum(depth, np.maximum(1.8 * side, away))), -cerebellum - 1)
    clefts = np.maximum(_strokes(CISTERNS, side, y, z), falx + 0.6) + 0.5 * head.atrophy
    tentorium = np.minimum(np.minimum(0.6 - np.abs(tent), petrous), depth)
    return cerebellum, np.maximum(falx, tentorium), sulci, np.maximum(sulci, np.minimum(clefts, depth))


def _sulci(head: Drawn, x: Array, y: Array, z: Array, depth: Array) -> Array:
    """Signed distance, about half width - |f| / |grad f|, where f = sum_k cos(wave_k . p + phase).

    p is the place, drawn out from the middle of its hemisphere: the zeros of f then run inwards from the cortex, curved
    and branching. They narrow with depth and end at a depth of 6 to 24 mm.
    """
    right = np.sign(x)
    u, v, w = x - 25 * right, y - np.clip(y, -40, 40), z - 5
    pull = (40 / np.sqrt(u**2 + v**2 + w**2 + 1)) ** 0.7
    p = np.stack(np.broadcast_arrays(u * pull + 99 * right, y - v + v * pull, w * pull))
    phase = np.tensordot(head.waves, p, 1)
    slope = np.sqrt((np.tensordot(head.waves.T, np.sin(phase), 1) ** 2).sum(axis=0))
    a, b, c, d = head.phases[4:]
    length = 15 + 0.3 * np.maximum(z - 15, 0) + 3 * (np.sin(x / 13 + a) + np.sin(y / 15 + b) + np.sin(z / 9 + c))
    half = (0.9 + 0.35 * head.atrophy + 0.2 * np.sin(y / 30 + d)) * (1.4 - depth / length)
    return np.minimum(half - np.abs(np.cos(phase).sum(axis=0)) / (slope + 0.1), np.minimum(length - depth, depth))


def inner_table(x: Array, y: Array, z: Array) -> Array:
    """Depth below the skull, about (1 - r) / |grad r|, of an ellipsoid made squarer, and wider at the back."""
    rim = np.sqrt(1 - ((z - 5) / 82) ** 2)
    u, v = x / (67 * rim * (1 + y * (1 + np.maximum(-z, 0) / 30) / 1100)), y / (82 * rim)
    r = np.sqrt(u**2 + v**2 - 0.25 * np.minimum(u**2, 2) * np.minimum(v**2, 2))
    return (1 - r) / np.maximum(np.hypot(u / (67 * rim), v / (82 * rim)) / np.maximum(r, 0.01), 1 / 82)


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
