"""vertebraeTr.csv: one row a reading of a vertebra, as people and spreadsheets write it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spinecls.anatomy import parse_level
from spinecls.io.class_cells import AmbiguousClass, ClassCells, UnreadableClass, as_number, is_nothing
from spinecls.io.findings import Finding, error, warning
from spinecls.io.table_cases import CaseNames
from spinecls.io.table_people import patient_findings, repeat_findings, twin_findings
from spinecls.io.table_text import BOX, POINT, Records, read_records
from spinecls.io.table_twins import unlike_letters
from spinecls.records import ClassReading, DatasetDescription
from spinecls.types import Point, triple

_AGREE_MM = 3.0
_DISAGREE_MM = 30.0

Box = tuple[Point, Point]


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row after parsing; `classes` empty = not read."""

    line: int
    case: str
    level: str
    classes: tuple[str, ...]
    confidence: float
    reader: str
    patient: str
    site: str
    centre_lps: Point | None
    box_lps: Box | None


@dataclass(frozen=True, kw_only=True)
class TableVertebra:
    """All rows of one vertebra in one."""

    centre_lps: Point | None
    box_lps: Box | None
    readings: tuple[ClassReading, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table says: vertebrae by case and level, patient and site by case; cells that say not read, counted."""

    vertebrae: Mapping[str, Mapping[str, TableVertebra]]
    patients: Mapping[str, str]
    sites: Mapping[str, str]
    findings: tuple[Finding, ...]
    not_read: Mapping[str, int] = field(default_factory=dict)


def read_table(path: Path, description: DatasetDescription, cases: Collection[str]) -> Table:
    """Parse and judge a table of vertebrae.

    The separator may be a comma, semicolon or tab, numbers may have a decimal comma, a byte order mark is allowed.

    Parameters
    ----------
    cases : identifiers that have an image
    """
    records, findings = read_records(path, bool(description.class_names))
    names = CaseNames(cases, len(description.channel_names))
    cells = ClassCells(description.class_names)
    parsed = [_parsed(line, record, description, cells, names, findings) for line, record in records]
    rows = [row for row in parsed if row is not None]
    findings += names.findings(path.name)
    findings += _counted_from_one(path.name, records, cells) + _ambiguous_classes(path.name, records, cells)
    by_vertebra: dict[str, dict[str, list[TableRow]]] = {}
    for row in rows:
        by_vertebra.setdefault(row.case, {}).setdefault(row.level, []).append(row)
    for case, levels in by_vertebra.items():
        findings += repeat_findings(case, levels)
    vertebrae = {
        case: {level: _joined(case, level, group, findings) for level, group in levels.items()}
        for case, levels in by_vertebra.items()
    }
    patients = _one_value(rows, "patient", findings)
    sites = _one_value(rows, "site", findings)
    if records:
        has_patients = any("patient" in record for _, record in records)
        findings += patient_findings(path.name, has_patients, by_vertebra, patients)
        findings += twin_findings(path.name, {"site": sites.values(), "reader": {row.reader for row in rows}})
    not_read = Counter(text for text in _class_texts(records) if cells.says_nothing(text))
    return Table(vertebrae=vertebrae, patients=patients, sites=sites, findings=tuple(findings), not_read=not_read)


def _class_texts(records: Records) -> list[str]:
    return [record.get("class", "") for _, record in records]


def _counted_from_one(table_name: str, records: Records, cells: ClassCells) -> list[Finding]:
    """Error for classes that are numbers without a 0, so that nobody knows whether they are indices."""
    read = [cells.indices(text) for text in _class_texts(records) if not cells.says_nothing(text)]
    numbers = [number for indices in read if indices is not None for number in indices]
    if not cells.names or not numbers or None in read:
        return []
    low, high = min(numbers), max(numbers)
    if low < 1:
        return []
    first = repr(cells.names[0])
    text = f"{table_name}: the classes are numbers from {low} to {high} and none is 0, the index of {first}. Were they "
    text += "counted from 1, each would be taken for the next class. Write the names of classes in the table "
    return [error("730", f"{text}({', '.join(cells.names)}), or give {first} rows too.")]


def _ambiguous_classes(table_name: str, records: Records, cells: ClassCells) -> list[Finding]:
    """One error for each number that may mean two classes."""
    lines: dict[str, list[int]] = {}
    for line, record in records:
        try:
            cells.read(record.get("class", ""))
        except AmbiguousClass as fault:
            lines.setdefault(str(fault), []).append(line)
        except UnreadableClass:
            continue
    return [
        error("731", f"{table_name}, {len(where)} rows, the first in line {where[0]}: {fault}")
        for fault, where in lines.items()
    ]


def _parsed(
    line: int, record, description: DatasetDescription, cells: ClassCells, names: CaseNames, findings: list[Finding]
) -> TableRow | None:
    """One row, or None with findings."""
    place = f"line {line}"
    case = names.case(record.get("case", ""), place, findings)
    if case is None:
        return None
    faults: list[Finding] = []
    level = _level(record.get("vertebra", ""), description, f"{case}, {place}", faults)
    classes = _classes(record.get("class", ""), cells, place, case, faults)
    confidence = _number(record, "confidence", place, case, faults)
    if confidence is not None and not 0 <= confidence <= 1:
        faults.append(error("709", f"{place}: confidence is {confidence:g}, expected 0 to 1.", case))
    centre = _numbers(record, POINT, "point", place, case, faults)
    corners = _numbers(record, BOX, "box", place, case, faults)
    if corners and (text := _reversed_text(corners)):
        faults.append(error("713", f"{place}: {text}", case))
    findings += faults
    if faults:
        return None
    return TableRow(
        line=line,
        case=case,
        level=level,
        classes=classes,
        confidence=1.0 if confidence is None else confidence,
        reader=_name(record, "reader"),
        patient=_name(record, "patient"),
        site=_name(record, "site"),
        centre_lps=None if centre is None else triple(centre),
        box_lps=None if corners is None else _box(corners),
    )


def _box(corners: Sequence[float]) -> Box:
    return triple(corners[:3]), triple(corners[3:])


def _reversed_text(corners: Sequence[float]) -> str:
    """Which sides of a box run backwards and what its numbers may be; empty for a box."""
    odd = [axis for axis, low, high in zip("xyz", corners[:3], corners[3:], strict=True) if low >= high]
    if not odd:
        return ""
    listed = ", ".join(
        f"{axis}_min_mm {corners['xyz'.index(axis)]:g} and {axis}_max_mm {corners['xyz'.index(axis) + 3]:g}"
        for axis in odd
    )
    text = f"the box has {listed}, and a minimum lies below its maximum. "
    if odd == ["x", "y"]:
        return text + "Were signs changed from RAS to LPS? Then exchange minimum and maximum of x and y too."
    return text + "The numbers are two corners (LPS mm), the smaller of each axis first; no size, no centre."


def _name(record, column: str) -> str:
    """Text of a cell, empty for the spellings of an empty one: `nan` is no person."""
    text = record.get(column, "")
    return "" if is_nothing(text) else text


def _level(text: str, description: DatasetDescription, place: str, faults: list[Finding]) -> str:
    case, _, line = place.partition(", ")
    level = parse_level(text)
    if level is None:
        hint = _level_hint(text, description)
        faults.append(error("704", f"{line}: {text!r} is no vertebra. {hint}Write C1-C7, T1-T13, L1-L6 or S1.", case))
    elif level not in description.levels:
        listed = ", ".join(description.levels)
        faults.append(error("704", f"{line}: {level} is not among the vertebrae of dataset.json ({listed}).", case))
    return level or ""


def _level_hint(text: str, description: DatasetDescription) -> str:
    named = [level for level, code in description.levels.items() if code == as_number(text)]
    if named:
        return f"It is the code of {named[0]} in maps. "
    upper, slash, _ = text.replace("-", "/").partition("/")
    if slash and parse_level(upper):
        return "It names a disc. "
    letters = unlike_letters(text)
    return f"In it {letters}. " if letters else ""


def _classes(text: str, cells: ClassCells, place: str, case: str, faults: list[Finding]) -> tuple[str, ...]:
    """Classes of a cell, see `ClassCells.read`; none where it cannot be read."""
    try:
        return cells.read(text)
    except AmbiguousClass:
        pass  # `_ambiguous_classes` tells it once for all rows.
    except UnreadableClass as fault:
        faults.append(error("705", f"{place}: {fault}", case))
    return ()


def _number(record, column: str, place: str, case: str, faults: list[Finding]) -> float | None:
    """Number of a cell, None when it is empty or (with a finding) not readable."""
    text = record.get(column, "")
    if is_nothing(text):
        return None
    value = as_number(text)
    if value is None or not math.isfinite(value):
        faults.append(error("708", f"{place}: {column} is {text!r}, expected a number.", case))
        return None
    return value


def _numbers(record, columns, name: str, place: str, case: str, faults: list[Finding]) -> tuple[float, ...] | None:
    """All numbers of a point or box, or None when there is none of them."""
    values = [_number(record, column, place, case, faults) for column in columns]
    given = [value for value in values if value is not None]
    if len(given) == len(values):
        return tuple(given)
    if given and not faults:
        missing = ", ".join(column for column, value in zip(columns, values, strict=True) if value is None)
        faults.append(error("713", f"{place}: the {name} lacks {missing}.", case))
    return None


def _joined(case: str, level: str, rows: Sequence[TableRow], findings: list[Finding]) -> TableVertebra:
    """The rows of one vertebra: readings side by side, positions averaged."""
    readings: list[ClassReading] = []
    by_reader: dict[str, TableRow] = {}
    for row in rows:
        if not row.classes:
            continue
        earlier = by_reader.get(row.reader) if row.reader else None
        if earlier is not None and earlier.classes != row.classes:
            text = f"{level}: reader {row.reader!r} says {'|'.join(earlier.classes)} in line {earlier.line} and "
            findings.append(error("710", text + f"{'|'.join(row.classes)} in line {row.line}. Keep one.", case))
        elif earlier is not None:
            text = f"{level}: line {row.line} repeats the reading of {row.reader!r} in line {earlier.line}; ignored"
            findings.append(warning("720", text, case))
            continue
        by_reader[row.reader] = row
        readings.append(ClassReading(classes=row.classes, confidence=row.confidence, reader=row.reader))
    centre = _mean_place(case, level, [row.centre_lps for row in rows if row.centre_lps], findings)
    boxes = [row.box_lps[0] + row.box_lps[1] for row in rows if row.box_lps]
    corners = _mean_place(case, level, boxes, findings)
    return TableVertebra(
        centre_lps=None if centre is None else triple(centre),
        box_lps=None if corners is None else _box(corners),
        readings=tuple(readings),
    )


def _mean_place(
    case: str, level: str, places: Sequence[Sequence[float]], findings: list[Finding]
) -> tuple[float, ...] | None:
    """Mean of the positions that several rows give; far apart is an error."""
    if not places:
        return None
    array = np.array(places)
    spread_mm = float(np.abs(array - array.mean(axis=0)).max() * 2)
    if spread_mm > _DISAGREE_MM:
        findings.append(error("715", f"{level}: its rows give positions about {spread_mm:.0f} mm apart.", case))
    elif spread_mm > _AGREE_MM:
        text = f"{level}: its rows give positions about {spread_mm:.0f} mm apart; their mean is taken"
        findings.append(warning("715", text, case))
    return tuple(float(value) for value in array.mean(axis=0))


def _one_value(rows: Sequence[TableRow], name: str, findings: list[Finding]) -> dict[str, str]:
    """The patient or site of each case, which must be one."""
    values: dict[str, str] = {}
    for row in rows:
        value = getattr(row, name)
        if not value:
            continue
        if values.setdefault(row.case, value) != value:
            text = f"line {row.line}: {name} is {value!r}, earlier {values[row.case]!r}. A case has one {name}."
            findings.append(error("712", text, row.case))
    return values
