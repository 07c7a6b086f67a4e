"""Does a trainer of yours keep the rules that training and prediction rely on? `check_trainer` runs it and says so.

    python -c "from spinecls.testing.checks import check_trainer; from my_trainer import HeavySegTrainer; \
check_trainer(HeavySegTrainer)"
"""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from spinecls.dataloading.batch import Batch
from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.errors import TrainerError
from spinecls.io.dataset import load_dataset
from spinecls.io.preprocessed import StoredCases
from spinecls.planning.fingerprint import extract_fingerprint
from spinecls.planning.plan import Configuration, Plan
from spinecls.planning.planner import plan as make_plan
from spinecls.planning.preprocess import preprocess_dataset
from spinecls.planning.rules_configuration import MachineProfile
from spinecls.tasks.task import OwnPassTask, Task
from spinecls.testing.phantom import write_dataset
from spinecls.trainers.network_training import Part, loss_of
from spinecls.trainers.trainer import PREDICTING, RunSettings, Trainer
from spinecls.trainers.training_data import load_training_data
from spinecls.trainers.user_code import made_trainer

SETTINGS = {
    "steps": "2",
    "network.features": "8,12,16",
    "reader_network.features": "8,12,16",
    "members": "1",
    "patch_size": "8,48,32",
    "sealed_size": "8,24,24",
    "sealed_batch_size": "4",
}
"""Small enough to run in seconds; nothing is learnt, everything is gone through."""

PLANS_CONFIG = "spineclsPlans_3d_fullres"

REBUILD = """
import sys, torch
from pathlib import Path
from spinecls.tasks.checkpoint import build_model, load_checkpoint
path = Path(sys.argv[1])
model = build_model(load_checkpoint(path), path)
with torch.inference_mode():
    model.open_pass(torch.zeros(1, int(sys.argv[2]), 8, 48, 32))
"""


class BrokenRule(AssertionError):
    """A rule that a trainer or one of its tasks does not keep; the message says which, what was found and expected."""


def check_trainer(trainer_class: type[Trainer]) -> None:
    """Train two steps on artificial spines and check every task, the final checkpoint, and that it needs no trainer.

    Raises
    ------
    BrokenRule
        At the first rule that is not kept.
    """
    with tempfile.TemporaryDirectory(prefix="spinecls_check_") as folder:
        plan, configuration, data = material(Path(folder), trainer_class)
        run = RunSettings(Path(folder) / "run", torch.device("cpu"), show_progress=False)
        run.folder.mkdir()
        try:
            trainer = made_trainer(trainer_class, plan, configuration, run)
        except TrainerError as error:
            raise BrokenRule(f"{trainer_class.__name__}: {error}") from error
        names = [t.task.name for t in trainer.tasks]
        for part in trainer.parts[:2]:
            # Readers are alike, so one of them is looked at.
            batch = _checked_batch(part, data, configuration)
            for weighted in part.tasks:
                # Halfway, where what comes in slowly counts in full.
                weighted.task.progress = 0.5
                _check_task(part, weighted.task, batch)
        trainer.fit(data)
        if trainer.final_name == PREDICTING:
            _check_checkpoint(trainer, len(plan.channel_names))
    print(f"{trainer_class.__name__}: keeps the rules ({', '.join(names)}).")


def material(folder: Path, trainer_class: type[Trainer]) -> tuple[Plan, Configuration, TrainingData]:
    """Plan and training data of a few artificial spines, preprocessed below `folder`."""
    raw = load_dataset(write_dataset(folder / "Dataset001_Phantom", 3, seed=1), verify_voxels=False)
    machine = MachineProfile(device="cpu", memory_gb=8.0)
    plan = make_plan(extract_fingerprint(raw), raw.description, machine, overrides=SETTINGS)
    preprocess_dataset(raw, plan, ["3d_fullres"], folder / "preprocessed", num_processes=1)
    configuration = trainer_class.configured(plan.configuration("3d_fullres"))
    cases = [case.identifier for case in raw.cases]
    data = load_training_data(
        StoredCases(folder / "preprocessed", PLANS_CONFIG, cases),
        plan,
        configuration,
        masks=trainer_class.regions_from_masks,
        beliefs=trainer_class.learns_beliefs,
        images=StoredCases(folder / "preprocessed", PLANS_CONFIG, ()),
    )
    return plan, configuration, data


def _checked_batch(part: Part, data: TrainingData, configuration: Configuration) -> Batch:
    """First batch of a network, made twice as training makes it: its targets must be what the step and seed say."""
    batch, again = _batch(part, data, configuration), _batch(part, data, configuration)
    for weighted in part.tasks:
        name = weighted.task.name
        if _content(batch.targets[name]) != _content(again.targets[name]):
            raise BrokenRule(
                f"{name}: its target of one and the same batch differs when it is made again. It must follow from the "
                "case and the sampler alone, or a run that goes on is another one."
            )
    return batch


def _batch(part: Part, data: TrainingData, configuration: Configuration) -> Batch:
    tasks = [weighted.task for weighted in part.tasks]
    batches = training_batches(data, configuration, tasks, part.reads, seed=0, first_step=0, workers=0)
    try:
        return next(batches)
    except TrainerError as error:
        raise BrokenRule(str(error)) from error
    finally:
        batches.close()


def _content(value: object) -> object:
    """What can be compared of a nest of mappings, dataclasses and tensors."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if dataclasses.is_dataclass(value):
        return _content(vars(value))
    return {name: _content(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _check_task(part: Part, task: Task, batch: Batch) -> None:
    """Loss of one task of a network on an annotated batch and on one of which nothing is known."""
    weights = copy.deepcopy(part.network.state_dict())
    first = _loss(part, task, batch).detach()
    part.network.load_state_dict(weights)
    loss = _loss(part, task, batch)
    if not bool(torch.isfinite(first)):
        raise BrokenRule(f"{task.name}: the loss is {first}, expected one finite number.")
    if float(first) != float(loss.detach()):
        raise BrokenRule(
            f"{task.name}: the same step from the same weights costs {float(first):.6g} first and "
            f"{float(loss.detach()):.6g} then, so a run that goes on is another one. Keep what changes in buffers of "
            "module(), which are saved with the run, and take random numbers from the generator of OwnPassTask.run."
        )
    _check_heads(part, task, loss)
    gradients = _gradients(part, loss, task)
    if isinstance(task, OwnPassTask) and not any(bool(g.any()) for g in gradients):
        # It may be there for what nobody annotated.
        gradients = _gradients(part, _loss(part, task, without_annotation(part, batch)), task)
    if not any(bool(g.any()) for g in gradients):
        raise BrokenRule(f"{task.name}: its loss does not reach the {part.name}, so it teaches it nothing.")
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        raise BrokenRule(f"{task.name}: its gradient is not finite.")
    if isinstance(task, OwnPassTask):
        return
    empty = _loss(part, task, without_annotation(part, batch))
    if float(empty.detach()) != 0:
        raise BrokenRule(
            f"{task.name}: costs {float(empty.detach()):.4g} on a batch of which nothing is annotated, expected 0: "
            "a case without a map, a class or outlines must cost nothing."
        )
    _gradients(part, empty, task)


def without_annotation(part: Part, batch: Batch) -> Batch:
    """The same images, of which nothing is known."""
    empty = {t.task.name: t.task.batched([t.task.empty()] * len(batch.cases)) for t in part.tasks}
    return dataclasses.replace(batch, targets=empty)


def _loss(part: Part, task: Task, batch: Batch) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    outputs = part.own_outputs(task, batch, generator) if isinstance(task, OwnPassTask) else part.outputs(batch)
    try:
        return loss_of(task, outputs, batch)
    except TrainerError as error:
        raise BrokenRule(str(error)) from error


def _check_heads(part: Part, task: Task, loss: torch.Tensor) -> None:
    """A head that the loss does not depend on stays as random as it was made."""
    for name in task.dense_heads() if loss.requires_grad else ():
        weights = list(part.network.heads[name].parameters())
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
        if not any(g is not None and bool(g.any()) for g in gradients):
            raise BrokenRule(f"{task.name}: its loss does not depend on its head {name!r}, which so learns nothing.")


def _gradients(part: Part, loss: torch.Tensor, task: Task) -> list[torch.Tensor]:
    if not loss.requires_grad:
        raise BrokenRule(f"{task.name}: the loss has no gradient. Where nothing is annotated return 0 * output.sum().")
    shared = list(part.network.backbone.parameters())
    gradients = torch.autograd.grad(loss, shared, allow_unused=True)
    return [g for g in gradients if g is not None]


def _check_checkpoint(trainer: Trainer, channels: int) -> None:
    """The final model must be rebuilt, in a process that has never seen the trainer, from the file alone."""
    words = [sys.executable, "-c", REBUILD, str(trainer.final_path), str(channels)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"
        raise BrokenRule(
            f"{type(trainer).__name__}: the final model cannot be used without the trainer: {last}. Set predicts = "
            "False on tasks whose heads are needed in training alone."
        )
