"""The calibration of a trained model: from its out-of-fold predictions to `calibration.json` beside its folds."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from filelock import FileLock

from spinecls import files
from spinecls.calibration.fit import calibrate
from spinecls.calibration.out_of_fold import OutOfFold
from spinecls.calibration.record import CALIBRATION, Calibration, save_calibration
from spinecls.errors import DatasetError, some_names
from spinecls.evaluation.vertebra_table import joined, read_validation
from spinecls.inference.models import TrainedModel, checkpoint_hashes
from spinecls.planning.current import changed_since_validation

logger = logging.getLogger(__name__)

LOCK = ".calibration.lock"
LOCK_SECONDS = 120

FEWEST_FOLDS = 2
"""Folds from which on a calibration is made; of one alone no other can say whether it helps."""


def out_of_fold(model: TrainedModel, folds: Sequence[str]) -> OutOfFold:
    """Vertebrae with a class that the folds identified in their validation cases."""
    tables = [read_validation(model.fold(fold)) for fold in folds]
    table = joined(tables)
    fold_of = {name: fold for fold, part in zip(folds, tables, strict=True) for name in part.names}
    return OutOfFold(
        patients=np.array(table.patients)[table.identified],
        folds=np.array([fold_of[name] for name in table.names])[table.identified],
        truth=table.truth[table.identified],
        probabilities=table.probabilities[table.identified],
    )


def calibrate_model(model: TrainedModel) -> Calibration | None:
    """Calibrate a model on all its folds that were validated, and write it down; None with too few folds or classes.

    Predictions of a fold count when they were made by its present checkpoint and in several views, as later ones are.
    Where they are of too few patients to fit a temperature, the model stays uncalibrated and the reason is logged.

    Raises
    ------
    ModelError
        When folds do not mean the same, or a checkpoint is not of the plan beside it.
    """
    model = dataclasses.replace(model, folds=model.validated)
    if len(model.folds) < FEWEST_FOLDS:
        return None
    plan = next(iter(model.fold_plans().values()))
    if len(plan.class_names) < 2:
        return None
    with FileLock(model.path / LOCK, timeout=LOCK_SECONDS):
        hashes = _proven(model)
        if len(hashes) < FEWEST_FOLDS:
            return None
        try:
            calibration = calibrate(
                _of_several_folds(out_of_fold(model, tuple(hashes))),
                plan.class_names,
                plan.class_order,
                hashes,
                test_time_augmentation=True,
            )
        except DatasetError as error:
            logger.warning("%s stays uncalibrated. %s", model.name, error)
            return None
        save_calibration(model.path / CALIBRATION, calibration)
    return calibration


def _of_several_folds(oof: OutOfFold) -> OutOfFold:
    """The same, unless one fold alone identified anything."""
    if len(folds := np.unique(oof.folds)) == 1:
        raise DatasetError(f"Calibration: fold {folds[0]} alone identified vertebrae with a class; two or more must.")
    return oof


def _proven(model: TrainedModel) -> dict[str, str]:
    """Folds whose validation was made by their present checkpoint, in several views, with its hash."""
    hashes = checkpoint_hashes(model)
    for fold in model.folds:
        summary = files.read_json(model.fold(fold).summary)
        if summary.get("checkpoint") != hashes[fold] or not summary.get("test_time_augmentation"):
            logger.warning(
                "%s, fold %s: validated by another checkpoint or in one view, so it does not calibrate. Validate it "
                "anew by spinecls_train ... %s --val.",
                model.name,
                fold,
                fold,
            )
            del hashes[fold]
        elif changed := changed_since_validation(model.dataset, model.fold(fold)):
            logger.warning(
                "%s, fold %s: validated before these cases changed: %s. It does not calibrate. Train it anew.",
                model.name,
                fold,
                some_names(changed),
            )
            del hashes[fold]
    return hashes


def described(calibration: Calibration | None, folds: Sequence[str]) -> dict | str:
    """What a prediction folder says of its calibration."""
    if calibration is None:
        return "none"
    return {
        "temperature": calibration.temperature,
        "alpha": calibration.alpha,
        "patients": {name: counts.patients for name, counts in calibration.counts.items()},
        "pooled": {name: list(pool) for name, pool in calibration.pooled(folds).items()},
        "notes": list(calibration.notes),
        "hash": files.text_hash(dataclasses.asdict(calibration))[:16],
    }
