"""Step time and memory of every trainer relative to the baseline.

    python benchmarks/trainer_cost.py --preprocessed PREPROCESSED/Dataset011_Clean --rounds 3

Each trainer runs some steps of the dataset's plan in a process of its own; the rounds go through all trainers in turn,
so what else the machine does meets them alike. Time: mean step, making the batch included. Memory: peak of the process
less what it held before the network was built. Ratios are of the same round.
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

from spinecls.dataloading.loader import training_batches
from spinecls.planning.plan import load_plan
from spinecls.trainers.base import RunSettings
from spinecls.trainers.run import find_trainer, fold_cases, load_training_data

TRAINERS = (
    "BaselineTrainer",
    "AuxSegTrainer",
    "AuxAETrainer",
    "AuxSegAETrainer",
    "UncertainLabelsTrainer",
    "UncertainLabelsAETrainer",
    "OpenBaselineTrainer",
)


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measured(options, options.one)))
        return
    rounds = [{name: in_process(options, name) for name in TRAINERS} for _ in range(options.rounds)]
    print(f"\n{options.preprocessed.name}, {options.threads} thread(s), {options.rounds} rounds; {provenance()}\n")
    print("| trainer | seconds a step, median (range) | times the baseline | memory, GB | times the baseline |")
    print("|---|---|---|---|---|")
    for name in TRAINERS:
        seconds, memory = ([r[name][key] for r in rounds] for key in ("seconds", "memory_gb"))
        slower, larger = (
            np.median([r[name][key] / r[TRAINERS[0]][key] for r in rounds]) for key in ("seconds", "memory_gb")
        )
        spread = f"{np.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"| {name} | {spread} | {slower:.2f} | {np.median(memory):.2f} | {larger:.2f} |")


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
    data = load_training_data(
        options.preprocessed,
        plan,
        configuration,
        f"spineclsPlans_{options.configuration}",
        cases[:12],
        trainer_class.regions_from_masks,
        () if "AE" in name else None,
        trainer_class.learns_beliefs,
    )
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(plan, configuration, RunSettings(Path(folder), torch.device("cpu")))
        # One reader stands for all.
        found = {part.name.rstrip("_0"): step_seconds(trainer, part, data, options.steps) for part in trainer.parts[:2]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found | {"memory_gb": (peak - before) / 1e9}


def step_seconds(trainer: Trainer, part: Part, data: TrainingData, steps: int) -> float:
    """Mean time of a step, for a task may run on every few steps only; the first two, which allocate, left out."""
    batches = training_batches(data, trainer.configuration, part.reads, seed=0, first_step=part.first_step, workers=0)
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
