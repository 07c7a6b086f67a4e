"""One number that makes over- or underconfident probabilities mean what they say.

A single temperature for all classes keeps their order within a vertebra, so it changes no decision, and a few dozen
patients suffice to learn it. Vector scaling (Guo et al.) would have 2 K numbers, those of a rare class resting on a
handful of patients, and could turn decisions round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.evaluation.metrics import patient_shares

TEMPERATURES = (0.3, 5.0)
"""Range that is searched; what lies outside tells of a broken model or of too few data."""
LEAST_PATIENTS = 10
"""With fewer patients no temperature is fitted (our own choice)."""
SMALLEST_PROBABILITY = 1e-12


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T) of (..., K) probabilities: T > 1 evens them out, T < 1 sharpens them.

    Probabilities below 1e-12 count as 1e-12, so that rounding makes no class impossible.
    """
    return softmax(_logarithms(probabilities) / temperature, axis=-1)


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))


def why_not_fitted(truth: np.ndarray, probabilities: np.ndarray, patients: Sequence[str] | np.ndarray) -> str:
    """The reason in words for which `fit_temperature` returns 1; empty when it fits one."""
    count = len(np.unique(np.asarray(patients)))
    if count < LEAST_PATIENTS:
        return f"{count} patient(s), {LEAST_PATIENTS} are needed"
    if len(np.unique(truth)) < 2:
        return "all vertebrae are of one class"
    if np.ptp(probabilities, axis=1).max() < SMALLEST_PROBABILITY:
        return "the model finds all classes equally probable in every vertebra"
    return ""


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray, patients: Sequence[str] | np.ndarray) -> float:
    """Temperature of the smallest negative log-likelihood, every patient having the total weight 1.

    The likelihood is convex in 1 / T, so the bounded search finds the minimum.

    Parameters
    ----------
    truth : (N,) class indices
    probabilities : (N, K) of models that did not train on the vertebrae
    patients : one a vertebra

    Returns
    -------
    float
        Within `TEMPERATURES`; 1, which changes nothing, where `why_not_fitted` has a reason.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
    """
    if why_not_fitted(truth, probabilities, patients):
        return 1.0
    shares, logits = patient_shares(patients), _logarithms(probabilities)
    rows = np.arange(len(truth))

    def loss(inverse: float) -> float:
        return float(-(shares @ log_softmax(logits * inverse, axis=1)[rows, truth]))

    low, high = TEMPERATURES
    optimum = minimize_scalar(loss, bounds=(1 / high, 1 / low), method="bounded", options={"xatol": 1e-6})
    return float(np.clip(1 / optimum.x, low, high))


def cross_fitted(oof: OutOfFold) -> OutOfFold:
    """The same predictions, each fold's probabilities at the temperature fitted on the other folds.

    For scores of calibrated probabilities that no vertebra has helped to calibrate itself.
    """
    probabilities = np.empty_like(oof.probabilities, dtype=float)
    for fold in np.unique(oof.folds):
        own = oof.folds == fold
        temperature = fit_temperature(oof.truth[~own], oof.probabilities[~own], oof.patients[~own])
        probabilities[own] = apply_temperature(oof.probabilities[own], temperature)
    return replace(oof, probabilities=probabilities)
