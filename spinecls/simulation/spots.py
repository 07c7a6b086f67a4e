"""Spots outside the vertebral bodies: distractors that mean nothing, and markers that betray the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spinecls.geometry import Geometry
from spinecls.simulation.bodies import Body, local_mm
from spinecls.simulation.inserts import Insert, measured
from spinecls.simulation.lesions import draw_contrast, marker_probability
from spinecls.simulation.options import SimulationOptions, stratum_of
from spinecls.simulation.shapes import OUTLINE, SMALLEST_MM2, sigmoid_edge
from spinecls.simulation.streams import Stream
from spinecls.simulation.tissue import Channel, changed, contrast
from spinecls.types import triple

SITES = ("disc", "behind", "prevertebral", "beside")
_SUBSLICES = 4
_PLACES = 20
_FAINTEST = 1.0


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A soft superellipsoid in the frame of a body: centre and radii along t, w, u."""

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    edge_mm: float
    exponent: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scan while spots are added to it; `image` is changed in place.

    Attributes
    ----------
    image : (C, S, R, A) float32
    geometry : grid of one channel
    free : (S, R, A) bool, voxels that touch no vertebra in plane
    """

    image: np.ndarray
    geometry: Geometry
    free: np.ndarray
    channels: Sequence[Channel]
    channel_names: Sequence[str]


def free_voxels(vertebra_map: np.ndarray) -> np.ndarray:
    """Voxels that lie in no vertebra of the map and touch none in their slice."""
    return ~ndimage.binary_dilation(vertebra_map != 0, np.ones((1, 3, 3)))


def insert_distractors(
    scene: Scene, bodies: Sequence[Body], classes: Mapping[str, str], options: SimulationOptions, stream: Stream
) -> list[Insert]:
    """Add a spot of a lesion's contrast, bright or dark, beside a share of the bodies whatever their class."""
    inserts = []
    for body in bodies:
        rng = stream(body.level, "distractor")
        if rng.random() >= options.distractors:
            continue
        for _ in range(_PLACES):
            site = str(rng.choice(SITES))
            target = draw_contrast(rng, options.contrast) * rng.choice([-1, 1])
            spot = _distractor(rng, body, site)
            added = _add(scene, body, spot, target, rng, least=_FAINTEST)
            if added is not None:
                stratum, name = stratum_of(added["contrast"]), classes.get(body.level, "")
                inserts.append(
                    Insert(level=body.level, class_name=name, role="distractor", kind=site, stratum=stratum, **added)
                )
                break
    return inserts


def _distractor(rng: np.random.Generator, body: Body, site: str) -> Spot:
    width, height, depth = body.size_mm
    t, w, u = rng.uniform(-0.2, 0.2) * width, rng.uniform(-0.4, 0.4) * height, rng.uniform(-0.35, 0.35) * depth
    radii = [max(rng.uniform(4, 9), 0.75 * body.geometry.spacing_mm[0]), rng.uniform(3, 7), rng.uniform(3, 7)]
    if site == "disc":
        w, radii[1] = height / 2 + rng.uniform(3, 6), rng.uniform(2.5, 4)
    elif site == "behind":
        u = depth / 2 + rng.uniform(6, 18)
    elif site == "prevertebral":
        u = -depth / 2 - rng.uniform(6, 16)
    else:
        t = rng.choice([-1, 1]) * (width / 2 + rng.uniform(4, 12))
    return Spot(centre_mm=(t, w, u), radii_mm=triple(radii), edge_mm=rng.uniform(0.7, 3))


def insert_markers(
    scene: Scene, bodies: Sequence[Body], diseased: Mapping[str, bool], classes: Mapping[str, str],
    options: SimulationOptions, stream: Stream,
) -> list[Insert]:  # fmt: skip
    """Add m1 (blob behind) and m2 (band in front) beside each vertebra with the probability of its state.

    The place of a marker does not depend on whether it is there, so the aligned and the conflicting version of an
    image have the same markers at the same places, of other vertebrae.
    """
    inserts = []
    for marker, draw in (("m1", _blob_behind), ("m2", _band_in_front)):
        for body in bodies:
            if marker not in options.shortcuts or body.level not in diseased:
                continue
            present = stream(body.level, marker).random() < marker_probability(diseased[body.level], options)
            if not present:
                continue
            rng = stream(body.level, f"{marker} place")
            strength = options.shortcut_contrast
            # Where the tissue is as bright as the image can be, a marker would not show; then another place is tried.
            for least in [0.5 * strength] * _PLACES + [0.0] * _PLACES:
                added = _add(scene, body, draw(rng, body), strength, rng, least, tissue=False)
                if added is not None:
                    name = classes[body.level]
                    inserts.append(
                        Insert(level=body.level, class_name=name, role="marker", kind=marker, marker=marker, **added)
                    )
                    break
    return inserts


def _blob_behind(rng: np.random.Generator, body: Body) -> Spot:
    width, height, depth = body.size_mm
    # Through the slices a blob thinner than a slice would be there or not by where the slices lie.
    through = max(2.0, 0.75 * body.geometry.spacing_mm[0])
    centre = (rng.uniform(-0.05, 0.05) * width, rng.uniform(-0.2, 0.2) * height, depth / 2 + rng.uniform(8, 15))
    return Spot(centre_mm=centre, radii_mm=(through, 2.0, 2.0), edge_mm=1.0)


def _band_in_front(rng: np.random.Generator, body: Body) -> Spot:
    width, height, depth = body.size_mm
    centre = (rng.uniform(-0.1, 0.1) * width, 0.0, -depth / 2 - rng.uniform(5, 9))
    through = max(0.3 * width, 0.75 * body.geometry.spacing_mm[0])
    return Spot(centre_mm=centre, radii_mm=(through, 0.45 * height, 2.0), edge_mm=1.0, exponent=4.0)


def _add(
    scene: Scene, body: Body, spot: Spot, target: float, rng: np.random.Generator, least: float, tissue: bool = True
) -> dict | None:
    """Add a spot to every channel; None, and no change, when it lies in a body or is too small or too faint."""
    slices, alpha = _spot_alpha(scene.geometry, body, spot)
    if alpha.size == 0:
        return None
    alpha = alpha * scene.free[slices]
    outline = alpha >= OUTLINE
    area_mm2 = outline.sum(axis=(1, 2)).max() * np.prod(scene.geometry.spacing_mm[1:])
    if not outline.any() or area_mm2 < min(SMALLEST_MM2, 0.6 * np.pi * spot.radii_mm[1] * spot.radii_mm[2]):
        return None
    boxes = [volume[slices].copy() for volume in scene.image]
    new = [
        changed(box, alpha, outline, channel, target, rng.random(box.shape), tissue)
        for box, channel in zip(boxes, scene.channels, strict=True)
    ]
    reached = [
        contrast(box, after, outline, channel) for box, after, channel in zip(boxes, new, scene.channels, strict=True)
    ]
    if min(reached) <= least:
        return None
    for volume, after in zip(scene.image, new, strict=True):
        volume[slices] = after
    strongest = int(np.argmax(reached))
    return {
        "channel": scene.channel_names[strongest],
        "contrast": reached[strongest],
        "marrow_deviation": scene.channels[strongest].deviation,
        **measured(outline, scene.geometry.cropped([s.start for s in slices], [s.stop for s in slices])),
    }


def _spot_alpha(geometry: Geometry, body: Body, spot: Spot) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Box of a spot in a grid and the share of each of its voxels, averaged through the slices."""
    centre_lps = body.world(*spot.centre_mm)
    reach_mm = np.asarray(spot.radii_mm) + 2 * spot.edge_mm
    corners = np.array(np.meshgrid(*((-r, r) for r in reach_mm))).reshape(3, -1)
    index = geometry.to_index(centre_lps + (body.axes_lps @ corners).T)
    low = np.clip(np.floor(index.min(axis=0)), 0, geometry.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, low, geometry.shape).astype(int)
    slices = triple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    position = local_mm(geometry.cropped(low, high), centre_lps, body.axes_lps)
    step = (geometry.matrix[:, 0] @ body.axes_lps)[:, None, None, None]
    radii = np.asarray(spot.radii_mm)[:, None, None, None]
    alpha = np.zeros(position.shape[1:])
    for offset in (np.arange(_SUBSLICES) + 0.5) / _SUBSLICES - 0.5:
        scaled = np.abs((position + offset * step) / radii) ** spot.exponent
        beyond_mm = (scaled.sum(axis=0) ** (1 / spot.exponent) - 1) * min(spot.radii_mm)
        alpha += sigmoid_edge(beyond_mm, spot.edge_mm) / _SUBSLICES
    return slices, np.where(alpha < 0.02, 0, alpha).astype(np.float32)
