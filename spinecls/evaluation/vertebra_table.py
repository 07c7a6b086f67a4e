"""vertebrae.csv: every annotated vertebra with what was predicted of it; written by evaluation, read by comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinecls import files
from spinecls.errors import DatasetError, SpineclsError
from spinecls.evaluation.matching import IDENTIFIED, CaseOutcome, VertebraOutcome
from spinecls.model_folder import FoldFolder
from spinecls.planning.meaning import require_same
from spinecls.planning.plan import load_plan
from spinecls.records import DatasetDescription

NO_POSITION = "no_position"
"""In the column `found`: nobody said where the vertebra is, so it cannot be told whether it was found."""


def write_vertebrae(path: Path, outcomes: Sequence[CaseOutcome], description: DatasetDescription) -> None:
    """One row an annotated vertebra: what it is, whether it was found and named, and its class probabilities."""
    names = description.class_names
    header = ["case", "patient", "site", "sequence", "level", "class", "found", "named", "error_mm", "predicted_class"]
    header += [*(f"p_{name}" for name in names), "prediction_set", "dice"]
    rows = [_vertebra_row(vertebra, names) for case in outcomes for vertebra in case.vertebrae]
    files.write_csv(path, header, rows)


def _vertebra_row(vertebra: VertebraOutcome, names: Sequence[str]) -> dict[str, Any]:
    row = {
        "case": vertebra.case,
        "patient": vertebra.patient,
        "site": vertebra.site,
        "sequence": vertebra.sequence,
        "level": vertebra.level,
        "class": None if vertebra.true_class is None else names[vertebra.true_class],
        "found": NO_POSITION if vertebra.match is None else vertebra.match.status,
        "named": vertebra.match.named if vertebra.match else None,
        "dice": None if vertebra.dice is None else round(vertebra.dice, 4),
    }
    if vertebra.match is not None and vertebra.match.error_mm is not None:
        row["error_mm"] = round(vertebra.match.error_mm, 3)
    if vertebra.prediction is not None and names:
        probabilities = vertebra.prediction.class_probabilities
        row["predicted_class"] = names[int(np.argmax(probabilities))]
        row |= {f"p_{name}": float(f"{p:.9g}") for name, p in zip(names, probabilities, strict=True)}
        row["prediction_set"] = "|".join(vertebra.prediction.prediction_set)
    return row


@dataclass(frozen=True)
class ReadVertebrae:
    """Vertebrae whose class was read.

    Attributes
    ----------
    names : (N,) case and level
    patients : (N,)
    truth : (N,) class index
    probabilities : (N, K); of a vertebra that was missed or misnamed the prior
    identified : (N,) bool, whether it was neither
    class_names : (K,) what the columns of `probabilities` and the indices stand for
    source : where it was read, for messages
    """

    names: tuple[tuple[str, str], ...]
    patients: tuple[str, ...]
    truth: np.ndarray
    probabilities: np.ndarray
    identified: np.ndarray
    class_names: tuple[str, ...] = ()
    source: str = ""


def identified_vertebrae(path: Path) -> list[tuple[str, bool]]:
    """Patient of every annotated vertebra whose place is known, and whether it was found and named rightly."""
    rows = files.read_csv(path)
    return [(row["patient"], row["found"] == IDENTIFIED) for row in rows if row["found"] != NO_POSITION]


def read_vertebrae(path: Path, class_names: Sequence[str], prior: Sequence[float]) -> ReadVertebrae:
    """Truth and probabilities, end to end, of a vertebrae.csv.

    Raises
    ------
    DatasetError
        When the file is missing or of other classes.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: the file does not exist.")
    rows = [row for row in files.read_csv(path) if row.get("class")]
    columns = [f"p_{name}" for name in class_names]
    if rows and any(column not in rows[0] for column in columns):
        raise DatasetError(f"{path}: has the columns {', '.join(rows[0])}, expected {', '.join(columns)} among them.")
    table = [[float(row[c]) for c in columns] if row[columns[0]] else list(prior) for row in rows]
    return ReadVertebrae(
        names=tuple((row["case"], row["level"]) for row in rows),
        patients=tuple(row["patient"] for row in rows),
        truth=np.array([class_names.index(files.unquoted(row["class"])) for row in rows], int),
        probabilities=np.array(table, float).reshape(len(rows), len(class_names)),
        identified=np.array([bool(row[columns[0]]) for row in rows], bool),
        class_names=tuple(class_names),
        source=str(path),
    )


def require_same_classes(tables: Sequence[ReadVertebrae], error: type[SpineclsError] = DatasetError) -> None:
    """Refuse to join or compare tables whose probabilities are of other classes, or in another order.

    Raises
    ------
    error
        Naming two tables and the classes of both.
    """
    meanings = {t.source or f"table {i}": {"class_names": list(t.class_names)} for i, t in enumerate(tables, start=1)}
    require_same(meanings, "Tables of vertebrae", "Train and validate all of them by one plan.", error)


def joined(tables: Sequence[ReadVertebrae]) -> ReadVertebrae:
    """The tables of several folds as one, vertebrae by name, so that tables of two models can be compared.

    Raises
    ------
    DatasetError
        When they are of other classes, or hold a case twice.
    """
    require_same_classes(tables)
    names = [name for table in tables for name in table.names]
    cases = [case for table in tables for case in {case for case, _ in table.names}]
    if twice := sorted(case for case, count in Counter(cases).items() if count > 1):
        told = " and ".join(table.source for table in tables if twice[0] in {case for case, _ in table.names})
        raise DatasetError(
            f"Case {twice[0]} was validated by more than one fold ({told}), so the folds are of different splits. "
            "Train them anew by one split."
        )
    order = sorted(range(len(names)), key=names.__getitem__)
    patients = [patient for table in tables for patient in table.patients]
    return ReadVertebrae(
        names=tuple(names[i] for i in order),
        patients=tuple(patients[i] for i in order),
        truth=np.concatenate([t.truth for t in tables])[order],
        probabilities=np.concatenate([t.probabilities for t in tables])[order],
        identified=np.concatenate([t.identified for t in tables])[order],
        class_names=tables[0].class_names,
        source=" and ".join(t.source for t in tables),
    )


def read_validation(fold: FoldFolder) -> ReadVertebrae:
    """Truth and probabilities of a fold's validation cases; the prior is that of the fold's training."""
    plan = load_plan(fold.plan)
    total = max(1, sum(plan.class_counts.values()))
    prior = [plan.class_counts.get(name, 0) / total for name in plan.class_names]
    return read_vertebrae(fold.vertebrae, plan.class_names, prior)
