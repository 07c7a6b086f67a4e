"""Prediction of a fold's validation cases, right after training, from preprocessed arrays alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from spinecls.beliefs import agreed_class
from spinecls.evaluation import matching, summary, trivial_counter
from spinecls.evaluation.score_files import write_scores
from spinecls.hard_cases import HardCases
from spinecls.inference.predictor import Predictor
from spinecls.inference.results import case_prediction
from spinecls.io.predictions import write_case_json, write_failures, write_table
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.planning.plan import Configuration, Plan
from spinecls.records import CasePrediction, DatasetDescription
from spinecls.tasks.checkpoint import build_model, load_checkpoint, short_hash

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingReference:
    """What scoring compares with, from the training cases alone: their levels, and their class counts."""

    levels: Sequence[Sequence[str]]
    class_counts: Sequence[int]

    @property
    def prior(self) -> list[float] | None:
        """Share of each class; None when no class was read."""
        total = sum(self.class_counts)
        return [count / total for count in self.class_counts] if total else None


def validate(
    folder: Path,
    plan: Plan,
    configuration: Configuration,
    cases: Iterable[PreprocessedCase],
    inputs: Mapping[str, str],
    reference: TrainingReference,
    device: torch.device,
    warnings: Mapping[str, tuple[str, ...]] | None = None,
) -> dict:
    """Predict and score cases that the fold did not train on.

    Writes `validation/` below the fold: one JSON a case, predictions.csv and the scores (`write_scores`). Maps are not
    written here; `spinecls_predict` writes them.

    Parameters
    ----------
    inputs : of each case the hash of what it was preprocessed from; kept with the scores, whose truth it is
    warnings : by case, in which ways its image is unlike those that the fold trained on

    Returns
    -------
    dict
        The content of summary.json.

    Raises
    ------
    PartialFailure
        When cases failed, after everything is written (`HardCases.raise_if_any`).
    """
    path = folder / "checkpoint_final.pt"
    checkpoint = load_checkpoint(path)
    predictor = Predictor([build_model(checkpoint, path)], plan, configuration, device)
    # Without readers nothing is said of classes, so nothing is judged of them.
    plan = predictor.plan
    description = plan_description(plan)
    warnings = warnings or {}
    predictions: list[CasePrediction] = []
    truth: list[matching.CaseTruth] = []
    target = folder / "validation"
    model = {"fold": folder.name, "training_images": plan.training_images}
    hard = HardCases(target)
    for case in tqdm(cases, total=len(inputs), desc="validation", unit="case", disable=None):
        name = case.identifier
        with hard.case(name):
            unlike = bool(warnings.get(name))
            volume = predictor.predict_volume(case.native, case.native_geometry, unlike)
            prediction = case_prediction(name, volume, plan, model, warnings=warnings.get(name, ()))
            write_case_json(target, prediction)
            predictions.append(prediction)
        # A case that fails counts as one in which nothing was found.
        level_map = np.zeros(case.native_geometry.shape, np.uint8) if name in hard.failed else volume.level_map
        truth.append(preprocessed_truth(case, level_map, description))
    write_table(target, predictions)
    write_failures(target, sorted(hard.failed.items()))
    lowest = trivial_counter.commonest_lowest_level(reference.levels)
    outcomes = matching.judge(predictions, truth, description, lowest)
    scores = summary.summarise(outcomes, description, reference.prior, lowest)
    unlike = [p.identifier for p in predictions if p.warnings]
    if unlike:
        said = "%d of %d validated images are unlike those that the fold trained on (why: %s): %s."
        logger.warning(said, len(unlike), len(predictions), target / "<case>.json", ", ".join(unlike))
    predicted = [p.identifier for p in predictions]
    content = {
        "fold": folder.name,
        # What a calibration must know: which weights said so, and how they were asked.
        "checkpoint": short_hash(checkpoint, path),
        "test_time_augmentation": predictor.augment,
        "inputs": dict(inputs),
        "predicted": predicted,
        "unfamiliar_images": unlike,
        **scores,
    }
    write_scores(target, content, outcomes, description)
    hard.raise_if_any(len(inputs), str(target / "failed.csv"))
    return scores


def plan_description(plan: Plan) -> DatasetDescription:
    """What the plan remembers of dataset.json."""
    return DatasetDescription(
        name=plan.dataset_name,
        channel_names=plan.channel_names,
        class_names=plan.class_names,
        file_ending="",
        class_order=plan.class_order,
        levels=plan.levels,
        structures=plan.structures,
        lesion_structures=plan.lesion_structures,
        vertebrae_complete=plan.vertebrae_complete,
        ignore_label=plan.ignore_label,
    )


def preprocessed_truth(case: PreprocessedCase, level_map, description: DatasetDescription) -> matching.CaseTruth:
    """Truth of a preprocessed case, and the Dice of a predicted map with it.

    Parameters
    ----------
    level_map : (S, R, A) predicted map on the native grid, codes of the description's levels
    """
    classes = {}
    for vertebra in case.vertebrae:
        agreed = agreed_class((r.classes, r.confidence) for r in vertebra.readings)
        known = agreed is not None and description.class_names
        classes[vertebra.level] = description.class_names.index(agreed) if known else None
    dice = {} if case.native_map is None else summary.dice_by_level(case.native_map, level_map, description)
    return matching.CaseTruth(
        identifier=case.identifier,
        patient=case.patient,
        site=case.site,
        centres_lps={v.level: v.centre_lps for v in case.vertebrae if v.centre_lps is not None},
        classes=classes,
        dice=dice,
    )
