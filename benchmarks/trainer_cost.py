"""Step time and memory of every trainer relative to the baseline.

    python benchmarks/trainer_cost.py --preprocessed PREPROCESSED/Dataset011_Clean --rounds 3

Each trainer runs some steps of the dataset's plan in a process of its own, first of its finder, then of a reader; the
rounds go through all trainers in turn, so what else the machine does meets them alike. Time: mean step, making the
batch included. Memory: peak of the process less what it held before the networks were built. Ratios are of the same
round.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from common import provenance

from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.io.preprocessed import StoredCases
from spinecls.networks.model import FINDER
from spinecls.planning.plan import load_plan
from spinecls.trainers.fold_cases import fold_cases
from spinecls.trainers.network_training import Part
from spinecls.trainers.registered import find_trainer
from spinecls.trainers.trainer import READER, RunSettings, Trainer
from spinecls.trainers.training_data import load_training_data

TRAINERS = (
    "BaselineTrainer",
    "AuxSegTrainer",
    "AuxAETrainer",
    "AuxSegAETrainer",
    "UncertainLabelsTrainer",
    "UncertainLabelsAETrainer",
    "OpenBaselineTrainer",
)

MEASURED = {
    FINDER: "finder, seconds a step, median (range)",
    READER: "reader, seconds a step, median (range)",
    "memory_gb": "memory, GB",
}


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measured(options, options.one)))
        return
    rounds = [{name: in_process(options, name) for name in TRAINERS} for _ in range(options.rounds)]
    print(f"\n{options.preprocessed.name}, {options.threads} thread(s), {options.rounds} rounds; {provenance()}\n")
    titles = " | ".join(f"{title} | times the baseline" for title in MEASURED.values())
    print(f"| trainer | {titles} |\n|---{'|---|---' * len(MEASURED)}|")
    for name in TRAINERS:
        print(f"| {name} | {' | '.join(cells(rounds, name, key) for key in MEASURED)} |")


def cells(rounds: list[dict[str, dict[str, float]]], name: str, key: str) -> str:
    """A number of a trainer, and how many times that of the baseline it is."""
    values = [r[name].get(key) for r in rounds]
    if None in values:
        return "none | none"
    times = np.median([r[name][key] / r[TRAINERS[0]][key] for r in rounds])
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) | {times:.2f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preprocessed", type=Path, required=True)
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(options: argparse.Namespace, name: str) -> dict[str, float]:
    words = [sys.executable, __file__, "--preprocessed", options.preprocessed, "--one", name]
    words += ["--steps", options.steps, "--threads", options.threads, "--configuration", options.configuration]
    done = subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(options: argparse.Namespace, name: str) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    trainer_class = find_trainer(name)
    plan = load_plan(options.preprocessed / "spineclsPlans.json")
    configuration = trainer_class.configured(plan.configuration(options.configuration))
    cases, _ = fold_cases(options.preprocessed, "0")
    grid = f"spineclsPlans_{options.configuration}"
    data = load_training_data(
        StoredCases(options.preprocessed, grid, cases[:12]),
        plan,
        configuration,
        masks=trainer_class.regions_from_masks,
        beliefs=trainer_class.learns_beliefs,
        images=StoredCases(options.preprocessed, grid, ()) if "AE" in name else None,
    )
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(plan, configuration, RunSettings(Path(folder), torch.device("cpu")))
        # One reader stands for all.
        first = {READER if part.reads else FINDER: part for part in reversed(trainer.parts)}
        found = {kind: step_seconds(trainer, part, data, options.steps) for kind, part in sorted(first.items())}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found | {"memory_gb": (peak - before) / 1e9}


def step_seconds(trainer: Trainer, part: Part, data: TrainingData, steps: int) -> float:
    """Mean time of a step, for a task may run on every few steps only; the first two, which allocate, left out."""
    tasks, first = [weighted.task for weighted in part.tasks], part.first_step
    batches = training_batches(data, trainer.configuration, tasks, part.reads, seed=0, first_step=first, workers=0)
    part.begin()
    seconds = []
    for step in range(part.first_step, part.first_step + steps + 2):
        began = time.perf_counter()
        part.train_step(next(batches), step, trainer.settings.seed, trainer.gradient_log)
        seconds.append(time.perf_counter() - began)
    batches.close()
    part.finish()
    return float(np.mean(seconds[2:]))


if __name__ == "__main__":
    main()
