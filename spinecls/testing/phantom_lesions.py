"""Lesions inside vertebral bodies, shams, and spots elsewhere that mean nothing.

Shapes and places follow the ASAS/OMERACT descriptions (Hermann et al., Ann Rheum Dis 2012) and the corner shares of
Krabbe et al., RMD Open 2018: oedema sits at corners or along an endplate with a soft edge, fat at corners and
sclerosis in a band along an endplate with a sharp one. Sizes and amplitudes are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spinecls.testing.phantom_anatomy import Vertebra
from spinecls.testing.phantom_options import CHANNELS, PhantomOptions
from spinecls.testing.phantom_tissue import SUPERSAMPLING, TissueGrid

SITES = ("disc", "canal", "spinous", "prevertebral", "beside")

# Sign and strength of the change in T2, STIR, T1 (the order of CHANNELS).
_CHANGE = {
    "oedema": (1.0, 1.2, -0.8),
    "fat": (-1.0, -0.8, 0.8),
    "sclerosis": (-1.0, -0.8, -1.0),
}
_SOFT_EDGE_MM, _SHARP_EDGE_MM = 0.6, 0.2


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One application of the lesion code to one vertebra; a negative has `amplitude` 0, a sham.

    `kind` is "oedema", "fat" or "sclerosis"; `amplitude` is in noise standard deviations.
    """

    level: str
    kind: str
    amplitude: float


@dataclass(frozen=True, kw_only=True)
class Distractor:
    """A spot outside the bodies beside a vertebra: `site` of `SITES`, signed `amplitude` in noise deviations."""

    level: str
    site: str
    amplitude: float


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A soft superellipsoid in the local frame of a vertebra: origin (t, v, u), radii and exponent."""

    origin_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    exponent: float
    edge_mm: float


def draw_classes(rng: np.random.Generator, levels: list[str], probability: float) -> dict[str, str]:
    """Class of each level, independent of everything else; both lesion classes equally likely."""
    classes = {}
    for level in levels:
        draw, which = rng.random(2)
        positive = "inflammatory" if which < 0.5 else "structural"
        classes[level] = positive if draw < probability else "normal"
    return classes


def insert_lesion(
    rng: np.random.Generator,
    grid: TissueGrid,
    signals: list[np.ndarray],
    outline: np.ndarray,
    vertebra: Vertebra,
    number: int,
    name: str,
    options: PhantomOptions,
) -> Lesion:
    """Add the lesion of class `name` to one body; class "normal" runs the same code with amplitude 0.

    Parameters
    ----------
    signals : fine arrays, one a channel, changed in place within the body
    outline : fine float32 array that receives the lesion's share of each voxel
    number : the body's value in `grid.body`
    """
    draw = rng.random()
    inflammatory = name == "inflammatory" or (name == "normal" and draw < 0.5)
    kind = "oedema" if inflammatory else ("fat" if rng.random() < 0.5 else "sclerosis")
    strength = float(rng.uniform(*options.lesion_contrast))
    amplitude = 0.0 if name == "normal" else strength
    slices, alpha = _visible_alpha(rng, grid, vertebra, number, kind)
    for channel, signal in zip(options.channels, signals, strict=True):
        change = _CHANGE[kind][CHANNELS.index(channel)] * amplitude * options.noise_sd
        signal[slices] = np.maximum(signal[slices] + np.float32(change) * alpha, 0)
    if amplitude > 0:
        outline[slices] = np.maximum(outline[slices], alpha)
    return Lesion(level=vertebra.name, kind=kind, amplitude=amplitude)


def _visible_alpha(rng: np.random.Generator, grid: TissueGrid, vertebra: Vertebra, number: int, kind: str):
    """Lesion share of the fine voxels around a body, and where; redrawn while too little of it is in view."""
    reach = np.array([vertebra.width_mm, vertebra.height_mm, vertebra.depth_mm]) * 0.62 + 4
    slices, coordinates = grid.local(vertebra.centre_mm, vertebra.axes, reach)
    body = grid.body[slices] == number
    enough = 0.04 * vertebra.width_mm * vertebra.height_mm * vertebra.depth_mm
    enough /= np.prod([axis[1] - axis[0] for axis in grid.axes_mm])
    best, best_count = None, -1
    for _ in range(8):
        alpha = _alpha(coordinates, _draw_shape(rng, vertebra, kind)) * body
        count = int(np.count_nonzero(alpha >= 0.5))
        if count > best_count:
            best, best_count = alpha, count
        if count >= enough:
            break
    return slices, best


def _draw_shape(rng: np.random.Generator, vertebra: Vertebra, kind: str) -> _Shape:
    height, depth, width = vertebra.height_mm, vertebra.depth_mm, vertebra.width_mm
    endplate = float(rng.choice([-0.5, 0.5])) * height
    across = float(rng.uniform(-0.15, 0.15)) * width
    edge = _SOFT_EDGE_MM if kind == "oedema" else _SHARP_EDGE_MM
    if kind == "sclerosis":
        radii = (0.5 * width, max(6.0, rng.uniform(0.28, 0.4) * height), 0.55 * depth)
        return _Shape(origin_mm=(across, endplate, 0.0), radii_mm=radii, exponent=4.0, edge_mm=edge)
    if kind == "oedema" and rng.random() < 0.3:
        radii = (
            rng.uniform(0.3, 0.45) * width,
            max(6.0, rng.uniform(0.35, 0.55) * height),
            max(6.0, rng.uniform(0.3, 0.5) * depth),
        )
        origin = (across, endplate, rng.uniform(-0.15, 0.15) * depth)
        return _Shape(origin_mm=origin, radii_mm=radii, exponent=2.0, edge_mm=edge)
    front_or_back = -0.5 if rng.random() < 0.65 else 0.5
    radii = (
        rng.uniform(0.4, 0.55) * width,
        max(8.0, rng.uniform(0.5, 0.8) * height),
        max(8.0, rng.uniform(0.45, 0.7) * depth),
    )
    origin = (across, endplate, front_or_back * depth)
    return _Shape(origin_mm=origin, radii_mm=radii, exponent=float(rng.uniform(1.3, 2.0)), edge_mm=edge)


def _alpha(coordinates: list[np.ndarray], shape: _Shape) -> np.ndarray:
    """Share 0..1: a logistic edge around the surface where the superellipsoid's radius is 1."""
    terms = (
        np.abs((c - np.float32(o)) / np.float32(r)) ** np.float32(shape.exponent)
        for c, o, r in zip(coordinates, shape.origin_mm, shape.radii_mm, strict=True)
    )
    radius = sum(terms) ** np.float32(1 / shape.exponent)
    beyond_mm = (radius - 1) * np.float32(min(shape.radii_mm))
    return 1 / (1 + np.exp(np.clip(beyond_mm / np.float32(shape.edge_mm), -30, 30)))


def insert_distractors(
    rng: np.random.Generator,
    grid: TissueGrid,
    signals: list[np.ndarray],
    column: list[Vertebra],
    options: PhantomOptions,
) -> list[Distractor]:
    """Add spots of lesion-like size and contrast outside the bodies, at a rate that no class enters.

    Voxels of the image that touch a body, and their neighbours, stay untouched.
    """
    touched = grid.block_maximum(grid.body) > 0
    free = ~ndimage.binary_dilation(touched, np.ones((3, 3, 3)))
    for axis in range(3):
        free = np.repeat(free, SUPERSAMPLING, axis)
    distractors = []
    for vertebra in column:
        for _ in range(rng.poisson(options.distractors_per_vertebra)):
            site = str(rng.choice(SITES))
            amplitude = float(rng.uniform(*options.lesion_contrast) * rng.choice([-1, 1]))
            radii = tuple(rng.uniform(5, 10, 3))
            origin = _site_mm(rng, vertebra, site)
            slices, coordinates = grid.local(vertebra.point_mm(*origin), vertebra.axes, np.array(radii) + 4)
            if slices is None:
                continue
            edge_mm = _SOFT_EDGE_MM if rng.random() < 0.5 else _SHARP_EDGE_MM
            shape = _Shape(origin_mm=(0.0, 0.0, 0.0), radii_mm=radii, exponent=2.0, edge_mm=edge_mm)
            alpha = _alpha(coordinates, shape) * free[slices]
            if alpha.max() < 0.5:
                continue
            for signal in signals:
                change = np.float32(amplitude * options.noise_sd)
                signal[slices] = np.maximum(signal[slices] + change * alpha, 0)
            distractors.append(Distractor(level=vertebra.name, site=site, amplitude=amplitude))
    return distractors


def _site_mm(rng: np.random.Generator, vertebra: Vertebra, site: str) -> tuple[float, float, float]:
    """Local position (t, v, u) of a spot."""
    height, depth, width = vertebra.height_mm, vertebra.depth_mm, vertebra.width_mm
    jitter = rng.uniform(-3, 3, 3)
    t, v, u = {
        "disc": (0.0, height / 2 + vertebra.disc_mm / 2, rng.uniform(-0.4, 0.4) * depth),
        "canal": (0.0, rng.uniform(-0.4, 0.4) * height, depth / 2 + 8),
        "spinous": (0.0, rng.uniform(-0.4, 0.4) * height, depth / 2 + 32),
        "prevertebral": (rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.4, 0.4) * height, -depth / 2 - 14),
        "beside": (rng.choice([-1, 1]) * (width / 2 + 12), rng.uniform(-0.4, 0.4) * height, 0.0),
    }[site]
    return t + jitter[0], v + jitter[1], u + jitter[2]
