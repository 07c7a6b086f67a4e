"""Points and boxes of a table, judged as maps are: inside the image, in order, apart as vertebrae are, of their size.

What is wrong in one case is read in other ways (RAS, voxels, centimetres ...), and the way that fits is named.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from spinecls.anatomy import PLAUSIBLE_PITCH, RANK, VERTEBRA_SIDE_MM, pitch_quotient
from spinecls.io.findings import Finding, error, warning
from spinecls.io.level_order import order_findings
from spinecls.io.name_checks import odd_step_text, region_like, unlike_median
from spinecls.io.position_readings import (
    AS_WRITTEN,
    READINGS,
    SAME_PLACE_MM,
    PlacedCase,
    Point,
    beside_middle_mm,
    descent_share,
    is_column,
)

_FROM_MAP_MM = 30.0
_NEARER_MM = 5.0
_AT_MAP_MM = 15.0
_IMPOSSIBLE_PITCH = (0.15, 1.6)
_LEAST_DESCENT = 0.25
_BESIDE_MM, _IN_MIDDLE_MM = 15.0, 8.0
_FEW = 3
_MOST_LOOKED_FOR = 20

Box = tuple[Point, Point]


def position_findings(placed: Sequence[PlacedCase]) -> list[Finding]:
    """Judge the positions of all cases of one kind, points or box centres, together."""
    fitting = {
        item.case: [name for name in READINGS if is_column(item.read_as(name), item.geometry)] for item in placed
    }
    votes = Counter(name for names in fitting.values() for name in names)
    findings = []
    lost = 0
    for item in placed:
        names = fitting[item.case]
        others = [] if AS_WRITTEN in names else sorted(names, key=lambda name: -votes[name])
        hint = f" They fit if read as {others[0]}." if others else ""
        if not names and lost < _MOST_LOOKED_FOR:
            lost += 1
            hint = _other_image(item, placed)
        of_case = _column_findings(item, hint, bool(others))
        if not any(finding.is_error for finding in of_case):
            of_case += _findings_beside_map(item) or _order_with_map(item)
        findings += of_case
    if all(AS_WRITTEN in names for names in fitting.values()):
        findings += _findings_beside_middle(placed, fitting) or _common_findings(placed)
    return findings + _copied_positions(placed)


def _column_findings(item: PlacedCase, hint: str, fits_otherwise: bool) -> list[Finding]:
    """Faults of the positions themselves; empty when they make a column in the image."""
    levels = sorted(item.positions, key=RANK.__getitem__)
    points = np.array([item.positions[level] for level in levels])
    outside = [level for level, inside in zip(levels, item.geometry.contains(points), strict=True) if not inside]
    if outside:
        place = ", ".join(f"{value:.1f}" for value in item.positions[outside[0]])
        text = f"{outside[0]}: its {item.kind} ({place}) lies outside the image"
        text += f", as {len(outside) - 1} of the other {len(levels) - 1} do" if len(outside) > 1 else ""
        return [error("714", f"{text}. World coordinates are LPS millimetres.{hint}", item.case)]
    same = [
        (a, b)
        for a, b in itertools.combinations(levels, 2)
        if np.linalg.norm(np.subtract(item.positions[a], item.positions[b])) < SAME_PLACE_MM
    ]
    if same:
        upper, lower = same[0]
        place = ", ".join(f"{value:.1f}" for value in item.positions[upper])
        text = f"{upper} and {lower} have one {item.kind} ({place})"
        text += f", and {len(same) - 1} more pairs" if len(same) > 1 else ""
        return [error("723", f"{text}. Give each vertebra its own.{hint}", item.case)]
    # Unlike a map, a table may hold some vertebrae of a case only, so gaps are no fault.
    order_faults = [f for f in order_findings(item.case, item.geometry, item.positions) if f.is_error]
    if order_faults:
        return [replace(finding, text=finding.text + hint) for finding in order_faults]
    return _spread_findings(item, levels, points, hint, fits_otherwise)


def _spread_findings(
    item: PlacedCase, levels: Sequence[str], points: np.ndarray, hint: str, fits_otherwise: bool
) -> list[Finding]:
    """Columns that do not run to the feet, or whose vertebrae are too near or too far from each other."""
    quotient = pitch_quotient(item.positions)
    if quotient is None:
        return []
    if len(levels) >= _FEW and descent_share(points, item.geometry) < _LEAST_DESCENT:
        text = f"{levels[0]} to {levels[-1]}: the {item.kind}s hardly run from head to feet."
        return [error("724", text + (hint or " Are columns exchanged or constant?"), item.case)]
    low, high = PLAUSIBLE_PITCH
    if not low <= quotient <= high:
        far = "far from" if quotient > 1 else "close to"
        text = f"{levels[0]} to {levels[-1]}: the {item.kind}s lie too {far} each other, {quotient:.2g} times "
        text += f"what is usual in adults.{hint or ' Are these the right levels and units?'}"
        least, most = _IMPOSSIBLE_PITCH
        sure = fits_otherwise or not least <= quotient <= most
        return [(error if sure else warning)("724", text, item.case)]
    odd = odd_step_text(item.positions)
    if odd and not item.in_map:
        return [warning("724", odd, item.case)]
    # One sagittal slice has one x; what is exactly 0 was left out.
    constant = [a for a in range(3) if np.ptp(points[:, a]) == 0 and (a != 0 or points[0, a] == 0)]
    if len(levels) >= _FEW and constant:
        text = f"{'xyz'[constant[0]]}_mm is {points[0, constant[0]]:g} for all of {levels[0]} to {levels[-1]}"
        return [warning("724", text, item.case)]
    return []


def _other_image(item: PlacedCase, placed: Sequence[PlacedCase]) -> str:
    """Names the cases whose images the positions of this one would fit, if they are few."""
    names = [o.case for o in placed if o.case != item.case and is_column(item.positions, o.geometry)]
    inside = item.geometry.contains(np.array(list(item.positions.values()))).all()
    if inside or not 1 <= len(names) <= _FEW:
        return ""
    return f" They would fit the image of {' or '.join(names)}."


def _order_with_map(item: PlacedCase) -> list[Finding]:
    """Positions that are out of order with vertebrae of which only the map shows the place, if that is in order."""

    def errors(positions: Mapping[str, Point]) -> list[Finding]:
        return [finding for finding in order_findings(item.case, item.geometry, positions) if finding.is_error]

    return [] if errors(item.in_map) else errors({**item.in_map, **item.positions})


def _findings_beside_map(item: PlacedCase) -> list[Finding]:
    """Positions that lie away from their vertebra in the map."""
    findings = []
    shared = [level for level in item.positions if level in item.in_map]
    hint = _reading_by_map(item, shared)
    for level in shared:
        apart = {other: _apart_mm(item.positions[level], centre) for other, centre in item.in_map.items()}
        nearest = min(apart, key=apart.__getitem__)
        text = f"{level}: its {item.kind} lies {apart[level]:.0f} mm from its centre in the map"
        if apart[nearest] < apart[level] - _NEARER_MM:
            text += f", and {apart[nearest]:.0f} mm from that of {nearest}. Correct the table or the map.{hint}"
            findings.append(error("722", text, item.case))
        elif apart[level] > _FROM_MAP_MM:
            findings.append(warning("722", text + (f".{hint}" if hint else ""), item.case))
    return findings


def _reading_by_map(item: PlacedCase, shared: Sequence[str]) -> str:
    """The reading by which positions come to lie at their vertebrae in the map."""

    def apart_mm(reading: str) -> float:
        positions = item.read_as(reading)
        return float(np.median([_apart_mm(positions[level], item.in_map[level]) for level in shared]))

    if not shared or apart_mm(AS_WRITTEN) < _AT_MAP_MM:
        return ""
    best = min(READINGS, key=apart_mm)
    return f" They fit the map if read as {best}." if apart_mm(best) < _AT_MAP_MM else ""


def _apart_mm(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _findings_beside_middle(placed: Sequence[PlacedCase], fitting: Mapping[str, Sequence[str]]) -> list[Finding]:
    """A mirrored column lies inside the image too; but the middle of sagittal stacks is where spines are."""
    if len(placed) < _FEW:
        return []

    def beside_mm(reading: str) -> float:
        return float(np.median([beside_middle_mm(item.read_as(reading), item.geometry) for item in placed]))

    common = [name for name in READINGS if all(name in names for names in fitting.values())]
    best = min(common, key=beside_mm)
    if beside_mm(AS_WRITTEN) < _BESIDE_MM:
        return []
    text = f"the {placed[0].kind}s lie {beside_mm(AS_WRITTEN):.0f} mm beside the middle of the images"
    if beside_mm(best) > _IN_MIDDLE_MM:
        return [warning("725", f"{text}, where spines mostly are. Is x_mm right?")]
    return [warning("725", f"{text}, and would lie {beside_mm(best):.0f} mm beside it if read as {best}")]


def _common_findings(placed: Sequence[PlacedCase]) -> list[Finding]:
    """One warning where single columns are plausible, but hardly all of them."""
    positions = {item.case: item.positions for item in placed}
    median = unlike_median(positions)
    if median is None:
        return []
    name, quotient, count = median
    text = f"in the median of {count} cases, the {placed[0].kind}s lie {quotient:.2g} times as far from each other as "
    text += f"is usual in adults, as those of {region_like(positions[name])} vertebrae do. Are the names right?"
    return [warning("724", text)]


def _copied_positions(placed: Sequence[PlacedCase]) -> list[Finding]:
    """Several vertebrae with the same numbers in two cases that lie on different grids."""
    findings: list[Finding] = []
    first: dict[tuple, PlacedCase] = {}
    for item in placed:
        if len(item.positions) < 2:
            continue
        other = first.setdefault(tuple(sorted(item.positions.items())), item)
        if other.geometry != item.geometry:
            text = f"the {item.kind}s are those of {other.case}, and the images lie differently. Was a row copied?"
            findings.append(warning("736", text, item.case))
    return findings


def box_findings(case: str, boxes: Mapping[str, Box], centres: Mapping[str, Point], loose: bool) -> list[Finding]:
    """Boxes of a size that no vertebra has, and boxes that reach over the centre of a neighbour.

    Parameters
    ----------
    centres : centre of every vertebra that has one, LPS mm
    loose : whether the boxes are declared to be larger than what they hold
    """
    findings, odd = [], {}
    low, high = VERTEBRA_SIDE_MM
    for level, (least, most) in boxes.items():
        sides = np.subtract(most, least)
        if sides[1:].min() < low or sides.max() > high:
            odd[level] = sides
            continue
        others = ((name, np.array(point)) for name, point in centres.items() if name != level)
        over = [name for name, point in others if np.all((point >= least) & (point <= most))]
        if over and not loose:
            text = f"{level}: its box holds the centre of {', '.join(over)} too. If boxes are loose, tell by how much "
            findings.append(warning("735", text + "in annotationsTr.json (form box, slack_mm)", case))
    if odd:
        level, sides = next(iter(odd.items()))
        measured = " x ".join(f"{side:.3g}" for side in sides)
        text = f"{level}: its box measures {measured} mm (x, y, z), expected sides of {low:g} to {high:g} mm."
        text += f" {len(odd) - 1} more boxes of the case are such." if len(odd) > 1 else ""
        findings.append(error("734", text + _unit_of(sides), case))
    return findings


def _unit_of(sides: np.ndarray) -> str:
    for unit, factor in (("centimetres", 10), ("metres", 1000)):
        if (sides[1:] * factor).min() >= 15 and (sides * factor).max() <= 120:
            return f" Are they in {unit}?"
    return " Are they in millimetres, LPS, of a single vertebra?"
