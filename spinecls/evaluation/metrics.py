"""Scores of class probabilities, each for many bootstrap draws at once.

`weights` is (B, N): B draws, N vertebrae; a function with `weights` returns B values, not-a-number where a draw does
not define the score. `truth` is (N,) class indices, `probabilities` (N, K), `prior` (K,) the share of each class in
training. AUC, confusion matrix and kappa of the sample itself come from scikit-learn; their draws are computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import erf
from sklearn import metrics as sklearn_metrics

from spinecls.evaluation.intervals import PatientDraws, Statistic, interval
from spinecls.records import DatasetDescription

ECE_BINS = 15
REFERRED_SHARE = 0.2
_SMALLEST_PROBABILITY = 1e-12


def ratio(numerator: np.ndarray, denominator: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) weighted sum of (N,) `numerator` over that of (N,) `denominator`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ np.asarray(numerator, float)) / (weights @ np.asarray(denominator, float))


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) weighted mean of (N,) values."""
    return ratio(values, np.ones(len(values)), weights)


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; not-a-number unless positives and negatives are both there."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(sklearn_metrics.roc_auc_score(positive, scores))


def auc_draws(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) areas under the ROC curve: the chance that a positive scores higher than a negative, ties count half."""
    above = sum_by_value(scores, weights * positive)[1]
    other = sum_by_value(scores, weights * ~positive)[1]
    lower = np.cumsum(other, axis=1) - other
    with np.errstate(divide="ignore", invalid="ignore"):
        return (above * (lower + other / 2)).sum(axis=1) / (above.sum(axis=1) * other.sum(axis=1))


def macro_auc(truth: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """Mean area over the classes, each against the rest; of classes that the truth does not have, or is all of, none.

    Parameters
    ----------
    truth : (N,) class indices
    probabilities : (N, K)

    Returns
    -------
    Statistic
        Not-a-number where no class counts.
    """
    defined = [k for k in range(probabilities.shape[1]) if 0 < (truth == k).sum() < len(truth)]

    def statistic(weights: np.ndarray) -> np.ndarray:
        if not defined:
            return np.full(len(weights), np.nan)
        return np.mean([auc_draws(truth == k, probabilities[:, k], weights) for k in defined], axis=0)

    return statistic


def sum_by_value(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values (G,) in ascending order and the weights (B, G) that lie on each."""
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    ordered = weights[:, order]
    return distinct, ordered if len(distinct) == len(values) else np.add.reduceat(ordered, starts, axis=1)


def decide(probabilities: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """(N,) class of greatest probability, or with `prior` of greatest probability over prior.

    The first is right most often, the second has the greatest mean recall of the classes (the Bayes decision when
    every class weighs the same). Equal ones go to the lower index, so a vertebra that only has the prior counts as
    class 0, nothing found. A class that training never saw is not decided for.
    """
    if prior is None:
        return probabilities.argmax(axis=1)
    prior = np.asarray(prior, float)
    corrected = np.divide(probabilities, prior, out=np.zeros_like(probabilities), where=prior > 0)
    return corrected.argmax(axis=1)


def confusion(truth: np.ndarray, decided: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) counts, rows = truth, columns = decision."""
    if not len(truth):
        return np.zeros((num_classes, num_classes), int)
    return sklearn_metrics.confusion_matrix(truth, decided, labels=range(num_classes))


def confusion_draws(truth: np.ndarray, decided: np.ndarray, num_classes: int, weights: np.ndarray) -> np.ndarray:
    """(B, K, K) weighted confusion matrices."""
    cells = np.eye(num_classes**2)[truth * num_classes + decided]
    return (weights @ cells).reshape(-1, num_classes, num_classes)


def balanced_accuracy(confusions: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(B,) mean recall over `classes` of (B, K, K) confusion matrices; a draw without one of them is undefined."""
    totals = confusions.sum(axis=2)[:, classes]
    hits = np.diagonal(confusions, axis1=1, axis2=2)[:, classes]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (hits / totals).mean(axis=1)


def kappa(truth: np.ndarray, decided: np.ndarray, num_classes: int, ordered: bool) -> float:
    """Cohen's kappa, quadratically weighted for ordered classes; not-a-number when only one class occurs."""
    if len(np.union1d(truth, decided)) < 2:
        return float("nan")
    weights = "quadratic" if ordered else None
    return float(sklearn_metrics.cohen_kappa_score(truth, decided, labels=range(num_classes), weights=weights))


def kappa_draws(confusions: np.ndarray, ordered: bool) -> np.ndarray:
    """(B,) Cohen's kappas of (B, K, K) confusion matrices."""
    indices = np.arange(confusions.shape[1])
    step = indices[:, None] - indices[None, :]
    cost = step**2 if ordered else (step != 0)
    total = confusions.sum(axis=(1, 2))
    rows, columns = confusions.sum(axis=2), confusions.sum(axis=1)
    expected = np.einsum("bi,bj,ij->b", rows, columns, cost.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - (confusions * cost).sum(axis=(1, 2)) * total / expected


def brier(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) squared distances of the probabilities to the truth, summed over classes (0 to 2; Brier 1950)."""
    return ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)


def negative_log_likelihood(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) -log of the probability of the true class, in nats; probabilities below 1e-12 count as 1e-12."""
    return -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], _SMALLEST_PROBABILITY))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """(...) entropy of (..., K) probabilities, in nats."""
    # Taken from 0 and not negated, or a certain vertebra would have -0.
    return 0.0 - (probabilities * np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))).sum(axis=-1)


def confidence_of(probabilities: np.ndarray) -> np.ndarray:
    """(N,) greatest probability, by which vertebrae are referred.

    It is the probability that the decision is right. Entropy also counts how the rest is shared out, which says nothing
    of that.
    """
    return probabilities.max(axis=1)


def patient_shares(patients: Sequence[str] | np.ndarray) -> np.ndarray:
    """(N,) weights of items that give every patient the total weight 1."""
    _, index, sizes = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    return 1 / sizes[index]


@dataclass(frozen=True, kw_only=True)
class CalibrationBins:
    """Equal-mass bins of confidence; each array is (B, bins).

    `mass` = share of the weight, `confidence` and `accuracy` = means (0 in empty bins), `effective_items` = number of
    equally weighted vertebrae that would be as informative (Kish).
    """

    mass: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    effective_items: np.ndarray


def calibration_bins(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray, bins: int = ECE_BINS
) -> CalibrationBins:
    """Sort vertebrae by confidence and cut them into bins of equal weight; equal confidences stay together.

    Parameters
    ----------
    confidence, correct : (N,) probability of the decided class, and whether it is the true one
    """
    total = weights.sum(axis=1, keepdims=True)
    distinct, group_mass = sum_by_value(confidence, weights)
    group_correct = sum_by_value(confidence, weights * correct)[1]
    group_squares = sum_by_value(confidence, weights**2)[1]
    middle = (np.cumsum(group_mass, axis=1) - group_mass / 2) / np.maximum(total, _SMALLEST_PROBABILITY)
    place = np.clip(np.floor(middle * bins + 1e-9), 0, bins - 1).astype(int)
    flat = (place + bins * np.arange(len(weights))[:, None]).ravel()

    def collect(values: np.ndarray) -> np.ndarray:
        return np.bincount(flat, values.ravel(), minlength=bins * len(weights)).reshape(-1, bins)

    mass = collect(group_mass)
    safe_mass = np.where(mass > 0, mass, 1.0)
    squares = collect(group_squares)
    return CalibrationBins(
        mass=mass / np.maximum(total, _SMALLEST_PROBABILITY),
        confidence=collect(group_mass * distinct) / safe_mass,
        accuracy=collect(group_correct) / safe_mass,
        effective_items=np.where(mass > 0, mass**2 / np.where(squares > 0, squares, 1.0), 1.0),
    )


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray, bins: int = ECE_BINS
) -> np.ndarray:
    """(B,) mean over bins of |accuracy - confidence|, without the part that chance alone would give.

    The accuracy of a bin of n vertebrae scatters by sqrt(a (1 - a) / n), so even a perfect model shows a gap. As in
    Kumar, Liang and Ma (NeurIPS 2019) the excess that such normal scatter adds to each gap is subtracted; the mean of
    |normal| has a closed form, so no resampling is needed. The result is at least 0. The excess is estimated around the
    gap that was seen, so of a gap that is chance alone somewhat less than half is taken away. A vertebra that a draw
    holds twice brings no new information, which is why the squared weights count in `effective_items`.
    """
    cut = calibration_bins(confidence, correct, weights, bins)
    gap = np.abs(cut.accuracy - cut.confidence)
    scatter = np.sqrt(cut.accuracy * (1 - cut.accuracy) / cut.effective_items)
    safe = np.where(scatter > 0, scatter, 1.0)
    noisy = scatter * np.sqrt(2 / np.pi) * np.exp(-((gap / safe) ** 2) / 2) + gap * erf(gap / (safe * np.sqrt(2)))
    expected = np.where(scatter > 0, noisy, gap)
    return np.maximum(0.0, (cut.mass * (2 * gap - expected)).sum(axis=1))


def referral_errors(
    confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray, share: float = REFERRED_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) error rates among the `share` of least confidence and among the others.

    The share is met exactly: the vertebra at the border belongs to both sides by parts, and vertebrae of equal
    confidence are treated alike, so that their order does not matter.
    """
    mass = sum_by_value(confidence, weights)[1]
    errors = sum_by_value(confidence, weights * wrong)[1]
    total = mass.sum(axis=1)
    before = np.cumsum(mass, axis=1) - mass
    part = np.clip(share * total[:, None] - before, 0, mass)
    referred = np.divide(part * errors, mass, out=np.zeros_like(mass), where=mass > 0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return referred / (share * total), (errors.sum(axis=1) - referred) / ((1 - share) * total)


def brief_class_scores(
    truth: np.ndarray,
    probabilities: np.ndarray,
    prior: np.ndarray,
    description: DatasetDescription,
    patients: Sequence[str],
    draws: PatientDraws,
) -> dict[str, Any]:
    """The scores that a small group of vertebrae can bear, as `Interval.as_dict`; `patients` is one a vertebra."""
    count = len(description.class_names)
    present = np.unique(truth)

    def balanced(decided: np.ndarray) -> dict:
        def statistic(weights: np.ndarray) -> np.ndarray:
            return balanced_accuracy(confusion_draws(truth, decided, count, weights), present)

        return interval(statistic, patients, draws).as_dict()

    return {
        "auc_macro": interval(macro_auc(truth, probabilities), patients, draws).as_dict(),
        "balanced_accuracy": balanced(decide(probabilities)),
        "balanced_accuracy_prior_corrected": balanced(decide(probabilities, prior)),
    }


def class_scores(
    truth: np.ndarray,
    probabilities: np.ndarray,
    prior: np.ndarray,
    description: DatasetDescription,
    patients: Sequence[str],
    draws: PatientDraws,
) -> dict[str, Any]:
    """All scores of one group of vertebrae, as `Interval.as_dict`; `patients` is one a vertebra.

    AUC, balanced accuracy, kappa, Brier and NLL weigh vertebrae equally; in the ECE every patient weighs the same.
    Confusion, kappa, ECE and referral are of the plain decision (greatest probability).
    """
    names, ordered = description.class_names, description.class_order
    decided, corrected = decide(probabilities), decide(probabilities, prior)
    confidence, right = confidence_of(probabilities), decided == truth
    share = patient_shares(patients)
    errors = (brier(truth, probabilities), negative_log_likelihood(truth, probabilities))

    def score(
        statistic: Statistic, estimate: float | None = None, centred: bool = False, least: float = -np.inf
    ) -> dict:
        return interval(statistic, patients, draws, estimate, centred, least).as_dict()

    return brief_class_scores(truth, probabilities, prior, description, patients, draws) | {
        "auc_by_class": {
            name: score(partial(auc_draws, truth == k, probabilities[:, k]), auc(truth == k, probabilities[:, k]))
            for k, name in enumerate(names)
        },
        "confusion": confusion(truth, decided, len(names)),
        "confusion_prior_corrected": confusion(truth, corrected, len(names)),
        "kappa_quadratic" if ordered else "kappa": score(
            lambda w: kappa_draws(confusion_draws(truth, decided, len(names), w), ordered),
            kappa(truth, decided, len(names), ordered),
        ),
        "brier": score(lambda w: mean(errors[0], w)),
        "nll": score(lambda w: mean(errors[1], w)),
        "ece": score(lambda w: expected_calibration_error(confidence, right, w * share), centred=True, least=0.0),
        "error_referred": score(lambda w: referral_errors(confidence, ~right, w)[0]),
        "error_not_referred": score(lambda w: referral_errors(confidence, ~right, w)[1]),
        "referral_ratio": score(lambda w: np.divide(*referral_errors(confidence, ~right, w))),
    }
