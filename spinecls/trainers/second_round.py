"""A second round of training: labels refined by what the first round predicted of cases that it had held out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spinecls.beliefs import agreed_class
from spinecls.errors import UsageError, some_names
from spinecls.evaluation.label_audit import Noise, held_out_predictions, label_noise
from spinecls.inference.models import checkpoint_hashes, with_finished_folds
from spinecls.io.preprocessed_records import read_native
from spinecls.model_folder import FoldFolder, ModelFolder
from spinecls.planning.current import changed_since_validation
from spinecls.planning.splits import stored_folds
from spinecls.trainers.refinement import Expected, Refinement

logger = logging.getLogger(__name__)


def refinement(first: ModelFolder, preprocessed: Path, train: Sequence[str], class_names: Sequence[str]) -> Refinement:
    """Out-of-fold predictions of the training cases of a fold, and how often their labels seem wrong.

    Each case is judged by the fold that held it out, so never by a model that learnt its label. Still the labels of
    the fold that is trained now are not wholly without influence on it: the other folds' models, whose predictions
    are taken, learnt from the cases that this fold validates. The noise rate is of the training cases alone.

    Parameters
    ----------
    first : model of the first round
    train : training cases of the fold

    Raises
    ------
    UsageError
        When there are no classes, or the round is not complete or of other folds.
    """
    if len(class_names) < 2:
        raise UsageError("--refine: the dataset has no classes to refine.")
    folds = _complete_folds(first, preprocessed)
    for fold in folds:
        if changed := changed_since_validation(preprocessed.name, fold):
            raise UsageError(
                f"--refine: fold {fold.number} of {first.path} was validated before these cases changed: "
                f"{some_names(changed)}. Train the first round anew."
            )
    expected = _expected(first, folds, train, class_names)
    sets, refined, exact = _counted(preprocessed, train, class_names, expected)
    noise = _noise(exact)
    model = dataclasses.replace(with_finished_folds(first), folds=tuple(fold.number for fold in folds))
    made = Refinement(
        source=first.path.name,
        checkpoints=checkpoint_hashes(model),
        sets=sets,
        refined=refined,
        noise_rate=None if noise is None else round(noise.rate, 6),
        q=None if noise is None else noise.q,
        expected=expected,
    )
    logger.info(
        "%d of %d sets of classes are refined by %s; %s.",
        refined,
        sets,
        first.path.name,
        "no exact label was predicted" if noise is None else f"{noise.rate:.0%} of exact labels seem wrong",
    )
    return made


def _expected(
    first: ModelFolder, folds: Sequence[FoldFolder], train: Sequence[str], class_names: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """By case and level (K,) the class probabilities of training cases, by the folds that held them out."""
    predictions, misnamed = held_out_predictions([fold.validation for fold in folds])
    expected: dict[str, dict[str, np.ndarray]] = {}
    for case in predictions:
        if case.class_names != tuple(class_names):
            raise UsageError(f"--refine: {first.path} was trained on the classes {', '.join(case.class_names)}.")
        if case.identifier in train:
            expected[case.identifier] = {
                vertebra.level: np.array(vertebra.class_probabilities)
                for vertebra in case.vertebrae
                if (case.identifier, vertebra.level) not in misnamed and np.isfinite(vertebra.class_probabilities).all()
            }
    return expected


def _counted(
    preprocessed: Path, train: Sequence[str], class_names: Sequence[str], expected: Expected
) -> tuple[int, int, list[tuple[int, np.ndarray]]]:
    """Readings that name several classes, those of them with an expectation, and (class, expected) of exact labels."""
    sets, refined, exact = 0, 0, []
    for case in train:
        for vertebra in read_native(preprocessed, case).vertebrae:
            expectation = expected.get(case, {}).get(vertebra.level)
            count = sum(1 < len(set(reading.classes)) < len(class_names) for reading in vertebra.readings)
            sets += count
            refined += 0 if expectation is None else count
            agreed = agreed_class((reading.classes, reading.confidence) for reading in vertebra.readings)
            exact += [] if agreed is None or expectation is None else [(class_names.index(agreed), expectation)]
    return sets, refined, exact


def _noise(exact: Sequence[tuple[int, np.ndarray]]) -> Noise | None:
    if not exact:
        return None
    given, probabilities = zip(*exact, strict=True)
    return label_noise(np.array(given), np.array(probabilities))


def _complete_folds(first: ModelFolder, preprocessed: Path) -> list[FoldFolder]:
    """Folds of a round, all of them trained on the present split and validated."""
    splits = stored_folds(preprocessed)
    folds = [first.fold(str(number)) for number in range(len(splits))]
    if missing := [fold.number for fold in folds if not (fold.scored and fold.validated)]:
        raise UsageError(
            f"--refine: needs a first round of all folds, but fold {', '.join(missing)} of {first.path} is not "
            "validated. Train it without --refine first."
        )
    for fold, split in zip(folds, splits, strict=True):
        # An imported model has no such record, and no predictions of its validation cases either.
        if set(fold.record().get("cases", ())) != set(split["train"]):
            raise UsageError(
                f"--refine: {fold.path} was not trained on the present fold {fold.number}, so its predictions may be "
                "of cases that it learnt. Train the first round anew."
            )
    return folds
