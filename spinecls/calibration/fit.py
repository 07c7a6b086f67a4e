"""From out-of-fold predictions to a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from spinecls import __version__
from spinecls.calibration import conformal
from spinecls.calibration.conformal import ALPHA, CalibrationScores, Pool
from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.calibration.record import LARGEST_ALPHA, Calibration, ClassCounts, ClassScores, Quality, pool_names
from spinecls.calibration.temperature import (
    TEMPERATURES,
    apply_temperature,
    cross_fitted,
    fit_temperature,
    why_not_fitted,
)
from spinecls.errors import DatasetError, UsageError
from spinecls.evaluation.metrics import (
    REFERRED_SHARE,
    confidence_of,
    expected_calibration_error,
    negative_log_likelihood,
    patient_shares,
)


def calibrate(
    oof: OutOfFold,
    class_names: Sequence[str],
    class_order: bool,
    checkpoints: Mapping[str, str],
    test_time_augmentation: bool,
    alpha: float = ALPHA,
) -> Calibration:
    """Learn temperature and scores of a model from its out-of-fold predictions, and measure what they bring.

    The temperature is that of single fold models. It is applied to the mean over folds as well, which is less sure than
    its members and so ends up slightly underconfident. The scores of the sets are taken at this temperature although
    the same vertebrae fitted it; one number learnt from all of them hardly favours any.

    Parameters
    ----------
    checkpoints : fold -> hash of its checkpoint; of all folds in `oof`
    test_time_augmentation : whether `oof` holds means over mirrored views

    Raises
    ------
    DatasetError
        When there is no vertebra, no temperature can be fitted (`why_not_fitted`), or the predictions are of other
        classes or of a fold without a checkpoint. There is no calibration then: what is not calibrated must say so.
    UsageError
        When alpha is not between 0 and 0.5.
    """
    _check(oof, class_names, checkpoints, alpha)
    temperature = fit_temperature(oof.truth, oof.probabilities, oof.patients)
    scaled = apply_temperature(oof.probabilities, temperature)
    scores = conformal.calibration_scores(replace(oof, probabilities=scaled))
    by_class = {name: scores.of_classes((k,)) for k, name in enumerate(class_names)}
    pools = conformal.make_pools(scores, len(class_names), class_order)
    return Calibration(
        class_names=tuple(class_names),
        class_order=class_order,
        checkpoints=dict(checkpoints),
        test_time_augmentation=test_time_augmentation,
        temperature=temperature,
        alpha=alpha,
        refer_below=float(np.clip(np.quantile(confidence_of(scaled), REFERRED_SHARE), 0, 1)),
        counts={name: ClassCounts(vertebrae=len(s.scores), patients=s.num_patients) for name, s in by_class.items()},
        quality=_quality(oof, class_names, class_order, alpha),
        notes=(*_temperature_notes(temperature), *_pool_notes(scores, pools, class_names, alpha)),
        spinecls_version=__version__,
        scores={name: _plain(s) for name, s in by_class.items()},
    )


def _check(oof: OutOfFold, class_names: Sequence[str], checkpoints: Mapping[str, str], alpha: float) -> None:
    if not 0 < alpha < LARGEST_ALPHA:
        raise UsageError(f"alpha: got {alpha:g}, expected between 0 and {LARGEST_ALPHA:g}.")
    if not len(oof.truth):
        raise DatasetError(
            "Calibration: no vertebra with a class was identified in any validation fold. Train longer, or check that "
            "validation cases have classes."
        )
    if oof.num_classes != len(class_names):
        raise DatasetError(
            f"Calibration: out-of-fold predictions have {oof.num_classes} classes, expected {len(class_names)}: "
            f"{', '.join(class_names)}."
        )
    missing = sorted(set(oof.folds.tolist()) - set(checkpoints))
    if missing:
        raise DatasetError(f"Calibration: fold {missing[0]} has predictions but no checkpoint.")
    if reason := why_not_fitted(oof.truth, oof.probabilities, oof.patients):
        raise DatasetError(f"Calibration: no temperature can be fitted: {reason}.")


def _plain(scores: CalibrationScores) -> ClassScores:
    return ClassScores(
        patients=tuple(scores.patients.tolist()),
        folds=tuple(scores.folds.tolist()),
        scores=tuple(scores.scores.tolist()),
    )


def _quality(oof: OutOfFold, class_names: Sequence[str], ordered: bool, alpha: float) -> Quality:
    after, shares = cross_fitted(oof), patient_shares(oof.patients)
    sets = conformal.out_of_fold_sets(after, alpha, ordered)
    held = sets[np.arange(len(oof.truth)), oof.truth]
    of_class = {name: oof.truth == k for k, name in enumerate(class_names)}

    def likelihood(predictions: OutOfFold) -> float:
        return float(np.average(negative_log_likelihood(oof.truth, predictions.probabilities), weights=shares))

    def calibration_error(predictions: OutOfFold) -> float:
        confidence = predictions.probabilities.max(axis=1)
        right = predictions.probabilities.argmax(axis=1) == oof.truth
        return float(expected_calibration_error(confidence, right, shares[None])[0])

    return Quality(
        nll_before=likelihood(oof),
        nll_after=likelihood(after),
        ece_before=calibration_error(oof),
        ece_after=calibration_error(after),
        coverage={
            name: float(np.average(held[rows], weights=patient_shares(oof.patients[rows]))) if rows.any() else None
            for name, rows in of_class.items()
        },
        mean_set_size=float(np.average(sets.sum(axis=1), weights=shares)),
    )


def _temperature_notes(temperature: float) -> list[str]:
    if min(abs(temperature - end) for end in TEMPERATURES) < 1e-3:
        return [f"The temperature {temperature:.2f} is at the end of its range: see what is wrong with the model."]
    return []


def _pool_notes(
    scores: CalibrationScores, pools: Sequence[Pool], class_names: Sequence[str], alpha: float
) -> list[str]:
    pooled = pool_names(pools, class_names)
    notes = [f"{name!r} has too few patients; pooled: {', '.join(pool)}." for name, pool in pooled.items()]
    for name, pool in zip(class_names, pools, strict=True):
        patients = scores.of_classes(pool).num_patients
        if alpha * (patients + 1) < 1:
            notes.append(f"{name!r} is in every prediction set: {patients} patients cannot exclude it.")
    return notes
