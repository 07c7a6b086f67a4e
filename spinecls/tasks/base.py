"""A task: what the network should learn, as a head, a target in the batch and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from spinecls.dataloading.batch import Batch
from spinecls.networks.model import SpineModel
from spinecls.planning.plan import Configuration, Plan


@dataclass(frozen=True)
class Outputs:
    """What the network gave for a batch.

    Attributes
    ----------
    open : outputs of `SpineModel.open_pass`, None while the sealed part of a step is computed
    logits, evidence : outputs of `SpineModel.sealed_pass`, None while the open part is computed
    own : what `OwnPassTask.run` returned, for a task with a pass of its own
    """

    open: Mapping[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    evidence: torch.Tensor | None = None
    own: object = None


class Task(ABC):
    """One thing to learn.

    Attributes
    ----------
    name : column of the loss in progress.csv
    sealed : whether the loss reads the sealed pass; else the open pass
    own_pass : whether the task is an `OwnPassTask`, which reads neither
    predicts : whether the head is kept for prediction; heads of other tasks are dropped from the final checkpoint
    share : None for a main task, whose weight is what the trainer says. For an auxiliary task the size of its gradient
        against that of the main tasks, which its weight is set to bring about (`tasks.balancing`)
    needs_images : whether the task learns from images as such, those that nobody annotated included
    needs_classes : whether the open patches are to say what is believed of the classes of their vertebrae
    progress : share of the training that is done; set by the trainer before every step
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
        """Further heads at full resolution that the task needs: name -> output channels."""
        return {}

    def module(self) -> nn.Module | None:
        """Part of the network that only this task trains, besides its heads; it never reaches the final checkpoint.

        The trainer keeps it as `model.auxiliary[name]`.
        """
        return None

    def bind(self, model: SpineModel) -> None:
        """Take note of the network, once, when all its parts are there; for tasks whose `module` enters the loss."""
        return None

    def report(self) -> Mapping[str, Mapping]:
        """What the task found out about its data: name of a JSON file in the run's folder -> content."""
        return {}

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Scalar; zero, with a gradient, when the batch holds nothing annotated for this task."""


class OwnPassTask(Task):
    """A task that runs the network itself and reads neither the open nor the sealed pass."""

    own_pass = True

    @abstractmethod
    def run(self, model: SpineModel, batch: Batch, generator: torch.Generator) -> object:
        """The pass; what it returns is `Outputs.own` for `loss`. Random numbers come from `generator` (CPU) alone."""


@dataclass(frozen=True)
class WeightedTask:
    """A task and its weight in the sum of losses."""

    task: Task
    weight: float = 1.0
