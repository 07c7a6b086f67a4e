"""A task: what the finder or the readers should learn, as a head, a target and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from spinecls.dataloading.batch import ImageBatch, OpenBatch, SealedBatch
from spinecls.dataloading.cases import SealedSource, TrainingCase
from spinecls.dataloading.open_patches import OpenSampler
from spinecls.dataloading.sealed_crops import CropSampler
from spinecls.dataloading.targets import Target, stacked
from spinecls.errors import TrainerError
from spinecls.networks.finder import Finder, head_fault, name_fault
from spinecls.networks.reader import Reader
from spinecls.planning.plan import Configuration, Plan
from spinecls.types import Triple

Network = TypeVar("Network")
Known = TypeVar("Known")
Sampler = TypeVar("Sampler")
Seen = TypeVar("Seen")
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class OpenOutputs:
    """What the finder gave for a batch: `open`, the outputs of `Finder.open_pass`."""

    open: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class CropOutputs:
    """What a reader gave for a batch.

    Attributes
    ----------
    logits, evidence : outputs of `Reader.sealed_pass`
    sealed : outputs of the reader's further heads, by name
    """

    logits: torch.Tensor
    evidence: torch.Tensor
    sealed: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class OwnOutputs(Generic[Made]):
    """What a task with a pass of its own made of a batch: `own`, what `OwnPassTask.run` returned."""

    own: Made


class Task(ABC, Generic[Network, Known, Sampler, Seen, Given]):
    """One thing to learn; every network that learns it has a task of its own.

    In types it is of a network, of what is known of a case, a sampler, a batch and what the network gives for it:
    `OpenTask` and `SealedTask` name those of the finder and of a reader.

    While batches are made, the loader asks for the `target` of every patch (or crop) that it has drawn; `loss` finds
    what `batched` made of them in `batch.targets[self.name]`.

    Attributes
    ----------
    name : column of the loss in progress.csv
    sealed : whether it trains the readers, by the sealed pass; else the finder, by the open pass
    predicts : whether the head is kept for prediction; heads of other tasks are dropped from the final checkpoint, and
        all further heads of readers
    share : None for a main task, whose weight is what the trainer says. For an auxiliary task the size of its gradient
        against that of the main tasks of the same network, which its weight is set to bring about (`tasks.balancing`)
    progress : share of the training of its network that is done; set by the trainer before every step
    every : a task with a pass of its own runs on every so many steps
    """

    name: str
    sealed: bool = False
    predicts: bool = True
    share: float | None = None
    progress: float = 0.0
    every: int = 1

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        self.plan = plan
        self.configuration = configuration

    @property
    def size(self) -> Triple:
        """Voxels of what the network sees: of a patch, or of a crop."""
        return self.configuration.sealed_size if self.sealed else self.configuration.patch_size

    def dense_heads(self) -> dict[str, int]:
        """Further heads at full resolution that the task needs on its network: name -> output channels."""
        return {}

    def module(self) -> nn.Module | None:
        """Part of the network that only this task trains, besides its heads; it never reaches the final checkpoint.

        The trainer keeps it as `network.auxiliary[name]`.
        """
        return None

    def bind(self, network: Network) -> None:
        """Take note of the network, once, when all its parts are there; for tasks whose `module` enters the loss."""
        return None

    def report(self) -> Mapping[str, Mapping]:
        """What the task found out about its data: name of a JSON file in the run's folder -> content."""
        return {}

    def target(self, case: Known, sampler: Sampler) -> Target | None:
        """What is to be learnt of a patch or crop; None where the case tells nothing of it.

        It depends on its arguments alone: it is made in other processes than the loss, and a run that goes on makes it
        again.

        Parameters
        ----------
        case : what is known of the scan that the patch is of (`TrainingCase`), for a task with `sealed` of the vertebra
            that the crop is of (`SealedSource`); not to be changed, for other patches are taken from it
        sampler : brings maps, points and vectors of the case onto the patch (`OpenSampler`) or crop (`CropSampler`)

        Returns
        -------
        name -> array of the shape and kind that `empty` has
        """
        return {}

    def empty(self) -> Target:
        """The target of a patch or crop of which nothing is known; it sets the shape of all others."""
        return {}

    def batched(self, rows: Sequence[Target]) -> Mapping[str, Any]:
        """Targets of a batch, from those of its patches or crops: name -> tensor with a first axis of rows.

        A task whose targets are more than arrays of one shape makes its own: tensors, or dataclasses of tensors.

        Raises
        ------
        TrainerError
            When a target has another name, shape or kind than in `empty`.
        """
        expected = self.empty()
        for row in rows:
            if fault := _target_fault(row, expected, self.size):
                raise TrainerError(f"Task {self.name!r} ({type(self).__name__}): its target {fault}")
        return stacked(rows) if expected else {}

    @abstractmethod
    def loss(self, outputs: Given, batch: Seen) -> torch.Tensor:
        """Scalar; zero, with a gradient, when the batch holds nothing annotated for this task."""


class OpenTask(Task[Finder, TrainingCase, OpenSampler, OpenBatch, OpenOutputs]):
    """A task of the finder."""


class SealedTask(Task[Reader, SealedSource, CropSampler, SealedBatch, CropOutputs]):
    """A task of the readers."""

    sealed = True


def _target_fault(target: object, expected: Target, size: Triple) -> str | None:
    """What forbids a target; None for one that is as expected, and fits the outputs of a head.

    Parameters
    ----------
    expected : what `Task.empty` gives
    size : voxels of the patch or crop
    """
    if not isinstance(target, Mapping) or target.keys() != expected.keys():
        got = ", ".join(target) or "nothing" if isinstance(target, Mapping) else repr(target)
        return f"is {got}, expected what empty() has: {', '.join(expected) or 'nothing'}. Give both the same names."
    for name, empty in expected.items():
        array = target[name]
        if not (isinstance(array, np.ndarray) and isinstance(empty, np.ndarray)):
            return f"{name!r} is a {type(array).__name__}, in empty() a {type(empty).__name__}, expected numpy arrays."
        if (array.shape, _kind(array)) != (empty.shape, _kind(empty)):
            return (
                f"{name!r} has the shape {array.shape} and is {array.dtype}, expected {empty.shape} and {empty.dtype} "
                "as in empty(). Let target() and empty() give arrays of one shape and kind, for every case."
            )
        if array.dtype.kind == "f" and array.shape == tuple(size):
            return (
                f"{name!r} has the shape {array.shape}, expected {(1, *array.shape)}: a head gives channels first, and "
                "of the two torch would make every pair of patches. Give it an axis of channels."
            )
    return None


def _kind(array: np.ndarray) -> str:
    """Whether an array holds floats, whole numbers or truths."""
    return "i" if array.dtype.kind == "u" else array.dtype.kind


class OwnPassTask(Task[Network, Known, Sampler, Seen, OwnOutputs[Made]]):
    """A task that runs its network itself and reads neither the open nor the sealed pass."""

    @abstractmethod
    def run(self, network: Network, batch: Seen, generator: torch.Generator) -> Made:
        """The pass; what it returns is `outputs.own` for `loss`. Random numbers come from `generator` (CPU) alone."""


class ImageTask(OwnPassTask[Finder, TrainingCase, OpenSampler, ImageBatch, Made]):
    """A task that runs the finder on `batch.images`: patches of any scans, those that nobody annotated included."""


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
        name: Any = getattr(task, "name", None)
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
