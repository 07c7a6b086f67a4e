"""Finding trained models: named by the user, or the only one, or the best by cross-validation."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spinecls import files, paths
from spinecls.calibration.prior import checked_prior
from spinecls.calibration.record import AGAIN, CALIBRATION, Calibration, load_calibration
from spinecls.errors import ModelError, UsageError, nearest
from spinecls.inference.folds import agreed_plans, fold_plan, own_checkpoint, require_same_classes
from spinecls.inference.predictor import Predictor
from spinecls.inference.scored import best_validated
from spinecls.model_folder import FINAL, PLAN, FoldFolder, ModelFolder, is_fold, model_folder_at, model_folders
from spinecls.planning.meaning import class_meaning, differences, flat, require_same, said
from spinecls.planning.plan import Plan
from spinecls.sealing.sealing_levels import GUARANTEED, is_guaranteed
from spinecls.tasks.checkpoint import build_model, read_spec, short_hash
from spinecls.tasks.classification import class_prior

logger = logging.getLogger(__name__)

BEST_CONFIGURATION = "best_configuration.json"
"""In a dataset's results folder: `models`, folder names, and their `folds`, that prediction takes by default."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What the user said about the model; None = not said."""

    folder: Path | None = None
    dataset: str | None = None
    configuration: str | None = None
    trainer: str | None = None
    plans: str | None = None
    folds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        said = {"-d": self.dataset, "-c": self.configuration, "-tr": self.trainer, "-p": self.plans}
        useless = [option for option, value in said.items() if value is not None]
        if self.folder is not None and useless:
            raise UsageError(f"{', '.join(useless)}: -m says which model is meant. Give one or the other.")


@dataclass(frozen=True)
class TrainedModel(ModelFolder):
    """A model folder and those of its finished folds that are used."""

    folds: tuple[str, ...]

    def fold_folders(self) -> list[FoldFolder]:
        return [self.fold(fold) for fold in self.folds]

    def fold_plans(self) -> dict[str, Plan]:
        """Plan of each fold; ModelError unless all folds mean the same."""
        return agreed_plans(self, self.folds)

    @property
    def validated(self) -> tuple[str, ...]:
        """Folds with predictions of cases that they had held out."""
        return tuple(fold.number for fold in self.fold_folders() if fold.validated)


def trained_models(root: Path) -> list[TrainedModel]:
    """All models with at least one finished fold below the results folder."""
    folders = (folder for dataset in sorted(root.glob("Dataset*")) for folder in model_folders(dataset))
    models = (with_finished_folds(folder) for folder in folders if folder.plan.exists())
    return [model for model in models if model.folds]


def with_finished_folds(folder: ModelFolder) -> TrainedModel:
    """Model of a folder with every fold that is trained to its end."""
    finished = tuple(fold.number for fold in folder.all_folds() if fold.finished)
    return TrainedModel(**{**vars(folder), "folds": finished})


def model_at(path: Path) -> TrainedModel | None:
    """Model of a folder `<Trainer>__<Plans>__<configuration>`; None when it is called otherwise."""
    folder = model_folder_at(path)
    return None if folder is None else with_finished_folds(folder)


def choose_models(choice: ModelChoice) -> tuple[TrainedModel, ...]:
    """The models whose predictions are averaged: those that `spinecls_find_best_configuration` chose, else one.

    A choice of models by name goes before.

    Raises
    ------
    ModelError
        As `choose_model`.
    """
    if choice.folder is None and choice.configuration is choice.trainer is choice.plans is None:
        best = [_with_folds(model, choice.folds or folds) for model, folds in _remembered(_fitting(choice))]
        if best:
            require_same_classes(best, "Name one by -c and -tr, or run spinecls_find_best_configuration again.")
            return tuple(best)
    return (_choose_by_score(choice),)


def choose_model(choice: ModelChoice) -> TrainedModel:
    """The one model that the choice leaves, the best by cross-validation if several.

    Comparators that are not sealed give no guarantee: one is taken only when its folder or trainer is named and no
    sealed model fits as well.

    Raises
    ------
    ModelError
        When none fits; lists what is there. When the best configuration is a mean of models.
    """
    chosen = choose_models(choice)
    if len(chosen) > 1:
        raise ModelError(
            f"The best configuration is the mean of {' and '.join(m.name for m in chosen)}, and here one model is "
            "needed. Name it by trainer and configuration, or give its folder."
        )
    return chosen[0]


def _choose_by_score(choice: ModelChoice) -> TrainedModel:
    if choice.folder is not None:
        return _with_folds(_named_by_folder(choice.folder), choice.folds)
    fitting = _fitting(choice)
    sealed = [model for model in fitting if is_sealed(model)]
    if not sealed and choice.trainer is None:
        there = "; ".join(f"{m.name} ({', '.join(sorted(_seals(m)))})" for m in fitting)
        raise ModelError(
            f"Only models that are not sealed ({' or '.join(GUARANTEED)}) are trained: {there}. Their classes may come "
            "from outside the vertebra, so they are not taken unasked. Name one by -tr or -m, or train a sealed one."
        )
    candidates = sealed or fitting
    # What lacks a fold that was asked for does not fit either, unless nothing has it, which is then told.
    candidates = [model for model in candidates if set(choice.folds) <= set(model.folds)] or candidates
    narrowed = [_with_folds(model, choice.folds) for model in candidates]
    return narrowed[0] if len(narrowed) == 1 else best_validated(narrowed)


def _named_by_folder(folder: Path) -> TrainedModel:
    if not folder.is_dir():
        raise ModelError(f"-m {folder}: not a model folder, there is no such folder.")
    if is_fold(folder.resolve()):
        fold = FoldFolder(folder.resolve()).number
        raise ModelError(f"-m {folder}: a fold of a model. Write -m {folder.parent} -f {fold}.")
    model = model_at(folder.resolve())
    if not (folder / PLAN).exists() or (model is not None and not model.folds):
        raise ModelError(f"{folder}: not a model folder with a finished fold ({PLAN}, fold_*/{FINAL}).")
    if model is None:
        raise ModelError(
            f"{folder}: the name of a model folder says what it is, <trainer>__<plans>__<configuration>, as in "
            "AuxSegTrainer__spineclsPlans__3d_fullres. Give it its name back."
        )
    return model


def _fitting(choice: ModelChoice) -> list[TrainedModel]:
    """Models, all of one dataset, of the names that were given."""
    root = paths.results_root()
    everything = trained_models(root)
    dataset = None if choice.dataset is None else paths.dataset_name(choice.dataset)
    trainer = None if choice.trainer is None else choice.trainer.rsplit(":", 1)[-1]
    wanted = {"dataset": dataset, "trainer": trainer, "plans": choice.plans, "configuration": choice.configuration}
    fitting = [m for m in everything if all(v is None or getattr(m, k) == v for k, v in wanted.items())]
    if not fitting:
        asked = ", ".join(f"{k} {v}" for k, v in wanted.items() if v is not None) or "any"
        there = "; ".join(m.name for m in everything) or "no trained model"
        known = ((v, {getattr(m, k) for m in everything}) for k, v in wanted.items() if v is not None)
        meant = "".join(nearest(v, names) for v, names in known if v not in names)
        raise ModelError(
            f"No trained model fits ({asked}).{meant} In {root}: {there}. Train one, or set spinecls_results."
        )
    datasets = sorted({model.dataset for model in fitting})
    if len(datasets) > 1:
        raise ModelError(f"Models of several datasets are trained ({', '.join(datasets)}). Choose one by -d.")
    return fitting


def _remembered(models: Sequence[TrainedModel]) -> list[tuple[TrainedModel, tuple[str, ...]]]:
    """What was chosen for the dataset of some models, with its folds; empty when nothing was, or it is gone."""
    path = models[0].path.parent / BEST_CONFIGURATION
    if not path.exists():
        return []
    content = files.read_json(path)
    known = {model.path.name: model for model in models}
    try:
        named = [(str(name), tuple(map(str, content["folds"]))) for name in content["models"]]
    except (KeyError, TypeError):
        raise ModelError(f"{path}: not written by spinecls_find_best_configuration. Run it again.") from None
    chosen = [(known[name], folds) for name, folds in named if name in known]
    if len(chosen) < len(named) or any(set(folds) - set(model.folds) for model, folds in chosen):
        logger.warning("%s: a model that it names is no longer there; run spinecls_find_best_configuration.", path)
        return []
    if not all(is_sealed(model) for model, _ in chosen):
        logger.warning("%s names a model that gives no guarantee; it is not taken unasked.", path)
        return []
    return chosen


def is_sealed(model: TrainedModel) -> bool:
    """Whether the classes of every fold come from the vertebra's own voxels."""
    return all(is_guaranteed(seal) for seal in _seals(model))


def _seals(model: TrainedModel) -> set[str]:
    """Sealing levels of a model's folds."""
    plans = [fold_plan(fold) for fold in model.fold_folders()]
    return {plan.configuration(model.configuration).seal for plan in plans}


def _with_folds(model: TrainedModel, folds: Sequence[str]) -> TrainedModel:
    missing = [fold for fold in folds if fold not in model.folds]
    if missing:
        raise ModelError(
            f"{model.name}: fold {', '.join(missing)} is not trained to its end. Finished: {', '.join(model.folds)}."
        )
    chosen = tuple(folds) if folds else tuple(f for f in model.folds if f != "all") or model.folds
    return dataclasses.replace(model, folds=chosen)


def load_predictor(
    model: TrainedModel,
    device: torch.device,
    augment: bool,
    prevalence: Mapping[str, float] | None = None,
    calibrated: bool = True,
) -> Predictor:
    """Predictor of a model's folds, which must mean the same to be averaged.

    Parameters
    ----------
    augment : average over several views
    prevalence : class -> share where the model is used; None = as in training
    calibrated : use the calibration in the model folder, if it is of these folds and of predicting in this way; else it
        is logged why not

    Raises
    ------
    ModelError
        When folds do not mean the same, or a checkpoint is not of the plan beside it.
    UsageError
        On a prevalence that cannot be.
    """
    plans = model.fold_plans()
    plan = next(iter(plans.values()))
    configuration = plan.configuration(model.configuration)
    networks, hashes, heads = [], {}, {}
    for fold in model.folds:
        path = model.fold(fold).final
        content = own_checkpoint(model.fold(fold), plans[fold], model.configuration)
        networks.append(build_model(content, path))
        hashes[fold] = short_hash(content, path)
        spec = read_spec(content, path)
        heads[f"fold {fold}"] = flat({"heads": spec.dense_heads, "members": spec.members})
    require_same(heads, model.name, "Choose folds that agree by -f, or train the others anew.")
    calibration = None
    if calibrated and (model.path / CALIBRATION).exists():
        try:
            calibration = suited_calibration(model.path / CALIBRATION, plan, hashes, augment)
        except ModelError as error:
            logger.warning("%s: predictions are not calibrated. %s", model.name, error)
    if prevalence is not None:
        if len(plan.class_names) < 2:
            raise UsageError(f"{model.name}: was trained without classes, so no prevalence can be given.")
        known = class_prior(plan).numpy().astype(float) if calibration is None else calibration.prior
        checked_prior(prevalence, plan.class_names, known)
    return Predictor(
        networks,
        plan,
        configuration,
        device,
        augment,
        checkpoints=hashes,
        fold_plans=tuple(plans.values()),
        calibration=calibration,
        prevalence=prevalence,
    )


def suited_calibration(path: Path, plan: Plan, checkpoints: Mapping[str, str], augment: bool) -> Calibration:
    """A calibration that is of these classes, checkpoints and views.

    Raises
    ------
    ModelError
        When it is faulty, or of others.
    """
    calibration = load_calibration(path)
    learnt = flat({"class_names": calibration.class_names, "class_order": calibration.class_order})
    if told := differences(learnt, class_meaning(plan), "the calibration", "the plan"):
        raise ModelError(f"{path}: is of other classes: {said(told)}. {AGAIN}")
    calibration.require_models(checkpoints, augment)
    return calibration


def checkpoint_hashes(model: TrainedModel) -> dict[str, str]:
    """Hash of each fold's checkpoint, which a prediction names its model by.

    Raises
    ------
    ModelError
        When a checkpoint is not of the plan beside it.
    """
    hashes = {}
    for fold in model.fold_folders():
        hashes[fold.number] = short_hash(own_checkpoint(fold, fold_plan(fold), model.configuration), fold.final)
    return hashes
