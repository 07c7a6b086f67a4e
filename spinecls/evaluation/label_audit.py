"""Which labels to look at again: those that models contradict which never saw them, and those that readers dispute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.beliefs import agreed_class
from spinecls.beliefs.readers import REVIEWER
from spinecls.errors import DatasetError
from spinecls.evaluation.matching import IDENTIFIED
from spinecls.evaluation.vertebra_table import NO_POSITION
from spinecls.io.predictions import read_folder
from spinecls.model_folder import VERTEBRAE
from spinecls.planning.meaning import require_same
from spinecls.records import CasePrediction, ClassReading, RawDataset

HEADER = (
    "case", "patient", "vertebra", "given", "predicted", "p_given", "p_predicted", "readings", "why", "corrected",
)  # fmt: skip
CORRECTED = "corrected"

Q_OF_NOISE = ((0.05, 0.0), (0.15, 0.3), (1.0, 0.7))
"""Share of wrong labels up to which a `class_q` is advised."""


@dataclass(frozen=True)
class ReadVertebra:
    """A vertebra with readings, and its class probabilities out of fold; None where no model found it."""

    case: str
    patient: str
    level: str
    readings: tuple[ClassReading, ...]
    probabilities: np.ndarray | None

    @property
    def given(self) -> str | None:
        """The class that the readings agree on."""
        return agreed_class((reading.classes, reading.confidence) for reading in self.readings)


@dataclass(frozen=True)
class Noise:
    """How often labels seem to be wrong.

    Attributes
    ----------
    rate : share of wrong labels
    joint : (K, K) share of vertebrae with label i whose class is j
    thresholds : (K,) mean probability of a class among its labels, from which on a model is taken at its word
    """

    rate: float
    joint: np.ndarray
    thresholds: np.ndarray

    @property
    def q(self) -> float:
        """The `class_q` advised."""
        return next(q for limit, q in Q_OF_NOISE if self.rate <= limit)


def held_out_predictions(validations: Sequence[Path]) -> tuple[list[CasePrediction], set[tuple[str, str]]]:
    """What each fold predicted of its validation cases, and which vertebrae of them it misnamed.

    Parameters
    ----------
    validations : folders `fold_K/validation`

    Returns
    -------
    predictions : one a case
    misnamed : case and level of vertebrae that were not found where they are; what bears their name is another one
    """
    predictions = [case for folder in validations for case in read_folder(folder)]
    tables = [files.read_csv(folder / VERTEBRAE) for folder in validations if (folder / VERTEBRAE).exists()]
    right = (IDENTIFIED, NO_POSITION)
    return predictions, {(row["case"], row["level"]) for table in tables for row in table if row["found"] not in right}


def read_vertebrae(
    raw: RawDataset, predictions: Sequence[CasePrediction], misnamed: Set[tuple[str, str]] = frozenset()
) -> list[ReadVertebra]:
    """Vertebrae with readings, of the cases that were predicted, from head to feet case by case.

    Parameters
    ----------
    misnamed : case and level of vertebrae whose name another one bears, see `held_out_predictions`

    Raises
    ------
    DatasetError
        When predictions are of other classes than the dataset now has, or of its classes in another order.
    """
    meanings = {"the dataset": {"class_names": list(raw.description.class_names)}}
    meanings |= {f"the prediction of {p.identifier}": {"class_names": list(p.class_names)} for p in predictions}
    remedy = "Put the classes of dataset.json back as they were, or plan and train anew."
    require_same(meanings, raw.description.name, remedy, DatasetError)
    probabilities = {
        (p.identifier, v.level): np.asarray(v.class_probabilities) for p in predictions for v in p.vertebrae
    }
    predicted = {p.identifier for p in predictions}
    return [
        ReadVertebra(
            case.identifier,
            case.patient,
            v.level,
            v.readings,
            None if (key := (case.identifier, v.level)) in misnamed else probabilities.get(key),
        )
        for case in raw.cases
        if case.identifier in predicted
        for v in case.vertebrae
        if v.readings
    ]


def label_noise(given: np.ndarray, probabilities: np.ndarray) -> Noise:
    """Share of wrong labels by confident learning (Northcutt, Jiang and Chuang, JAIR 2021, section 3).

    A label i counts as class j when j is the most probable of the classes whose probability reaches their threshold,
    the mean among labels j. Each row of counts is then scaled to the number of its labels.

    Parameters
    ----------
    given : (N,) class indices
    probabilities : (N, K) out of fold

    Raises
    ------
    DatasetError
        Without any label.
    """
    if len(given) == 0:
        raise DatasetError("No vertebra has an exact class and a prediction; there is nothing to audit.")
    count = probabilities.shape[1]
    present = np.bincount(given, minlength=count)
    thresholds = np.array([probabilities[given == k, k].mean() if present[k] else np.inf for k in range(count)])
    believed = confident_classes(probabilities, thresholds)
    counts = np.zeros((count, count))
    np.add.at(counts, (given[believed >= 0], believed[believed >= 0]), 1)
    rows = counts.sum(axis=1)
    counts[np.arange(count)[rows == 0], np.arange(count)[rows == 0]] = 1
    joint = counts / counts.sum(axis=1, keepdims=True) * present[:, None] / present.sum()
    return Noise(float(1 - np.trace(joint)), joint, thresholds)


def confident_classes(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(N,) most probable class that reaches its threshold, -1 where none does."""
    reaching = np.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    return np.where(reaching.max(axis=1) >= 0, reaching.argmax(axis=1), -1)


def audit(vertebrae: Sequence[ReadVertebra], class_names: Sequence[str]) -> tuple[list[dict], Noise]:
    """Rows of the table, the most doubtful label first, and how many labels seem wrong.

    Listed are labels that the models contradict with confidence, vertebrae whose readers disagree, and sets of classes
    of which the models favour one.
    """
    names = list(class_names)
    exact = [(v.given, v.probabilities) for v in vertebrae if v.given is not None and v.probabilities is not None]
    noise = label_noise(
        np.array([names.index(given) for given, _ in exact], int),
        np.array([probabilities for _, probabilities in exact]).reshape(-1, len(names)),
    )
    rows = [row for v in vertebrae if (row := _row(v, names, noise)) is not None]
    return sorted(rows, key=lambda row: (row["p_given"] is None, row["p_given"])), noise


def _row(vertebra: ReadVertebra, names: list[str], noise: Noise) -> dict | None:
    p, given = vertebra.probabilities, vertebra.given
    told = {reading.classes for reading in vertebra.readings if len(reading.classes) == 1}
    reasons = []
    if len(told) > 1:
        reasons.append("readers disagree")
    if given is None and len(told) < 2 and p is not None:
        reasons.append("one of several classes was given")
    predicted, p_predicted = "", None
    if p is not None:
        best = int(p.argmax())
        believed = int(confident_classes(p[None], noise.thresholds)[0])
        if given is not None and believed >= 0 and names[believed] != given:
            best = believed
            reasons.append(f"models that never saw this scan say {names[best]}")
        predicted, p_predicted = names[best], round(float(p[best]), 4)
    if not reasons:
        return None
    return {
        "case": vertebra.case,
        "patient": vertebra.patient,
        "vertebra": vertebra.level,
        "given": given or "",
        "predicted": predicted,
        "p_given": None if p is None or given is None else round(float(p[names.index(given)]), 4),
        "p_predicted": p_predicted,
        "readings": "; ".join(f"{r.reader or 'reader'}: {'|'.join(r.classes)}" for r in vertebra.readings),
        "why": ", ".join(reasons),
        CORRECTED: "",
    }


def corrections(path: Path, class_names: Sequence[str]) -> dict[tuple[str, str], str]:
    """(case, vertebra) -> class of the rows of a reviewed table whose column `corrected` is filled.

    Raises
    ------
    DatasetError
        When a column is missing, a class is unknown, or one vertebra is corrected twice.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such table.")
    corrected: dict[tuple[str, str], str] = {}
    for number, row in enumerate(files.read_csv(path), start=2):
        if missing := [name for name in ("case", "vertebra", CORRECTED) if row.get(name) is None]:
            raise DatasetError(f"{path} line {number}: column {missing[0]!r} is missing.")
        wanted = row[CORRECTED].strip()
        if not wanted:
            continue
        if unknown := [part for part in wanted.split("|") if part not in class_names]:
            raise DatasetError(
                f"{path} line {number}: class {unknown[0]!r} is unknown. Known: {', '.join(class_names)}."
            )
        key = (row["case"], row["vertebra"])
        if key in corrected:
            raise DatasetError(f"{path} line {number}: {key[0]} {key[1]} is corrected twice. Keep one row.")
        corrected[key] = wanted
    return corrected


def corrected_rows(rows: Sequence[Mapping[str, str]], wanted: Mapping[tuple[str, str], str]) -> list[dict[str, str]]:
    """Rows of vertebraeTr.csv with corrected classes: one row of a vertebra stays, with all that its rows know.

    Raises
    ------
    DatasetError
        When a corrected vertebra has no row.
    """
    for name in ("case", "vertebra", "class"):
        if rows and name not in rows[0]:
            raise DatasetError(f"The table of the dataset has no column {name!r} (with commas, in small letters).")
    result, done = [], {}
    for row in rows:
        key = (row["case"], row["vertebra"])
        if key not in wanted:
            result.append(dict(row))
        elif key not in done:
            told = {"reader": REVIEWER} if "reader" in row else {}
            sure = {"confidence": ""} if "confidence" in row else {}
            done[key] = {**row, **told, **sure, "class": wanted[key]}
            result.append(done[key])
        else:
            # A place may stand in any of the rows of a vertebra.
            done[key] |= {name: value for name, value in row.items() if not done[key][name] and name != "confidence"}
    if lost := [key for key in wanted if key not in done]:
        raise DatasetError(f"{lost[0][0]} {lost[0][1]}: has no row in the table of the dataset.")
    return result
