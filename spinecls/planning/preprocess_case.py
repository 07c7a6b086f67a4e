"""One case in memory: its arrays on the native grid and on the configurations' grids, and its vertebrae."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from spinecls.anatomy import RANK
from spinecls.geometry import Geometry
from spinecls.io.preprocessed import GridPart, NativePart
from spinecls.io.preprocessed_records import PreparedVertebra
from spinecls.planning.plan import Configuration
from spinecls.planning.resample import resample_labels, resample_probabilities
from spinecls.planning.volume import Box, body_box, body_mask, preprocess_volume
from spinecls.records import Case, VertebraAnnotation
from spinecls.types import Point, triple

POINT_REACH_MM = 30.0
"""Half width of the box kept around a vertebra of which only the centre is known; lumbar bodies reach 28 mm."""


def prepare_case(
    case: Case,
    image: np.ndarray,
    geometry: Geometry,
    *,
    vertebra_map: np.ndarray | None,
    structures: np.ndarray | None,
    levels: Mapping[str, int],
    configurations: Sequence[Configuration],
    reader_maps: Sequence[np.ndarray] = (),
    chances: np.ndarray | None = None,
) -> tuple[NativePart, list[GridPart]]:
    """Everything that is stored of a case.

    Parameters
    ----------
    image : (C, S, R, A) array on `geometry`, canonical axes
    vertebra_map, structures : (S, R, A) uint8 on the same grid, or None
    levels : code of each level in the map
    reader_maps : the vertebra maps that `vertebra_map` was combined from, when there are several
    chances : (S, R, A) float in 0..1 on the same grid, of each voxel to belong to a vertebra, or None

    Returns
    -------
    native part, and one part a configuration
    """
    drawn = _drawn_levels(vertebra_map, levels)
    vertebrae = _describe_vertebrae(case.vertebrae, drawn, geometry)
    keep = _annotated_box(vertebrae, drawn, geometry)
    body = body_mask(image, geometry.spacing_mm)
    start, stop = body_box(body, geometry.spacing_mm, keep)
    part = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    native_geometry = geometry.cropped(start, stop)
    native_map = None if vertebra_map is None else vertebra_map[part]
    native_structures = None if structures is None else structures[part]
    native = NativePart(
        identifier=case.identifier,
        patient=case.patient,
        site=case.site,
        native=smallest_exact(image[(slice(None), *part)]),
        native_geometry=native_geometry,
        native_map=native_map,
        native_structures=native_structures,
        vertebrae=vertebrae,
        annotation_form=case.annotation_form,
    )
    read = [labels[part] for labels in reader_maps] if len(reader_maps) > 1 else []
    grids = []
    for configuration in configurations:
        opened = preprocess_volume(image, geometry, configuration, body, keep)
        readers = [resample_labels(labels, native_geometry, opened.geometry) for labels in read]
        grids.append(
            GridPart(
                identifier=case.identifier,
                image=opened.image.astype(np.float16),
                geometry=opened.geometry,
                vertebra_map=_on_grid(native_map, native_geometry, opened.geometry),
                structures=_on_grid(native_structures, native_geometry, opened.geometry),
                normalisation=opened.normalisation,
                reader_maps=np.stack(readers) if readers else None,
                chance_percent=None if chances is None else _percent(chances[part], native_geometry, opened.geometry),
            )
        )
    return native, grids


def _on_grid(labels: np.ndarray | None, source: Geometry, target: Geometry) -> np.ndarray | None:
    return None if labels is None else resample_labels(labels, source, target)


def _percent(chances: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Chances on another grid, uint8 from 0 to 100."""
    resampled = resample_probabilities(chances[None], source, target)[0]
    return np.rint(100 * np.clip(resampled, 0, 1)).astype(np.uint8)


def combine_readers(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Value that most readers gave each voxel; among equally many, that of the reader who comes first.

    Parameters
    ----------
    maps : arrays of one shape, one a reader, at least one
    """
    winner = maps[0].copy()
    most = np.sum([other == winner for other in maps], axis=0)
    for candidate in maps[1:]:
        votes = np.sum([other == candidate for other in maps], axis=0)
        better = votes > most
        winner[better] = candidate[better]
        most[better] = votes[better]
    return winner


def smallest_exact(image: np.ndarray) -> np.ndarray:
    """The same numbers as uint8, int16 or uint16 where all are whole and fit, else as float32."""
    low, high = float(image.min()), float(image.max())
    for kind in (np.uint8, np.int16, np.uint16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            whole = image.astype(kind)
            return whole if np.array_equal(whole, image) else np.asarray(image, np.float32)
    return np.asarray(image, np.float32)


class _Drawn(NamedTuple):
    """A level in the map: index (2, 3) of the first and the last voxel of its box, and centroid of its voxels."""

    box: np.ndarray
    centre: np.ndarray


def _drawn_levels(vertebra_map: np.ndarray | None, levels: Mapping[str, int]) -> dict[str, _Drawn]:
    """Levels that a map holds."""
    if vertebra_map is None:
        return {}
    boxes = ndimage.find_objects(vertebra_map)
    drawn = {}
    for level, code in levels.items():
        if 0 < code <= len(boxes) and (part := boxes[code - 1]) is not None:
            box = np.array([[along.start for along in part], [along.stop - 1 for along in part]])
            drawn[level] = _Drawn(box, np.argwhere(vertebra_map[part] == code).mean(axis=0) + box[0])
    return drawn


def _describe_vertebrae(
    annotated: Sequence[VertebraAnnotation], drawn: Mapping[str, _Drawn], geometry: Geometry
) -> tuple[PreparedVertebra, ...]:
    """Vertebrae of a case, from head to feet; those only the map knows are included.

    The centre is the centroid of the level's voxels, else the point of the table, else the middle of its box. A
    vertebra is truncated where its voxels or its box touch the first or last row or column of the image.
    """
    by_level = {vertebra.level: vertebra for vertebra in annotated}
    rows = []
    for level in sorted(by_level.keys() | drawn.keys(), key=RANK.__getitem__):
        vertebra = by_level.get(level, VertebraAnnotation(level=level))
        centre_lps, box_lps = vertebra.centre_lps, vertebra.box_lps
        index_box: np.ndarray | None = None
        if level in drawn:
            index_box = drawn[level].box
            centre_lps = _point(geometry.to_world(drawn[level].centre))
            if box_lps is None:
                corners = geometry.to_world(_corners(index_box))
                box_lps = _point(corners.min(axis=0)), _point(corners.max(axis=0))
        elif box_lps is not None:
            index_box = _index_range(box_lps, geometry)
            centre_lps = _point(np.mean(box_lps, axis=0)) if centre_lps is None else centre_lps
        rows.append(
            PreparedVertebra(
                level=level,
                centre_lps=None if centre_lps is None else _point(centre_lps),
                box_lps=None if box_lps is None else (_point(box_lps[0]), _point(box_lps[1])),
                in_map=level in drawn,
                truncated=index_box is not None and _touches_border(index_box, geometry.shape),
                readings=vertebra.readings,
            )
        )
    return tuple(rows)


def _point(values: Iterable[float]) -> Point:
    return triple(float(v) for v in values)


def _corners(pair) -> np.ndarray:
    """The eight corners of a box given by two opposite ones."""
    return np.array(list(itertools.product(*np.asarray(pair, float).T)))


def _index_range(box_lps, geometry: Geometry) -> np.ndarray:
    index = geometry.to_index(_corners(box_lps))
    return np.array([index.min(axis=0), index.max(axis=0)])


def _touches_border(index_box: np.ndarray, shape: Sequence[int]) -> bool:
    last = np.asarray(shape[1:]) - 1
    return bool(np.any(index_box[0, 1:] <= 0) or np.any(index_box[1, 1:] >= last))


def _annotated_box(
    vertebrae: Sequence[PreparedVertebra], drawn: Mapping[str, _Drawn], geometry: Geometry
) -> Box | None:
    """Start and stop index of the box around all annotated vertebrae, however they are annotated."""
    reach = POINT_REACH_MM / np.asarray(geometry.spacing_mm)
    ranges = []
    for vertebra in vertebrae:
        if vertebra.level in drawn:
            ranges.append(drawn[vertebra.level].box)
        elif vertebra.box_lps is not None:
            ranges.append(_index_range(vertebra.box_lps, geometry))
        elif vertebra.centre_lps is not None:
            centre = geometry.to_index(vertebra.centre_lps)
            ranges.append(np.array([centre - reach, centre + reach]))
    if not ranges:
        return None
    low = np.floor(np.min([r[0] for r in ranges], axis=0)).astype(int)
    high = np.ceil(np.max([r[1] for r in ranges], axis=0)).astype(int) + 1
    last = np.asarray(geometry.shape)
    return triple(int(v) for v in np.clip(low, 0, last)), triple(int(v) for v in np.clip(high, 0, last))
