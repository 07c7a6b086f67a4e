"""Prediction of a fold's validation cases, right after training, from preprocessed arrays alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spinecls.beliefs import agreed_class
from spinecls.evaluation import matching, summary, trivial_counter
from spinecls.evaluation.score_files import write_scores
from spinecls.hard_cases import HardCases
from spinecls.inference.case_results import case_prediction
from spinecls.inference.predictor import Predictor
from spinecls.io.annotation_forms import is_draft
from spinecls.io.predictions import FAILURES_NAME, write_case_json, write_failures, write_table
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.planning.familiarity import unfamiliar
from spinecls.planning.plan import Plan
from spinecls.records import CasePrediction, DatasetDescription
from spinecls.tasks.checkpoint import build_model, short_hash
from spinecls.trainers.fold import Fold
from spinecls.trainers.fold_cases import annotated_classes, fingerprints_of
from spinecls.trainers.training_images import learned_from

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


def validate(fold: Fold, checkpoint: Mapping) -> None:
    """Predict and score the validation cases of a fold.

    Writes `validation/` below the fold: one JSON a case, predictions.csv and the scores (`write_scores`). Maps are not
    written here; `spinecls_predict` writes them.

    Parameters
    ----------
    checkpoint : content of the fold's final checkpoint

    Raises
    ------
    PartialFailure
        When cases failed, after everything is written (`HardCases.raise_if_any`).
    """
    model = build_model(checkpoint, fold.folder.final)
    predictor = Predictor([model], fold.plan, fold.configuration, fold.request.device)
    warnings = image_warnings(fold)
    # The plan of the predictor: without readers nothing is said of classes, so nothing is judged of them.
    description = plan_description(predictor.plan)
    predictions: list[CasePrediction] = []
    truth: list[matching.CaseTruth] = []
    drafts: list[str] = []
    target = fold.folder.validation
    source = {"fold": fold.folder.path.name, "training_images": predictor.plan.training_images}
    hard = HardCases(target)
    inputs = fold.inputs(fold.validation)
    for case in tqdm(fold.stored(fold.validation), total=len(inputs), desc="validation", unit="case", disable=None):
        name = case.identifier
        with hard.case(name):
            unlike = bool(warnings.get(name))
            volume = predictor.predict_volume(case.native, case.native_geometry, unlike)
            prediction = case_prediction(name, volume, predictor.plan, source, warnings=warnings.get(name, ()))
            write_case_json(target, prediction)
            predictions.append(prediction)
        # A case that fails counts as one in which nothing was found.
        level_map = np.zeros(case.native_geometry.shape, np.uint8) if name in hard.failed else volume.level_map
        truth.append(preprocessed_truth(case, level_map, description))
        drafts += [name] if is_draft(case.annotation_form) else []
    write_table(target, predictions)
    write_failures(target, sorted(hard.failed.items()))
    reference = training_reference(fold)
    lowest = trivial_counter.commonest_lowest_level(reference.levels)
    outcomes = matching.judge(predictions, truth, description, lowest)
    scores = summary.summarise(outcomes, description, reference.prior, lowest)
    content = {
        "fold": fold.folder.path.name,
        # What a calibration must know: which weights said so, and how they were asked.
        "checkpoint": short_hash(checkpoint, fold.folder.final),
        "test_time_augmentation": predictor.augment,
        "inputs": inputs,
        "predicted": [p.identifier for p in predictions],
        "drafts": drafts,
        "unfamiliar_images": _told_of_unlike(predictions, target),
        **scores,
    }
    write_scores(target, content, outcomes, description)
    hard.raise_if_any(len(inputs), str(target / FAILURES_NAME))


def training_reference(fold: Fold) -> TrainingReference:
    """What scoring needs to know of training, from the training cases."""
    annotations = annotated_classes(fold.preprocessed, fold.train)
    return TrainingReference(
        levels=[list(classes) for classes in annotations.values()],
        class_counts=[fold.plan.class_counts.get(name, 0) for name in fold.plan.class_names],
    )


def image_warnings(fold: Fold) -> dict[str, tuple[str, ...]]:
    """By validation case in which ways its image is unlike those of training; those that training knew are told."""
    validated = fingerprints_of(fold.preprocessed, fold.validation)
    if learned := learned_from(validated, fold.plan.training_images):
        said = "%s: the weights that this fold started with have learned from the validation cases %s; their scores "
        logger.warning(said + "are better than on new scans.", fold.folder.path, ", ".join(learned))
    if fold.plan.familiar is None:
        return {}
    return {case.case: unfamiliar(case.shape, case.spacing_mm, case.appearance, fold.plan) for case in validated}


def _told_of_unlike(predictions: Sequence[CasePrediction], target: Path) -> list[str]:
    """Cases whose images are unlike those of training, which is logged."""
    unlike = [p.identifier for p in predictions if p.warnings]
    if unlike:
        said = "%d of %d validated images are unlike those that the fold trained on (why: %s): %s."
        logger.warning(said, len(unlike), len(predictions), target / "<case>.json", ", ".join(unlike))
    return unlike


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
    """Truth of a preprocessed case, and the Dice of a predicted map with it; none of a draft but the classes.

    Parameters
    ----------
    level_map : (S, R, A) predicted map on the native grid, codes of the description's levels
    """
    classes = {}
    draft = is_draft(case.annotation_form)
    for vertebra in case.vertebrae:
        if draft and not vertebra.readings:
            continue
        agreed = agreed_class((r.classes, r.confidence) for r in vertebra.readings)
        known = agreed is not None and description.class_names
        classes[vertebra.level] = description.class_names.index(agreed) if known else None
    dice = {} if case.native_map is None or draft else summary.dice_by_level(case.native_map, level_map, description)
    return matching.CaseTruth(
        identifier=case.identifier,
        patient=case.patient,
        site=case.site,
        centres_lps={v.level: v.centre_lps for v in case.vertebrae if v.centre_lps is not None and not draft},
        classes=classes,
        dice=dice,
    )
