"""`spinecls_demo`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import LARGEST_SEED, Device
from spinecls.cli.outputs import refuse_other_folder, require_writable
from spinecls.errors import UsageError

DATASET = "Dataset999_Phantom"
DRAWN = "phantoms.json"
"""What the phantoms in the folder of the demo were drawn by."""


def demo(
    folder: Annotated[Path, typer.Option("-o", help="Folder for all that the demo makes.")] = Path("spinecls_demo"),
    num_cases: Annotated[int, typer.Option("--cases", min=6, help="Phantoms to train on.")] = 30,
    num_test: Annotated[int, typer.Option("--test_cases", min=2, help="Phantoms to predict.")] = 12,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="Training time.")] = 2.5,
    trainer: Annotated[str, typer.Option("-tr", help="Trainer.")] = "AuxSegTrainer",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the phantoms and of training.")
    ] = 1,
    device: Device = None,
) -> None:
    """Make a phantom dataset, plan, train, predict and score: the whole of spinecls in minutes."""
    from spinecls import files
    from spinecls.cli.evaluate import Split, evaluate
    from spinecls.inference.models import ModelChoice, choose_model, load_predictor
    from spinecls.inference.predict_folder import FolderOptions, predict_folder
    from spinecls.networks.device import pick_device
    from spinecls.planning.preprocess import preprocess_dataset
    from spinecls.planning.stages import PlanRequest, check_raw, file_hashes, measure_raw, plan_raw
    from spinecls.testing.phantom import write_dataset
    from spinecls.trainers.probe import machine_profile
    from spinecls.trainers.request import TrainingRequest
    from spinecls.trainers.run import train_fold

    refuse_other_folder(folder)
    require_writable(folder)
    chosen_device = pick_device(device)
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"spinecls_{name}"] = str(folder / name)
    raw_folder = folder / "raw" / DATASET
    asked = {"cases": num_cases, "test_cases": num_test, "seed": seed}
    if (raw_folder / "dataset.json").exists():
        _require_drawn(folder, asked)
        print(f"1. The phantoms of an earlier call stay: {raw_folder}")
    else:
        print(f"1. Drawing {num_cases} phantoms to train on and {num_test} to test on: {raw_folder}")
        write_dataset(raw_folder, num_cases, seed, num_test=num_test)
        files.write_json(folder / DRAWN, asked)
    print("2. Measuring and planning")
    source = raw_folder.resolve()
    hashes = file_hashes(source)
    raw = check_raw(source, hashes, True, 1)
    request = PlanRequest(time_budget_minutes=minutes, seed=seed)
    plan = plan_raw(raw, measure_raw(raw, hashes, 1), request, lambda: machine_profile(chosen_device))
    preprocess_dataset(raw, plan, ["3d_fullres"], folder / "preprocessed" / DATASET, 1)
    planned = plan.configuration("3d_fullres")
    steps = f"{planned.steps} steps of the finder and {planned.members} x {planned.reader_steps} of readers"
    print(f"3. Training {trainer}, {steps}, about {minutes:g} minutes")
    train_fold(
        TrainingRequest(
            dataset=DATASET, configuration="3d_fullres", fold="0", trainer=trainer, device=chosen_device, seed=seed
        )
    )
    print("4. Predicting the test phantoms")
    model = choose_model(ModelChoice(dataset=DATASET, trainer=trainer))
    predictor = load_predictor(model, chosen_device, augment=True)
    predictions = folder / "predictions"
    predict_folder(predictor, model, raw_folder / "imagesTs", predictions, FolderOptions())
    print("5. Scoring them")
    evaluate(predictions, str(raw_folder), Split.Ts, predictions, 1000)
    _say_where(folder, predictions, raw_folder)


def _require_drawn(folder: Path, asked: dict[str, int]) -> None:
    """Refuse options that phantoms which are drawn already would leave without effect."""
    from spinecls import files

    drawn = files.read_json(folder / DRAWN) if (folder / DRAWN).exists() else asked
    different = [f"--{key} {asked[key]} (there: {drawn.get(key)})" for key in asked if drawn.get(key) != asked[key]]
    if different:
        raise UsageError(f"{', '.join(different)}: {folder} holds a demo with others. Give a new folder by -o.")


def _say_where(folder: Path, predictions: Path, raw_folder: Path) -> None:
    from spinecls import files
    from spinecls.evaluation.intervals import format_score

    summary = files.read_json(predictions / "summary.json")
    location, classes = summary["location"], summary["classification"]["end_to_end"]
    print("\nOn phantoms that training has not seen:")
    print(
        f"  right name and place  {format_score(location['identification_rate'])}   (a counter that knows only the "
        f"commonest lowest level: {format_score(location['trivial_counter_identification_rate'])})"
    )
    print(f"  class, macro AUC      {format_score(classes['auc_macro'])}   (chance: 0.50)")
    chance = 1 / len(summary["classification"]["class_names"])
    print(f"  balanced accuracy     {format_score(classes['balanced_accuracy'])}   (chance: {chance:.2f})")
    print(f"\nData         {raw_folder}")
    print(f"Plan         {folder / 'preprocessed' / DATASET / 'spineclsPlans.json'}")
    print(f"Model        {folder / 'results' / DATASET}")
    print(f"Predictions  {predictions / 'predictions.csv'}, one map and one evidence map a case")
    print(f"Scores       {predictions / 'summary.json'}, figures in {predictions / 'figures'}")
