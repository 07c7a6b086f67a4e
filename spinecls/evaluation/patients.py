"""Numbers of a whole scan from its vertebrae (how many are affected ...), and how predicted ones agree with true ones.

Counted are vertebrae whose class was read. One that was missed or misnamed adds nothing to what is predicted: it does
not count as affected, neither as a decision nor by a share of its prior, for a reader of the output sees nothing there.
What is predicted at levels that nobody read is left out on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinecls import files
from spinecls.anatomy import chain
from spinecls.evaluation.intervals import PatientDraws, joint_intervals
from spinecls.evaluation.matching import CaseOutcome, VertebraOutcome
from spinecls.evaluation.metrics import decide, mean
from spinecls.records import DatasetDescription

PATIENTS = "patients.csv"
AFFECTED, AFFECTED_UNITS, GRADE_SUM = "affected", "affected_units", "grade_sum"
SOURCES = ("true", "decided", "expected")
AGREEMENT = ("icc", "mean_difference", "limit_low", "limit_high")


@dataclass(frozen=True, kw_only=True)
class CaseNumbers:
    """Numbers of one scan.

    Attributes
    ----------
    vertebrae, identified, units : vertebrae with a class, those of them that were identified, and discovertebral units
    numbers : by name, each as annotated (`true`), by the most probable classes (`decided`) and as the sum of
        probabilities (`expected`)
    """

    case: str
    patient: str
    vertebrae: int
    identified: int
    units: int
    numbers: Mapping[str, Mapping[str, float]]


def case_numbers(outcomes: Sequence[CaseOutcome], description: DatasetDescription) -> list[CaseNumbers]:
    """Numbers of every case that has a vertebra with a class.

    Names: `n_<class>` for each class but the first, `affected` (any class but the first), `affected_units`, and of
    ordered classes `grade_sum`.
    """
    read = [(c, [(v, v.true_class) for v in c.vertebrae if v.true_class is not None]) for c in outcomes]
    return [_numbers_of(case, vertebrae, description) for case, vertebrae in read if vertebrae]


def _numbers_of(
    case: CaseOutcome, read: Sequence[tuple[VertebraOutcome, int]], description: DatasetDescription
) -> CaseNumbers:
    """Numbers of a case from its vertebrae, each with its true class."""
    vertebrae = [v for v, _ in read]
    one_hot = np.eye(len(description.class_names))
    expected = np.zeros((len(vertebrae), len(one_hot)))
    identified = []
    for row, vertebra in enumerate(vertebrae):
        if vertebra.prediction is not None:
            identified.append(row)
            expected[row] = vertebra.prediction.class_probabilities
    decided = np.zeros_like(expected)
    decided[identified] = one_hot[decide(expected[identified])]
    beliefs = {"true": one_hot[[true_class for _, true_class in read]], "decided": decided, "expected": expected}
    units = discovertebral_units([v.level for v in vertebrae])
    by_source = {source: _sums(belief, units, description) for source, belief in beliefs.items()}
    return CaseNumbers(
        case=case.identifier,
        patient=case.patient,
        vertebrae=len(vertebrae),
        identified=len(identified),
        units=len(units),
        numbers={name: {source: by_source[source][name] for source in SOURCES} for name in by_source["true"]},
    )


def _sums(belief: np.ndarray, units: Sequence[tuple[int, int]], description: DatasetDescription) -> dict[str, float]:
    """Numbers from (N, K) chances of each class; a vertebra of which nothing is known has a row of zeros."""
    affected = belief[:, 1:].sum(axis=1)
    sums = {f"n_{name}": belief[:, k].sum() for k, name in enumerate(description.class_names) if k}
    sums[AFFECTED] = affected.sum()
    # Given their probabilities the two vertebrae of a unit are taken as independent.
    sums[AFFECTED_UNITS] = sum(1 - (1 - affected[upper]) * (1 - affected[lower]) for upper, lower in units)
    if description.class_order:
        sums[GRADE_SUM] = (belief @ np.arange(belief.shape[1])).sum()
    return {name: float(value) for name, value in sums.items()}


def discovertebral_units(levels: Sequence[str]) -> list[tuple[int, int]]:
    """Positions in `levels` of neighbours with a disc between them, C2/3 to L5/S1 (23 in a whole spine).

    Parameters
    ----------
    levels : from head to feet; a unit needs both of its vertebrae
    """
    order = [level for level in chain(levels) if level != "C1"]
    below = dict(itertools.pairwise(order))
    place = {level: row for row, level in enumerate(levels)}
    return [(row, place[below[level]]) for level, row in place.items() if below.get(level) in place]


def icc_agreement(ratings: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) ICC(2,1): two-way random effects, absolute agreement, single rating (Shrout and Fleiss, Psychol Bull 1979).

    ICC = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n), with the mean squares between rows MSR, between raters
    MSC and of the rest MSE.

    Parameters
    ----------
    ratings : (N, k), one row a case, one column a rater
    weights : (B, N) how often each draw holds a case

    Returns
    -------
    (B,) array
        Not-a-number for fewer than two cases, and where all ratings are equal.
    """
    count, raters = weights.sum(axis=1), ratings.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        column_means = weights @ ratings / count[:, None]
        grand_mean = column_means.mean(axis=1)
        row_means = ratings.mean(axis=1)
        row_squares = raters * (weights * (row_means - grand_mean[:, None]) ** 2).sum(axis=1)
        column_squares = count * ((column_means - grand_mean[:, None]) ** 2).sum(axis=1)
        rest = (ratings - row_means[:, None])[None] - (column_means - grand_mean[:, None])[:, None]
        rest_squares = (weights * (rest**2).sum(axis=2)).sum(axis=1)
        ms_rows, ms_columns = row_squares / (count - 1), column_squares / (raters - 1)
        ms_rest = rest_squares / ((count - 1) * (raters - 1))
        scale = ms_rows + (raters - 1) * ms_rest + raters * (ms_columns - ms_rest) / count
        return np.where(scale > 1e-12, (ms_rows - ms_rest) / scale, np.nan)


def limits_of_agreement(differences: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, 3) mean of (N,) differences, and 1.96 standard deviations below and above it (Bland and Altman, Lancet 1986).

    Not-a-number for fewer than two cases, the mean excepted.
    """
    count, middle = weights.sum(axis=1), mean(differences, weights)
    squares = (weights * (differences - middle[:, None]) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = 1.96 * np.sqrt(squares / (count - 1))
    return np.stack([middle, middle - reach, middle + reach], axis=1)


def agreement(numbers: Sequence[CaseNumbers], draws: PatientDraws) -> dict[str, Any]:
    """Of each number how far decided and expected agree with true: ICC, mean difference (predicted - true), limits.

    Cases are the items; patients are drawn, so several scans of a patient stay together.
    """
    patients = [one.patient for one in numbers]
    names = list(numbers[0].numbers) if numbers else []

    def compared(name: str, source: str) -> dict[str, Any]:
        ratings = np.asarray([[one.numbers[name]["true"], one.numbers[name][source]] for one in numbers])

        def statistic(weights: np.ndarray) -> np.ndarray:
            icc = icc_agreement(ratings, weights)
            return np.column_stack([icc, limits_of_agreement(ratings[:, 1] - ratings[:, 0], weights)])

        scores = joint_intervals(statistic, AGREEMENT, patients, draws)
        return {key: score.as_dict() for key, score in scores.items()}

    return {
        "cases": len(numbers),
        "patients": len(set(patients)),
        "agreement": {name: {source: compared(name, source) for source in SOURCES[1:]} for name in names},
    }


def write_patients(path: Path, numbers: Sequence[CaseNumbers]) -> None:
    """One row a case: its numbers, true, decided and expected."""
    names = list(numbers[0].numbers) if numbers else []
    header = ["case", "patient", "vertebrae", "identified", "units"]
    columns = {f"{name}_{source}": (name, source) for name in names for source in SOURCES}
    rows = [
        {key: getattr(one, key) for key in header}
        | {column: round(one.numbers[name][source], 4) for column, (name, source) in columns.items()}
        for one in numbers
    ]
    files.write_csv(path, [*header, *columns], rows)
