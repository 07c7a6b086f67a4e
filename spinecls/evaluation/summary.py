"""From a raw dataset and predictions to one dictionary of scores, each with its interval.

What is empty: a truth without a prediction is a case in which nothing was predicted, so all its vertebrae are missed.
A vertebra without an annotated position is left out of all location scores; its class is judged by the prediction of
its name. A case without any position is left out of the location scores. A score over nothing is not-a-number (null in
JSON), as is the AUC of a class without positives or without negatives, kappa with one class, and precision without
predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinecls.anatomy import LEVEL_CODES, LEVELS, REGIONS, region
from spinecls.evaluation import intervals, matching, metrics, selective
from spinecls.evaluation.intervals import PatientDraws
from spinecls.evaluation.matching import CaseOutcome, VertebraOutcome
from spinecls.evaluation.patients import agreement, case_numbers
from spinecls.evaluation.per_class import scores_by_class
from spinecls.records import REFER, DatasetDescription, VertebraPrediction

TARGET_COVERAGE = 0.90
COVERAGE_MIN_PATIENTS = 30


def dice_by_level(truth: np.ndarray, predicted: np.ndarray, description: DatasetDescription) -> dict[str, float]:
    """Dice of each level of a true map with the same level of a predicted map (S, R, A); not predicted = 0.

    Voxels that the truth leaves unknown (`ignore_label`) do not count.
    """
    known = truth != description.ignore_label
    scores = {}
    for level, code in (description.levels or LEVEL_CODES).items():
        first, second = truth == code, (predicted == code) & known
        if first.any():
            scores[level] = float(2 * (first & second).sum() / (first.sum() + second.sum()))
    return scores


def summarise(
    outcomes: Sequence[CaseOutcome],
    description: DatasetDescription,
    prior: Sequence[float] | np.ndarray | None,
    counter_reference: str | None,
    draws: int = intervals.DEFAULT_DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """All scores as plain types for JSON.

    Parameters
    ----------
    outcomes : from `matching.judge`
    prior : (K,) share of each class in training; None = equal shares
    counter_reference : as given to `matching.judge`; None leaves the trivial counter undefined
    draws : bootstrap draws of patients, shared by all intervals

    Returns
    -------
    dict
        `cases`, `patients`, `vertebrae`, `location` and `classification` (None with fewer than two classes); each
        score is `Interval.as_dict()`.
    """
    vertebrae = [vertebra for case in outcomes for vertebra in case.vertebrae]
    drawn = intervals.draw_patients([case.patient for case in outcomes], draws, seed)
    num_classes = len(description.class_names)
    shares = np.full(num_classes, 1 / max(1, num_classes)) if prior is None else np.asarray(prior, float)
    return {
        "cases": len(outcomes),
        "patients": len(drawn.index),
        "vertebrae": len(vertebrae),
        "vertebrae_without_position": sum(vertebra.match is None for vertebra in vertebrae),
        "draws": draws,
        "seed": seed,
        "location": _location(outcomes, counter_reference, drawn),
        "classification": _classification(outcomes, description, shares, drawn) if num_classes > 1 else None,
    }


def _mean(values: Sequence[float | bool], patients: Sequence[str], draws: PatientDraws) -> dict:
    array = np.asarray(values, float)
    return intervals.interval(lambda weights: metrics.mean(array, weights), patients, draws).as_dict()


def _location(outcomes: Sequence[CaseOutcome], counter_reference: str | None, draws: PatientDraws) -> dict[str, Any]:
    matches = [(v, v.match) for case in outcomes for v in case.vertebrae if v.match is not None]
    vertebrae = [v for v, _ in matches]
    located = [case for case in outcomes if case.detection is not None]
    errors_mm = [(v.patient, match.error_mm) for v, match in matches if match.error_mm is not None]
    dice = [(v.patient, v.dice) for v in vertebrae if v.dice is not None]
    counted = vertebrae if counter_reference is not None else []
    patients = [v.patient for v in vertebrae]

    def rate(group: Sequence[VertebraOutcome]) -> dict:
        return _mean([v.status == matching.IDENTIFIED for v in group], [v.patient for v in group], draws)

    whole = [all(v.match is None or v.match.status == matching.IDENTIFIED for v in c.vertebrae) for c in located]
    levels = {level: [v for v in vertebrae if v.level == level] for level in LEVELS}
    in_view: dict[str, list[VertebraOutcome]] = {name: [] for name in VERTEBRAE_IN_VIEW}
    for case in located:
        placed = [v for v in case.vertebrae if v.match is not None]
        in_view[_in_view(len(placed))] += placed
    regions: dict[str, list[VertebraOutcome]] = {}
    for vertebra in vertebrae:
        regions.setdefault(region(vertebra.level), []).append(vertebra)
    return {
        "identification_rate": rate(vertebrae),
        "identification_rate_half_pitch": _mean([m.within_half_pitch for _, m in matches], patients, draws),
        "trivial_counter_identification_rate": _mean(
            [v.counter_right for v in counted], [v.patient for v in counted], draws
        ),
        "trivial_counter_lowest_level": counter_reference,
        "whole_case_right": _mean(whole, [case.patient for case in located], draws),
        "off_by_one_rate": _mean([v.status == matching.OFF_BY_ONE for v in vertebrae], patients, draws),
        "missed_rate": _mean([v.status == matching.MISSED for v in vertebrae], patients, draws),
        "centre_error_mm": _mean([error for _, error in errors_mm], [patient for patient, _ in errors_mm], draws),
        **_detection(outcomes, draws),
        "dice": _mean([value for _, value in dice], [patient for patient, _ in dice], draws),
        "identification_rate_by_level": {level: rate(group) for level, group in levels.items() if group},
        "identification_rate_by_region": {name: rate(group) for name, group in regions.items()},
        "identification_rate_by_vertebrae_in_view": {name: rate(group) for name, group in in_view.items() if group},
        "numbering_doubt": _doubt(located, draws),
    }


VERTEBRAE_IN_VIEW = {"1-2": 2, "3-4": 4, "5-6": 6, "7-12": 12, "13 or more": 10_000}
"""Groups of cases by the number of annotated vertebrae, and the greatest number of each."""


def _in_view(count: int) -> str:
    return next(name for name, most in VERTEBRAE_IN_VIEW.items() if count <= most)


def _doubt(located: Sequence[CaseOutcome], draws: PatientDraws) -> dict[str, Any]:
    """Whether cases whose numbering is called ambiguous are the ones with wrong names.

    A name is wrong when the vertebra was found and is called another; what was missed says nothing about numbering.
    """

    def wrong(group: Sequence[CaseOutcome]) -> dict:
        named = [v for case in group for v in case.vertebrae if v.match is not None and v.match.named is not None]
        return _mean([v.status != matching.IDENTIFIED for v in named], [v.patient for v in named], draws)

    judged = [(case, case.doubted) for case in located if case.doubted is not None]
    return {
        "doubted_cases": _mean([doubted for _, doubted in judged], [case.patient for case, _ in judged], draws),
        "wrong_names_when_doubted": wrong([case for case, doubted in judged if doubted]),
        "wrong_names_when_not_doubted": wrong([case for case, doubted in judged if not doubted]),
    }


def _detection(outcomes: Sequence[CaseOutcome], draws: PatientDraws) -> dict[str, Any]:
    detected = [(case.patient, case.detection) for case in outcomes if case.detection is not None]
    patients = [patient for patient, _ in detected]
    right = np.asarray([counts.true_positives for _, counts in detected], float)
    superfluous = np.asarray([counts.false_positives for _, counts in detected], float)
    missed = np.asarray([counts.false_negatives for _, counts in detected], float)

    def share(numerator: np.ndarray, denominator: np.ndarray) -> dict:
        return intervals.interval(lambda w: metrics.ratio(numerator, denominator, w), patients, draws).as_dict()

    return {
        "precision_10mm": share(right, right + superfluous),
        "recall_10mm": share(right, right + missed),
        "f1_10mm": share(2 * right, 2 * right + superfluous + missed),
    }


def probability_table(vertebrae: Sequence[VertebraOutcome], prior: np.ndarray) -> np.ndarray:
    """(N, K) class probabilities end to end: a vertebra that was missed or misnamed has the prior of the training."""
    rows = [prior if v.prediction is None else v.prediction.class_probabilities for v in vertebrae]
    return np.asarray(rows, float).reshape(-1, len(prior))


@dataclass(frozen=True)
class _Identified:
    """An identified vertebra whose class was read."""

    patient: str
    true_class: int
    prediction: VertebraPrediction


def _classification(
    outcomes: Sequence[CaseOutcome], description: DatasetDescription, prior: np.ndarray, draws: PatientDraws
) -> dict[str, Any]:
    read = [v for case in outcomes for v in case.vertebrae if v.true_class is not None]
    identified = [v for v in read if v.prediction is not None]
    told = [
        _Identified(v.patient, v.true_class, v.prediction)
        for v in identified
        if v.true_class is not None and v.prediction is not None
    ]

    def scores(group: Sequence[VertebraOutcome], full: bool = True) -> dict[str, Any]:
        truth = np.asarray([v.true_class for v in group], int)
        patients = [v.patient for v in group]
        table = probability_table(group, prior)
        score = metrics.class_scores if full else metrics.brief_class_scores
        values = score(truth, table, prior, description, patients, draws)
        if full:
            values |= selective.selective_scores(truth, table, patients, draws)
            values |= scores_by_class(truth, table, description.class_names, patients, draws)
        return {"vertebrae": len(group), "patients": len(set(patients)), **values}

    def brief_scores(key: Callable[[VertebraOutcome], str], order: Sequence[str] | None = None) -> dict[str, Any]:
        """Scores of the vertebrae of each key that is not empty, the keys as in `order` or sorted."""
        groups: dict[str, list[VertebraOutcome]] = {}
        for vertebra in read:
            groups.setdefault(key(vertebra), []).append(vertebra)
        return {name: scores(groups[name], full=False) for name in order or sorted(groups) if name and name in groups}

    return {
        "class_names": description.class_names,
        "prior": prior,
        "end_to_end": scores(read),
        "identified": scores(identified),
        "prediction_sets": _prediction_sets(told, description.class_names, draws),
        "refer_flag": _refer_flag(told, draws),
        "by_region": brief_scores(lambda v: region(v.level), REGIONS),
        "by_level": brief_scores(lambda v: v.level, LEVELS),
        "by_sequence": brief_scores(lambda v: v.sequence),
        "by_site": brief_scores(lambda v: v.site),
        "patients_summary": agreement(case_numbers(outcomes, description), draws),
    }


def _refer_flag(vertebrae: Sequence[_Identified], draws: PatientDraws) -> dict[str, Any] | None:
    """Whether identified vertebrae that are flagged for a reader are the wrong ones; None where none is flagged."""
    flagged = np.asarray([REFER in v.prediction.flags for v in vertebrae], bool)
    if not flagged.any():
        return None
    wrong = np.asarray([v.true_class != np.argmax(v.prediction.class_probabilities) for v in vertebrae])

    def statistic(weights: np.ndarray) -> np.ndarray:
        share = metrics.mean(flagged, weights)
        referred = metrics.ratio(wrong & flagged, flagged, weights)
        others = metrics.ratio(wrong & ~flagged, ~flagged, weights)
        return np.stack([share, referred, others], axis=1)

    names = ("share_referred", "error_referred", "error_not_referred")
    scores = intervals.joint_intervals(statistic, names, [v.patient for v in vertebrae], draws)
    return {name: score.as_dict() for name, score in scores.items()}


def _prediction_sets(
    vertebrae: Sequence[_Identified], class_names: Sequence[str], draws: PatientDraws
) -> dict[str, Any]:
    """Coverage of the sets of identified vertebrae; a vertebra that was not identified has no set."""

    def coverage(group: Sequence[_Identified]) -> dict:
        covered = [class_names[v.true_class] in v.prediction.prediction_set for v in group]
        return _mean(covered, [v.patient for v in group], draws)

    by_class = {}
    for index, name in enumerate(class_names):
        class_coverage = coverage([v for v in vertebrae if v.true_class == index])
        # With few patients the interval is so wide that nothing could fail, so no verdict is given.
        enough = class_coverage["patients"] >= COVERAGE_MIN_PATIENTS
        by_class[name] = class_coverage | {
            "not_below_target": class_coverage["high"] >= TARGET_COVERAGE if enough else None
        }
    sizes = [len(v.prediction.prediction_set) for v in vertebrae]
    return {
        "target": TARGET_COVERAGE,
        "coverage": coverage(vertebrae),
        "coverage_by_class": by_class,
        "mean_size": _mean(sizes, [v.patient for v in vertebrae], draws),
    }
