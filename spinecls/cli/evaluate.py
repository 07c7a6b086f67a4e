"""`spinecls_evaluate`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from spinecls.errors import DatasetError
from spinecls.evaluation.acceptance import Accept


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
    accept: Annotated[
        list[Accept] | None,
        typer.Option("--accept", help="Leave missing cases out; score cases learned from; score other images."),
    ] = None,
) -> None:
    """Score a prediction folder: location, names, classes, each with its 95 % interval over patients.

    Writes summary.json, summary.csv, vertebrae.csv, patients.csv and figures. Scored are all annotated cases of the
    split that the model has not learned from; in those that were not predicted everything counts as missed.
    """
    from spinecls.cli.outputs import refuse_other_folder, require_writable

    if not predictions.is_dir():
        told = "a file" if predictions.exists() else "no such folder"
        raise DatasetError(f"-i {predictions}: {told}. Expected a folder written by spinecls_predict.")
    if output is not None:
        refuse_other_folder(output)
    require_writable(output or predictions)
    from spinecls.cli.score_text import score_text
    from spinecls.evaluation.folder import evaluate_folder

    content = evaluate_folder(predictions, dataset, split.value, output, draws, accept or ())
    print(score_text(content))
    print(f"\nAll scores in {content['folder'] / 'summary.csv'}, with tables and figures beside it")
