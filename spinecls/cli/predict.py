"""`spinecls_predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinecls.cli.common import (
    Device,
    ModelConfiguration,
    ModelDataset,
    ModelFolds,
    ModelPlans,
    ModelTrainer,
)
from spinecls.cli.outputs import refuse_other_folder, require_writable
from spinecls.errors import DefectiveCases, PartialFailure, UsageError, counted

if TYPE_CHECKING:
    from spinecls.inference.models import ModelChoice, TrainedModel
    from spinecls.inference.predict_folder import FolderOptions
    from spinecls.records import CasePrediction

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
    model: Annotated[
        Path | None,
        typer.Option("-m", help="Model folder, instead of -d -c -tr -p; finder = the one that comes with spinecls."),
    ] = None,
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
    from spinecls.inference.models import ModelChoice
    from spinecls.inference.predict_folder import FolderOptions

    refuse_other_folder(target)
    require_writable(target)
    choice = ModelChoice(
        folder=model,
        dataset=dataset,
        configuration=configuration,
        trainer=trainer,
        plans=plans,
        folds=tuple(folds or ()),
    )
    shares = parse_shares(prevalence)
    with _chosen(choice) as models:
        several = len(models) > 1
        options = FolderOptions(continue_prediction, save_probabilities or several)
        run = _Run(source, target, options, device, not disable_tta, shares)
        done = _ensemble(run, models) if several else _one(run, models[0], target)
    count = sum(len(case.vertebrae) for case in done)
    print(f"{counted(len(done), 'case')}, {counted(count, 'vertebra', 'vertebrae')}: {target / 'predictions.csv'}")


@contextmanager
def _chosen(choice: ModelChoice) -> Iterator[tuple[TrainedModel, ...]]:
    """The models to predict with; the finder that comes with spinecls where it is asked for, or none is trained."""
    from spinecls import paths
    from spinecls.inference.models import ModelChoice, choose_models, trained_models
    from spinecls.sharing.shipped import FINDER, shipped_finder

    named = choice.folder == Path(FINDER) and not Path(FINDER).exists()
    if named and choice.folds:
        raise UsageError(f"-f: the model {FINDER} that comes with spinecls has no folds. Leave it out.")
    if not named and (choice != ModelChoice() or trained_models(paths.results_root())):
        yield choose_models(choice)
        return
    if not named:
        print(f"No model is trained in {paths.results_root()}, so the finder that comes with spinecls is taken.")
    print("It locates, names and outlines lumbar vertebrae; it tells no classes.")
    with shipped_finder() as finder:
        yield (finder,)


@dataclass(frozen=True)
class _Run:
    """What is predicted, and how."""

    source: Path
    target: Path
    options: FolderOptions
    device: str | None
    augment: bool
    shares: dict[str, float] | None


def _one(run: _Run, model: TrainedModel, target: Path) -> list[CasePrediction]:
    from spinecls.inference.models import load_predictor
    from spinecls.inference.predict_folder import predict_folder
    from spinecls.networks.device import pick_device

    print(f"Model: {model.name}, fold {' '.join(model.folds)}")
    predictor = load_predictor(model, pick_device(run.device), run.augment, run.shares)
    return predict_folder(predictor, model, run.source, target, run.options)


def _ensemble(run: _Run, models: Sequence[TrainedModel]) -> list[CasePrediction]:
    from spinecls.inference.averaged_predictions import ensemble_folders
    from spinecls.io.input_files import find_inputs

    parts = [run.target / MEMBERS / model.path.name for model in models]
    defects: list[str] = []
    for model, part in zip(models, parts, strict=True):
        try:
            _one(run, model, part)
        except PartialFailure as error:
            # The other cases go on; the failed ones are named when all are averaged.
            defects += [str(error)] if isinstance(error, DefectiveCases) else []
    channels = len(next(iter(models[0].fold_plans().values())).channel_names)
    names = find_inputs(run.source, channels, output=run.target).names
    try:
        return ensemble_folders(parts, run.target, names)
    except PartialFailure as error:
        if defects:
            raise DefectiveCases("\n".join([str(error), *defects])) from None
        raise


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
