"""Prediction sets that hold the true class at least as often as promised, for every class.

Mondrian (class by class) cross-conformal prediction with patients as units. The score of a vertebra and a class y is
s = 1 - p_y (LAC: Sadinle, Lei and Wasserman, JASA 2019). With P patients that have a vertebra of class y, n_j such
vertebrae in patient j and s^(f) the score by the model of fold f, the p-value of class y for a new vertebra x is

    p_y = (1 + sum over patients j of  #{i in j of class y: s_i >= s^(fold of j)(x, y)} / n_j) / (P + 1)

and y is in the set when p_y > alpha. So a calibration vertebra is compared with the new one as seen by the same model,
the one that had seen neither (cross-conformal: Vovk, Ann Math Artif Intell 2015; CV+: Barber, Candes, Ramdas and
Tibshirani, Ann Stat 2021), and a patient with many vertebrae counts as one (hierarchical conformal prediction: Lee,
Barber and Willett, 2023).

What is promised: when new patients come from the same source as those of the cross-validation, a vertebra drawn from a
new patient, among those of its class, has its class in the set with probability 1 - alpha. With one fold that is
proved; with several, about 1 - 2 alpha is proved (for one vertebra a patient), and in practice coverage is close to
1 - alpha. It holds for each class on its own, so it does not depend on how frequent the classes are.

What is added can only help: the class that is reported is always in the set, so no set is empty, and with ordered
classes the gaps are filled. Both make sets larger, never smaller, so the promise stands; coverage may be above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.evaluation.metrics import patient_shares

ALPHA = 0.1
LEAST_PATIENTS = 10
"""A class with fewer patients is judged together with others; at alpha = 0.1, 9 are the least that can exclude it."""
_EQUAL = 1e-9

Pool = tuple[int, ...]


@dataclass(frozen=True)
class CalibrationScores:
    """Scores 1 - p of the true classes of out-of-fold vertebrae.

    Attributes
    ----------
    patients : (N,) int, which vertebrae belong together
    folds : (N,) str
    classes : (N,) int
    scores : (N,)
    """

    patients: np.ndarray
    folds: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def rows(self, chosen: np.ndarray) -> CalibrationScores:
        """The part that a mask or an index chooses."""
        return CalibrationScores(self.patients[chosen], self.folds[chosen], self.classes[chosen], self.scores[chosen])

    def of_classes(self, pool: Pool) -> CalibrationScores:
        return self.rows(np.isin(self.classes, pool))

    @property
    def num_patients(self) -> int:
        return len(np.unique(self.patients))


def calibration_scores(oof: OutOfFold) -> CalibrationScores:
    """Scores of out-of-fold vertebrae; patients are numbered."""
    _, patients = np.unique(oof.patients, return_inverse=True)
    return CalibrationScores(
        patients=patients,
        folds=oof.folds,
        classes=oof.truth,
        scores=1 - oof.probabilities[np.arange(len(oof.truth)), oof.truth],
    )


def make_pools(scores: CalibrationScores, num_classes: int, ordered: bool) -> tuple[Pool, ...]:
    """For each class the classes, itself among them, that it is judged together with; alone when it has 10 patients.

    A pool takes in one class after the other until it has 10 patients: of ordered classes a neighbouring grade, of
    others any, always the one with the fewest patients, so that a rare class keeps as large a part of its pool as it
    can. (Pooling with all classes would let the frequent and easy one decide.) Of a pooled class the promise holds for
    the pool as a whole only.
    """
    counts = [scores.of_classes((k,)).num_patients for k in range(num_classes)]
    return tuple(_pool(k, scores, counts, ordered) for k in range(num_classes))


def _pool(k: int, scores: CalibrationScores, counts: Sequence[int], ordered: bool) -> Pool:
    pool = [k]
    while scores.of_classes(tuple(pool)).num_patients < LEAST_PATIENTS:
        if ordered:
            candidates = [c for c in (pool[0] - 1, pool[-1] + 1) if 0 <= c < len(counts)]
        else:
            candidates = [c for c in range(len(counts)) if c not in pool and counts[c]]
        if not candidates:
            break
        pool = sorted([*pool, min(candidates, key=lambda c: counts[c])])
    return tuple(pool)


def class_p_values(
    scores: CalibrationScores, pools: Sequence[Pool], folds: Sequence[str], probabilities: np.ndarray
) -> np.ndarray:
    """(N, K) p-values of every class, see the head of this module.

    Parameters
    ----------
    scores : of vertebrae of `folds` only
    pools : from `make_pools`
    folds : names of the F fold models
    probabilities : (F, N, K) of each of these models
    """
    p_values = np.empty(probabilities.shape[1:])
    for k, pool in enumerate(pools):
        known = scores.of_classes(pool)
        shares = patient_shares(known.patients)
        support = np.zeros(len(p_values))
        for fold, own in zip(folds, probabilities, strict=True):
            rows = known.folds == fold
            support += _weight_at_least(1 - own[:, k], known.scores[rows], shares[rows])
        p_values[:, k] = (support + 1) / (known.num_patients + 1)
    return p_values


def _weight_at_least(thresholds: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each threshold the weight of the values that are at least as great."""
    order = np.argsort(values, kind="stable")
    above = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    return above[np.searchsorted(values[order], thresholds, side="left")]


def out_of_fold_p_values(oof: OutOfFold, pools: Sequence[Pool]) -> np.ndarray:
    """(N, K) p-values of the out-of-fold vertebrae themselves, each without its own patient's scores.

    A vertebra has the probabilities of its own fold's model only, and is compared by them with the scores of all folds.
    That takes the fold models for interchangeable; for new vertebrae, which all of them see, it need not be assumed.
    """
    scores = calibration_scores(oof)
    p_values = np.empty(oof.probabilities.shape)
    for k, pool in enumerate(pools):
        known = scores.of_classes(pool)
        shares = patient_shares(known.patients)
        thresholds = 1 - oof.probabilities[:, k]
        support = _weight_at_least(thresholds, known.scores, shares)
        others = np.full(len(support), known.num_patients)
        for patient in np.unique(known.patients):
            own, rows = known.patients == patient, scores.patients == patient
            support[rows] -= _weight_at_least(thresholds[rows], known.scores[own], shares[own])
            others[rows] -= 1
        p_values[:, k] = (support + 1) / (others + 1)
    return p_values


def sets_from_p_values(p_values: np.ndarray, reported: np.ndarray, alpha: float, ordered: bool) -> np.ndarray:
    """(N, K) bool: which classes are in each vertebra's set.

    Parameters
    ----------
    p_values : (N, K)
    reported : (N,) index of the class that is reported, which is always in the set
    alpha : share of vertebrae whose true class may be missing
    ordered : fill the gaps, so that the set is a range of grades
    """
    # Fractions that add up to alpha may end a rounding above it.
    sets = p_values > alpha + _EQUAL
    sets[np.arange(len(sets)), reported] = True
    if ordered:
        from_left = np.logical_or.accumulate(sets, axis=1)
        from_right = np.logical_or.accumulate(sets[:, ::-1], axis=1)[:, ::-1]
        sets = from_left & from_right
    return sets


def out_of_fold_sets(oof: OutOfFold, alpha: float = ALPHA, ordered: bool = False) -> np.ndarray:
    """(N, K) bool: honest prediction sets of the out-of-fold vertebrae, see `out_of_fold_p_values`."""
    pools = make_pools(calibration_scores(oof), oof.num_classes, ordered)
    return sets_from_p_values(out_of_fold_p_values(oof, pools), oof.probabilities.argmax(axis=1), alpha, ordered)
