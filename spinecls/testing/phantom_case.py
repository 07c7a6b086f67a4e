"""One phantom examination: arrays and truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spinecls.anatomy import LEVEL_CODES
from spinecls.geometry import Geometry
from spinecls.testing.phantom_anatomy import Vertebra, build_column, visible_fraction
from spinecls.testing.phantom_images import axes_lps
from spinecls.testing.phantom_lesions import Distractor, Lesion, draw_classes, insert_distractors, insert_lesion
from spinecls.testing.phantom_options import IGNORE_LABEL, LESION_STRUCTURES, STRUCTURES, PhantomOptions
from spinecls.testing.phantom_scene import paint_scene
from spinecls.testing.phantom_tissue import SIGNAL, TissueGrid
from spinecls.types import Point, triple

_LEAST_VISIBLE_FRACTION = 0.5


@dataclass(frozen=True, kw_only=True)
class PhantomCase:
    """One phantom examination in canonical arrays (slice left to right, row head to feet, column front to back).

    Attributes
    ----------
    image : (C, S, R, A) float32
    vertebra_map : (S, R, A) uint8, body of a level = its code in `anatomy.LEVEL_CODES`; 255 (unknown) = a body of which
        less than half is in view
    structure_map : (S, R, A) uint8, codes of `phantom_options.STRUCTURES`
    geometry : grid of the arrays
    centres_lps : level to the centroid of its voxels in the map, world mm, from head to feet
    classes : level to class name; C1, which has no body, is not read
    lesions : one record for each classified vertebra; a negative's has amplitude 0
    distractors : spots outside the bodies
    """

    image: np.ndarray
    vertebra_map: np.ndarray
    structure_map: np.ndarray
    geometry: Geometry
    centres_lps: dict[str, tuple[float, float, float]]
    classes: dict[str, str]
    lesions: tuple[Lesion, ...]
    distractors: tuple[Distractor, ...]


def make_case(rng: np.random.Generator, options: PhantomOptions | None = None) -> PhantomCase:
    """Random phantom; generators of the same seed give the same phantoms, call by call.

    Anatomy, classes, lesions, distractors and noise draw from streams of their own, so changing the options of one
    leaves the others as they are.
    """
    options = options or PhantomOptions()
    anatomy_rng, annotation_rng, class_rng, lesion_rng, distractor_rng, noise_rng = rng.spawn(6)
    column = build_column(anatomy_rng, options)
    grid = paint_scene(anatomy_rng, column, options.shape, options.spacing_mm)
    geometry = _geometry(anatomy_rng, options)
    vertebra_map, known = _annotate(annotation_rng, grid, column, options)
    drawn = draw_classes(class_rng, [v.name for v in column], options.lesion_probability)
    classes = {v.name: drawn[v.name] for v in known if v.name != "C1"}
    signals = [np.asarray(SIGNAL[channel], np.float32)[grid.tissue] for channel in options.channels]
    distractors = insert_distractors(distractor_rng, grid, signals, column, options)
    outline = np.zeros(grid.tissue.shape, np.float32)
    lesions = []
    # One stream a vertebra: the number of draws for one does not shift those of the next.
    for number, (vertebra, stream) in enumerate(zip(column, lesion_rng.spawn(len(column)), strict=True), start=1):
        if vertebra.name in classes:
            name = classes[vertebra.name]
            lesions.append(insert_lesion(stream, grid, signals, outline, vertebra, number, name, options))
    return PhantomCase(
        image=_acquire(noise_rng, [grid.block_mean(signal) for signal in signals], options),
        vertebra_map=vertebra_map,
        structure_map=_structure_map(grid, outline, vertebra_map, classes),
        geometry=geometry,
        centres_lps={v.name: _centroid_lps(vertebra_map == LEVEL_CODES[v.name], geometry) for v in known},
        classes=classes,
        lesions=tuple(lesions),
        distractors=tuple(distractors),
    )


def _annotate(
    rng: np.random.Generator, grid: TissueGrid, column: list[Vertebra], options: PhantomOptions
) -> tuple[np.ndarray, list[Vertebra]]:
    """Vertebra map, and the vertebrae in it from head to feet."""
    extent_mm = np.array(options.shape) * options.spacing_mm
    inside = grid.block_mean(grid.body > 0) >= 0.5
    body = np.where(inside, grid.block_maximum(grid.body), 0)
    present = np.bincount(body.ravel(), minlength=len(column) + 1)[1:] > 0
    code_of = np.zeros(len(column) + 1, np.uint8)
    known = []
    for number, vertebra in enumerate(column, start=1):
        if vertebra.name not in LEVEL_CODES or not present[number - 1]:
            continue
        if visible_fraction(vertebra, extent_mm) >= _LEAST_VISIBLE_FRACTION:
            code_of[number] = LEVEL_CODES[vertebra.name]
            known.append(vertebra)
        else:
            code_of[number] = IGNORE_LABEL
    vertebra_map = code_of[body]
    if options.complete:
        return vertebra_map, known
    known = _some_neighbours(rng, known)
    return np.where(np.isin(vertebra_map, [LEVEL_CODES[v.name] for v in known]), vertebra_map, 0), known


def _some_neighbours(rng: np.random.Generator, vertebrae: list[Vertebra]) -> list[Vertebra]:
    """A run of neighbours that leaves out one to three, but never all."""
    count = max(1, len(vertebrae) - int(rng.integers(1, 4)))
    first = int(rng.integers(0, max(1, len(vertebrae) - count + 1)))
    return vertebrae[first : first + count]


def _structure_map(grid: TissueGrid, outline: np.ndarray, vertebra_map: np.ndarray, classes: dict) -> np.ndarray:
    structures = np.zeros(vertebra_map.shape, np.uint8)
    structures[grid.block_mean(grid.canal) >= 0.5] = STRUCTURES["canal"]
    structures[grid.block_mean(grid.disc) >= 0.5] = STRUCTURES["disc"]
    lesion = grid.block_mean(outline) >= 0.5
    for structure, class_name in LESION_STRUCTURES.items():
        codes = [LEVEL_CODES[level] for level, name in classes.items() if name == class_name]
        structures[lesion & np.isin(vertebra_map, codes)] = STRUCTURES[structure]
    return structures


def _acquire(rng: np.random.Generator, signals: list[np.ndarray], options: PhantomOptions) -> np.ndarray:
    """(C, S, R, A) magnitude image: texture, coil sensitivity, Rician noise, arbitrary scale."""
    shape = signals[0].shape
    texture = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), (0.4, 0.9, 0.9))
    texture /= texture.std()
    ramps = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    # Smooth in all directions, and brighter towards the coil behind the back.
    weights = rng.uniform((-1.0, -1.0, -0.5), (1.0, 1.0, 1.5))
    bias = sum(np.float32(w) * np.sin(r * 1.5) for w, r in zip(weights, np.ix_(*ramps), strict=True))
    bias = 1 + np.float32(options.bias_field) * bias / np.abs(bias).max()
    image = np.empty((len(signals), *shape), np.float32)
    for channel, signal in enumerate(signals):
        clean = signal * bias * np.maximum(1 + np.float32(options.texture) * texture, 0)
        noise = rng.standard_normal((2, *shape), np.float32) * np.float32(options.noise_sd)
        scale = np.float32(rng.uniform(200, 800))
        image[channel] = np.hypot(clean + noise[0], noise[1]) * scale
    return image


def _geometry(rng: np.random.Generator, options: PhantomOptions) -> Geometry:
    direction = axes_lps("RIP", options.oblique_degrees)
    middle = (np.asarray(options.shape) - 1) / 2 * options.spacing_mm
    origin = np.round(rng.uniform(-40, 40, 3), 1) - direction @ middle
    return Geometry(
        shape=triple(options.shape),
        spacing_mm=triple(float(step) for step in options.spacing_mm),
        origin_lps=triple(float(value) for value in origin),
        direction=tuple(triple(float(value) for value in row) for row in direction),
    )


def _centroid_lps(mask: np.ndarray, geometry: Geometry) -> Point:
    return triple(float(value) for value in geometry.to_world(np.argwhere(mask).mean(axis=0)))
