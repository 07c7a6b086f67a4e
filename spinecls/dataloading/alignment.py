"""Where vertebrae lie, how they are tilted and how large they are, told by what surrounds them in all scans.

A point on a vertebra is off by some mm and says nothing of size; a box says little of tilt. But end plates and walls
look alike in all scans: with the neighbourhoods of all pointed, boxed or scribbled vertebrae laid over each other, each
is moved, tilted and scaled until its edges meet those of the others. What all have in common, the usual size and where
on a vertebra people point, is not touched; the images alone do not tell it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import grid_sample

from spinecls.anatomy import REGIONS, region
from spinecls.dataloading.body_shapes import Body
from spinecls.geometry import Geometry

HELD, HELD_NODES = 2.5, (21, 41, 41)
"""How far about a vertebra the image is held, in half sizes of it, and in how many steps along its axes."""

COMPARED, COMPARED_NODES = 1.6, (9, 19, 19)
"""The same for what is compared; the rest is room to move."""

BLUR_NODES = (0.4, 0.8, 0.8)
"""Standard deviation, in steps of what is held, by which edges are blurred, so that neighbouring ones draw together."""

INSIDE_FALL = 0.35
"""Standard deviation, in half sizes, by which the weight falls beyond the vertebra's usual box."""

TILT_SPREAD = 0.12
"""Standard deviation, in radians, of a vertebra's tilt in the sagittal plane about that of the spine's curve."""

OWN_SIZE_SPREAD, SCAN_SIZE_SPREAD = 0.05, 0.07
"""Standard deviation of the logarithm of a vertebra's size about its scan's, and of a scan's about what pitch tells."""

BOX_ERROR_MM = 1.0
"""How exactly a tight box tells the middle of a body of usual shape, which no body quite has."""

ALIGNED_ERROR_MM = 1.4
"""What is left of the error, along an axis. Of points 3 mm off on outlined lumbar spines 0.8 mm along the spine, 1.5 mm
from front to back and 1.6 mm sideways were left."""

LEAST_ERROR_MM, LEAST_SPREAD = 0.1, 0.01
"""What is taken for none, of places and of the logarithm of sizes, where the more exact ones say where all are."""

STRENGTH = 0.01
"""Weight of a squared move by one standard deviation against one whole correlation."""

FEWEST = 8
"""Vertebrae of a part of the spine from which on they are aligned; of ten in two scans as much was gained as of 200."""

LEAST_PITCH = 0.6
"""Of the distance of two neighbours that is left when they are moved; less means that both were drawn to one."""

MOST_TOGETHER = 400
"""About how many vertebrae at most are laid over each other at once; more take memory and tell nothing new."""

ROUNDS, LEARNING_RATE = 60, 0.1
"""Steps of Adam, in standard deviations; after 60 nothing moved any more."""


@dataclass(frozen=True)
class Surroundings:
    """What is seen about the vertebrae of one scan.

    Attributes
    ----------
    bodies : N, as annotated
    regions : (N,) index of the part of the spine, see `anatomy.REGIONS`
    error_mm : (N,) standard deviation of the centres, along each axis
    own_size_spread : (N,) of the logarithm of each size
    scan_size_spread : of what the sizes of the scan have in common; 0 where boxes tell them
    edges : (N, 3, u, v, w) float16, steepness of the image along each axis, on a grid along the axes
    """

    bodies: Sequence[Body]
    regions: np.ndarray
    error_mm: np.ndarray
    own_size_spread: np.ndarray
    scan_size_spread: float
    edges: np.ndarray


def surroundings(
    image: np.ndarray,
    geometry: Geometry,
    bodies: Sequence[Body],
    levels: Sequence[str],
    boxed: Sequence[bool],
) -> Surroundings:
    """What is seen about the vertebrae of one scan, at least one.

    Parameters
    ----------
    image : (C, S, R, A)
    boxed : whether place and size are those of a box, else of a point and the usual ones
    """
    of_box = np.asarray(boxed, bool)
    error_mm = np.array([body.error_mm for body in bodies])
    # Faces that are off by an error change the size by the square root of 2 times as much.
    of_faces = np.sqrt(2) * error_mm / [np.mean(body.extent_mm) for body in bodies]
    return Surroundings(
        bodies,
        np.array([REGIONS.index(region(level)) for level in levels]),
        np.where(of_box, np.hypot(BOX_ERROR_MM, error_mm), error_mm),
        np.where(of_box, np.hypot(OWN_SIZE_SPREAD, of_faces), OWN_SIZE_SPREAD),
        0.0 if of_box.any() else SCAN_SIZE_SPREAD,
        np.stack([_edges(image, geometry, body) for body in bodies]),
    )


def _edges(image: np.ndarray, geometry: Geometry, body: Body) -> np.ndarray:
    """(3, u, v, w) mean steepness of the channels: contrasts differ between scans, and the sign of edges with them."""
    ticks = [np.linspace(-HELD, HELD, nodes) for nodes in HELD_NODES]
    grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1)
    index = geometry.to_index(body.centre_lps + (grid * _half_mm(body)) @ body.axes_lps.T)
    index = np.moveaxis(index, -1, 0)
    seen = [ndimage.map_coordinates(np.asarray(c, np.float32), index, order=1, mode="nearest") for c in image]
    steep = np.mean([np.abs(np.gradient(np.nan_to_num(channel))) for channel in seen], axis=0)
    return ndimage.gaussian_filter(steep, (0, *BLUR_NODES)).astype(np.float16)


def _half_mm(body: Body) -> np.ndarray:
    """(3,) half the size along its axes; alike for a box, rims and corners included, and a usual size."""
    return body.extent_mm * body.surface / 2


def aligned(scans: Mapping[str, Surroundings]) -> dict[str, list[Body]]:
    """Bodies of scans by their names; scans without enough others to be compared with are left out.

    Of the others those stay as they were annotated that have too few of their part of the spine, whose image tells
    nothing, or that ran into a neighbour. Many scans are aligned in several groups, drawn at random.

    The sum of the correlations of each vertebra's edges with the mean of the others of its part of the spine is made as
    large as it gets, less the squares of all changes in their standard deviations. Sideways, where slices are thick and
    walls are faint, only the place is found; the width follows the other two sizes.
    """
    names = sorted(scans)
    count = sum(len(scans[name].bodies) for name in names)
    order = np.random.default_rng(0).permutation(len(names))
    bodies: dict[str, list[Body]] = {}
    for part in np.array_split(order, max(1, round(count / MOST_TOGETHER))):
        bodies |= _aligned({names[number]: scans[names[number]] for number in sorted(part)})
    return bodies


def _aligned(scans: Mapping[str, Surroundings]) -> dict[str, list[Body]]:
    """Bodies of one group, see `aligned`."""
    regions = np.concatenate([np.zeros(0, int), *(scan.regions for scan in scans.values())])
    enough = np.flatnonzero(np.bincount(regions, minlength=len(REGIONS)) >= FEWEST)
    scans = {name: scan for name, scan in scans.items() if np.isin(scan.regions, enough).any()}
    if not scans:
        return {}
    group = _Group(list(scans.values()), enough)
    optimiser = torch.optim.Adam(group.parameters(), lr=LEARNING_RATE)
    for _ in range(ROUNDS):
        optimiser.zero_grad()
        group.cost().backward()
        optimiser.step()
        group.centre()
    bodies = iter(group.bodies())
    return {name: _apart(scan.bodies, [next(bodies) for _ in scan.bodies]) for name, scan in scans.items()}


def _apart(annotated: Sequence[Body], moved: Sequence[Body]) -> list[Body]:
    """Bodies of a scan as found; two neighbours that were driven towards the same vertebra as annotated."""
    kept = list(moved)
    for row, (above, below) in enumerate(itertools.pairwise(annotated)):
        before = np.linalg.norm(above.centre_lps - below.centre_lps)
        if np.linalg.norm(moved[row].centre_lps - moved[row + 1].centre_lps) < LEAST_PITCH * before:
            kept[row], kept[row + 1] = above, below
    return kept


class _Group(torch.nn.Module):
    """Vertebrae that are laid over each other; parameters are in standard deviations."""

    def __init__(self, scans: Sequence[Surroundings], regions: np.ndarray) -> None:
        super().__init__()
        self.annotated = [body for scan in scans for body in scan.bodies]
        self.scan = torch.from_numpy(np.repeat(np.arange(len(scans)), [len(scan.bodies) for scan in scans]))
        self.half_mm = torch.tensor(np.array([_half_mm(body) for body in self.annotated])).float()

        def joined(name: str) -> torch.Tensor:
            return torch.from_numpy(np.concatenate([getattr(scan, name) for scan in scans]))

        self.error_mm = joined("error_mm").float()[:, None]
        self.own_size_spread = joined("own_size_spread").float()[:, None]
        self.scan_size_spread = torch.tensor([scan.scan_size_spread for scan in scans]).float()[:, None]
        self.edges = joined("edges").float()
        # A vertebra about which the image shows nothing has nothing to be compared by.
        shows = self.edges.flatten(1).any(dim=1, keepdim=True)
        self.member = ((joined("regions")[:, None] == torch.from_numpy(regions)) & shows).float()
        self.nodes = _compared_nodes()
        self.weights = _weights(self.nodes)
        count = len(self.annotated)
        self.moves = torch.nn.Parameter(torch.zeros(count, 3))
        self.tilts = torch.nn.Parameter(torch.zeros(count, 1))
        self.own_sizes = torch.nn.Parameter(torch.zeros(count, 2))
        self.scan_sizes = torch.nn.Parameter(torch.zeros(len(scans), 2))

    def cost(self) -> torch.Tensor:
        seen = self._seen()
        with torch.no_grad():
            sums = (self.member @ (self.member.T @ seen.flatten(1))).view_as(seen)
            others = self._normalised(sums - self.member.sum(dim=1)[:, None, None] * seen)
        likeness = (seen * others * self.weights).sum(dim=-1).mean(dim=-1)
        return STRENGTH * sum(values.square().sum() for values in self.parameters()) - likeness.sum()

    @torch.no_grad()
    def centre(self) -> None:
        """Take out what all of a part of the spine have in common, for nothing but their annotation tells it.

        So the more exact ones say where all are.
        """
        _take_out_common(self.moves, self.error_mm.clip(min=LEAST_ERROR_MM), self.member)
        for values in (self.tilts, self.own_sizes):
            _take_out_common(values, torch.ones(len(values), 1), self.member)
        every = torch.ones(len(self.scan_sizes), 1)
        _take_out_common(self.scan_sizes, self.scan_size_spread.clip(min=LEAST_SPREAD), every)

    @torch.no_grad()
    def bodies(self) -> list[Body]:
        moved_mm = (self.moves * self.error_mm).double().numpy()
        scales, turns = self._scales().double().numpy(), self._turns().double().numpy()
        return [
            Body(
                body.centre_lps + body.axes_lps @ moved,
                body.axes_lps @ turn,
                body.extent_mm * scale,
                min(body.error_mm, ALIGNED_ERROR_MM),
                body.fill,
            )
            if compared
            else body
            for body, moved, turn, scale, compared in zip(
                self.annotated, moved_mm, turns, scales, self.member.any(dim=1).tolist(), strict=True
            )
        ]

    def _scales(self) -> torch.Tensor:
        """(N, 3) factors of the sizes along the axes."""
        logs = self.own_sizes * self.own_size_spread + (self.scan_sizes * self.scan_size_spread)[self.scan]
        return torch.exp(torch.cat([logs.mean(dim=1, keepdim=True), logs], dim=1))

    def _turns(self) -> torch.Tensor:
        """(N, 3, 3) rotations about the left-right axis."""
        angle = self.tilts[:, 0] * TILT_SPREAD
        zero, one, cos, sin = torch.zeros_like(angle), torch.ones_like(angle), torch.cos(angle), torch.sin(angle)
        return torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)

    def _seen(self) -> torch.Tensor:
        """(N, 3, P) edges about the changed vertebrae, each axis with mean 0 and norm 1."""
        nodes_mm = self.nodes * (self._scales() * self.half_mm)[:, None]
        position_mm = nodes_mm @ self._turns().transpose(1, 2) + (self.moves * self.error_mm)[:, None]
        position = (position_mm / self.half_mm[:, None] / HELD).view(-1, *COMPARED_NODES, 3)
        # `grid_sample` counts axes from the last.
        sampled = grid_sample(self.edges, position.flip(-1), padding_mode="border", align_corners=True).flatten(2)
        return self._normalised(sampled - (sampled * self.weights).sum(dim=-1, keepdim=True))

    def _normalised(self, values: torch.Tensor) -> torch.Tensor:
        return values * torch.rsqrt((values.square() * self.weights).sum(dim=-1, keepdim=True) + 1e-6)


def _take_out_common(values: torch.Tensor, spread: torch.Tensor, member: torch.Tensor) -> None:
    """Move all members of a part together, in place, so that their squares become least.

    Parameters
    ----------
    values : (N, K), in standard deviations; spread : (N, 1), the standard deviations; member : (N, parts) 0 or 1
    """
    common = (member.T @ (values / spread)) / (member.T @ (1 / spread.square()))
    values -= member @ common / spread


def _compared_nodes() -> torch.Tensor:
    """(P, 3) positions in half sizes."""
    ticks = [torch.linspace(-COMPARED, COMPARED, nodes) for nodes in COMPARED_NODES]
    return torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1).flatten(0, 2)


def _weights(nodes: torch.Tensor) -> torch.Tensor:
    """(P,) of the compared positions, sum 1."""
    beyond = (nodes.abs().amax(dim=-1) - 1).clip(min=0)
    weights = torch.exp(-0.5 * (beyond / INSIDE_FALL).square())
    return weights / weights.sum()
