"""Who is meant in a table: patients, sites and readers in several spellings, and readings by nobody in particular."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from spinecls.anatomy import RANK
from spinecls.errors import some_names
from spinecls.io.class_cells import SPREADSHEET_ERRORS
from spinecls.io.findings import Finding, warning
from spinecls.io.table_twins import twin_groups

if TYPE_CHECKING:
    from spinecls.io.dataset_tables import TableRow

_SPOILED = re.compile(r"#+|[+-]?\d+([.,]\d*)?[eE][+]\d+")
"""A number that is too long for its cell."""
_NOBODY = (
    "unknown", "unk", "anonymous", "anonymized", "anonymised", "anon", "patient", "patient1", "test", "0", "00", "000",
    "0000", "missing", "unbekannt", "anonym", "x", "xxx", "inconnu", "anonyme", "desconocido", "no name", "noname",
)  # fmt: skip


def patient_findings(
    table_name: str, has_column: bool, cases: Collection[str], patients: Mapping[str, str]
) -> list[Finding]:
    """Patients that are not given, or in several spellings.

    Parameters
    ----------
    cases : all cases of the table
    patients : patient of each case that has one
    """
    if not has_column:
        return [warning("721", f"{table_name} has no column 'patient'; every case is taken as another patient")]
    findings = []
    blank = sorted(set(cases) - patients.keys())
    if blank:
        text = f"{table_name}: {len(blank)} of {len(set(cases))} cases have no patient ({some_names(blank)}); each is "
        text += "taken as another patient. Fill the column for all, or folds may part the scans of one person."
        findings.append(warning("726", text))
    return [
        *findings,
        *_nobody_findings(table_name, patients),
        *twin_findings(table_name, {"patient": patients.values()}),
    ]


def _nobody_findings(table_name: str, patients: Mapping[str, str]) -> list[Finding]:
    """Patients that name several people at once: what spreadsheets make of numbers and formulas, and `unknown`."""
    findings = []
    cases_of: dict[str, list[str]] = {}
    for case, patient in patients.items():
        cases_of.setdefault(patient, []).append(case)
    for patient, cases in cases_of.items():
        text = f"{table_name}: the patient of {some_names(sorted(cases))} is {patient!r}, "
        if _SPOILED.fullmatch(patient) or patient.casefold() in SPREADSHEET_ERRORS:
            text += "which a spreadsheet makes of other names. Make the column one of text and fill it again."
            findings.append(warning("737", text))
        elif len(cases) > 1 and patient.casefold() in _NOBODY:
            text += f"so that {len(cases)} cases count as one person's. Name the patients, or leave these cells empty."
            findings.append(warning("737", text))
    return findings


def twin_findings(table_name: str, columns: Mapping[str, Collection[str]]) -> list[Finding]:
    """Values of a column that look like one and are taken as several."""
    findings = []
    for column, values in columns.items():
        for group in twin_groups(values):
            listed = ", ".join(repr(value) for value in group)
            text = f"{table_name}: {listed} look like one {column} and are taken as {len(group)}"
            text += "; folds may part the scans" if column == "patient" else ""
            findings.append(warning("727", f"{text}. If they are one, write one spelling in all rows."))
    return findings


def repeat_findings(case: str, rows_of: Mapping[str, Sequence[TableRow]]) -> list[Finding]:
    """Vertebrae of a case that several rows classify, not all with a reader: a finding for equal rows, one for unlike.

    Each row without a reader counts as the reading of another person, which a pasted copy is not; one beside named
    readers who say otherwise is.
    """
    equal: list[str] = []
    unlike: list[str] = []
    for level in sorted(rows_of, key=RANK.__getitem__):
        rows = [row for row in rows_of[level] if row.classes and not row.reader]
        if len(rows) == 1:
            rows += [row for row in rows_of[level] if row.reader and row.classes == rows[0].classes]
        if len(rows) < 2:
            continue
        lines = ", ".join(str(row.line) for row in rows)
        told = list(dict.fromkeys("|".join(row.classes) for row in rows))
        (equal if len(told) == 1 else unlike).append(f"{level} (lines {lines}: {', '.join(told)})")
    remedy = "and count as readings of several people. Keep one of each, or name who read it in a column 'reader'."
    findings = []
    if equal:
        findings.append(warning("732", f"{'; '.join(equal)}: rows repeat each other, {remedy}", case))
    if unlike:
        findings.append(warning("733", f"{'; '.join(unlike)}: rows contradict each other, {remedy}", case))
    return findings
