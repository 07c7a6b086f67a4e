"""`spinecls_evaluate`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


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

    Writes summary.json, summary.csv, vertebrae.csv, patients.csv and figures. Cases in failed.csv count as cases with
    nothing predicted.
    """
    from spinecls.cli.score_text import score_text
    from spinecls.evaluation.folder import evaluate_folder

    print(score_text(evaluate_folder(predictions, dataset, split.value, output, draws)))
    print(f"\nAll scores in {(output or predictions) / 'summary.csv'}, with tables and figures beside it")
