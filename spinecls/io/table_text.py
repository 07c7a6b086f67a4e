"""Cells of vertebraeTr.csv by column, from the bytes that people and spreadsheets write, and faults of its form."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path

from spinecls.anatomy import parse_level
from spinecls.io.findings import Finding, error, warning

POINT = ("x_mm", "y_mm", "z_mm")
BOX = ("x_min_mm", "y_min_mm", "z_min_mm", "x_max_mm", "y_max_mm", "z_max_mm")
COLUMNS = ("case", "vertebra", "class", "patient", "site", "reader", "confidence", *POINT, *BOX)
SEPARATORS = ",;\t"

_KINDS_OF_FILE = {
    b"PK\x03\x04": "a workbook (.xlsx or .ods)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"%PDF": "a PDF",
    b"<": "a web page or XML",
    b"{\\rtf": "a text document",
    b"\x1f\x8b": "compressed",
}
_SAVE_AS_CSV = "Open it in the spreadsheet and save it as 'CSV UTF-8'"
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".csv", ".tsv", ".txt")

# Column names of other languages and tools; the keys are the columns that are meant.
_TRANSLATIONS = {
    "case": (
        "fall", "fallnummer", "fall-id", "fall_id", "fallid", "cas", "caso", "case_id", "caseid", "case id", "id",
        "scan", "image", "image_id", "bild", "datei", "dateiname", "fichier", "file", "filename", "file_name", "study",
        "study_id", "untersuchung", "examen", "exam", "subject", "subject_id", "name", "identifier", "caso_id",
    ),
    "vertebra": (
        "wirbel", "wirbelkörper", "wirbelkoerper", "wk", "höhe", "hoehe", "level", "niveau", "étage", "etage",
        "segment", "vertèbre", "vertebre", "vertebrae", "vértebra", "vertebra_level", "nivel", "livello",
    ),
    "class": (
        "klasse", "klassen", "classe", "clase", "label", "labels", "grade", "grad", "befund", "diagnose", "diagnosis",
        "diagnostic", "kategorie", "category", "catégorie", "target", "y", "score",
    ),
    "patient": (
        "patient_id", "patientid", "patient id", "patienten-id", "patientennummer", "patientin", "pat", "pat_id", "pid",
        "paciente", "paziente", "person", "proband", "subject", "subject_id", "participant", "participant_id",
    ),
    "site": ("zentrum", "ort", "klinik", "standort", "centre", "center", "hospital", "hôpital", "site_id", "sede"),
    "reader": ("befunder", "leser", "lecteur", "rater", "observer", "annotator", "untersucher", "reader_id"),
    "confidence": ("sicherheit", "konfidenz", "confiance", "certainty", "confianza"),
    **{f"{axis}_mm": (axis, f"{axis} [mm]", f"{axis} (mm)", f"{axis}mm", f"{axis}_lps") for axis in "xyz"},
}  # fmt: skip
_CONSEQUENTIAL = ("case", "vertebra", "class", "patient")

Records = list[tuple[int, dict[str, str]]]


def read_records(path: Path, with_classes: bool) -> tuple[Records, list[Finding]]:
    """Line number and cells by column of every row that is not blank."""
    name = path.name
    text, fault = _decoded(name, path.read_bytes())
    if fault:
        return [], [error("701", fault)]
    lines = text.splitlines()
    skipped = 0
    separator = None
    first = lines[0].strip().strip('"') if lines else ""
    if first.casefold().startswith("sep=") and len(first) == 5:
        # The first line by which Excel tells itself the separator.
        separator, skipped = first[4], 1
    head = lines[skipped] if len(lines) > skipped else ""
    separator = separator or max(SEPARATORS, key=head.count)
    # Strict, so that a quote that is never closed does not swallow the rows below it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader][skipped:]
    except csv.Error as fault:
        text = f'{name} line {reader.line_num}: {fault}. Is a quotation mark (") not closed?'
        return [], [error("701", text)]
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if not rows:
        text = f"{name} is empty. Write the line case,vertebra,class and one row a vertebra below it."
        return [], [error("728", text)]
    rows = _named_columns(rows)
    header = rows[0][1]
    findings = _header_findings(name, header, with_classes)
    if any(finding.is_error for finding in findings):
        return [], findings
    columns = [cell.lower() for cell in header]
    records = []
    for line, cells in rows[1:]:
        cells = [_unprotected(cell) for cell in cells]
        if len(cells) == 1 and (other := max(SEPARATORS, key=cells[0].count)) in cells[0]:
            text = f"{name} line {line} parts its cells by {other!r}, the header by {separator!r}. Use one of them."
            return [], [*findings, error("701", text)]
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            text = f"{name} line {line} has {len(cells)} cells, the header {len(columns)}."
            findings.append(error("701", text + " Quote cells that contain the separator."))
            continue
        records.append((line, dict(zip(columns, cells, strict=False))))
    if not records:
        text = f"{name} has a header and no row. Write one row a vertebra, or remove the file."
        findings.append((error if with_classes else warning)("728", text))
    return records, findings


def _named_columns(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Without empty columns at the right, which spreadsheets leave."""
    width = max(column for _, cells in rows for column, cell in enumerate(cells, start=1) if cell)
    return [(line, cells[:width]) for line, cells in rows]


def missing_table_text(path: Path) -> str:
    """What to do about a table that is not there; names files beside it that may be meant."""
    near = sorted(
        entry.name
        for entry in path.parent.iterdir()
        if entry.is_file() and entry.suffix.casefold() in _WORKBOOKS and _stem(entry.name) in _meant(path)
    )
    if not near:
        return "Write case,vertebra,class there."
    if any(name.casefold().endswith(".csv") for name in near):
        return f"Is it {near[0]}? Rename it to {path.name}."
    return f"{near[0]} lies there. {_SAVE_AS_CSV} under the name {path.name}."


def _stem(name: str) -> str:
    return name.partition(".")[0].casefold().rstrip("_- ")


def _meant(path: Path) -> tuple[str, ...]:
    split = path.stem[-2:].casefold()
    bare = path.stem[:-2].casefold()
    return tuple(f"{word}{end}" for word in (bare, bare[:-1], "classes", "labels") for end in ("", split, "_" + split))


def _decoded(name: str, content: bytes) -> tuple[str, str]:
    """The text of a table and what is wrong with its encoding."""
    start = content.lstrip()[:8]
    for mark, kind in _KINDS_OF_FILE.items():
        if start.startswith(mark):
            return "", f"{name} is {kind} by its content, not CSV. {_SAVE_AS_CSV} under the name {name}."
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        return "", f"{name} is UTF-16 (Excel's 'Unicode text'), not UTF-8. {_SAVE_AS_CSV}."
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        shown = content.splitlines()[line - 1].decode("cp1252", errors="replace")
        text = f"{name} is not UTF-8 text: line {line}, which reads {shown[:60]!r} as Windows-1252 (Excel's 'CSV'). "
        return "", text + f"{_SAVE_AS_CSV}."


def _unprotected(cell: str) -> str:
    """Without the apostrophe or `="..."` that keeps spreadsheets from running a cell or taking it for a number."""
    if quoted := re.fullmatch(r'="([^"]*)"', cell):
        return quoted[1].strip()
    return cell[1:] if re.match(r"'[=+\-@\d]", cell) else cell


def _header_findings(name: str, header: Sequence[str], with_classes: bool) -> list[Finding]:
    columns = [cell.lower() for cell in header]
    needed = ("case", "vertebra", "class") if with_classes else ("case", "vertebra")
    missing = [column for column in needed if column not in columns]
    if missing:
        return [error("702", _missing_columns_text(name, header, missing, needed))]
    findings = []
    for column in dict.fromkeys(columns):
        if columns.count(column) > 1:
            findings.append(error("703", f"{name} has the column {column!r} {columns.count(column)} times."))
        elif column not in COLUMNS:
            findings.append(_foreign_column(name, column, columns))
    return findings


def _foreign_column(name: str, column: str, columns: Sequence[str]) -> Finding:
    near = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0.8)
    meant = _translated(column, [target for target in COLUMNS if target not in columns])
    if near and near[0] not in columns:
        return error("703", f"{name}: column {column!r} is unknown. Did you mean {near[0]!r}?")
    if meant in _CONSEQUENTIAL:
        return error("703", f"{name}: column {column!r} is unknown. Did you mean {meant!r}? Rename or remove it.")
    text = f"{name}: column {column!r} has no meaning here and is ignored"
    return warning("703", text + (f"; rename it if {meant!r} is meant" if meant else ""))


def _missing_columns_text(name: str, header: Sequence[str], missing: Sequence[str], needed: Sequence[str]) -> str:
    quoted = " and ".join(repr(column) for column in missing)
    text = f"{name} has the columns {', '.join(header) or '(none)'}; {quoted} {'is' if len(missing) == 1 else 'are'} "
    text += "missing."
    columns = [cell.lower() for cell in header]
    levels = [cell for cell in header if parse_level(cell)]
    if len(levels) > 1 and "vertebra" in missing:
        text += f" It seems to have one row a case and a column for each vertebra ({', '.join(levels[:3])} ...). Write "
        return text + "one row a vertebra instead, such as case,vertebra,class and then spine_01,L1,normal."
    if levels and "vertebra" in missing:
        return text + f" Its first line seems to be a row. Put the line {','.join(needed)} above it."
    renames = []
    for target in missing:
        source = next((cell for cell in columns if cell not in COLUMNS and _translated(cell, [target])), None)
        source = source or next(iter(difflib.get_close_matches(target, columns, n=1, cutoff=0.8)), None)
        renames += [f"{header[columns.index(source)]!r} to {target!r}"] if source else []
    if renames:
        text += f" Rename {', '.join(renames)}."
    elif len(header) == 1 and any(separator in header[0] for separator in SEPARATORS):
        text += " Whole lines stand in quotation marks, or a line sep= names another separator. Remove them."
    elif len(header) == 1 and header[0]:
        text += " The first line holds the names of the columns, parted by commas, semicolons or tabs."
    elif "vertebra" in missing:
        text += " It has one row a vertebra, not one a case."
    return text + f" Needed: {', '.join(needed)}."


def _translated(column: str, targets: Sequence[str]) -> str | None:
    """The column of ours that a name of another language or tool stands for, of `targets`."""
    return next((target for target in targets if column in _TRANSLATIONS.get(target, ())), None)
