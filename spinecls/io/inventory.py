"""What was understood of a raw dataset, in numbers that a person can compare with what they meant."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spinecls.anatomy import COMMON_PITCH, RANK
from spinecls.geometry import Geometry
from spinecls.io.case_facts import CaseFacts
from spinecls.io.case_table import read_sequences
from spinecls.io.dataset_tables import Table
from spinecls.io.name_checks import median_pitch, region_like
from spinecls.records import Case, DatasetDescription


def inventory(
    folder: Path,
    description: DatasetDescription,
    cases: Sequence[Case],
    unlabelled: Sequence[Case],
    facts: Mapping[str, CaseFacts],
    table: Table,
) -> dict:
    """Plain types for JSON: cases, patients, sites, sequences, grids, levels and classes.

    A level has `vertebrae`, of these `in_map`, `point`, `box` and `no_position` (the first that holds), and the median
    `voxels` and `height_mm` (see `map_codes.LevelInMap`) of those in maps. A class has
    `vertebrae` and `patients` of which one reading at least names it alone. `pitch` tells how far neighbours lie apart.
    """
    levels: dict[str, list[tuple[Case, int]]] = {}
    for case in cases:
        for number, vertebra in enumerate(case.vertebrae):
            levels.setdefault(vertebra.level, []).append((case, number))
    sequences = read_sequences(folder)
    known = [case.identifier for case in (*cases, *unlabelled)]
    return {
        "annotated_cases": len(cases),
        "unannotated_cases": len(unlabelled),
        "vertebrae": sum(len(case.vertebrae) for case in cases),
        "patients": len({case.patient for case in cases}),
        "sites": _counts(case.site for case in cases if case.site),
        "sequences": _counts(sequences[name] for name in known if name in sequences),
        "channels": list(description.channel_names),
        "grids": _counts(
            _grid(geometry, facts[name].orientation) for name in known if (geometry := facts[name].geometry) is not None
        ),
        "levels": {
            level: _level(level, description.levels[level], levels[level], facts)
            for level in sorted(levels, key=RANK.__getitem__)
        },
        "pitch": _pitch(facts, table),
        "classes": _classes(description.class_names, cases),
        "not_read": {text or "(empty)": count for text, count in sorted(table.not_read.items())},
    }


def _counts(values) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _grid(geometry: Geometry, orientation: str) -> str:
    """Spacing of the canonical axes (left-right, head-feet, front-back), rounded, and the axes of the file."""
    spacing = " x ".join(f"{value:.2g}" for value in geometry.spacing_mm)
    return f"{spacing} mm {orientation}"


def _level(level: str, code: int, places: Sequence[tuple[Case, int]], facts: Mapping[str, CaseFacts]) -> dict:
    vertebrae = [case.vertebrae[number] for case, number in places]
    in_map = sum(v.in_map for v in vertebrae)
    points = sum(not v.in_map and v.centre_lps is not None for v in vertebrae)
    positioned = sum(v.has_position for v in vertebrae)
    drawn = [facts[case.identifier] for case, number in places if case.vertebrae[number].in_map]
    return {
        "code": code,
        "vertebrae": len(vertebrae),
        "in_map": in_map,
        "point": points,
        "box": positioned - in_map - points,
        "no_position": len(vertebrae) - positioned,
        "voxels": _median([item.voxels[level] for item in drawn]),
        "height_mm": _median([item.sizes_mm[level][1] for item in drawn]),
    }


def _pitch(facts: Mapping[str, CaseFacts], table: Table) -> dict:
    """Distance of neighbours in units of adults', and the region whose distances it has if not that of the names.

    Whether small distances are those of children or of other vertebrae, only a person can tell.
    """
    centres = {}
    for name, item in facts.items():
        rows = table.vertebrae.get(name, {}).items()
        boxes = {level: tuple(np.mean(row.box_lps, axis=0).tolist()) for level, row in rows if row.box_lps}
        points = {level: row.centre_lps for level, row in rows if row.centre_lps}
        centres[name] = {**boxes, **points, **item.centres_lps}
    median = median_pitch(centres)
    if median is None:
        return {}
    name, quotient, count = median
    low, high = COMMON_PITCH
    like = "" if low <= quotient <= high else region_like(centres[name])
    return {"of_adults": round(quotient, 2), "cases": count, "like": like}


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 1) if values else None


def _classes(names: Sequence[str], cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    vertebrae: Counter[str] = Counter()
    patients: dict[str, set[str]] = {name: set() for name in names}
    for case in cases:
        for vertebra in case.vertebrae:
            for name in {reading.classes[0] for reading in vertebra.readings if len(reading.classes) == 1}:
                vertebrae[name] += 1
                patients[name].add(case.patient)
    return {name: {"vertebrae": vertebrae[name], "patients": len(patients[name])} for name in names}
