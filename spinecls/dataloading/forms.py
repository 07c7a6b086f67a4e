"""From every form of annotation to beliefs of voxels and bags.

What a form says of a voxel for sure becomes mass on one class, what it leaves open stays open, and what it says of the
whole is a bag: sets alone would be satisfied by calling everything background. Boxes, points and strokes tell where a
body of usual shape lies, and so with which chance a voxel is of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from spinecls.beliefs.bags import Bag, BagMap, bag_map, exists_bag, size_bag
from spinecls.beliefs.looseness import ASSUMED_SLACK_MM, USUAL_FILL, Shapes
from spinecls.beliefs.voxel import VoxelBeliefs, voxel_beliefs
from spinecls.curve import image_tangents_lps
from spinecls.dataloading.body_shapes import Body, body_distance
from spinecls.errors import DatasetError
from spinecls.geometry import Geometry
from spinecls.records import AnnotationForm
from spinecls.sealing.region import box_about, ellipsoid_distance, vertebra_axes
from spinecls.types import triple

BACKGROUND, VERTEBRA = 0, 1

NOISE_OF_UNSURE = 0.3
"""q of the loss where all that is said is a set of classes, of coarse structures, and where nobody drew: how little a
wrong voxel may cost, see `tasks.losses.belief_loss`.

Of all else it is 0: chances say themselves how wrong they may be, and only with q = 0 the best prediction of a chance
is that chance.
"""

COARSE_SPREAD = 0.25
"""Standard deviation, in parts of the tolerance, by which a coarse outline is taken to be off.

It is off by more, 0.6 to 0.8 of it. But that differs from vertebra to vertebra, so what is learnt of many is blurred by
it already; blurred twice, narrow slices grow (overlap of what was learnt with outlines 0.873, with this value 0.879).
"""

SHAPE_SPREAD = 0.12
"""Scatter of the place of a body's surface in parts of half its size, for bodies differ in size and shape."""

SLACK_ERROR = 1 / 3
"""How uncertain the place of a loose box's face is, in parts of its slack."""

DUAL_POWER = 4 / 3
"""Of the power 4 that stands for how far a tilted body reaches: 1/4 + 1/DUAL_POWER = 1.

Of 1 (a block), 1.15, 4/3, 1.6 and 2 it gave believed bodies the greatest overlap with outlined lumbar ones.
"""

FILL_OF_REACH = 0.57
"""Share of the box along its own axes through its outermost points that a body fills, for rims and corners stand out.

That of some ninety outlined lumbar bodies is 0.58; with 0.57 what is believed in tight boxes is as large as outlines.
"""

WELL_TOLD = 0.3
"""Relative size of a singular value from which on the tilt of a body is told apart from its size; so up to 32°."""

REACH_OF_LEVEL = 1.35
"""Of the usual size of a level in this spine, what a vertebra of known centre cannot reach beyond."""

POINT_ERROR_MM = 2.0
"""Error of points of which nobody told it, along each axis."""

SCRIBBLE_ERROR_MM = 1.0
"""Error of the centre that a scribble gives; strokes are parts of the midline. On lumbar bodies it is 0.6 to 0.9."""


@dataclass(frozen=True)
class MarkedVertebra:
    """What is known of one vertebra on a grid.

    Attributes
    ----------
    body : where it lies
    box_lps : two corners, where it was boxed
    drawn : (S, R, A) bool, where the map shows it
    """

    body: Body
    box_lps: tuple[Sequence[float], Sequence[float]] | None = None
    drawn: np.ndarray | None = None


@dataclass(frozen=True)
class CompiledMap:
    """What the voxels of a case may be, and its regions; `q` is that of the loss."""

    beliefs: VoxelBeliefs
    bags: BagMap
    q: float = 0.0

    def cropped(self, view: tuple[slice, slice, slice]) -> CompiledMap:
        """A part of the map; regions keep their whole size, so that those cut off are known to be."""
        beliefs, bags = self.beliefs, self.bags
        return CompiledMap(
            dataclasses.replace(beliefs, codes=beliefs.codes[view]),
            dataclasses.replace(bags, codes=bags.codes[view]),
            self.q,
        )


def bodies_of(
    geometry: Geometry,
    centres_lps: np.ndarray,
    extents_mm: np.ndarray,
    boxes_lps: Sequence[tuple[Sequence[float], Sequence[float]] | None],
    form: AnnotationForm,
    slack_mm: float = ASSUMED_SLACK_MM,
    fill_of_extent: float = USUAL_FILL,
) -> list[Body]:
    """Bodies of the vertebrae of a scan, tilted as the spine is.

    Parameters
    ----------
    centres_lps : (N, 3) world mm; extents_mm : (N, 3) usual sizes, for those without a box
    boxes_lps : two corners each, or None
    form : as for `compile_vertebrae`; boxes count in the form `box` alone
    slack_mm : of boxes of which the form does not say it
    fill_of_extent : share of the box of its usual size that a body fills
    """
    if not len(centres_lps):
        return []
    slack_mm = _told_mm(form.slack_mm, slack_mm)
    error_mm = SCRIBBLE_ERROR_MM if form.form == "scribble" else _told_mm(form.jitter_mm, POINT_ERROR_MM)
    tangents = image_tangents_lps(np.asarray(centres_lps, float), geometry)
    bodies = []
    for centre, tangent, extent, box in zip(centres_lps, tangents, extents_mm, boxes_lps, strict=True):
        axes = vertebra_axes(geometry, tangent)
        if box is None or form.form != "box":
            bodies.append(Body(np.asarray(centre, float), axes, np.asarray(extent, float), error_mm, fill_of_extent))
        else:
            low, high = np.asarray(box, float)
            extent = boxed_extent_mm(axes, _tight_edges_mm(low, high, slack_mm))
            bodies.append(Body((low + high) / 2, axes, extent, SLACK_ERROR * slack_mm, FILL_OF_REACH))
    return bodies


def _told_mm(told: float | None, usual: float) -> float:
    return float(usual if told is None else told)


def tolerance_mm(form: AnnotationForm) -> float:
    """How far coarse outlines may be off.

    Raises
    ------
    DatasetError
        When the form does not say it.
    """
    if form.tolerance_mm is None:
        raise DatasetError(
            f"Annotation of the form {form.form!r} without tolerance_mm: expected how far its outlines may be off. "
            "Give tolerance_mm (mm) in annotationsTr.json and run spinecls_plan_and_preprocess again."
        )
    return float(form.tolerance_mm)


def body_mask(geometry: Geometry, body: Body) -> np.ndarray:
    """(S, R, A) bool, the voxels of a vertebra if it has the usual shape."""
    low, high = box_about(geometry, body.centre_lps, body.axes_lps, body.size_mm)
    mask = np.zeros(geometry.shape, bool)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    distance = body_distance(geometry.cropped(low, high), body.centre_lps, body.axes_lps, body.extent_mm)
    mask[box] = distance <= body.surface
    return mask


def compile_vertebrae(
    geometry: Geometry,
    vertebrae: Sequence[MarkedVertebra],
    form: AnnotationForm,
    background: np.ndarray,
    unknown: np.ndarray,
    shapes: Shapes,
    slack_mm: float = ASSUMED_SLACK_MM,
) -> CompiledMap:
    """Beliefs about background (0) and vertebra (1), of any form but `probability` (`compile_chances`).

    Parameters
    ----------
    background : (S, R, A) bool, what an exact map says to be none; for other forms it is worked out here
    unknown : (S, R, A) bool, where vertebrae may be that nobody annotated
    slack_mm : of boxes of which the form does not say it
    """
    name = form.form
    drawn = _any([v.drawn for v in vertebrae if v.drawn is not None], geometry.shape)
    if name in ("mask", "slices", "none"):
        q = NOISE_OF_UNSURE if name == "none" else 0.0
        return CompiledMap(_two(background & ~drawn, drawn), bag_map([], geometry.shape, 2), q)
    if name == "coarse":
        return _coarse(geometry, vertebrae, tolerance_mm(form), ~(background | drawn))
    # A map beside boxes or points may be those filled; what a scribble shows is sure.
    sure = drawn.astype(np.float32) if name == "scribble" else np.zeros(geometry.shape, np.float32)
    likely, bags = sure.copy(), []
    for vertebra in vertebrae:
        if vertebra.box_lps is not None and name == "box":
            own, bag = _of_box(geometry, vertebra, _told_mm(form.slack_mm, slack_mm), shapes)
        else:
            own, bag = _of_centre(geometry, vertebra.body, shapes)
        likely = np.maximum(likely, own)
        bags += [bag] if bag is not None else []
    # Of what is not next to a vertebra nothing is said where nobody drew.
    fields = _chance_fields(likely, unknown if vertebrae else np.ones(geometry.shape, bool))
    return CompiledMap(voxel_beliefs(fields, 2), bag_map(bags, geometry.shape, 2))


def compile_chances(chances: np.ndarray, unknown: np.ndarray) -> CompiledMap:
    """Beliefs about background (0) and vertebra (1), from (S, R, A) chances in 0..1 of each voxel to be vertebra."""
    return CompiledMap(voxel_beliefs(_chance_fields(chances, unknown), 2), bag_map([], triple(chances.shape), 2))


def compile_structures(
    labels: np.ndarray, form: AnnotationForm, num_classes: int, unknown: int, spacing_mm
) -> CompiledMap:
    """Beliefs about auxiliary structures, from a map of class indices.

    Of a coarse map the ring about each outline is the structure, or one that it touches, or background; each is at
    least as large as its sure part. Of other forms what nobody drew is `unknown` in the map, which says nothing.
    """
    known = labels != unknown
    name = form.form
    q = NOISE_OF_UNSURE if name in ("coarse", "none") else 0.0
    fields: dict[tuple[int, ...], np.ndarray]
    if name != "coarse":
        fields = {(index,): (labels == index) & known for index in range(num_classes)}
        return CompiledMap(voxel_beliefs(fields, num_classes), bag_map([], labels.shape, num_classes), q)
    within_mm = tolerance_mm(form)
    depths = {index: depth_mm(labels == index, spacing_mm) for index in range(1, num_classes)}
    rings = np.stack([np.abs(depth) <= within_mm for depth in depths.values()])
    fields = {(index,): (depth > within_mm) & known for index, depth in depths.items()}
    fields[(0,)] = (labels == 0) & ~rings.any(axis=0)
    for among in np.unique(rings.reshape(len(rings), -1), axis=1).T:
        if among.any():
            # Between structures that touch it is one of them, or none.
            here = (rings == among[:, None, None, None]).all(axis=0) & known
            sure = np.any([depth > within_mm for depth in depths.values()], axis=0)
            fields[(0, *(np.flatnonzero(among) + 1).tolist())] = here & ~sure
    bags = []
    for index, depth in depths.items():
        region = depth > -within_mm
        sure = (depth > within_mm).sum()
        if region.any() and sure:
            bags.append(size_bag(region, (index,), sure / region.sum(), 1.0))
        elif region.any():
            # Too thin to be sure of any voxel, but somewhere it is.
            bags.append(exists_bag(region, (index,), float(np.prod(spacing_mm))))
    return CompiledMap(voxel_beliefs(fields, num_classes), bag_map(bags, labels.shape, num_classes), q)


def depth_mm(mask: np.ndarray, spacing_mm) -> np.ndarray:
    """In-plane distance to the outline, slice by slice: positive inside, minus infinity on slices without the mask.

    The outline runs between the last voxel inside and the first one outside, so half a voxel lies on either side.
    """
    plane_mm = np.asarray(spacing_mm, float)[1:]
    depth = np.full(mask.shape, -np.inf, np.float32)
    for number in np.flatnonzero(mask.any(axis=(1, 2))):
        inside = ndimage.distance_transform_edt(mask[number], sampling=plane_mm)
        outside = ndimage.distance_transform_edt(~mask[number], sampling=plane_mm)
        depth[number] = np.where(mask[number], inside - plane_mm.min() / 2, plane_mm.min() / 2 - outside)
    return depth


def _two(background: np.ndarray, vertebra: np.ndarray) -> VoxelBeliefs:
    return voxel_beliefs({(BACKGROUND,): background, (VERTEBRA,): vertebra}, 2)


def _chance_fields(chances: np.ndarray, unknown: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Masses of chances to be vertebra.

    Where the next vertebra may be, and nobody was asked of it, a chance below one half speaks of this one only.
    """
    return {
        (BACKGROUND,): (1 - chances) * ~unknown,
        (VERTEBRA,): np.where(unknown, np.clip(2 * chances - 1, 0, 1), chances),
    }


def _any(masks: Sequence[np.ndarray], shape) -> np.ndarray:
    return np.logical_or.reduce(masks) if len(masks) else np.zeros(shape, bool)


def _coarse(geometry, vertebrae, tolerance_mm: float, unknown: np.ndarray) -> CompiledMap:
    """Chance of every voxel to be inside: the outline is as often too far out as too far in."""
    likely = np.zeros(geometry.shape, np.float32)
    bags = []
    for vertebra in vertebrae:
        if vertebra.drawn is None or not vertebra.drawn.any():
            continue
        depth = depth_mm(vertebra.drawn, geometry.spacing_mm)
        likely = np.maximum(likely, ndtr(depth / max(COARSE_SPREAD * tolerance_mm, 1e-3)))
        region = depth > -tolerance_mm
        bags.append(size_bag(region, (VERTEBRA,), (depth > tolerance_mm).sum() / region.sum(), 1.0))
    beliefs = voxel_beliefs(_chance_fields(likely, unknown), 2)
    return CompiledMap(beliefs, bag_map(bags, geometry.shape, 2))


def _of_box(
    geometry: Geometry, vertebra: MarkedVertebra, slack_mm: float, shapes: Shapes
) -> tuple[np.ndarray, Bag | None]:
    """Chance of every voxel to be of the boxed vertebra, and how many of the box are."""
    low, high = np.asarray(vertebra.box_lps, float)
    region = inside_box(geometry, low, high)
    edges = _tight_edges_mm(low, high, slack_mm)
    likely = _likely(geometry, vertebra.body) * region
    if not region.any():
        return likely, None
    share = float(np.prod(edges) / np.prod(high - low))
    # Of a tight box every plane meets the body, at its ends in a corner that nobody knows. Asked for (`Bag.line`), the
    # whole end grew; without, the believed shape is met better.
    return likely, size_bag(region, (VERTEBRA,), shapes.fill_of_box[0] * share, min(1.0, shapes.fill_of_box[1] * share))


def _tight_edges_mm(low_lps: np.ndarray, high_lps: np.ndarray, slack_mm: float) -> np.ndarray:
    """Edges of a box without its slack, at least a millimetre."""
    return np.maximum(high_lps - low_lps - 2 * slack_mm, 1.0)


def boxed_extent_mm(axes_lps: np.ndarray, edges_mm: np.ndarray) -> np.ndarray:
    """Size along its own axes, rims and corners included, of a body that touches every face of a box of the world.

    A body |x / a|^4 + |y / b|^4 + |z / c|^4 <= 1 reaches along a unit vector n as far as
    ((n_x a)^(4/3) + (n_y b)^(4/3) + (n_z c)^(4/3))^(3/4) (Hoelder's inequality), so these powers of edges and sizes
    depend on each other linearly. So sizes of tilted bodies come out nearer to those outlined than as sizes of blocks,
    which reach further. Near 45 degrees they cannot be told apart; then they are taken as equal.

    Parameters
    ----------
    axes_lps : (3, 3), columns = unit vectors of the body's axes
    edges_mm : of the box, along x, y and z
    """
    turn = np.abs(axes_lps)
    along = np.asarray(edges_mm, float)[turn.argmax(axis=0)]
    powers = np.linalg.pinv(turn**DUAL_POWER, rcond=WELL_TOLD) @ np.asarray(edges_mm, float) ** DUAL_POWER
    return np.clip(powers.clip(min=0) ** (1 / DUAL_POWER), along / 2, along)


def _of_centre(geometry: Geometry, body: Body, shapes: Shapes) -> tuple[np.ndarray, Bag | None]:
    """Chance of every voxel to be of the vertebra with this centre, and how many of those near it are."""
    likely = _likely(geometry, body)
    reach_mm = REACH_OF_LEVEL * body.extent_mm + 4 * body.error_mm
    reach = ellipsoid_distance(geometry, body.centre_lps, body.axes_lps, reach_mm) <= 1
    if not reach.any():
        return likely, None
    region_mm3 = reach.sum() * float(np.prod(geometry.spacing_mm))
    low, high = (fill * float(np.prod(body.extent_mm)) / region_mm3 for fill in shapes.fill_of_extent)
    return likely, size_bag(reach, (VERTEBRA,), min(low, 1.0), min(high, 1.0))


def _likely(geometry: Geometry, body: Body) -> np.ndarray:
    """(S, R, A) chance to lie in a body of usual shape; its surface scatters normally about where it is expected.

    What is learnt is the mean over many bodies that each are displaced by their error. Where that mean is one half, a
    ball of radius R has shrunk to R - error^2 / R (Gaussian blur moves a surface by half its variance times the
    curvature); so bodies are taken larger by that much. The scatter of shapes comes on top of the error.
    """
    radius_mm = np.prod(body.extent_mm) ** (1 / 3) / 2
    surface = body.surface * (1 + (body.error_mm / radius_mm) ** 2)
    spread = np.hypot(SHAPE_SPREAD, body.error_mm / (np.mean(body.extent_mm) / 2))
    distance = body_distance(geometry, body.centre_lps, body.axes_lps, body.extent_mm)
    return ndtr((surface - distance) / spread).astype(np.float32)


def inside_box(geometry: Geometry, low_lps: np.ndarray, high_lps: np.ndarray) -> np.ndarray:
    """(S, R, A) bool, voxels whose centres lie in a box along the world's axes."""
    ticks = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij", sparse=True)
    inside = np.ones(geometry.shape, bool)
    for axis in range(3):
        position = geometry.origin_lps[axis] + sum(t * s for t, s in zip(ticks, geometry.matrix[axis], strict=True))
        inside &= (position >= low_lps[axis]) & (position <= high_lps[axis])
    return inside
