"""Scoring of a prediction folder against the annotations of a dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinecls import paths
from spinecls.errors import DatasetError, UsageError, counted, some_names
from spinecls.evaluation import matching, summary
from spinecls.evaluation.figures import write_figures
from spinecls.evaluation.matching import CaseOutcome
from spinecls.evaluation.score_files import SUMMARY, write_scores
from spinecls.evaluation.trivial_counter import commonest_lowest_level
from spinecls.evaluation.truth import class_of, class_prior, truth_of
from spinecls.io import predictions as prediction_files
from spinecls.io.case_table import read_sequences
from spinecls.io.dataset import load_dataset
from spinecls.records import Case, CasePrediction, RawDataset

logger = logging.getLogger(__name__)

TRAINING = "Tr"


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """Training cases that the class prior and the trivial counter are taken from, and which cases these are."""

    cases: Sequence[Case]
    description: str


def evaluate_folder(
    predictions: Path, dataset: str, split: str = TRAINING, output: Path | None = None, draws: int = 2000
) -> dict[str, Any]:
    """Score a prediction folder; writes the files of `score_files.write_scores` and figures.

    Cases in failed.csv count as cases with nothing predicted.

    Parameters
    ----------
    split : "Tr" or "Ts", which part of the dataset was predicted
    output : folder for the scores; the prediction folder by default

    Returns
    -------
    dict
        The content of summary.json.
    """
    target = output or predictions
    predicted = prediction_files.read_folder(predictions)
    if target.resolve() == predictions.resolve() and any(p.identifier == Path(SUMMARY).stem for p in predicted):
        raise UsageError(f"{predictions}: a case is called summary, so {SUMMARY} would replace it. Give -o FOLDER.")
    raw = _load(dataset, split)
    annotated = {case.identifier: case for case in raw.cases}
    present = {p.identifier for p in predicted}
    failed = [case for case, _ in prediction_files.read_failures(predictions) if case in annotated.keys() - present]
    without = [p.identifier for p in predicted if p.identifier not in annotated]
    judged = [p for p in predicted if p.identifier in annotated]
    if not judged:
        raise DatasetError(
            f"{predictions}: none of its {counted(len(predicted), 'case')} ({some_names(without)}) is an annotated "
            f"{split} case of {raw.description.name} ({some_names(list(annotated))}). Check -gt and --split."
        )
    _tell_of_models(predictions, judged)
    names = list(dict.fromkeys([*(p.identifier for p in judged), *failed]))
    reference = _reference(dataset, split, raw, set(names))
    outcomes, scores = _score(predictions, judged, [annotated[name] for name in names], raw, reference, draws)
    content = {
        "dataset": raw.description.name,
        "split": split,
        "training_reference": {"cases": len(reference.cases), "taken_from": reference.description},
        "failed_cases": failed,
        "cases_without_annotation": without,
        **scores,
    }
    write_scores(target, content, outcomes, raw.description)
    if scores["classification"] is not None:
        write_figures(target / "figures", outcomes, raw.description, scores["classification"], draws)
    return content


def _tell_of_models(folder: Path, judged: Sequence[CasePrediction]) -> None:
    """Scores of several models together are those of none."""
    first = judged[0]
    if others := [p.identifier for p in judged if p.model != first.model]:
        logger.warning(
            "%s: %s was predicted by another model, or in another way, than %s; the scores are of all together.",
            folder,
            some_names(others),
            first.identifier,
        )


def _load(dataset: str, split: str) -> RawDataset:
    folder = paths.raw_dataset_folder(dataset)
    if split == TRAINING:
        return load_dataset(folder, verify_voxels=False)
    return load_dataset(folder, verify_voxels=False, split=split)


def _reference(dataset: str, split: str, raw: RawDataset, predicted: set[str]) -> _Reference:
    if split != TRAINING:
        return _Reference(cases=_load(dataset, TRAINING).cases, description="the training cases of the dataset")
    others = [case for case in raw.cases if case.identifier not in predicted]
    if others:
        return _Reference(cases=others, description="the cases of the dataset that were not predicted")
    return _Reference(cases=raw.cases, description="the predicted cases themselves, because the dataset has no others")


def _score(
    folder: Path,
    predicted: Sequence[CasePrediction],
    cases: Sequence[Case],
    raw: RawDataset,
    reference: _Reference,
    draws: int,
) -> tuple[list[CaseOutcome], dict[str, Any]]:
    description = raw.description
    maps = {case.identifier: folder / f"{case.identifier}.nii.gz" for case in cases}
    # Predictions without any map (points only) are not judged by the Dice; once there are maps, a missing one has 0.
    has_maps = any(path.exists() for path in maps.values())
    sequences = read_sequences(raw.folder)
    truth = [
        truth_of(
            case, description, maps[case.identifier] if has_maps else None, sequences.get(case.identifier, "")
        )
        for case in cases
    ]
    trained = [vertebra for case in reference.cases for vertebra in case.vertebrae]
    classes = (class_of(vertebra.readings, description.class_names) for vertebra in trained)
    prior = class_prior(classes, len(description.class_names))
    lowest = commonest_lowest_level([vertebra.level for vertebra in case.vertebrae] for case in reference.cases)
    outcomes = matching.judge(predicted, truth, description, lowest)
    return outcomes, summary.summarise(outcomes, description, prior, lowest, draws)
