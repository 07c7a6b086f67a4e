"""Where pointed vertebrae lie and how large they are, told by what surrounds them in the other scans.

A point on a vertebra is off by some mm, and says nothing of its size. But end plates and walls run through all scans
alike: with the neighbourhoods of all points laid over each other, each is moved, and those of a scan are scaled
together, until their edges meet those of the others. What all have in common, the usual size and where on a vertebra
people point, is not touched; the images alone do not tell it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import grid_sample

from spinecls.anatomy import REGIONS, region
from spinecls.curve import image_tangents_lps
from spinecls.dataloading.bodies import sizes_mm
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.planning.plan import Plan
from spinecls.sealing.region import vertebra_axes

HELD, HELD_NODES = 2.5, (21, 41, 41)
"""How far about a point the image is held, in half sizes of the vertebra, and in how many steps along its axes."""

COMPARED, COMPARED_NODES = 1.6, (9, 19, 19)
"""The same for what is compared; the rest is room to move."""

BLUR_NODES = (0.4, 0.8, 0.8)
"""Standard deviation, in steps of what is held, by which edges are blurred, so that neighbouring ones draw together."""

INSIDE_FALL = 0.35
"""Standard deviation, in half sizes, by which the weight falls beyond the vertebra's usual box."""

SIZE_SPREAD = 0.07
"""Standard deviation of the logarithm of a scan's sizes about what its pitch tells."""

STRENGTH = 0.01
"""Weight of a squared move by one standard deviation against one whole correlation."""

UNTOLD_ERROR_MM = 2.0
"""Error of points of which nobody told it."""

ALIGNED_ERROR_MM = 1.4
"""What is left of the error, along an axis. Of points 3 mm off on outlined lumbar spines 1.0 mm along the spine, 1.5 mm
from front to back and 1.6 mm sideways were left."""

FEWEST = 8
"""Vertebrae of a part of the spine from which on they are aligned; of ten in two scans as much was gained as of 200."""

ROUNDS, LEARNING_RATE = 60, 0.1
"""Steps of Adam, in standard deviations; after 60 nothing moved any more."""


@dataclass(frozen=True)
class Surroundings:
    """What is seen about the points of one scan.

    Attributes
    ----------
    centres_lps : (N, 3) world mm; axes_lps : (N, 3, 3), columns left-right, along the spine, front-back
    extents_mm : (N, 3) expected sizes along the axes
    regions : (N,) index of the part of the spine, see `anatomy.REGIONS`
    error_mm : of the points, along each axis
    edges : (N, 3, u, v, w) steepness of the image along each axis, on a grid along the axes
    """

    centres_lps: np.ndarray
    axes_lps: np.ndarray
    extents_mm: np.ndarray
    regions: np.ndarray
    error_mm: float
    edges: np.ndarray


@dataclass(frozen=True)
class Places:
    """Where the vertebrae of one scan lie by their surroundings.

    Attributes
    ----------
    centres_lps : (N, 3) world mm
    extents_mm : (N, 3) sizes left-right, along the spine, front-back
    moved_mm : (N,) distance from the points
    """

    centres_lps: np.ndarray
    extents_mm: np.ndarray
    moved_mm: np.ndarray


def surroundings(case: PreprocessedCase, plan: Plan) -> Surroundings | None:
    """What is seen about the vertebrae of a pointed scan; None where it has none."""
    placed = [v for v in case.vertebrae if v.get("centre_lps") is not None]
    if not placed:
        return None
    centres = np.array([v["centre_lps"] for v in placed], float)
    axes = np.array([vertebra_axes(case.geometry, t) for t in image_tangents_lps(centres, case.geometry)])
    extents = sizes_mm(plan, placed)
    return Surroundings(
        centres,
        axes,
        extents,
        np.array([REGIONS.index(region(v["level"])) for v in placed]),
        float(case.annotation_form.get("vertebrae", {}).get("jitter_mm", UNTOLD_ERROR_MM)),
        np.stack([_edges(case, *row) for row in zip(centres, axes, extents, strict=True)]),
    )


def _edges(case: PreprocessedCase, centre_lps, axes_lps, extent_mm) -> np.ndarray:
    """(3, u, v, w) mean steepness of the channels: contrasts differ between scans, and the sign of edges with them."""
    ticks = [np.linspace(-HELD, HELD, nodes) for nodes in HELD_NODES]
    grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
    index = np.moveaxis(case.geometry.to_index(centre_lps + (grid * extent_mm / 2) @ axes_lps.T), -1, 0)
    seen = [ndimage.map_coordinates(np.asarray(c, np.float32), index, order=1, mode="nearest") for c in case.image]
    steep = np.mean([np.abs(np.gradient(channel)) for channel in seen], axis=0)
    return ndimage.gaussian_filter(steep, (0, *BLUR_NODES)).astype(np.float32)


def aligned(scans: Mapping[str, Surroundings]) -> dict[str, Places]:
    """Places of the vertebrae of scans by their names; scans without enough others to be compared with are left out.

    The sum of the correlations of each vertebra's edges with the mean of the others of its part of the spine is made as
    large as it gets, less the squares of moves and of logarithms of sizes in their standard deviations. Sideways, where
    slices are thick and walls are faint, only the place is found; the width follows the other two sizes.
    """
    regions = np.concatenate([np.zeros(0, int), *(scan.regions for scan in scans.values())])
    enough = np.flatnonzero(np.bincount(regions, minlength=len(REGIONS)) >= FEWEST)
    scans = {name: scan for name, scan in scans.items() if np.isin(scan.regions, enough).any()}
    if not scans:
        return {}
    parts = list(scans.values())
    counts = [len(part.regions) for part in parts]
    scan = torch.from_numpy(np.repeat(np.arange(len(parts)), counts))
    half_mm = torch.from_numpy(np.concatenate([part.extents_mm for part in parts])).float() / 2
    error_mm = torch.from_numpy(np.repeat([part.error_mm for part in parts], counts)).float()[:, None]
    edges = torch.from_numpy(np.concatenate([part.edges for part in parts]))
    member = torch.from_numpy(np.concatenate([part.regions for part in parts])[:, None] == enough).float()
    mean_of_part = member @ (member / member.sum(dim=0)).T
    moves = torch.zeros(len(edges), 3, requires_grad=True)
    sizes = torch.zeros(len(parts), 2, requires_grad=True)
    optimiser = torch.optim.Adam([moves, sizes], lr=LEARNING_RATE)
    for _ in range(ROUNDS):
        seen = _seen(edges, moves * error_mm / half_mm, _scales(sizes)[scan])
        cost = STRENGTH * (moves.square().sum() + sizes.square().sum()) - _likeness(seen, member).sum()
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        with torch.no_grad():
            # What all have in common nothing tells.
            moves -= mean_of_part @ moves
            sizes -= sizes.mean(dim=0)
    with torch.no_grad():
        moved_mm = np.split((moves * error_mm).double().numpy(), np.cumsum(counts)[:-1])
        scales = _scales(sizes).double().numpy()
    return {
        name: Places(
            part.centres_lps + np.einsum("nij,nj->ni", part.axes_lps, moved),
            part.extents_mm * scale,
            np.linalg.norm(moved, axis=1),
        )
        for (name, part), moved, scale in zip(scans.items(), moved_mm, scales, strict=True)
    }


def _scales(sizes: torch.Tensor) -> torch.Tensor:
    """(M, 3) factors of the sizes of scans from (M, 2), along the spine and front-back, in standard deviations."""
    return torch.exp(SIZE_SPREAD * torch.stack([sizes.mean(dim=1), sizes[:, 0], sizes[:, 1]], dim=1))


def _compared_grid() -> torch.Tensor:
    """(u, v, w, 3) positions in half sizes."""
    ticks = [torch.linspace(-COMPARED, COMPARED, nodes) for nodes in COMPARED_NODES]
    return torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1)


def _weights() -> torch.Tensor:
    """(P,) of the compared positions, sum 1."""
    beyond = (_compared_grid().abs().amax(dim=-1).flatten() - 1).clip(min=0)
    weights = torch.exp(-0.5 * (beyond / INSIDE_FALL).square())
    return weights / weights.sum()


def _seen(edges: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(N, 3, P) edges about moved and scaled vertebrae, each axis with mean 0 and norm 1.

    Parameters
    ----------
    shift, scale : (N, 3), in half sizes
    """
    position = shift[:, None, None, None] + _compared_grid() * scale[:, None, None, None]
    # `grid_sample` counts axes from the last.
    found = grid_sample(edges, (position / HELD).flip(-1), padding_mode="border", align_corners=True).flatten(2)
    return _normalised(found - (found * _weights()).sum(dim=-1, keepdim=True))


def _normalised(values: torch.Tensor) -> torch.Tensor:
    return values * torch.rsqrt((values.square() * _weights()).sum(dim=-1, keepdim=True) + 1e-6)


def _likeness(seen: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """(N,) correlation with the mean of the others of the same part of the spine; 0 for what is in none."""
    with torch.no_grad():
        own = member.sum(dim=1)[:, None, None]
        sums = (member @ (member.T @ seen.flatten(1))).view_as(seen)
        others = _normalised(sums - own * seen)
    return (seen * others * _weights()).sum(dim=-1).mean(dim=-1)


def placed(case: PreprocessedCase, places: Places) -> PreprocessedCase:
    """The case with its pointed vertebrae where they were found to be, and as large."""
    found = zip(places.centres_lps.tolist(), places.extents_mm.tolist(), strict=True)
    vertebrae = []
    for vertebra in case.vertebrae:
        if vertebra.get("centre_lps") is not None:
            centre, extent = next(found)
            vertebra = {**vertebra, "centre_lps": centre, "extent_mm": extent}
        vertebrae.append(vertebra)
    told = dict(case.annotation_form.get("vertebrae", {}))
    error_mm = min(float(told.get("jitter_mm", ALIGNED_ERROR_MM)), ALIGNED_ERROR_MM)
    form = {**case.annotation_form, "vertebrae": {**told, "form": "point", "jitter_mm": error_mm}}
    return dataclasses.replace(case, vertebrae=tuple(vertebrae), annotation_form=form)
