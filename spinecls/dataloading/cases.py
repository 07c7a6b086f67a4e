"""A preprocessed case as training uses it: arrays in memory, labels as numbers, and what is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spinecls.anatomy import RANK
from spinecls.beliefs import Belief
from spinecls.beliefs.readers import Readers
from spinecls.curve import image_tangents_lps
from spinecls.dataloading.beyond import distance_to_sacrum_mm, implied_neighbours, unknown_zone
from spinecls.dataloading.body_shapes import level_extent_mm, likely_bodies
from spinecls.dataloading.forms import CompiledMap, body_mask, depth_mm, tolerance_mm
from spinecls.dataloading.placed import PlacedVertebra, axes_and_sizes_mm, placed_vertebrae
from spinecls.dataloading.readings import label_of
from spinecls.dataloading.rough import largest_growth_mm
from spinecls.geometry import Geometry
from spinecls.io.annotation_forms import PARTLY_DRAWN
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.planning.plan import Configuration, Plan
from spinecls.records import EXACT
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import Region, mask_distance, padded_box, region_from_ellipsoid
from spinecls.sealing.sealing_levels import is_guaranteed

CORE_SHARE = 0.7
"""Share of a vertebra's size that surely is marrow, used for the marrow reference without a mask."""

UNKNOWN = 255
"""Value of voxels of which nothing is known, in the maps of training patches."""


@dataclass(frozen=True)
class SealedSource:
    """What the crops of one training vertebra are cut from.

    Attributes
    ----------
    image : (C, s, r, a) native voxels of the vertebra's box; for open crops those of the whole image, which all
        vertebrae of a case share
    box : grid of the vertebra's box
    distance : in-plane distance (mm) to the border of the vertebra's hull, see `sealing.region.mask_distance`; None
        without a mask
    centre_lps, tangent_lps, extent_mm : for the ellipsoid
    marrow : (C, 2)
    lesions : (s, r, a) codes of drawn structures where `image` is, or None
    label : belief about the class
    case : identifier of its case
    level : its name
    grid : grid of `image` and `lesions`; None = `box`
    """

    image: np.ndarray
    box: Geometry
    distance: np.ndarray | None
    centre_lps: np.ndarray
    tangent_lps: np.ndarray
    extent_mm: np.ndarray
    marrow: np.ndarray
    lesions: np.ndarray | None
    label: Belief
    case: str
    level: str
    grid: Geometry | None = None


@dataclass(frozen=True)
class LabelledRegion:
    """What is believed of the class of a vertebra, and how many voxels it has on the grid of the open pass."""

    label: Belief
    voxels: float


@dataclass(frozen=True)
class TrainingCase:
    """One case on the grid of the open pass.

    Attributes
    ----------
    identifier : its name in the dataset
    image : (C, S, R, A) float32
    vertebra_map : (S, R, A) uint8, 0 background, i + 1 the vertebra in row i of `centres`, 254 one whose centre a view
        cut off, `UNKNOWN`; None = no map
    structures : (S, R, A) uint8, codes of structuresTr, `UNKNOWN`; None = no map
    unknown : (S, R, A) bool, where vertebrae may be visible and are not annotated
    bodies : (S, R, A) uint8, numbered like `vertebra_map`, the voxels that most likely are of each vertebra; None = as
        in the vertebra map
    centres : (N, 3) continuous index; `ranks` (N,) places of the levels in `anatomy.LEVELS`, -1 = unknown
    spacing_mm : (3,) voxel size along slices, rows and columns
    axes : (N, 3, 3), columns = unit vectors of each vertebra left-right, along the spine from head to feet, and
        front-back, in millimetres along slices, rows and columns
    implied, implied_ranks : (M, 3), (M,) about where unannotated neighbours of the annotated span are, and their levels
    compiled : by map (`vertebra_map`, `structures`) what its annotation says of the voxels; empty unless the trainer
        learns beliefs
    classes : of the vertebrae in the rows of `centres`; empty where there are no classes
    """

    identifier: str
    image: np.ndarray
    vertebra_map: np.ndarray | None
    structures: np.ndarray | None
    unknown: np.ndarray
    centres: np.ndarray
    ranks: np.ndarray
    spacing_mm: np.ndarray
    axes: np.ndarray
    implied: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    implied_ranks: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    compiled: Mapping[str, CompiledMap] = field(default_factory=dict)
    classes: Sequence[LabelledRegion] = ()
    bodies: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray:
        """(S, R, A) as `vertebra_map`, every vertebra with the voxels that most likely are its own."""
        numbers = self.vertebra_map if self.bodies is None else self.bodies
        if numbers is None:
            raise ValueError(
                f"Case {self.identifier}: has neither vertebra_map nor bodies, so nothing tells which voxels are of "
                "which vertebra. Give one of them; `training_case` makes bodies where there is no map."
            )
        return numbers


def training_case(case: PreprocessedCase, plan: Plan) -> TrainingCase:
    """Arrays and labels of the open pass."""
    form = (case.annotation_form.vertebrae or EXACT).form
    placed = placed_vertebrae(case)
    levels = [v.level for v in placed]
    centres_lps = np.array([v.centre_lps for v in placed]).reshape(-1, 3)
    centres = case.geometry.to_index(centres_lps).reshape(-1, 3)
    extents = np.array([level_extent_mm(plan, level) for level in levels]).reshape(-1, 3)
    spacing = np.asarray(case.geometry.spacing_mm, float)
    vertebra_map = None
    if case.vertebra_map is not None and form != "none":
        vertebra_map = np.zeros(case.vertebra_map.shape, np.uint8)
        for row, level in enumerate(levels):
            vertebra_map[case.vertebra_map == plan.levels[level]] = row + 1
        vertebra_map[case.vertebra_map == plan.ignore_label] = UNKNOWN
    implied, implied_ranks = np.zeros((0, 3)), np.zeros(0, int)
    if not plan.vertebrae_complete:
        implied, implied_ranks = implied_neighbours(plan, levels, centres, spacing)
    unknown = _unknown_voxels(case, plan, levels, centres, spacing, extents, implied[implied_ranks == RANK["S1"]])
    if vertebra_map is not None:
        drawn_on = _drawn_on(vertebra_map, form, UNKNOWN)
        vertebra_map[(vertebra_map == 0) & (unknown | ~drawn_on)] = UNKNOWN
        _leave_open_where_not_drawn(vertebra_map, centres, spacing, extents)
    partly = form in PARTLY_DRAWN
    axes, sizes = axes_and_sizes_mm(plan, case.geometry, placed)
    bodies = None
    if vertebra_map is None or partly or len(np.setdiff1d(np.arange(len(centres)) + 1, vertebra_map)):
        bodies = likely_bodies(case.geometry, vertebra_map, centres_lps, axes, sizes, UNKNOWN, partly)
    in_image = np.all((implied >= 0) & (implied <= np.asarray(case.image.shape[1:]) - 1), axis=1)
    return TrainingCase(
        identifier=case.identifier,
        image=np.asarray(case.image, np.float32),
        vertebra_map=vertebra_map,
        structures=_drawn_structures(case.structures, case, plan.ignore_label),
        unknown=unknown,
        centres=centres,
        ranks=np.array([RANK[level] for level in levels], int),
        spacing_mm=spacing,
        axes=np.asarray(case.geometry.direction, float).T @ axes,
        implied=implied[in_image],
        implied_ranks=implied_ranks[in_image],
        bodies=bodies,
    )


def _unknown_voxels(case: PreprocessedCase, plan: Plan, levels, centres, spacing_mm, extents_mm, sacrum) -> np.ndarray:
    """Where a vertebra may be visible without a centre: nowhere there is the heat map taught to be cold."""
    shape = case.image.shape[1:]
    if any(v.centre_lps is None for v in case.vertebrae):
        # A listed vertebra without a position may be anywhere.
        return np.ones(shape, bool)
    unknown = np.zeros(shape, bool)
    if not plan.vertebrae_complete:
        lowest = max(levels, key=RANK.__getitem__) if levels else None
        reach_mm = np.inf if lowest is None else distance_to_sacrum_mm(plan, lowest)
        unknown = unknown_zone(shape, centres, spacing_mm, extents_mm, reach_mm, sacrum[0] if len(sacrum) else None)
    if case.vertebra_map is not None:
        # What was left open because nobody drew there is no sign of further vertebrae.
        form = (case.annotation_form.vertebrae or EXACT).form
        drawn_on = _drawn_on(case.vertebra_map, form, plan.ignore_label)
        unknown |= (case.vertebra_map == plan.ignore_label) & drawn_on
    return unknown


def _drawn_on(labels: np.ndarray, form: str, ignored: int) -> np.ndarray:
    """Where background is meant: not on scribbled slices, and of some slices on those that show something.

    Returns
    -------
    bool array, (S, 1, 1) or (1, 1, 1)
    """
    if form == "slices":
        return ((labels > 0) & (labels != ignored)).any(axis=(1, 2), keepdims=True)
    return np.full((1, 1, 1), form != "scribble")


def _leave_open_where_not_drawn(vertebra_map: np.ndarray, centres, spacing_mm, extents_mm) -> None:
    """Around a centre whose vertebra the map does not show, background becomes unknown; in place."""
    grid = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(vertebra_map.shape, spacing_mm, strict=True)), indexing="ij", sparse=True
    )
    for row, (centre, extent) in enumerate(zip(centres, extents_mm, strict=True)):
        if not np.any(vertebra_map == row + 1):
            squared = sum(((g - c * s) / e) ** 2 for g, c, s, e in zip(grid, centre, spacing_mm, extent, strict=True))
            vertebra_map[(squared <= 1) & (vertebra_map == 0)] = UNKNOWN


def sealed_sources(
    case: PreprocessedCase,
    plan: Plan,
    configuration: Configuration,
    use_masks: bool,
    readers: Readers | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
) -> list[SealedSource]:
    """What the sealed crops of a case are cut from, one for each vertebra with a position and a class reading.

    Parameters
    ----------
    use_masks : whether regions come from masks, as they will at prediction when the model segments; else ellipsoids.
        Maps that are drawn in part only give none, but what is annotated loosely has a body (see
        `compiled.AnnotationCompiler.placed`), in which the model that learns it will see the vertebra
    readers, expected : as for `dataloading.readings.label_of`
    """
    placed = placed_vertebrae(case)
    if not placed:
        return []
    centres = np.array([v.centre_lps for v in placed])
    tangents = image_tangents_lps(centres, case.native_geometry)
    partly = (case.annotation_form.vertebrae or EXACT).form in PARTLY_DRAWN
    drawn = case.native_map if use_masks and not partly else None
    masks = [_mask(case, plan, vertebra, drawn) if use_masks else None for vertebra in placed]
    largest_margin = configuration.sealing_margin_mm + largest_growth_mm(configuration.region_error_mm)
    marrow = _case_marrow(case, plan, placed, centres, tangents, masks)
    sealed = is_guaranteed(configuration.seal)
    sources = []
    for vertebra, centre, tangent, mask in zip(placed, centres, tangents, masks, strict=True):
        label = label_of(vertebra, plan, readers, expected, vertebra.certainty)
        if label.weight == 0:
            continue
        extent = level_extent_mm(plan, vertebra.level)
        source = _source(case, mask, centre, tangent, extent, largest_margin)
        if source is None:
            continue
        box, slices, distance = source
        sources.append(
            SealedSource(
                image=np.ascontiguousarray(case.native[(slice(None), *slices)], np.float32) if sealed else case.native,
                box=box,
                distance=distance,
                centre_lps=centre,
                tangent_lps=tangent,
                extent_mm=extent,
                marrow=marrow,
                lesions=_lesions(case, slices if sealed else None, plan.ignore_label),
                label=label,
                case=case.identifier,
                level=vertebra.level,
                grid=None if sealed else case.native_geometry,
            )
        )
    return sources


def _mask(case: PreprocessedCase, plan: Plan, vertebra: PlacedVertebra, drawn: np.ndarray | None) -> np.ndarray | None:
    """(S, R, A) bool on the native grid, a vertebra as drawn or as believed; None where nothing tells it."""
    mask = None if drawn is None else drawn == plan.levels[vertebra.level]
    if (mask is None or not mask.any()) and vertebra.body is not None:
        mask = body_mask(case.native_geometry, vertebra.body)
    return mask if mask is not None and mask.any() else None


def _lesions(case: PreprocessedCase, slices, ignore_label: int) -> np.ndarray | None:
    """Drawn structures of a box, or (None) of the whole image; what was left open is `UNKNOWN`."""
    if case.native_structures is None:
        return None
    drawn = _drawn_structures(case.native_structures, case, ignore_label)
    form = case.annotation_form.structures or EXACT
    if drawn is not None and form.form == "coarse":
        for code in np.setdiff1d(drawn, (0, UNKNOWN)):
            near = np.abs(depth_mm(case.native_structures == code, case.native_geometry.spacing_mm))
            drawn[near <= tolerance_mm(form)] = UNKNOWN
    # A copy, or the whole map would stay in memory.
    return drawn if slices is None or drawn is None else drawn[slices].copy()


def _drawn_structures(structures: np.ndarray | None, case: PreprocessedCase, ignore_label: int) -> np.ndarray | None:
    """Codes of structures, `UNKNOWN` where nobody drew; None when there is no map, or it is said to be none."""
    form = (case.annotation_form.structures or EXACT).form
    if structures is None or form == "none":
        return None
    background = (structures == 0) & ~_drawn_on(structures, form, ignore_label)
    return np.where((structures == ignore_label) | background, np.uint8(UNKNOWN), structures)


def labelled_regions(
    case: PreprocessedCase,
    trained: TrainingCase,
    plan: Plan,
    readers: Readers | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
) -> tuple[LabelledRegion, ...]:
    """What is believed of the classes of the vertebrae of a training case, in the order of its centres.

    Parameters
    ----------
    readers, expected : as for `dataloading.readings.label_of`
    """
    placed = placed_vertebrae(case)
    voxels = np.bincount(trained.numbers.ravel(), minlength=len(placed) + 1)[1 : len(placed) + 1]
    return tuple(
        LabelledRegion(label_of(vertebra, plan, readers, expected, vertebra.certainty), float(count))
        for vertebra, count in zip(placed, voxels, strict=True)
    )


def _source(case: PreprocessedCase, mask: np.ndarray | None, centre, tangent, extent, margin_mm: float):
    """Grid, slices and hull distance of the box that holds a vertebra and its largest margin."""
    if mask is not None:
        low, high = padded_box(mask, margin_mm, case.native_geometry)
        # Room for a slice beside the vertebra, into which a rough outline may reach.
        low[0], high[0] = max(0, low[0] - 1), min(mask.shape[0], high[0] + 1)
        slices = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        distance = mask_distance(mask[slices], case.native_geometry.spacing_mm)
        return case.native_geometry.cropped(low, high), slices, distance
    # Room for the jitter of the ellipsoid's size and place.
    region = region_from_ellipsoid(case.native_geometry, centre, tangent, extent * 1.15 + 2 * margin_mm + 6)
    return None if region is None else (region.geometry, region.slices, None)


def _case_marrow(case, plan, placed, centres, tangents, masks) -> np.ndarray:
    """Marrow reference of a training case, by the same kind of region as at prediction."""
    regions = []
    for vertebra, centre, tangent, mask in zip(placed, centres, tangents, masks, strict=True):
        if mask is not None:
            regions.append(Region(mask, (0, 0, 0), case.native_geometry, "mask"))
        else:
            core = core_region(case.native_geometry, centre, tangent, level_extent_mm(plan, vertebra.level))
            regions += [core] if core is not None else []
    return marrow_reference(case.native, regions)


def core_region(
    geometry: Geometry, centre_lps: np.ndarray, tangent_lps: np.ndarray, extent_mm: np.ndarray
) -> Region | None:
    """The inner part of a vertebra without a mask."""
    return region_from_ellipsoid(geometry, centre_lps, tangent_lps, CORE_SHARE * np.asarray(extent_mm))
