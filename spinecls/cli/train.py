"""`spinecls_train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import (
    LARGEST_SEED,
    BatchProcesses,
    Dataset,
    Device,
    Overrides,
    Plans,
    batch_processes,
    parse_settings,
    refuse_useless,
)
from spinecls.errors import DefectiveCases, PartialFailure, SpineclsError, UsageError, counted
from spinecls.model_folder import FoldFolder
from spinecls.paths import DEFAULT_PLANS


class Part(StrEnum):
    """Which of the networks of a model."""

    finder = "finder"
    reader = "reader"


def train(
    context: typer.Context,
    dataset: Dataset,
    configuration: Annotated[str, typer.Argument(help="2d, 3d_fullres or 3d_lowres.", show_default=False)],
    folds: Annotated[list[str], typer.Argument(metavar="FOLD...", help="0 to 4, several, or all.", show_default=False)],
    trainer: Annotated[
        str | None,
        typer.Option(
            "-tr",
            help="Trainer: a name, file.py:Class or module:Class [default: AuxSegTrainer where there are vertebra "
            "maps, else BaselineTrainer].",
        ),
    ] = None,
    plans: Plans = DEFAULT_PLANS,
    resume: Annotated[bool, typer.Option("--c", help="Continue an interrupted training.")] = False,
    validate_only: Annotated[bool, typer.Option("--val", help="Only validate a finished training.")] = False,
    device: Device = None,
    num_gpus: Annotated[int, typer.Option("-num_gpus", help="GPUs; one is used.")] = 1,
    workers: BatchProcesses = None,
    pretrained: Annotated[
        Path | None,
        typer.Option("-pretrained_weights", help="Start with the weights of this checkpoint, ours or nnU-Net's."),
    ] = None,
    part: Annotated[
        Part | None,
        typer.Option("--part", help="Train the finder or the readers alone; readers need a trained finder."),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Second round: sharpen sets of classes by what the folds of the first one predict of cases they held "
            "out. Goes to a model folder <Trainer>Refined__<Plans>__<configuration>.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of weights, batches and augmentation.")
    ] = 0,
    settings: Overrides = None,
) -> None:
    """Train one or several folds and predict their validation cases."""
    from spinecls.cli.arguments import split_value
    from spinecls.networks.device import pick_device
    from spinecls.trainers.default_trainer import default_trainer
    from spinecls.trainers.request import TrainingRequest
    from spinecls.trainers.run import train_fold

    if num_gpus != 1:
        raise UsageError(f"-num_gpus {num_gpus}: training runs on one device. Train folds side by side instead.")
    if validate_only:
        why = "has no effect with --val, which trains nothing. Leave it out"
        refuse_useless(context, ("--c", "--seed", "-pretrained_weights", "-np", "--part"), why)
    overrides = parse_settings(settings)
    numbers = list(dict.fromkeys(value for text in folds for value in split_value(text, numeric=True)))
    name = _require_trainable(dataset, configuration, numbers, plans, overrides)
    chosen = pick_device(device)
    if trainer is None:
        trainer = default_trainer(name, configuration, plans, numbers, resume or validate_only, refine)
    hard: list[PartialFailure] = []
    fold: FoldFolder | None = None
    for number in numbers:
        request = TrainingRequest(
            dataset=dataset,
            configuration=configuration,
            fold=number,
            trainer=trainer,
            plans=plans,
            resume=resume,
            validate_only=validate_only,
            device=chosen,
            seed=seed,
            workers=batch_processes(workers, chosen.type),
            overrides=overrides,
            pretrained=pretrained,
            refine=refine,
            part=None if part is None else part.value,
        )
        try:
            fold = train_fold(request)
        except PartialFailure as error:
            # The fold is trained and the other folds are not to wait; it is told at the end.
            print(f"Fold {number}: {error}", file=sys.stderr)
            hard.append(error)
            continue
        _report(fold, part is Part.finder)
    if fold is not None and part is not Part.finder:
        _calibrate(fold)
    if hard:
        worst = max(hard, key=lambda error: isinstance(error, DefectiveCases))
        raise type(worst)(f"{counted(len(hard), 'fold')} trained, but not all cases could be validated; see above.")


def _require_trainable(
    dataset: str, configuration: str, folds: Sequence[str], plans: str, overrides: Mapping[str, str]
) -> str:
    """Full name of the dataset, when it has the plan, the configuration and all of the folds, and the settings exist.

    What the last fold lacks is told before the first one has trained for hours.
    """
    from spinecls.paths import dataset_name, preprocessed_folder
    from spinecls.planning.plan import load_plan
    from spinecls.planning.rules_override import parse_overrides
    from spinecls.trainers.fold_cases import fold_cases

    name = dataset_name(dataset)
    preprocessed = preprocessed_folder(name)
    load_plan(preprocessed / f"{plans}.json").configuration(configuration)
    for fold in folds:
        fold_cases(preprocessed, fold)
    parse_overrides(overrides)
    return name


def _calibrate(fold: FoldFolder) -> None:
    """Calibrate the model of a fold as soon as two folds or more were validated."""
    from filelock import Timeout

    from spinecls.inference.model_calibration import calibrate_model
    from spinecls.inference.models import model_at

    model = model_at(fold.path.parent)
    try:
        made = None if model is None else calibrate_model(model)
    except (SpineclsError, Timeout) as error:
        # The training itself has succeeded, and other folds are other runs' business.
        print(f"Not calibrated: {error}")
        return
    if made is not None:
        quality = made.quality
        print(
            f"Calibrated on {len(made.checkpoints)} folds: temperature {made.temperature:.2f}; out of fold NLL "
            f"{quality.nll_before:.3f} -> {quality.nll_after:.3f}, ECE {quality.ece_before:.3f} -> "
            f"{quality.ece_after:.3f}; sets of {1 - made.alpha:.0%} hold {quality.mean_set_size:.2f} classes on average"
        )
        for note in made.notes:
            print(f"  {note}")


def _report(fold: FoldFolder, only_finder: bool) -> None:
    """Say where the model is and how its validation went."""
    from spinecls.evaluation.intervals import format_score

    if only_finder:
        print(f"The finder of {fold.path} is trained. Train its readers by --part reader.")
        return
    if not fold.finished:
        print(f"Weights to start from: {fold.path / 'checkpoint_pretrained.pt'}")
        return
    print(f"Model: {fold.final}")
    if not fold.scored:
        print("No validation cases, so nothing is known of its quality and it stays uncalibrated.")
        return
    content = fold.scores()
    location = content["location"]
    print(
        f"Validation ({counted(content['cases'], 'case')}, 95 % intervals): identification rate "
        f"{format_score(location['identification_rate'])}, "
        f"trivial counter {format_score(location['trivial_counter_identification_rate'])}"
    )
    if content["classification"]:
        print(f"  macro AUC end to end {format_score(content['classification']['end_to_end']['auc_macro'])}")
    print(f"  all scores: {fold.summary}")
