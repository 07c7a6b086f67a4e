"""`spinecls_evaluate`: predictions against the annotations of a dataset."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from spinecls import files, paths
from spinecls.errors import DatasetError, UsageError
from spinecls.evaluation import matching, summary
from spinecls.evaluation.figures import format_score, write_figures
from spinecls.evaluation.matching import CaseOutcome, VertebraOutcome
from spinecls.evaluation.trivial_counter import commonest_lowest_level
from spinecls.evaluation.truth import class_of, class_prior, truth_of
from spinecls.io import predictions as prediction_files
from spinecls.io.dataset import load_dataset
from spinecls.records import Case, CasePrediction, DatasetDescription, RawDataset

_SUMMARY = "summary.json"
_LOCATION_ROWS = {
    "identification_rate": "identification rate, 20 mm",
    "trivial_counter_identification_rate": "  the same of the trivial counter",
    "identification_rate_half_pitch": "identification rate, half the local pitch",
    "whole_case_right": "whole case right",
    "off_by_one_rate": "named one level off",
    "missed_rate": "missed",
    "centre_error_mm": "centre error of identified, mm",
    "f1_10mm": "F1 at 10 mm, without names",
    "precision_10mm": "  precision",
    "recall_10mm": "  recall",
    "dice": "Dice of a vertebra",
}
_CLASS_ROWS = {
    "auc_macro": "macro AUC",
    "balanced_accuracy": "balanced accuracy",
    "balanced_accuracy_prior_corrected": "balanced accuracy, prior divided out",
    "kappa": "kappa",
    "kappa_quadratic": "kappa, quadratic weights",
    "brier": "Brier score",
    "nll": "negative log-likelihood",
    "ece": "ECE, debiased",
    "referral_ratio": "error of the referred 20 % over the others",
}


class Split(enum.StrEnum):
    """Which part of a dataset was predicted."""

    Tr = "Tr"
    Ts = "Ts"


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """Training cases that the class prior and the trivial counter are taken from, and which cases these are."""

    cases: Sequence[Case]
    description: str


def evaluate(
    predictions: Annotated[Path, typer.Option("-i", help="Prediction folder, as spinecls_predict writes it.")],
    dataset: Annotated[str, typer.Option("-gt", help="Dataset with the annotations: number, name or path.")],
    split: Annotated[Split, typer.Option("--split", help="Training or test cases of the dataset.")] = Split.Tr,
    output: Annotated[Path | None, typer.Option("-o", help="Output folder (default: the prediction folder).")] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Bootstrap draws of patients.")] = 2000,
) -> None:
    """Score a prediction folder: location, names, classes, each with its 95 % interval over patients.

    Writes summary.json, vertebrae.csv and figures. Cases in failed.csv count as cases with nothing predicted.
    """
    target = output or predictions
    predicted = prediction_files.read_folder(predictions)
    if target.resolve() == predictions.resolve() and any(p.identifier == Path(_SUMMARY).stem for p in predicted):
        raise UsageError(f"{predictions}: a case is called summary, so {_SUMMARY} would replace it. Give -o FOLDER.")
    raw = _load(dataset, split)
    annotated = {case.identifier: case for case in raw.cases}
    present = {p.identifier for p in predicted}
    failed = [case for case, _ in prediction_files.read_failures(predictions) if case in annotated.keys() - present]
    without = [p.identifier for p in predicted if p.identifier not in annotated]
    judged = [p for p in predicted if p.identifier in annotated]
    if not judged:
        raise DatasetError(
            f"{predictions}: none of its {len(predicted)} cases ({_some(without)}) is an annotated {split.value} case "
            f"of {raw.description.name} ({_some(list(annotated))}). Check -gt and --split."
        )
    names = list(dict.fromkeys([*(p.identifier for p in judged), *failed]))
    reference = _reference(dataset, split, raw, set(names))
    outcomes, scores = _score(predictions, judged, [annotated[name] for name in names], raw, reference, draws)
    content = {
        "dataset": raw.description.name,
        "split": split.value,
        "training_reference": {"cases": len(reference.cases), "taken_from": reference.description},
        "failed_cases": failed,
        "cases_without_annotation": without,
        **scores,
    }
    files.write_json(target / _SUMMARY, content)
    _write_vertebrae(target / "vertebrae.csv", outcomes, raw.description)
    if scores["classification"] is not None:
        write_figures(target / "figures", outcomes, raw.description, scores["classification"], draws)
    _print(content, target)


def _load(dataset: str, split: Split) -> RawDataset:
    folder = paths.raw_dataset_folder(dataset)
    if split is Split.Tr:
        return load_dataset(folder, verify_voxels=False)
    return load_dataset(folder, verify_voxels=False, split=split.value)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _reference(dataset: str, split: Split, raw: RawDataset, predicted: set[str]) -> _Reference:
    if split is Split.Ts:
        return _Reference(cases=_load(dataset, Split.Tr).cases, description="the training cases of the dataset")
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
    truth = [truth_of(case, description, maps[case.identifier] if has_maps else None) for case in cases]
    trained = [vertebra for case in reference.cases for vertebra in case.vertebrae]
    classes = (class_of(vertebra.readings, description.class_names) for vertebra in trained)
    prior = class_prior(classes, len(description.class_names))
    lowest = commonest_lowest_level([vertebra.level for vertebra in case.vertebrae] for case in reference.cases)
    outcomes = matching.judge(predicted, truth, description, lowest)
    return outcomes, summary.summarise(outcomes, description, prior, lowest, draws)


def _write_vertebrae(path: Path, outcomes: Sequence[CaseOutcome], description: DatasetDescription) -> None:
    names = description.class_names
    header = ["case", "patient", "site", "level", "class", "found", "named", "error_mm", "predicted_class"]
    header += [*(f"p_{name}" for name in names), "prediction_set", "dice"]
    rows = [_vertebra_row(vertebra, names) for case in outcomes for vertebra in case.vertebrae]
    files.write_csv(path, header, rows)


def _vertebra_row(vertebra: VertebraOutcome, names: Sequence[str]) -> dict[str, Any]:
    row = {
        "case": vertebra.case,
        "patient": vertebra.patient,
        "site": vertebra.site,
        "level": vertebra.level,
        "class": None if vertebra.true_class is None else names[vertebra.true_class],
        "found": "no_position" if vertebra.match is None else vertebra.match.status,
        "named": vertebra.match.named if vertebra.match else None,
        "dice": None if vertebra.dice is None else round(vertebra.dice, 4),
    }
    if vertebra.match is not None and vertebra.match.error_mm is not None:
        row["error_mm"] = round(vertebra.match.error_mm, 3)
    if vertebra.prediction is not None and names:
        probabilities = vertebra.prediction.class_probabilities
        row["predicted_class"] = names[int(np.argmax(probabilities))]
        row |= {f"p_{name}": round(p, 6) for name, p in zip(names, probabilities, strict=True)}
        row["prediction_set"] = "|".join(vertebra.prediction.prediction_set)
    return row


def _print(content: Mapping[str, Any], target: Path) -> None:
    print(
        f"{content['dataset']}: {content['cases']} cases, {content['patients']} patients, "
        f"{content['vertebrae']} annotated vertebrae; 95 % intervals over patients, {content['draws']} draws"
    )
    reference = content["training_reference"]
    print(f"Class prior and trivial counter from {reference['taken_from']} ({reference['cases']}).")
    notes = {"failed_cases": "Failed, counted as missed", "cases_without_annotation": "Not annotated, left out"}
    for key, words in notes.items():
        if content[key]:
            print(f"{words}: {', '.join(content[key])}")
    _print_rows("Location and names", content["location"], _LOCATION_ROWS)
    if content["classification"] is not None:
        _print_classes(content["classification"])
    print(f"\nWritten to {target}: {_SUMMARY}, vertebrae.csv and, where classes were read, figures/")


def _print_classes(classification: Mapping[str, Any]) -> None:
    for group, title in (("end_to_end", "Classes, end to end"), ("identified", "Classes, identified vertebrae only")):
        scores = classification[group]
        _print_rows(f"{title} ({scores['vertebrae']})", scores, _CLASS_ROWS)
        _print_rows("", scores["auc_by_class"], {name: f"  AUC {name}" for name in scores["auc_by_class"]})
    sets = classification["prediction_sets"]
    _print_rows("Prediction sets", sets, {"coverage": "coverage", "mean_size": "mean size"})
    _print_rows("", sets["coverage_by_class"], {name: f"  coverage {name}" for name in sets["coverage_by_class"]})


def _print_rows(title: str, scores: Mapping[str, Any], rows: Mapping[str, str]) -> None:
    if title:
        print(f"\n{title}")
    for key, words in rows.items():
        if key in scores:
            print(f"  {words:44s} {format_score(scores[key]):26s} n = {scores[key]['items']}")
