"""Scoring of a prediction folder against the annotations of a dataset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinecls import files, paths
from spinecls.errors import UsageError
from spinecls.evaluation import matching, summary
from spinecls.evaluation.acceptance import Accept
from spinecls.evaluation.figures import write_figures
from spinecls.evaluation.matching import CaseOutcome
from spinecls.evaluation.score_files import write_scores
from spinecls.evaluation.scored_cases import choose_cases
from spinecls.evaluation.trivial_counter import commonest_lowest_level
from spinecls.evaluation.truth import class_of, class_prior, truth_of
from spinecls.io import predictions as prediction_files
from spinecls.io.case_table import read_sequences
from spinecls.io.dataset import load_dataset
from spinecls.model_folder import SUMMARY
from spinecls.records import Case, CasePrediction, RawDataset

TRAINING = "Tr"
BESIDE_TRAINING = "evaluation"
"""Folder below `validation` of a fold for the scores of later evaluations; those of training stay as they are."""


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """Training cases that the class prior and the trivial counter are taken from, and which cases these are."""

    cases: Sequence[Case]
    description: str


def evaluate_folder(
    predictions: Path,
    dataset: str,
    split: str = TRAINING,
    output: Path | None = None,
    draws: int = 2000,
    accept: Collection[Accept] = (),
) -> dict[str, Any]:
    """Score a prediction folder; writes the files of `score_files.write_scores` and figures.

    Which cases are scored says `scored_cases`; those without a prediction count as missed.

    Parameters
    ----------
    split : "Tr" or "Ts", which part of the dataset was predicted
    output : folder for the scores; by default the prediction folder, of a fold's own validation a folder in it
    accept : what would else be left out or refused

    Returns
    -------
    dict
        The content of summary.json, and under `folder` where it lies.
    """
    predicted, failures = _read(predictions)
    target = _target(predictions, predicted, output)
    raw = _load(dataset, split)
    training = None if split == TRAINING else _training_cases(raw.folder)
    chosen = choose_cases(predictions, predicted, failures, raw, training, accept)
    annotated = {case.identifier: case for case in raw.cases}
    cases = [annotated[name] for name in chosen.names]
    reference = _reference(raw, training, cases)
    scored = [p for p in predicted if p.identifier in chosen.predicted]
    outcomes, scores = _score(predictions, scored, cases, raw, reference, draws)
    content = {
        "dataset": raw.description.name,
        "split": split,
        "training_reference": {"cases": len(reference.cases), "taken_from": reference.description},
        **chosen.as_dict(),
        **scores,
    }
    write_scores(target, content, outcomes, raw.description)
    write_figures(target / "figures", outcomes, raw.description, scores["classification"], draws, chosen.sentence)
    return content | {"folder": target}


def _read(folder: Path) -> tuple[list[CasePrediction], list[tuple[str, str]]]:
    """Predictions and failures; a folder in which all cases failed holds no prediction."""
    failures = prediction_files.read_failures(folder)
    if failures and not any(prediction_files.is_case_json(path) for path in folder.glob("*.json")):
        return [], failures
    return prediction_files.read_folder(folder), failures


def _target(predictions: Path, predicted: Sequence[CasePrediction], output: Path | None) -> Path:
    """Where the scores go: never over a case, and never over what training knows of its fold."""
    if output is None and _is_of_training(predictions):
        return predictions / BESIDE_TRAINING
    target = output or predictions
    if target.resolve() == predictions.resolve() and any(p.identifier == Path(SUMMARY).stem for p in predicted):
        raise UsageError(f"{predictions}: a case is called summary, so {SUMMARY} would replace it. Give -o FOLDER.")
    if _is_of_training(target):
        raise UsageError(
            f"-o {target}: holds the scores that training wrote, by which models are chosen and calibrated. Give "
            "another folder."
        )
    return target


def _is_of_training(folder: Path) -> bool:
    path = folder / SUMMARY
    content = files.read_json(path) if path.is_file() else None
    return isinstance(content, dict) and "fold" in content


def _load(dataset: str, split: str) -> RawDataset:
    return load_dataset(paths.raw_dataset_folder(dataset), verify_voxels=False, split=split)


def _training_cases(folder: Path) -> tuple[Case, ...]:
    """Training cases of a dataset, none where it holds test cases alone."""
    if not any((folder / "imagesTr").glob("[!.]*")):
        return ()
    return load_dataset(folder, verify_voxels=False).cases


def _reference(raw: RawDataset, training: Sequence[Case] | None, scored: Sequence[Case]) -> _Reference:
    if training:
        return _Reference(cases=training, description="the training cases of the dataset")
    names = {case.identifier for case in scored}
    others = [case for case in raw.cases if case.identifier not in names]
    if others:
        return _Reference(cases=others, description="the cases of the dataset that were not scored")
    return _Reference(cases=raw.cases, description="the scored cases themselves, because the dataset has no others")


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
        truth_of(case, description, maps[case.identifier] if has_maps else None, sequences.get(case.identifier, ""))
        for case in cases
    ]
    trained = [vertebra for case in reference.cases for vertebra in case.vertebrae]
    classes = (class_of(vertebra.readings, description.class_names) for vertebra in trained)
    prior = class_prior(classes, len(description.class_names))
    lowest = commonest_lowest_level([vertebra.level for vertebra in case.vertebrae] for case in reference.cases)
    outcomes = matching.judge(predicted, truth, description, lowest)
    return outcomes, summary.summarise(outcomes, description, prior, lowest, draws)
