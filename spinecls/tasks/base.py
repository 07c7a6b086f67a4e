"""A task: what the finder or the readers should learn, as a head, a target in the batch and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from spinecls.dataloading.batch import Batch
from spinecls.errors import TrainerError
from spinecls.networks.finder import Finder, head_fault, name_fault
from spinecls.networks.reader import Reader
from spinecls.planning.plan import Configuration, Plan


@dataclass(frozen=True)
class Outputs:
    """What a network gave for a batch.

    Attributes
    ----------
    open : outputs of `Finder.open_pass`, None while a reader is trained
    logits, evidence : outputs of `Reader.sealed_pass`, None while the finder is trained
    sealed : outputs of the reader's further heads, as `open`
    own : what `OwnPassTask.run` returned, for a task with a pass of its own
    """

    open: Mapping[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    evidence: torch.Tensor | None = None
    sealed: Mapping[str, torch.Tensor] | None = None
    own: object = None


class Task(ABC):
    """One thing to learn; every network that learns it has a task of its own.

    Attributes
    ----------
    name : column of the loss in progress.csv
    sealed : whether it trains the readers, by the sealed pass; else the finder, by the open pass
    own_pass : whether the task is an `OwnPassTask`, which reads neither
    predicts : whether the head is kept for prediction; heads of other tasks are dropped from the final checkpoint, and
        all further heads of readers
    share : None for a main task, whose weight is what the trainer says. For an auxiliary task the size of its gradient
        against that of the main tasks of the same network, which its weight is set to bring about (`tasks.balancing`)
    needs_images : whether the task learns from images as such, those that nobody annotated included
    needs_classes : whether the open patches are to say what is believed of the classes of their vertebrae
    progress : share of the training of its network that is done; set by the trainer before every step
    every : a task with a pass of its own runs on every so many steps
    """

    name: str
    sealed: bool = False
    own_pass: bool = False
    predicts: bool = True
    share: float | None = None
    needs_images: bool = False
    needs_classes: bool = False
    progress: float = 0.0
    every: int = 1

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        self.plan = plan
        self.configuration = configuration

    def dense_heads(self) -> dict[str, int]:
        """Further heads at full resolution that the task needs on its network: name -> output channels."""
        return {}

    def module(self) -> nn.Module | None:
        """Part of the network that only this task trains, besides its heads; it never reaches the final checkpoint.

        The trainer keeps it as `network.auxiliary[name]`.
        """
        return None

    def bind(self, network: Finder | Reader) -> None:
        """Take note of the network, once, when all its parts are there; for tasks whose `module` enters the loss."""
        return None

    def report(self) -> Mapping[str, Mapping]:
        """What the task found out about its data: name of a JSON file in the run's folder -> content."""
        return {}

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Scalar; zero, with a gradient, when the batch holds nothing annotated for this task."""


class OwnPassTask(Task):
    """A task that runs its network itself and reads neither the open nor the sealed pass."""

    own_pass = True

    @abstractmethod
    def run(self, network: Finder | Reader, batch: Batch, generator: torch.Generator) -> object:
        """The pass; what it returns is `Outputs.own` for `loss`. Random numbers come from `generator` (CPU) alone."""


@dataclass(frozen=True)
class WeightedTask:
    """A task and its weight in the sum of losses."""

    task: Task
    weight: float = 1.0


WEIGHTING = "task_weighting"
"""Name of the part of the network that weighs the tasks."""

TAKEN_NAMES = (WEIGHTING, "part", "step", "seconds", "learning_rate")
"""What no task may be called: names of another part of the network and of other columns of progress.csv."""


def heads_of(tasks: Sequence[WeightedTask]) -> dict[str, int]:
    """Further heads of all tasks, name -> output channels.

    Raises
    ------
    TrainerError
        When a task, its module or a head has no name, one that is taken, or one that another has.
    """
    if not isinstance(tasks, Sequence) or not all(isinstance(t, WeightedTask) for t in tasks):
        raise TrainerError(f"build_tasks: expected a list of WeightedTask, got {tasks!r}.")
    owners: dict[str, str] = {}
    heads: dict[str, int] = {}
    for number, task in enumerate(weighted.task for weighted in tasks):
        name = getattr(task, "name", None)
        where = f"Task {number} ({type(task).__name__})"
        if fault := name_fault(name):
            raise TrainerError(f"{where}: its name {fault}. Set the attribute name of the class.")
        if name in TAKEN_NAMES:
            raise TrainerError(f"{where}: the name {name!r} is taken. Not for tasks are {', '.join(TAKEN_NAMES)}.")
        if name in [other.task.name for other in tasks[:number]]:
            raise TrainerError(f"{where}: another task has the name {name!r}, too; two tasks have the same name.")
        declared = task.dense_heads()
        if not isinstance(declared, Mapping):
            raise TrainerError(f"{where}: dense_heads() gives {declared!r}, expected name -> output channels.")
        for head, channels in declared.items():
            if fault := head_fault(head, channels):
                raise TrainerError(f"{where}: its head {fault}. Rename it, or correct dense_heads().")
            if head in owners:
                raise TrainerError(
                    f"{where}: its head {head!r} is already one of task {owners[head]!r}. Declare a head in one task; "
                    "others may read it in outputs.open."
                )
            owners[head] = name
            heads[head] = channels
    return heads
