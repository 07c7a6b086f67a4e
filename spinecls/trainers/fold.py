"""Everything that one fold is trained from and where it goes, found out and checked before anything is written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spinecls import paths
from spinecls.errors import UsageError
from spinecls.inference.folds import unlike_folds
from spinecls.io.preprocessed import StoredCases, check_stored, grid_folder_name, grid_settings
from spinecls.io.preprocessed_records import read_native
from spinecls.model_folder import FoldFolder, ModelFolder, model_folder
from spinecls.planning.current import require_current
from spinecls.planning.meaning import said
from spinecls.planning.plan import Configuration, Plan, load_plan
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.fold_plan import kept_plan, new_plan
from spinecls.trainers.refinement import REFINED, Refinement
from spinecls.trainers.request import TrainingRequest
from spinecls.trainers.same_data import require_same_data
from spinecls.trainers.second_round import refinement
from spinecls.trainers.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """A fold of a training.

    `model` is the folder of the model that it is one of; None in a comparison, whose runs belong to no model.
    """

    request: TrainingRequest
    trainer_class: type[Trainer]
    preprocessed: Path
    folder: FoldFolder
    model: ModelFolder | None
    train: list[str]
    validation: list[str]
    plan: Plan
    refinement: Refinement | None = None

    @property
    def configuration(self) -> Configuration:
        return self.plan.configuration(self.request.configuration)

    @property
    def plans_config(self) -> str:
        return grid_folder_name(self.request.plans, self.request.configuration)

    def stored(self, cases: Sequence[str]) -> StoredCases:
        """Some cases, to be read one after the other."""
        return StoredCases(self.preprocessed, self.plans_config, cases)

    def inputs(self, cases: Sequence[str]) -> dict[str, str]:
        """What each of some cases was preprocessed from (`planning.inputs`)."""
        return {case: read_native(self.preprocessed, case).inputs for case in cases}


def prepared_fold(request: TrainingRequest, trainer_class: type[Trainer]) -> Fold:
    """The fold that a request is about.

    Raises
    ------
    SpineclsError
        When anything that it needs is missing, or no longer is what it was planned or begun with.
    """
    name = paths.dataset_name(request.dataset)
    preprocessed = paths.preprocessed_folder(name)
    if request.refine and not trainer_class.learns_beliefs:
        raise UsageError(
            f"--refine: {trainer_class.__name__} does not learn from beliefs. Use -tr UncertainLabelsTrainer or "
            "UncertainLabelsAETrainer."
        )
    dataset_plan = load_plan(preprocessed / f"{request.plans}.json")
    dataset_plan.configuration(request.configuration)
    require_current(request.dataset, dataset_plan)
    train, validation = fold_cases(preprocessed, request.fold)
    train = train if request.cases is None else list(request.cases)
    first = model_folder(name, trainer_class.__name__, request.plans, request.configuration)
    # A round of its own beside the first one, which stays as it is; the rest of the names are those of any model.
    model = dataclasses.replace(first, trainer=first.trainer + REFINED) if request.refine else first
    folder = request.folder or model.fold(request.fold)
    second_round = None
    if request.refine and not request.validate_only:
        second_round = refinement(first, preprocessed, train, dataset_plan.class_names)
    if request.goes_on:
        require_same_data(folder, dataset_plan, preprocessed, train, validation, request.resume)
    if request.goes_on and folder.begun:
        plan = kept_plan(folder, request.overrides)
    else:
        plan = new_plan(request, trainer_class, dataset_plan, preprocessed, train, second_round)
    own = model if request.folder is None else None
    fold = Fold(request, trainer_class, preprocessed, folder, own, train, validation, plan, second_round)
    settings = grid_settings(fold.configuration.spacing_mm, fold.configuration.normalisation)
    check_stored(preprocessed, fold.plans_config, settings, [*train, *validation])
    return fold


def tell_of_other_meanings(fold: Fold) -> None:
    """Say before training which folds of the same model will not be averaged with this one.

    No refusal, for who trains all folds anew after a change begins with one of them.
    """
    if fold.model is None:
        return
    for other, told in unlike_folds(fold.model, fold.request.fold, fold.plan).items():
        logger.warning(
            "Fold %s, which lies beside fold %s, does not mean the same: %s. They cannot be averaged, so train fold %s "
            "anew as well; or keep the earlier model and give this one other plans (spinecls_plan_experiment -p NAME).",
            other,
            fold.request.fold,
            said(told),
            other,
        )
