"""Markers of the whole image: a blurred corner (m3) and a gain (m5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from spinecls.simulation.bodies import Body
from spinecls.simulation.inserts import Insert, measured
from spinecls.simulation.lesions import marker_probability
from spinecls.simulation.options import SimulationOptions
from spinecls.simulation.spots import Scene
from spinecls.simulation.streams import Stream
from spinecls.simulation.tissue import rounded

GAIN = 1.1
_CORNER_SHARE = 0.2
_BLUR_MM = 2.0
_CLEAR_MM = 3.0


def insert_image_markers(
    scene: Scene, bodies: Sequence[Body], diseased: Mapping[str, bool], options: SimulationOptions, stream: Stream
) -> list[Insert]:
    """Add m3 and m5 to the scan in place, with the probability that any diseased vertebra gives."""
    inserts = []
    for marker, add in (("m3", _blur_corner), ("m5", _multiply)):
        if marker not in options.shortcuts:
            continue
        if stream("", marker).random() < marker_probability(any(diseased.values()), options):
            facts = add(scene, bodies, stream("", f"{marker} rounding"))
            inserts.append(Insert(level="", class_name="", role="marker", kind=marker, marker=marker, **facts))
    return inserts


def corner_weights(shape: tuple[int, int, int], spacing_mm, centre_index: np.ndarray) -> list[np.ndarray]:
    """(R, A) weights 0..1 of the four corners of the field of view, soft inwards, nearest to a place first."""
    ramps, far_mm = [], []
    for axis in (1, 2):
        size, spacing = shape[axis], spacing_mm[axis]
        ramp = np.clip((_CORNER_SHARE * size - np.arange(size)) * spacing / _BLUR_MM, 0, 1)
        ramps.append((ramp, ramp[::-1]))
        far_mm.append((centre_index[axis] * spacing, (size - 1 - centre_index[axis]) * spacing))
    corners = sorted(((a, b) for a in (0, 1) for b in (0, 1)), key=lambda c: np.hypot(far_mm[0][c[0]], far_mm[1][c[1]]))
    return [ramps[0][a][:, None] * ramps[1][b][None, :] for a, b in corners]


def _blur_corner(scene: Scene, bodies: Sequence[Body], rng: np.random.Generator) -> dict:
    spacing_mm = scene.geometry.spacing_mm
    middle = scene.geometry.to_index(np.mean([body.centre_lps for body in bodies], axis=0))
    corners = corner_weights(scene.free.shape, spacing_mm, middle)
    # Air or padding looks the same when it is blurred.
    seen = [plane for plane in corners if scene.image[0][:, plane == 1].std() > scene.channels[0].deviation]
    plane = (seen or corners)[0]
    clear = np.stack([ndimage.distance_transform_edt(free, sampling=spacing_mm[1:]) for free in scene.free])
    # A slice without any vertebra has no distance to keep.
    clear[scene.free.all(axis=(1, 2))] = np.inf
    weight = plane * (clear > _CLEAR_MM)
    sigma = (0, _BLUR_MM / spacing_mm[1], _BLUR_MM / spacing_mm[2])
    for volume, channel in zip(scene.image, scene.channels, strict=True):
        blurred = ndimage.gaussian_filter(volume.astype(np.float64), sigma)
        mixed = np.where(weight > 0, volume + weight * (blurred - volume), volume)
        volume[:] = rounded(mixed, channel, rng.random(volume.shape))
    outline = weight >= 0.5
    return {"site": "corner", **(measured(outline, scene.geometry) if outline.any() else {})}


def _multiply(scene: Scene, bodies: Sequence[Body], rng: np.random.Generator) -> dict:
    for volume, channel in zip(scene.image, scene.channels, strict=True):
        volume[:] = rounded(GAIN * volume.astype(np.float64), channel, rng.random(volume.shape))
    return {"site": "whole image"}
