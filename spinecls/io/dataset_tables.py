"""vertebraeTr.csv: one row a reading of a vertebra, as people and spreadsheets write it."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls.anatomy import parse_level
from spinecls.io.findings import Finding, error, warning
from spinecls.records import ClassReading, DatasetDescription

_POINT = ("x_mm", "y_mm", "z_mm")
_BOX = ("x_min_mm", "y_min_mm", "z_min_mm", "x_max_mm", "y_max_mm", "z_max_mm")
_COLUMNS = ("case", "vertebra", "class", "patient", "site", "reader", "confidence", *_POINT, *_BOX)
_NOT_READ = ("", "na", "n/a", "nan", "unknown", "-1", "?")
_AGREE_MM = 3.0
_DISAGREE_MM = 30.0

Box = tuple[tuple[float, float, float], tuple[float, float, float]]


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
    centre_lps: tuple[float, float, float] | None
    box_lps: Box | None


@dataclass(frozen=True, kw_only=True)
class TableVertebra:
    """All rows of one vertebra in one."""

    centre_lps: tuple[float, float, float] | None
    box_lps: Box | None
    readings: tuple[ClassReading, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table says: vertebrae by case and level, patient and site by case."""

    vertebrae: Mapping[str, Mapping[str, TableVertebra]]
    patients: Mapping[str, str]
    sites: Mapping[str, str]
    findings: tuple[Finding, ...]


def read_table(path: Path, description: DatasetDescription, cases: Collection[str]) -> Table:
    """Parse and judge a table of vertebrae.

    The separator may be a comma, semicolon or tab, numbers may have a decimal comma, a byte order mark is allowed.

    Parameters
    ----------
    cases : identifiers that have an image
    """
    records, found = _records(path, bool(description.class_names))
    rows = [_parsed(line, record, description, cases, found) for line, record in records]
    rows = [row for row in rows if row is not None]
    if records and not any("patient" in record for _, record in records):
        found.append(warning("721", f"{path.name} has no column 'patient'; every case is taken as another patient"))
    by_vertebra: dict[str, dict[str, list[TableRow]]] = {}
    for row in rows:
        by_vertebra.setdefault(row.case, {}).setdefault(row.level, []).append(row)
    vertebrae = {
        case: {level: _joined(case, level, group, found) for level, group in levels.items()}
        for case, levels in by_vertebra.items()
    }
    patients = _one_value(rows, "patient", found)
    sites = _one_value(rows, "site", found)
    return Table(vertebrae=vertebrae, patients=patients, sites=sites, findings=tuple(found))


def _records(path: Path, with_classes: bool) -> tuple[list[tuple[int, dict[str, str]]], list[Finding]]:
    """Line number and cells by column of every row that is not blank."""
    name = path.name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        return [], [error("701", f"{name} is not UTF-8 text ({fault.reason} at byte {fault.start}). Save it as UTF-8.")]
    if "\0" in text:
        return [], [error("701", f"{name} holds zero bytes. Save it as UTF-8 text.")]
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    header = [cell.strip().lower() for cell in next(reader, [])]
    found = _header_findings(name, header, with_classes)
    if any(finding.is_error for finding in found):
        return [], found
    records = []
    for cells in reader:
        cells = [_unprotected(cell.strip()) for cell in cells]
        if not any(cells):
            continue
        if len(cells) > len(header) and any(cells[len(header) :]):
            text = f"{name} line {reader.line_num} has {len(cells)} cells, the header {len(header)}."
            found.append(error("701", text + " Quote cells that contain the separator."))
            continue
        records.append((reader.line_num, dict(zip(header, cells, strict=False))))
    return records, found


def _unprotected(cell: str) -> str:
    """Without the apostrophe that keeps spreadsheets from running a cell."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell


def _header_findings(name: str, header: Sequence[str], with_classes: bool) -> list[Finding]:
    found = []
    for column in ("case", "vertebra", "class"):
        if column in header or (column == "class" and not with_classes):
            continue
        text = f"{name} has the columns {', '.join(header) or '(none)'}; {column!r} is missing."
        if column == "vertebra":
            text += " It has one row a vertebra, not one a case."
        found.append(error("702", text))
    for column in dict.fromkeys(header):
        if header.count(column) > 1:
            found.append(error("703", f"{name} has the column {column!r} {header.count(column)} times."))
        elif column not in _COLUMNS:
            near = difflib.get_close_matches(column, _COLUMNS, n=1, cutoff=0.8)
            if near:
                found.append(error("703", f"{name}: column {column!r} is unknown. Did you mean {near[0]!r}?"))
            else:
                found.append(warning("703", f"{name}: column {column!r} has no meaning here and is ignored"))
    return found


def _parsed(line, record, description: DatasetDescription, cases, found: list[Finding]) -> TableRow | None:
    """One row, or None with findings."""
    case = record.get("case", "")
    place = f"line {line}"
    if not case:
        found.append(error("706", f"{place} names no case."))
        return None
    if case not in cases:
        near = difflib.get_close_matches(case, cases, n=1, cutoff=0.8)
        hint = f" Did you mean {near[0]!r}?" if near else " Add its image or remove its rows."
        found.append(error("707", f"{place}: the case has no image.{hint}", case))
        return None
    faults: list[Finding] = []
    level = _level(record.get("vertebra", ""), description, f"{case}, {place}", faults)
    classes = _class_set(record.get("class", ""), description.class_names, place, case, faults)
    confidence = _number(record, "confidence", place, case, faults)
    if confidence is not None and not 0 <= confidence <= 1:
        faults.append(error("709", f"{place}: confidence is {confidence:g}, expected 0 to 1.", case))
    centre = _numbers(record, _POINT, "point", place, case, faults)
    corners = _numbers(record, _BOX, "box", place, case, faults)
    if corners and any(low >= high for low, high in zip(corners[:3], corners[3:], strict=True)):
        faults.append(error("713", f"{place}: the box has a minimum that is not below its maximum.", case))
    found += faults
    if faults:
        return None
    return TableRow(
        line=line,
        case=case,
        level=level,
        classes=classes,
        confidence=1.0 if confidence is None else confidence,
        reader=record.get("reader", ""),
        patient=record.get("patient", ""),
        site=record.get("site", ""),
        centre_lps=centre,
        box_lps=(corners[:3], corners[3:]) if corners else None,
    )


def _level(text: str, description: DatasetDescription, place: str, faults: list[Finding]) -> str:
    case, _, line = place.partition(", ")
    level = parse_level(text)
    if level is None:
        faults.append(error("704", f"{line}: {text!r} is no vertebra. Write C1-C7, T1-T13, L1-L6 or S1.", case))
    elif level not in description.levels:
        listed = ", ".join(description.levels)
        faults.append(error("704", f"{line}: {level} is not among the vertebrae of dataset.json ({listed}).", case))
    return level or ""


def _class_set(text: str, names: Sequence[str], place: str, case: str, faults: list[Finding]) -> tuple[str, ...]:
    """Classes that a cell such as `1`, `fracture` or `a|b` names, in class order."""
    by_name = {name.casefold(): name for name in names}
    if text.casefold() not in by_name and text.casefold() in _NOT_READ:
        return ()
    if not names:
        faults.append(error("705", f"{place}: class is {text!r}, but dataset.json declares no classes.", case))
        return ()
    chosen = set()
    for part in text.split("|"):
        part = part.strip()
        index = _float(part)
        if part.casefold() in by_name:
            chosen.add(by_name[part.casefold()])
        elif index is not None and index.is_integer() and 0 <= index < len(names):
            chosen.add(names[int(index)])
        else:
            near = difflib.get_close_matches(part.casefold(), by_name, n=1)
            hint = f" Did you mean {by_name[near[0]]!r}?" if near else ""
            listed = ", ".join(f"{i} {name}" for i, name in enumerate(names))
            faults.append(error("705", f"{place}: class {part!r} is unknown.{hint} Known: {listed}.", case))
            return ()
    return tuple(name for name in names if name in chosen)


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _number(record, column: str, place: str, case: str, faults: list[Finding]) -> float | None:
    """Number of a cell, None when it is empty or (with a finding) not readable."""
    text = record.get(column, "")
    if text.casefold() in ("", "na", "n/a", "nan"):
        return None
    value = _float(text)
    if value is None or not math.isfinite(value):
        faults.append(error("708", f"{place}: {column} is {text!r}, expected a number.", case))
        return None
    return value


def _numbers(record, columns, name: str, place: str, case: str, faults: list[Finding]) -> tuple[float, ...] | None:
    """All numbers of a point or box, or None when there is none of them."""
    values = [_number(record, column, place, case, faults) for column in columns]
    given = [value is not None for value in values]
    if all(given):
        return tuple(values)
    if any(given) and not faults:
        missing = ", ".join(column for column, there in zip(columns, given, strict=True) if not there)
        faults.append(error("713", f"{place}: the {name} lacks {missing}.", case))
    return None


def _joined(case: str, level: str, rows: Sequence[TableRow], found: list[Finding]) -> TableVertebra:
    """The rows of one vertebra: readings side by side, positions averaged."""
    readings: list[ClassReading] = []
    by_reader: dict[str, TableRow] = {}
    for row in rows:
        if not row.classes:
            continue
        earlier = by_reader.get(row.reader) if row.reader else None
        if earlier is not None and earlier.classes != row.classes:
            text = f"{level}: reader {row.reader!r} says {'|'.join(earlier.classes)} in line {earlier.line} and "
            found.append(error("710", text + f"{'|'.join(row.classes)} in line {row.line}. Keep one.", case))
        elif earlier is not None:
            text = f"{level}: line {row.line} repeats the reading of {row.reader!r} in line {earlier.line}; ignored"
            found.append(warning("720", text, case))
            continue
        by_reader[row.reader] = row
        readings.append(ClassReading(classes=row.classes, confidence=row.confidence, reader=row.reader))
    centre = _mean_place(case, level, [row.centre_lps for row in rows if row.centre_lps], found)
    boxes = [row.box_lps[0] + row.box_lps[1] for row in rows if row.box_lps]
    corners = _mean_place(case, level, boxes, found)
    return TableVertebra(
        centre_lps=centre,
        box_lps=(corners[:3], corners[3:]) if corners else None,
        readings=tuple(readings),
    )


def _mean_place(case: str, level: str, places: Sequence[Sequence[float]], found: list[Finding]):
    """Mean of the positions that several rows give; far apart is an error."""
    if not places:
        return None
    array = np.array(places)
    spread_mm = float(np.abs(array - array.mean(axis=0)).max() * 2)
    if spread_mm > _DISAGREE_MM:
        found.append(error("715", f"{level}: its rows give positions about {spread_mm:.0f} mm apart.", case))
    elif spread_mm > _AGREE_MM:
        text = f"{level}: its rows give positions about {spread_mm:.0f} mm apart; their mean is taken"
        found.append(warning("715", text, case))
    return tuple(float(value) for value in array.mean(axis=0))


def _one_value(rows: Sequence[TableRow], name: str, found: list[Finding]) -> dict[str, str]:
    """The patient or site of each case, which must be one."""
    values: dict[str, str] = {}
    for row in rows:
        value = getattr(row, name)
        if not value:
            continue
        if values.setdefault(row.case, value) != value:
            text = f"line {row.line}: {name} is {value!r}, earlier {values[row.case]!r}. A case has one {name}."
            found.append(error("712", text, row.case))
    return values
