"""`spinecls_predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import (
    Device,
    ModelConfiguration,
    ModelDataset,
    ModelFolder,
    ModelFolds,
    ModelPlans,
    ModelTrainer,
)
from spinecls.cli.outputs import refuse_other_folder, require_writable
from spinecls.errors import DefectiveCases, PartialFailure, UsageError, counted

MEMBERS = "members"
"""Folder, below the results of an ensemble, with those of each model."""


def predict(
    source: Annotated[Path, typer.Option("-i", help="Folder of images, or one image.", show_default=False)],
    target: Annotated[Path, typer.Option("-o", help="Folder for the results.", show_default=False)],
    dataset: ModelDataset = None,
    configuration: ModelConfiguration = None,
    trainer: ModelTrainer = None,
    plans: ModelPlans = None,
    folds: ModelFolds = None,
    model: ModelFolder = None,
    device: Device = None,
    prevalence: Annotated[
        list[str] | None,
        typer.Option("--prevalence", help="Shares of the classes where it is used, CLASS=SHARE [default: as trained]."),
    ] = None,
    disable_tta: Annotated[bool, typer.Option("--disable_tta", help="One view of each crop; faster.")] = False,
    continue_prediction: Annotated[
        bool, typer.Option("--continue_prediction", help="Keep results that are there and whole.")
    ] = False,
    save_probabilities: Annotated[
        bool, typer.Option("--save_probabilities", help="Also write what ensembling needs.")
    ] = False,
) -> None:
    """Locate, name and classify the vertebrae of every image in a folder."""
    from spinecls.inference.models import ModelChoice, choose_models, load_predictor
    from spinecls.inference.predict_folder import FolderOptions, predict_folder
    from spinecls.io.input_files import find_inputs
    from spinecls.networks.device import pick_device

    refuse_other_folder(target)
    require_writable(target)
    chosen = choose_models(
        ModelChoice(
            folder=model,
            dataset=dataset,
            configuration=configuration,
            trainer=trainer,
            plans=plans,
            folds=tuple(folds or ()),
        )
    )
    shares = parse_shares(prevalence)
    parts = [target] if len(chosen) == 1 else [target / MEMBERS / model.path.name for model in chosen]
    options = FolderOptions(continue_prediction, save_probabilities or len(chosen) > 1)
    defects: list[str] = []
    for one, part in zip(chosen, parts, strict=True):
        print(f"Model: {one.name}, fold {' '.join(one.folds)}")
        predictor = load_predictor(one, pick_device(device), not disable_tta, shares)
        try:
            done = predict_folder(predictor, one, source, part, options)
        except PartialFailure as error:
            # Of an ensemble the other cases go on; the failed ones are named when all are averaged.
            if len(chosen) == 1:
                raise
            defects += [str(error)] if isinstance(error, DefectiveCases) else []
    if len(chosen) > 1:
        from spinecls.inference.averaged_predictions import ensemble_folders

        names = find_inputs(source, len(predictor.plan.channel_names), output=target).names
        try:
            done = ensemble_folders(parts, target, names)
        except PartialFailure as error:
            if defects:
                raise DefectiveCases("\n".join([str(error), *defects])) from None
            raise
    count = sum(len(case.vertebrae) for case in done)
    print(f"{counted(len(done), 'case')}, {counted(count, 'vertebra', 'vertebrae')}: {target / 'predictions.csv'}")


def parse_shares(words: list[str] | None) -> dict[str, float] | None:
    """`normal=0.9 inflammatory=0.1` as numbers by class; None when nothing was given."""
    if not words:
        return None
    shares = {}
    for word in words:
        name, separator, value = word.rpartition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            separator = ""
        if not separator:
            raise UsageError(f"--prevalence {word}: expected CLASS=SHARE, for example normal=0.9.")
    return shares
