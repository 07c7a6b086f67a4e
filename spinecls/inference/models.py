"""Finding trained models: named by the user, or the only one, or the best by cross-validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spinecls import files, paths
from spinecls.calibration.prior import checked_prior
from spinecls.calibration.record import AGAIN, CALIBRATION, Calibration, load_calibration
from spinecls.errors import ModelError, UsageError, counted
from spinecls.evaluation.vertebra_table import VALIDATED
from spinecls.inference.predictor import Predictor
from spinecls.planning.plan import Plan, load_plan
from spinecls.sealing.levels import GUARANTEED, is_guaranteed
from spinecls.tasks.checkpoint import EARLIER_SEAL, build_model, load_checkpoint, short_hash
from spinecls.tasks.classification import class_prior

logger = logging.getLogger(__name__)

FINAL = "checkpoint_final.pt"
BEST = "best_configuration.json"
"""In a dataset's results folder: `models`, folder names, and their `folds`, that prediction takes by default."""

AVERAGED_FIELDS = (
    "spacing_mm", "patch_size", "sealed_spacing_mm", "sealed_size", "network", "normalisation", "sealing_margin_mm",
    "logit_adjustment", "balanced_crop_share", "seal", "pooling",
)
"""What the folds of a model must have in common."""


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
class TrainedModel:
    """A model folder `<Trainer>__<Plans>__<configuration>` and its finished folds."""

    folder: Path
    dataset: str
    trainer: str
    plans: str
    configuration: str
    folds: tuple[str, ...]

    def fold_folders(self, folds: Sequence[str]) -> list[Path]:
        """Folders of some folds."""
        return [self.folder / f"fold_{fold}" for fold in folds]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.folder.name}"


def trained_models(root: Path) -> list[TrainedModel]:
    """All models with at least one finished fold below the results folder."""
    models = []
    for plan_path in sorted(root.glob("Dataset*/*__*__*/plan.json")):
        model = model_at(plan_path.parent)
        if model is not None and model.folds:
            models.append(model)
    return models


def model_at(folder: Path) -> TrainedModel | None:
    """Model of a folder `<Trainer>__<Plans>__<configuration>`; None when it is called otherwise."""
    parts = folder.name.split("__")
    if len(parts) != 3:
        return None
    folds = tuple(sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{FINAL}")))
    return TrainedModel(folder, folder.parent.name, *parts, folds)


def choose_models(choice: ModelChoice) -> tuple[TrainedModel, ...]:
    """The models whose predictions are averaged: those that `spinecls_find_best_configuration` chose, else one.

    A choice of models by name goes before.

    Raises
    ------
    ModelError
        As `choose_model`.
    """
    if choice.folder is None and choice.configuration is choice.trainer is choice.plans is None:
        best = _remembered(_fitting(choice))
        if best:
            return tuple(_with_folds(model, choice.folds or folds) for model, folds in best)
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
        model = model_at(choice.folder.resolve()) if (choice.folder / "plan.json").exists() else None
        if model is None or not model.folds:
            raise ModelError(f"{choice.folder}: not a model folder with a finished fold (plan.json, fold_*/{FINAL}).")
        return _with_folds(model, choice.folds)
    fitting = _fitting(choice)
    sealed = [model for model in fitting if is_sealed(model)]
    if not sealed and choice.trainer is None:
        there = "; ".join(f"{m.name} ({', '.join(sorted(_seals(m)))})" for m in fitting)
        raise ModelError(
            f"Only models that are not sealed ({' or '.join(GUARANTEED)}) are trained: {there}. Their classes may come "
            "from outside the vertebra, so they are not taken unasked. Name one by -tr or -m, or train a sealed one."
        )
    candidates = sealed or fitting
    return _with_folds(candidates[0] if len(candidates) == 1 else _best(candidates), choice.folds)


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
        raise ModelError(f"No trained model fits ({asked}). In {root}: {there}. Train one, or set spinecls_results.")
    datasets = sorted({model.dataset for model in fitting})
    if len(datasets) > 1:
        raise ModelError(f"Models of several datasets are trained ({', '.join(datasets)}). Choose one by -d.")
    return fitting


def _remembered(models: Sequence[TrainedModel]) -> list[tuple[TrainedModel, tuple[str, ...]]]:
    """What was chosen for the dataset of some models, with its folds; empty when nothing was, or it is gone."""
    path = models[0].folder.parent / BEST
    if not path.exists():
        return []
    content = files.read_json(path)
    known = {model.folder.name: model for model in models}
    try:
        chosen = [(known.get(str(name)), tuple(map(str, content["folds"]))) for name in content["models"]]
    except (KeyError, TypeError):
        raise ModelError(f"{path}: not written by spinecls_find_best_configuration. Run it again.") from None
    if any(model is None or set(folds) - set(model.folds) for model, folds in chosen):
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
    plans = [load_plan(model.folder / f"fold_{fold}" / "plan.json") for fold in model.folds]
    return {plan.configuration(model.configuration).seal for plan in plans}


def _best(models: Sequence[TrainedModel]) -> TrainedModel:
    """The model with the best mean validation score, among those with the most folds; the reason is logged."""
    scored = []
    for model in models:
        scores = [validation_score(model.folder / f"fold_{fold}") for fold in model.folds]
        known = [s for s in scores if s is not None]
        if known:
            scored.append((sum(known) / len(known), len(known), model))
    if not scored:
        names = "; ".join(m.name for m in models)
        raise ModelError(f"Several models are trained ({names}), none with a validation score. Name one by -d -c -tr.")
    scored.sort(key=lambda entry: (entry[1], entry[0]), reverse=True)
    score, folds, model = scored[0]
    logger.warning(
        "Several models are trained; taking %s (of those with the most folds the best %s in validation, mean %.3f over "
        "%s). Others: %s.",
        model.name,
        score_name(load_plan(model.folder / "plan.json")),
        score,
        counted(folds, "fold"),
        "; ".join(f"{m.name} ({s:.3f}, {counted(n, 'fold')})" for s, n, m in scored[1:]) or "none scored",
    )
    return model


def validated_folds(model: TrainedModel) -> tuple[str, ...]:
    """Folds with predictions of cases that they had held out."""
    return tuple(fold for fold in model.folds if (model.folder / f"fold_{fold}" / VALIDATED).exists())


def validation_score(fold: Path) -> float | None:
    """Macro AUC end to end of a fold's validation; the identification rate when there are no classes."""
    path = fold / "validation" / "summary.json"
    if not path.exists():
        return None
    content = files.read_json(path)
    classification = content.get("classification")
    if classification:
        return classification["end_to_end"]["auc_macro"]["estimate"]
    return content["location"]["identification_rate"]["estimate"]


def score_name(plan: Plan) -> str:
    """What models are chosen by."""
    return "macro AUC, end to end" if len(plan.class_names) > 1 else "identification rate"


def _with_folds(model: TrainedModel, folds: Sequence[str]) -> TrainedModel:
    missing = [fold for fold in folds if fold not in model.folds]
    if missing:
        raise ModelError(
            f"{model.name}: fold {', '.join(missing)} is not trained to its end. Finished: {', '.join(model.folds)}."
        )
    chosen = tuple(folds) if folds else tuple(f for f in model.folds if f != "all") or model.folds
    return TrainedModel(model.folder, model.dataset, model.trainer, model.plans, model.configuration, chosen)


def load_predictor(
    model: TrainedModel,
    device: torch.device,
    augment: bool,
    prevalence: Mapping[str, float] | None = None,
    calibrated: bool = True,
) -> Predictor:
    """Predictor of a model's folds; they must have been trained by the same numbers to be averaged.

    Parameters
    ----------
    augment : average over several views
    prevalence : class -> share where the model is used; None = as in training
    calibrated : use the calibration in the model folder, if it is of these folds and of predicting in this way; else it
        is logged why not
    """
    plans = {fold: load_plan(model.folder / f"fold_{fold}" / "plan.json") for fold in model.folds}
    first, *others = plans
    configuration = plans[first].configuration(model.configuration)
    for fold in others:
        other = plans[fold].configuration(model.configuration)
        differing = [f for f in AVERAGED_FIELDS if getattr(other, f) != getattr(configuration, f)]
        if differing:
            raise ModelError(
                f"{model.name}: folds {first} and {fold} were trained with another {', '.join(differing)}, so they "
                "cannot be averaged. Choose folds by -f, or train them anew."
            )
    networks, hashes = [], {}
    for fold in model.folds:
        path = model.folder / f"fold_{fold}" / FINAL
        content = load_checkpoint(path)
        if (trained := content.get("seal", EARLIER_SEAL)) != configuration.seal:
            raise ModelError(
                f"{path}: was trained with crops of level {trained}, but plan.json beside it says "
                f"{configuration.seal}. Put the plan back as it was, or train anew."
            )
        networks.append(build_model(content, path))
        hashes[fold] = short_hash(content, path)
    calibration = None
    if calibrated and (model.folder / CALIBRATION).exists():
        try:
            calibration = suited_calibration(model.folder / CALIBRATION, plans[first], hashes, augment)
        except ModelError as error:
            logger.warning("%s: predictions are not calibrated. %s", model.name, error)
    if prevalence is not None:
        if len(plans[first].class_names) < 2:
            raise UsageError(f"{model.name}: was trained without classes, so no prevalence can be given.")
        known = class_prior(plans[first]).numpy().astype(float) if calibration is None else calibration.prior
        checked_prior(prevalence, plans[first].class_names, known)
    return Predictor(
        networks,
        plans[first],
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
    found = load_calibration(path)
    if (found.class_names, found.class_order) != (tuple(plan.class_names), plan.class_order):
        raise ModelError(f"{path}: is of the classes {', '.join(found.class_names)}, the plan of others. {AGAIN}")
    found.require_models(checkpoints, augment)
    return found


def checkpoint_hashes(model: TrainedModel) -> dict[str, str]:
    """Hash of each fold's checkpoint, which a prediction names its model by."""
    paths_of = {fold: model.folder / f"fold_{fold}" / FINAL for fold in model.folds}
    return {fold: short_hash(load_checkpoint(path), path) for fold, path in paths_of.items()}
