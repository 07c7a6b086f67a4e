"""The training of a fold: begun, or gone on with, until its weights are there."""

from __future__ import annotations

import logging
import shutil

from spinecls import files
from spinecls.beliefs.readers import READERS
from spinecls.dataloading.loader import TrainingData
from spinecls.errors import UsageError, counted
from spinecls.planning.plan import save_plan
from spinecls.tasks.pretrained import Taken, take_pretrained
from spinecls.trainers.finders import finders_folder
from spinecls.trainers.fold import Fold
from spinecls.trainers.fold_cases import unlabelled_cases
from spinecls.trainers.placement import PLACES
from spinecls.trainers.run_record import refined_by, start_of, write_record
from spinecls.trainers.trainer import RunSettings, Trainer
from spinecls.trainers.training_data import load_training_data
from spinecls.trainers.user_code import made_trainer

logger = logging.getLogger(__name__)


def train(fold: Fold) -> None:
    """Train a fold and write what it was trained with; nothing where it is only validated, or finished already.

    Raises
    ------
    UsageError
        When there is nothing to validate, or the run was started with something else.
    """
    request = fold.request
    trainer = _trainer(fold)
    if request.goes_on and trainer.final_path.exists():
        if request.resume:
            logger.info("%s: training is finished already.", fold.folder.path)
        return
    if request.validate_only:
        raise UsageError(f"{fold.folder.path}: --val needs a finished training; there is none.")
    refined = refined_by(fold)
    if request.resume:
        trainer.resume()
    unlabelled = unlabelled_cases(fold.preprocessed, fold.validation) if trainer.needs_images else None
    data = load_training_data(
        fold.stored(fold.train),
        fold.plan,
        fold.configuration,
        masks=trainer.regions_from_masks,
        beliefs=trainer.learns_beliefs,
        images=None if unlabelled is None else fold.stored(unlabelled),
        expected=None if fold.refinement is None else fold.refinement.expected,
    )
    start = start_of(fold, _taken(fold, trainer))
    known_finder = trainer.take_trained_finder(data)
    if not request.resume:
        _set_aside(fold, trainer)
        save_plan(fold.folder.plan, fold.plan)
        if fold.model is not None:
            save_plan(fold.model.plan, fold.plan)
    write_record(
        fold,
        trainer,
        data,
        unlabelled=unlabelled or (),
        start=start,
        refined=refined,
        finder_trained_before=known_finder,
    )
    if data.readers is not None and data.readers.matrices is not None:
        files.write_json(fold.folder.path / READERS, data.readers.described())
    _tell(fold, trainer, data)
    trainer.fit(data)


def _trainer(fold: Fold) -> Trainer:
    request = fold.request
    # Weights to start with make another finder of the same data, also in a run that goes on.
    started = request.pretrained or start_of(fold, None)
    settings = RunSettings(
        fold.folder.path,
        request.device,
        request.seed,
        request.workers,
        finders=None if started else finders_folder(fold.preprocessed.name),
        only=request.part,
    )
    return made_trainer(fold.trainer_class, fold.plan, fold.configuration, settings)


def _taken(fold: Fold, trainer: Trainer) -> Taken | None:
    """Give the trainer the weights to start with, where there are any."""
    if fold.request.pretrained is None:
        return None
    # After the resumed weights were asked for: those of a run that goes on are further than any start.
    if fold.request.resume and trainer.step:
        raise UsageError("-pretrained_weights is for a new run; this one goes on with its own weights (--c).")
    return take_pretrained(trainer.model, fold.request.pretrained)


def _set_aside(fold: Fold, trainer: Trainer) -> None:
    """Keep checkpoints and validation of an earlier run under other names before starting afresh."""
    for path in (*fold.folder.states, trainer.final_path):
        if path.exists():
            kept = path.with_name(f"replaced_{path.name}")
            path.replace(kept)
            logger.warning("%s of an earlier run is kept as %s. To continue a run, use --c.", path.name, kept.name)
    validation = fold.folder.validation
    if validation.exists():
        kept = validation.with_name(f"replaced_{validation.name}")
        shutil.rmtree(kept, ignore_errors=True)
        validation.rename(kept)
    for name in (PLACES, "progress.csv", "task_weights.csv"):
        (fold.folder.path / name).unlink(missing_ok=True)


def _tell(fold: Fold, trainer: Trainer, data: TrainingData) -> None:
    logger.info(
        "%s: %s, %s with a class; %s; on %s%s.",
        fold.folder.path,
        counted(len(data.cases), "case"),
        counted(len(data.sealed), "vertebra", "vertebrae"),
        ", ".join(f"{part.name} {counted(part.steps, 'step')}" for part in trainer.parts),
        fold.request.device,
        f", from step {trainer.step}" if trainer.step else "",
    )
