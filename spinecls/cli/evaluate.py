"""`spinecls_evaluate`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

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
    "aurc": "area under the risk-coverage curve",
    "augrc": "  the same of the generalised risk",
}


class Split(enum.StrEnum):
    """Which part of a dataset was predicted."""

    Tr = "Tr"
    Ts = "Ts"


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
    from spinecls.evaluation.folder import evaluate_folder

    _print(evaluate_folder(predictions, dataset, split.value, output, draws), output or predictions)


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
    print(f"\nWritten to {target}: summary.json, vertebrae.csv and, where classes were read, figures/")


def _print_classes(classification: Mapping[str, Any]) -> None:
    for group, title in (("end_to_end", "Classes, end to end"), ("identified", "Classes, identified vertebrae only")):
        scores = classification[group]
        _print_rows(f"{title} ({scores['vertebrae']})", scores, _CLASS_ROWS)
        risks = scores["risk_at_coverage"]
        _print_rows("", risks, {share: f"  error among the surest {float(share):.0%}" for share in risks})
        _print_rows("", scores["auc_by_class"], {name: f"  AUC {name}" for name in scores["auc_by_class"]})
    sets = classification["prediction_sets"]
    _print_rows("Prediction sets", sets, {"coverage": "coverage", "mean_size": "mean size"})
    _print_rows("", sets["coverage_by_class"], {name: f"  coverage {name}" for name in sets["coverage_by_class"]})


def _print_rows(title: str, scores: Mapping[str, Any], rows: Mapping[str, str]) -> None:
    from spinecls.evaluation.intervals import format_score

    if title:
        print(f"\n{title}")
    for key, words in rows.items():
        if key in scores:
            print(f"  {words:44s} {format_score(scores[key]):26s} n = {scores[key]['items']}")
