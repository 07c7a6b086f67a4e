"""`spinecls_predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import Device


def predict(
    source: Annotated[Path, typer.Option("-i", help="Folder of images, or one image.", show_default=False)],
    target: Annotated[Path, typer.Option("-o", help="Folder for the results.", show_default=False)],
    dataset: Annotated[str | None, typer.Option("-d", help="Dataset that the model was trained on.")] = None,
    configuration: Annotated[str | None, typer.Option("-c", help="Configuration.")] = None,
    trainer: Annotated[str | None, typer.Option("-tr", help="Name of the trainer.")] = None,
    plans: Annotated[str | None, typer.Option("-p", help="Name of the plans.")] = None,
    folds: Annotated[list[str] | None, typer.Option("-f", help="Folds [default: every finished one].")] = None,
    model: Annotated[Path | None, typer.Option("-m", help="Model folder, instead of -d -c -tr -p.")] = None,
    device: Device = None,
    disable_tta: Annotated[bool, typer.Option("--disable_tta", help="One view of each crop; faster.")] = False,
    continue_prediction: Annotated[
        bool, typer.Option("--continue_prediction", help="Keep results that are there and whole.")
    ] = False,
    save_probabilities: Annotated[
        bool, typer.Option("--save_probabilities", help="Also write what ensembling needs.")
    ] = False,
) -> None:
    """Locate, name and classify the vertebrae of every image in a folder."""
    from spinecls.inference.models import ModelChoice, choose_model, load_predictor
    from spinecls.inference.predict_folder import FolderOptions, predict_folder
    from spinecls.networks.device import pick_device

    chosen = choose_model(
        ModelChoice(
            folder=model,
            dataset=dataset,
            configuration=configuration,
            trainer=trainer,
            plans=plans,
            folds=tuple(folds or ()),
        )
    )
    print(f"Model: {chosen.name}, fold {' '.join(chosen.folds)}")
    predictor = load_predictor(chosen, pick_device(device), augment=not disable_tta)
    done = predict_folder(predictor, chosen, source, target, FolderOptions(continue_prediction, save_probabilities))
    count = sum(len(case.vertebrae) for case in done)
    print(f"{len(done)} cases, {count} vertebrae: {target / 'predictions.csv'}")
