"""Training of folds: from names on the command line to a trained and validated model folder."""

from __future__ import annotations

from filelock import FileLock, Timeout

from spinecls.errors import Busy
from spinecls.inference.folds import own_checkpoint
from spinecls.model_folder import FoldFolder
from spinecls.networks.model import FINDER
from spinecls.trainers.fold import Fold, prepared_fold, tell_of_other_meanings
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.request import TrainingRequest
from spinecls.trainers.trainer import PREDICTING
from spinecls.trainers.training import train
from spinecls.trainers.user_code import told_as_the_users
from spinecls.trainers.validation import validate


def train_fold(request: TrainingRequest) -> FoldFolder:
    """Train and validate one fold; returns its folder.

    Raises
    ------
    Busy
        When another process trains it.
    """
    trainer_class = find_trainer(request.trainer)
    with told_as_the_users(trainer_class):
        fold = prepared_fold(request, trainer_class)
        if not request.validate_only:
            tell_of_other_meanings(fold)
        fold.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(fold.folder.lock, timeout=0):
                train(fold)
                _validate(fold)
        except Timeout:
            raise Busy(
                f"{fold.folder.path} is being trained by another process. Wait for it, or choose another fold."
            ) from None
    return fold.folder


def _validate(fold: Fold) -> None:
    """Validate a fold that predicts and is finished; weights of another one may have learned from its cases."""
    if fold.trainer_class.final_name != PREDICTING or not fold.folder.finished:
        return
    checkpoint = own_checkpoint(fold.folder, fold.plan, fold.request.configuration)
    if fold.validation and fold.request.part != FINDER:
        validate(fold, checkpoint)
