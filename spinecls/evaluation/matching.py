"""Which annotated vertebra was located, and under which name. World LPS mm throughout; head is +z."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from spinecls.anatomy import LEVELS, RANK, chain, region
from spinecls.errors import DatasetError
from spinecls.evaluation.trivial_counter import count_upwards
from spinecls.records import NUMBERING_AMBIGUOUS, CasePrediction, DatasetDescription, VertebraPrediction

Centres = Mapping[str, Sequence[float]]

IDENTIFICATION_RADIUS_MM = 20.0
DETECTION_RADIUS_MM = 10.0

IDENTIFIED = "identified"
OFF_BY_ONE = "off_by_one"
MISNAMED = "misnamed"
MISSED = "missed"

_TYPICAL_PITCH_MM = {"cervical": 18.0, "thoracic": 26.0, "lumbar": 36.0, "sacral": 36.0}


@dataclass(frozen=True, kw_only=True)
class LevelMatch:
    """What became of one annotated vertebra.

    Attributes
    ----------
    status : `identified`, `off_by_one` (located, named one level up or down), `misnamed` (located, another name) or
        `missed`
    named : name that the prediction at this place bears; None when missed
    error_mm : distance of the centres; None unless identified
    within_half_pitch : whether it is identified with half the local pitch in place of 20 mm
    """

    status: str
    named: str | None = None
    error_mm: float | None = None
    within_half_pitch: bool = False


@dataclass(frozen=True, kw_only=True)
class DetectionCounts:
    """Matched pairs, predictions without partner, annotated vertebrae without partner."""

    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True, kw_only=True)
class CaseTruth:
    """What is known of a case.

    Attributes
    ----------
    site, sequence : where and how it was scanned; empty = not known
    centres_lps : annotated centres by level, world mm; only of levels whose position is known
    classes : class index by level; None or absent = not read
    dice : Dice of the predicted with the true map by level; absent = not judged
    """

    identifier: str
    patient: str
    site: str = ""
    sequence: str = ""
    centres_lps: Mapping[str, Sequence[float]] = field(default_factory=dict)
    classes: Mapping[str, int | None] = field(default_factory=dict)
    dice: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VertebraOutcome:
    """What became of one annotated vertebra.

    `match` is None without an annotated position; `prediction` is the prediction that counts for this vertebra, None
    when it was missed or misnamed; `dice` is None where it is not judged.
    """

    case: str
    patient: str
    site: str
    sequence: str
    level: str
    true_class: int | None
    match: LevelMatch | None
    counter_right: bool
    prediction: VertebraPrediction | None
    dice: float | None

    @property
    def status(self) -> str:
        """That of `match`; empty without one."""
        return "" if self.match is None else self.match.status


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """Annotated vertebrae of one case from head to feet.

    `detection` is None without any position; `doubted` says whether the prediction calls its numbering ambiguous, None
    when nothing was predicted.
    """

    identifier: str
    patient: str
    vertebrae: tuple[VertebraOutcome, ...]
    detection: DetectionCounts | None
    doubted: bool | None = None


def local_pitch_mm(centres_lps: Centres) -> dict[str, float]:
    """Distance from each annotated vertebra to the next, mean of the neighbours above and below.

    Where levels between two annotated ones are not annotated, their distance is divided by the number of steps. A
    vertebra that is alone gets a typical adult value of its region (18 cervical, 26 thoracic, 36 mm below).
    """
    order = chain(centres_lps)
    levels = sorted(centres_lps, key=order.index)
    distances: dict[str, list[float]] = {level: [] for level in levels}
    for upper, lower in itertools.pairwise(levels):
        step = np.linalg.norm(np.subtract(centres_lps[upper], centres_lps[lower]))
        pitch = float(step) / (order.index(lower) - order.index(upper))
        distances[upper].append(pitch)
        distances[lower].append(pitch)
    return {
        level: float(np.mean(values)) if values else _TYPICAL_PITCH_MM[region(level)]
        for level, values in distances.items()
    }


def inside_span(points_lps: Sequence[Sequence[float]] | np.ndarray, centres_lps: Centres) -> np.ndarray:
    """Whether points lie, along head-feet, within the annotated part of the column.

    The part reaches half a local pitch above the topmost and below the lowest annotated centre.

    Parameters
    ----------
    points_lps : (N, 3), world mm
    centres_lps : annotated centres by level, at least one

    Returns
    -------
    (N,) bool array
    """
    pitch_mm = local_pitch_mm(centres_lps)
    top = max(centres_lps, key=lambda level: centres_lps[level][2])
    low = min(centres_lps, key=lambda level: centres_lps[level][2])
    heights_mm = np.asarray(points_lps, float).reshape(-1, 3)[:, 2]
    upper_mm = centres_lps[top][2] + pitch_mm[top] / 2
    lower_mm = centres_lps[low][2] - pitch_mm[low] / 2
    return (heights_mm >= lower_mm) & (heights_mm <= upper_mm)


def _restrict_to_span(predicted_lps: Centres, annotated_lps: Centres) -> Centres:
    """Predictions within the annotated part of the column; the others can neither help nor harm."""
    if not predicted_lps or not annotated_lps:
        return predicted_lps
    inside = inside_span([predicted_lps[level] for level in predicted_lps], annotated_lps)
    return {level: predicted_lps[level] for level, keep in zip(predicted_lps, inside, strict=True) if keep}


def match_levels(predicted_lps: Centres, annotated_lps: Centres) -> dict[str, LevelMatch]:
    """Judge every annotated vertebra of a case.

    A vertebra is identified when the prediction of its name lies within 20 mm and, among all annotated centres, this
    one is nearest to it (Sekuboyina et al., VerSe, Medical Image Analysis 2021).

    Parameters
    ----------
    predicted_lps, annotated_lps : centres by level, world mm; both may be empty
    """
    if not annotated_lps:
        return {}
    annotated_levels, predicted_levels = list(annotated_lps), list(predicted_lps)
    distances_mm = _distances_mm(predicted_lps, annotated_lps)
    nearest = distances_mm.argmin(axis=1)
    pitch_mm = local_pitch_mm(annotated_lps)
    order = chain([*annotated_levels, *predicted_levels])
    matches = {}
    for column, level in enumerate(annotated_levels):
        here = {predicted_levels[row]: float(distances_mm[row, column]) for row in np.flatnonzero(nearest == column)}
        half_pitch = level in here and here[level] <= pitch_mm[level] / 2
        close = {name: distance for name, distance in here.items() if distance <= IDENTIFICATION_RADIUS_MM}
        if level in close:
            named, status, error_mm = level, IDENTIFIED, close[level]
        elif close:
            named, error_mm = min(close, key=close.__getitem__), None
            status = OFF_BY_ONE if abs(order.index(named) - order.index(level)) == 1 else MISNAMED
        else:
            named, status, error_mm = None, MISSED, None
        matches[level] = LevelMatch(status=status, named=named, error_mm=error_mm, within_half_pitch=half_pitch)
    return matches


def detect(predicted_lps: Centres, annotated_lps: Centres, radius_mm: float = DETECTION_RADIUS_MM) -> DetectionCounts:
    """Pair predictions and annotated vertebrae one to one within a radius, names left aside.

    Of all pairings the one with the most pairs is taken, and of these the one with the least total distance.
    """
    distances_mm = _distances_mm(predicted_lps, annotated_lps)
    # A pair beyond the radius must cost more than all pairs within it together, so that one more pair always wins.
    forbidden = radius_mm * (min(distances_mm.shape) + 1) + 1.0
    costs = np.where(distances_mm <= radius_mm, distances_mm, forbidden)
    rows, columns = linear_sum_assignment(costs)
    pairs = int((distances_mm[rows, columns] <= radius_mm).sum())
    return DetectionCounts(
        true_positives=pairs, false_positives=len(predicted_lps) - pairs, false_negatives=len(annotated_lps) - pairs
    )


def _distances_mm(predicted_lps: Centres, annotated_lps: Centres) -> np.ndarray:
    """(predictions, annotated) distances."""
    first = np.asarray([predicted_lps[level] for level in predicted_lps], float).reshape(-1, 1, 3)
    second = np.asarray([annotated_lps[level] for level in annotated_lps], float).reshape(1, -1, 3)
    return np.linalg.norm(first - second, axis=2)


def judge(
    predictions: Sequence[CasePrediction],
    truth: Sequence[CaseTruth],
    description: DatasetDescription,
    counter_reference: str | None,
) -> list[CaseOutcome]:
    """What became of every annotated vertebra, in the order of `truth`.

    Parameters
    ----------
    predictions : every one must have its truth; a truth without prediction is a case with nothing predicted
    counter_reference : commonest lowest level of the training cases; None = no trivial counter

    Raises
    ------
    DatasetError
        When a prediction has no truth or other classes, or holds unknown, repeated or not-finite entries.
    """
    predicted = {prediction.identifier: prediction for prediction in predictions}
    unknown = sorted(predicted.keys() - {case.identifier for case in truth})
    if unknown:
        raise DatasetError(f"Predicted cases without annotation in {description.name}: {', '.join(unknown)}.")
    for prediction in predictions:
        _check_prediction(prediction, description)
    empty = CasePrediction(identifier="", class_names=description.class_names, vertebrae=(), model={})
    return [_judge_case(predicted.get(case.identifier, empty), case, description, counter_reference) for case in truth]


def _check_prediction(prediction: CasePrediction, description: DatasetDescription) -> None:
    where = f"Prediction of case {prediction.identifier}"
    if prediction.class_names != description.class_names:
        raise DatasetError(
            f"{where}: classes {', '.join(prediction.class_names) or 'none'}; expected those of {description.name}: "
            f"{', '.join(description.class_names) or 'none'}. Evaluate against the dataset that the model was made for."
        )
    names = [vertebra.level for vertebra in prediction.vertebrae]
    faulty = [name for name in names if name not in RANK or names.count(name) > 1]
    if faulty:
        raise DatasetError(
            f"{where}: levels that are unknown or occur twice: {', '.join(sorted(set(faulty)))}. Expected each level "
            f"once, of {LEVELS[0]} ... {LEVELS[-1]}. Predict the case anew."
        )
    for vertebra in prediction.vertebrae:
        p = vertebra.class_probabilities
        if not np.isfinite(vertebra.centre_lps).all() or not np.isfinite(p).all():
            raise DatasetError(f"{where}, {vertebra.level}: centre and class probabilities must be finite numbers.")
        if description.class_names and (min(p) < 0 or not math.isclose(sum(p), 1.0, abs_tol=1e-3)):
            raise DatasetError(f"{where}, {vertebra.level}: class probabilities {p}; expected >= 0 with the sum 1.")


def _judge_case(
    prediction: CasePrediction, truth: CaseTruth, description: DatasetDescription, counter_reference: str | None
) -> CaseOutcome:
    levels = [level for level in LEVELS if level in truth.centres_lps or level in truth.classes]
    complete = description.vertebrae_complete and all(level in truth.centres_lps for level in levels)

    def visible(centres_lps: Centres) -> Centres:
        return centres_lps if complete else _restrict_to_span(centres_lps, truth.centres_lps)

    by_level = {vertebra.level: vertebra for vertebra in prediction.vertebrae}
    predicted_lps = {level: vertebra.centre_lps for level, vertebra in by_level.items()}
    matches = match_levels(visible(predicted_lps), truth.centres_lps)
    counted_lps = {}
    if counter_reference is not None:
        names = count_upwards(list(predicted_lps.values()), counter_reference)
        counted_lps = {name: centre for name, centre in zip(names, predicted_lps.values(), strict=True) if name}
    counted = match_levels(visible(counted_lps), truth.centres_lps)
    vertebrae = []
    for level in levels:
        match = matches.get(level)
        counts = match is None or match.status == IDENTIFIED
        outcome = VertebraOutcome(
            case=truth.identifier,
            patient=truth.patient,
            site=truth.site,
            sequence=truth.sequence,
            level=level,
            true_class=truth.classes.get(level),
            match=match,
            counter_right=level in counted and counted[level].status == IDENTIFIED,
            prediction=by_level.get(level) if counts else None,
            dice=truth.dice.get(level),
        )
        vertebrae.append(outcome)
    detection = detect(visible(predicted_lps), truth.centres_lps) if truth.centres_lps else None
    flags = {flag for vertebra in prediction.vertebrae for flag in vertebra.flags}
    return CaseOutcome(
        identifier=truth.identifier,
        patient=truth.patient,
        vertebrae=tuple(vertebrae),
        detection=detection,
        doubted=NUMBERING_AMBIGUOUS in flags if prediction.vertebrae else None,
    )
