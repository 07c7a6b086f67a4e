"""The trainer family on phantoms: learning, resuming, refusing."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from support import run_cli

from spinecls.errors import Interrupted, ModelError
from spinecls.planning.plan import load_plan
from spinecls.tasks.checkpoint import build_model, load_checkpoint
from spinecls.trainers.base import RunSettings
from spinecls.trainers.run import find_trainer, fold_cases, load_training_data

TRAINERS = (
    "BaselineTrainer", "AuxSegTrainer", "AuxAETrainer", "AuxSegAETrainer", "UncertainLabelsTrainer",
    "UncertainLabelsAETrainer",
)  # fmt: skip


@pytest.fixture(scope="module")
def material(phantom):
    folder = phantom / "preprocessed" / "Dataset001_Phantom"
    plan = load_plan(folder / "spineclsPlans.json")
    return folder, plan, plan.configuration("3d_fullres")


def make(name, material, folder, steps, seed=0):
    preprocessed, plan, configuration = material
    configuration = dataclasses.replace(configuration, steps=steps)
    trainer_class = find_trainer(name)
    folder.mkdir(parents=True, exist_ok=True)
    settings = RunSettings(folder, torch.device("cpu"), seed=seed, show_progress=False)
    data = load_training_data(
        preprocessed, plan, configuration, "spineclsPlans_3d_fullres", fold_cases(preprocessed, "0")[0],
        trainer_class.regions_from_masks,
        (),
        trainer_class.learns_beliefs,
    )
    return trainer_class(plan, configuration, settings), data


@pytest.mark.parametrize("name", TRAINERS)
def test_losses_fall(name, material, tmp_path):
    trainer, data = make(name, material, tmp_path, steps=120)
    trainer.fit(data)
    with open(tmp_path / "progress.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for task in [weighted.task.name for weighted in trainer.tasks]:
        values = [float(row[task]) for row in rows]
        # So few steps teach no class; and names can touch only once there is some heat.
        if task not in ("class", "adjacency", "consistency"):
            assert np.mean(values[-5:]) < np.mean(values[:5]), task


def test_the_same_seed_gives_the_same_weights_and_another_does_not(material, tmp_path):
    weights = []
    for run, seed in enumerate((0, 0, 1)):
        trainer, data = make("AuxSegTrainer", material, tmp_path / str(run), steps=3, seed=seed)
        trainer.fit(data)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", ["AuxSegTrainer", "AuxSegAETrainer"])
def test_an_interrupted_and_resumed_run_ends_with_the_weights_of_an_undisturbed_one(name, material, tmp_path):
    whole, data = make(name, material, tmp_path / "whole", steps=8)
    whole.fit(data)
    broken, data = make(name, material, tmp_path / "broken", steps=8)
    step = broken.train_step

    def stop_after_five(batch):
        if broken.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(batch)

    broken.train_step = stop_after_five
    with pytest.raises(Interrupted, match="step 5 of 8"):
        broken.fit(data)
    broken._stop_signal = signal.SIGINT
    with pytest.raises(KeyboardInterrupt, match="Go on with --c"):
        broken._leave()
    resumed, data = make(name, material, tmp_path / "broken", steps=8)
    resumed.resume()
    assert resumed.step == 5
    resumed.fit(data)
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_damaged_state_is_passed_over_for_the_one_before_it(material, tmp_path):
    trainer, data = make("BaselineTrainer", material, tmp_path, steps=4)
    trainer.fit(data)
    trainer.latest_path.write_bytes(trainer.latest_path.read_bytes()[:2000])
    again, _ = make("BaselineTrainer", material, tmp_path, steps=4)
    again.resume()
    assert again.step == 3


def test_nothing_to_continue_is_said(material, tmp_path):
    trainer, _ = make("BaselineTrainer", material, tmp_path, steps=4)
    with pytest.raises(ModelError, match=r"nothing to continue.*Train without --c"):
        trainer.resume()


def test_a_loss_that_stays_not_a_number_ends_the_run_and_is_not_saved(material, tmp_path):
    trainer, data = make("BaselineTrainer", material, tmp_path, steps=200)
    with torch.no_grad():
        trainer.model.heads["level"].weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a finite number 10 times"):
        trainer.fit(data)
    assert not trainer.final_path.exists()


def test_the_final_model_is_rebuilt_without_its_trainer(material, tmp_path):
    trainer, data = make("AuxSegTrainer", material, tmp_path, steps=2)
    trainer.fit(data)
    model = build_model(load_checkpoint(trainer.final_path), trainer.final_path)
    crops = torch.rand(2, 2, *material[2].sealed_size)
    with torch.inference_mode():
        assert torch.equal(model.sealed_pass(crops)[0], trainer.model.eval().sealed_pass(crops)[0])


@pytest.mark.slow
def test_training_that_was_killed_goes_on_with_c(phantom_roots, tmp_path):
    words = ("1", "3d_fullres", "0", "-tr", "BaselineTrainer", "-device", "cpu", "--set", "steps=80")
    command = [sys.executable, "-m", "spinecls", "train", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    model = tmp_path / "results/Dataset001_Phantom/BaselineTrainer__spineclsPlans__3d_fullres"
    latest = model / "fold_0/checkpoint_latest.pt"
    deadline = time.monotonic() + 120
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert latest.exists()
    assert load_checkpoint(latest)["step"] < 80
    assert run_cli("train", "1", "3d_fullres", "0", "-device", "cpu", "--c", "--set", "steps=80") == 0
    assert load_checkpoint(latest.with_name("checkpoint_final.pt"))["steps"] == 80
    with open(latest.with_name("progress.csv"), newline="") as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 80
    assert not list(latest.parent.glob(".tmp-*"))
