"""What is reported of the classes: calibrated probabilities, prediction sets, doubt, and who should look again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.calibration.prior import checked_prior, move_prior
from spinecls.calibration.record import Calibration
from spinecls.calibration.temperature import apply_temperature
from spinecls.calibration.uncertainty import Decomposition, decompose
from spinecls.evaluation.metrics import confidence_of
from spinecls.inference.sealed_pass import SealedResult
from spinecls.planning.plan import Plan


@dataclass(frozen=True)
class ClassReport:
    """Classes of the vertebrae of one case.

    Attributes
    ----------
    probabilities : (N, K), at the prevalence asked for
    sets : class names of each vertebra
    doubt : of the folds and views at the calibration's temperature
    unsure : (N,) bool, among the fifth of least confidence at the training's prevalence, judged by validation; never
        without a calibration
    """

    probabilities: np.ndarray
    sets: Sequence[tuple[str, ...]]
    doubt: Decomposition
    unsure: np.ndarray


def report_classes(
    sealed: SealedResult,
    plan: Plan,
    folds: Sequence[str],
    calibration: Calibration | None,
    prevalence: Mapping[str, float] | None,
    prior: np.ndarray,
) -> ClassReport:
    """Report of what folds and views said.

    Without a calibration every set holds all classes.

    Parameters
    ----------
    folds : names of the folds in `sealed.members`
    prevalence : class -> share where the model is used; None = as in training
    prior : (K,) share of each class in training, for models without a calibration
    """
    mean = sealed.probabilities
    members = sealed.members.reshape(-1, *mean.shape)
    if calibration is None:
        probabilities = mean
        if prevalence is not None:
            probabilities = move_prior(mean, prior, checked_prior(prevalence, plan.class_names, prior))
        sets = [tuple(plan.class_names)] * len(mean)
        return ClassReport(probabilities, sets, decompose(members), np.zeros(len(mean), bool))
    probabilities = calibration.calibrated(mean, prevalence)
    sets = calibration.prediction_sets(probabilities, sealed.members.mean(axis=1), folds)
    doubt = decompose(apply_temperature(members, calibration.temperature))
    unsure = confidence_of(calibration.calibrated(mean)) < calibration.refer_below
    return ClassReport(probabilities, sets, doubt, unsure)
