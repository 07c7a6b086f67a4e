"""Selective prediction: how often the decision is wrong when only the surest vertebrae are decided.

The *coverage* is the share of vertebrae that are decided, those of greatest confidence first; the *risk* is the share
of wrong ones among them. Vertebrae of equal confidence are accepted together by parts, so their order never matters.
As in `metrics`, `weights` is (B, N) and a function with `weights` returns B values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from spinecls.evaluation.intervals import PatientDraws, Statistic, interval
from spinecls.evaluation.metrics import confidence_of, decide, referral_errors, sum_by_value

COVERAGES = (1.0, 0.9, 0.8)


def risk_coverage(confidence: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Risk-coverage curve of a sample (El-Yaniv and Wiener, JMLR 2010).

    Parameters
    ----------
    confidence, wrong : (N,), N at least 1

    Returns
    -------
    (G,) coverages, (G,) risks
        At each of the G distinct confidences, ascending in coverage; the last coverage is 1.
    """
    mass, errors = _accepted(confidence, wrong, np.ones((1, len(confidence))))
    return mass[0].cumsum() / mass[0].sum(), errors[0].cumsum() / mass[0].cumsum()


def risk_at(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray, coverage: float) -> np.ndarray:
    """(B,) error rates among the share `coverage` of greatest confidence."""
    return referral_errors(confidence, wrong, weights, 1 - coverage)[1]


def aurc(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) areas under the risk-coverage curve (Geifman, Uziel and El-Yaniv, ICLR 2019), less is better.

    The mean risk over all coverages. The integral is exact: within a group of equal confidence the errors grow in
    proportion to the coverage c, so the risk is (E + r (c - c0)) / c, with E the errors before and r the group's rate.
    """
    mass, errors = _accepted(confidence, wrong, weights)
    total = weights.sum(axis=1, keepdims=True)
    end = np.cumsum(mass, axis=1)
    start = end - mass
    rate = np.divide(errors, mass, out=np.zeros_like(mass), where=mass > 0)
    before = np.cumsum(errors, axis=1) - errors
    logarithm = np.log(np.divide(end, start, out=np.ones_like(mass), where=start > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (rate * mass + (before - rate * start) * logarithm).sum(axis=1) / total[:, 0]


def augrc(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) areas under the generalised risk-coverage curve (Traub et al., NeurIPS 2024), less is better.

    The generalised risk is the share of all vertebrae that are decided and wrong; its mean over all coverages is the
    chance that an error slips through when nobody knows how many vertebrae will be decided. From 0 to 0.5;
    deciding in random order gives half the error rate.
    """
    mass, errors = _accepted(confidence, wrong, weights)
    slipped = np.cumsum(errors, axis=1) - errors / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return (mass * slipped).sum(axis=1) / weights.sum(axis=1) ** 2


def _accepted(confidence: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight and weight of errors (B, G) at each distinct confidence, greatest first."""
    mass = sum_by_value(confidence, weights)[1]
    errors = sum_by_value(confidence, weights * wrong)[1]
    return mass[:, ::-1], errors[:, ::-1]


def selective_scores(
    truth: np.ndarray, probabilities: np.ndarray, patients: Sequence[str], draws: PatientDraws
) -> dict[str, Any]:
    """AURC, AUGRC and the risk at some coverages, as `Interval.as_dict`; confidence is `metrics.confidence_of`.

    Parameters
    ----------
    truth : (N,) class indices
    probabilities : (N, K)
    patients : one a vertebra
    """
    sure, wrong = confidence_of(probabilities), decide(probabilities) != truth

    def score(statistic: Statistic) -> dict:
        return interval(statistic, patients, draws).as_dict()

    return {
        "aurc": score(lambda w: aurc(sure, wrong, w)),
        "augrc": score(lambda w: augrc(sure, wrong, w)),
        "risk_at_coverage": {f"{c:g}": score(partial(risk_at, sure, wrong, coverage=c)) for c in COVERAGES},
    }
