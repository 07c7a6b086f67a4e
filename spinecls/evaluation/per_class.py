"""Scores of each class against the rest, and of how the probabilities of all classes fit; shapes as in `metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from spinecls.evaluation import metrics
from spinecls.evaluation.intervals import PatientDraws, interval, joint_intervals

DECISION_SCORES = ("precision", "recall", "specificity", "f1")
BRIER_PARTS = ("brier_reliability", "brier_resolution", "brier_uncertainty")


def decision_scores(confusions: np.ndarray) -> np.ndarray:
    """(B, K, 4) precision, recall, specificity and F1 of each class, of (B, K, K) confusion matrices.

    Not-a-number where nothing was decided for a class (precision), nothing is of it (recall), all is of it
    (specificity), or neither the truth nor a decision names it (F1).
    """
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    true, decided = confusions.sum(axis=2), confusions.sum(axis=1)
    total = confusions.sum(axis=(1, 2))[:, None]
    right_rest = total - true - decided + hits
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([hits / decided, hits / true, right_rest / (total - true), 2 * hits / (true + decided)], axis=2)


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Mean precision over the recalls that the scores reach, without interpolation; not-a-number without positives."""
    if not positive.any():
        return float("nan")
    return float(sklearn_metrics.average_precision_score(positive, scores))


def average_precision_draws(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) average precisions: sum over thresholds of the step in recall times the precision there."""
    true_positives = metrics.sum_by_value(scores, weights * positive)[1][:, ::-1]
    taken = np.cumsum(metrics.sum_by_value(scores, weights)[1][:, ::-1], axis=1)
    precision = np.divide(np.cumsum(true_positives, axis=1), taken, out=np.zeros_like(taken), where=taken > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (true_positives * precision).sum(axis=1) / true_positives.sum(axis=1)


def brier_parts(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, 3) reliability, resolution and uncertainty of the Brier score, summed over classes.

    Murphy (J Appl Meteorol 1973): Brier = reliability - resolution + uncertainty, exactly so where vertebrae of one
    bin share their probability. Bins are those of the ECE, cut for each class. Few vertebrae a bin make the plain
    parts too large; what chance adds is taken away as by Ferro and Fricker (Q J R Meteorol Soc 2012), which leaves the
    sum as it was and lets a part fall a little below 0. Vertebrae that a draw repeats bring nothing new (Kish).
    """
    total = weights.sum(axis=1)
    parts = np.zeros((len(weights), 3))
    for k in range(probabilities.shape[1]):
        positive = truth == k
        cut = metrics.calibration_bins(probabilities[:, k], positive, weights)
        share = metrics.mean(positive, weights)
        spread = _over(cut.accuracy * (1 - cut.accuracy), cut.effective_items - 1)
        by_chance = (cut.mass * spread).sum(axis=1)
        of_all = _over(share * (1 - share), total**2 / (weights**2).sum(axis=1) - 1)
        parts[:, 0] += (cut.mass * (cut.confidence - cut.accuracy) ** 2).sum(axis=1) - by_chance
        parts[:, 1] += (cut.mass * (cut.accuracy - share[:, None]) ** 2).sum(axis=1) - by_chance + of_all
        parts[:, 2] += share * (1 - share) + of_all
    return parts


def _over(variance: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Variance over degrees of freedom; 0 where there are none, as a single vertebra shows no variance."""
    return np.divide(variance, freedom, out=np.zeros_like(variance), where=freedom > 1e-9)


def scores_by_class(
    truth: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    patients: Sequence[str],
    draws: PatientDraws,
) -> dict[str, Any]:
    """Scores of each class and of the calibration over classes, as `Interval.as_dict`.

    Decisions are plain (greatest probability). As in `metrics.class_scores` vertebrae weigh the same, and in the ECE
    patients do. The classwise ECE (Kull et al., NeurIPS 2019) is the mean over classes of that of each probability.
    """
    count = len(class_names)
    decided = metrics.decide(probabilities)
    share = metrics.patient_shares(patients)

    def decision_statistic(weights: np.ndarray) -> np.ndarray:
        scores = decision_scores(metrics.confusion_draws(truth, decided, count, weights))
        return scores.reshape(len(weights), -1)

    def ece_statistic(weights: np.ndarray) -> np.ndarray:
        each = [
            metrics.expected_calibration_error(probabilities[:, k], truth == k, weights * share) for k in range(count)
        ]
        return np.stack([*each, np.mean(each, axis=0)], axis=1)

    pairs = [(name, score) for name in class_names for score in DECISION_SCORES]
    decision = joint_intervals(decision_statistic, pairs, patients, draws)
    ece = joint_intervals(ece_statistic, range(count + 1), patients, draws, centred=True, least=0.0)
    parts = joint_intervals(lambda w: brier_parts(truth, probabilities, w), BRIER_PARTS, patients, draws, centred=True)
    by_class = {}
    for k, name in enumerate(class_names):
        positive, scores = truth == k, probabilities[:, k]
        area = interval(
            partial(average_precision_draws, positive, scores),
            patients,
            draws,
            average_precision(positive, scores),
        )
        by_class[name] = {
            "vertebrae": int(positive.sum()),
            "patients": len({patient for patient, is_one in zip(patients, positive, strict=True) if is_one}),
            **{score: decision[name, score].as_dict() for score in DECISION_SCORES},
            "average_precision": area.as_dict(),
            "ece": ece[k].as_dict(),
        }
    return {
        "by_class": by_class,
        "classwise_ece": ece[count].as_dict(),
        **{name: part.as_dict() for name, part in parts.items()},
    }
