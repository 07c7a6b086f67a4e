"""The best of a dataset's trained models by their out-of-fold predictions, and what prediction takes by default."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import __version__, files, paths
from spinecls.errors import ModelError
from spinecls.evaluation import metrics
from spinecls.evaluation.intervals import format_score
from spinecls.evaluation.selection import Candidate, Judged, classification_candidate, select
from spinecls.evaluation.vertebra_table import identified_vertebrae, joined, read_validation
from spinecls.inference.folds import require_same_classes
from spinecls.inference.model_calibration import calibrate_model
from spinecls.inference.models import BEST_CONFIGURATION, TrainedModel, is_sealed, trained_models, with_finished_folds
from spinecls.inference.scored import score_name
from spinecls.planning.current import require_current_folds
from spinecls.planning.plan import Plan

logger = logging.getLogger(__name__)

INSTRUCTIONS = "inference_instructions.txt"


@dataclass(frozen=True, kw_only=True)
class BestRequest:
    """What to choose among; empty = all that were trained. `unsealed`: comparators are compared, but never chosen."""

    dataset: str
    configurations: Sequence[str] = ()
    trainers: Sequence[str] = ()
    plans: Sequence[str] = ()
    folds: Sequence[str] = ()
    ensembles: bool = True
    unsealed: bool = False


def find_best(request: BestRequest) -> tuple[list[Judged], Path]:
    """Compare all models and pairs of them, out of fold, calibrate what is chosen, and write what to use.

    Writes `best_configuration.json` and `inference_instructions.txt` into the dataset's results folder.

    Returns
    -------
    judged : the chosen one first
    folder : the results folder

    Raises
    ------
    ModelError
        When no model of the request has all folds, or folds or models do not mean the same.
    """
    dataset = paths.dataset_name(request.dataset)
    models = _models(dataset, request)
    folds = _common_folds(models, request.folds)
    models = [dataclasses.replace(model, folds=folds) for model in models]
    plan = require_same_classes(models, "Choose models that agree by -c, -tr and -p.")
    for model in models:
        require_current_folds(dataset, model.plans, model.fold_folders())
    named = {model.path.name: model for model in models}
    eligible = [model for model in models if _eligible(model)]
    candidates = [dataclasses.replace(_candidate((m,), plan), eligible=m in eligible) for m in models]
    if request.ensembles and len(plan.class_names) > 1:
        candidates += [_candidate(pair, plan) for pair in itertools.combinations(eligible, 2)]
    judged = select(candidates)
    chosen = [named[name] for name in judged[0].models]
    folder = paths.results_root() / dataset
    files.write_json(
        folder / BEST_CONFIGURATION,
        {
            "models": list(judged[0].models),
            "folds": list(folds),
            "score": score_name(plan),
            "candidates": [_entry(j) for j in judged],
            "spinecls_version": __version__,
        },
    )
    files.write_text(folder / INSTRUCTIONS, instructions(dataset, chosen, score_name(plan), judged))
    for model in chosen:
        calibrate_model(_with_all_folds(model))
    return judged, folder


def _models(dataset: str, request: BestRequest) -> list[TrainedModel]:
    wanted = {"configuration": request.configurations, "trainer": request.trainers, "plans": request.plans}
    trained = [
        model
        for model in trained_models(paths.results_root())
        if model.dataset == dataset and all(not names or getattr(model, key) in names for key, names in wanted.items())
    ]
    usable = [model for model in trained if request.unsealed or is_sealed(model)]
    # A model of fold all, or one that came as a file, was tested on nobody here.
    untested = [model.path.name for model in usable if not model.validated]
    if untested:
        logger.warning("Left out, for no fold was validated here: %s.", ", ".join(untested))
    usable = [model for model in usable if model.validated]
    if refined := [model.path.name for model in usable if _refined(model)]:
        told = "%s: compared, and not chosen, for a second round is not tested on cases that nothing of it has seen."
        logger.warning(told, ", ".join(refined))
    if not any(map(_eligible, usable)):
        there = ", ".join(model.path.name for model in trained) or "none"
        raise ModelError(f"{dataset}: no sealed model with a validated fold to choose from. Trained: {there}.")
    return usable


def _refined(model: TrainedModel) -> bool:
    """Whether its labels were refined by models that had learnt from the cases it is tested on."""
    return any(fold.record().get("refined") for fold in model.fold_folders())


def _eligible(model: TrainedModel) -> bool:
    return is_sealed(model) and not _refined(model)


def _common_folds(models: Sequence[TrainedModel], asked: Sequence[str]) -> tuple[str, ...]:
    """The folds that are compared; every model must have them."""
    validated = {model.path.name: model.validated for model in models}
    folds = tuple(asked) or tuple(sorted(set().union(*validated.values())))
    lacking = {name: [fold for fold in folds if fold not in own] for name, own in validated.items()}
    lacking = {name: missing for name, missing in lacking.items() if missing}
    if lacking or not folds:
        told = "; ".join(f"{name} lacks fold {', '.join(missing)}" for name, missing in lacking.items())
        raise ModelError(
            f"Models are compared on the same folds, out of fold: {told or 'no fold was validated'}. Train the missing "
            "folds, or choose by -c, -tr, -p and -f."
        )
    return folds


def _with_all_folds(model: TrainedModel) -> TrainedModel:
    """A model with every finished fold, all of which a calibration serves; as it is where these do not agree."""
    whole = with_finished_folds(model)
    try:
        whole.fold_plans()
    except ModelError as error:
        logger.warning("Calibrated on the chosen folds alone. %s", error)
        return model
    return whole


def _candidate(models: Sequence[TrainedModel], plan: Plan) -> Candidate:
    names = [model.path.name for model in models]
    if len(plan.class_names) > 1:
        tables = [joined([read_validation(fold) for fold in model.fold_folders()]) for model in models]
        return classification_candidate(names, tables)
    rows = [row for fold in models[0].fold_folders() for row in identified_vertebrae(fold.vertebrae)]
    values = np.array([identified for _, identified in rows], bool)
    patients = tuple(patient for patient, _ in rows)
    return Candidate(
        tuple(names), patients, lambda weights: metrics.mean(values, weights), identified_share=float(values.any())
    )


def _entry(judged: Judged) -> dict:
    return {
        "models": list(judged.models),
        "score": judged.score.as_dict(),
        "gain": None if judged.gain is None else judged.gain.as_dict(),
        "verdict": judged.verdict,
    }


def instructions(dataset: str, chosen: Sequence[TrainedModel], score: str, judged: Sequence[Judged]) -> str:
    """Commands that predict with what was chosen, and why it was."""
    best, folds = judged[0], chosen[0].folds
    lines = [
        f"{dataset}: {' and '.join(best.models)}, folds {' '.join(folds)}.",
        f"{score}, out of fold {format_score(best.score.as_dict())} (95 % interval, patients drawn).",
        "",
        "These are taken when no model is named:",
        f"    spinecls_predict -d {paths.dataset_number(dataset) or dataset} -i INPUT -o OUTPUT",
        "",
        "The same, each step by itself:" if len(chosen) > 1 else "The same, with every name:",
    ]
    save = " --save_probabilities" if len(chosen) > 1 else ""
    for number, model in enumerate(chosen, start=1):
        target = f"OUTPUT_{number}" if len(chosen) > 1 else "OUTPUT"
        lines.append(
            f"    spinecls_predict -d {dataset} -c {model.configuration} -tr {model.trainer} -p {model.plans} "
            f"-f {' '.join(folds)} -i INPUT -o {target}{save}"
        )
    if len(chosen) > 1:
        lines.append(f"    spinecls_ensemble -i {' '.join(f'OUTPUT_{n + 1}' for n in range(len(chosen)))} -o OUTPUT")
    return "\n".join(lines) + "\n"
