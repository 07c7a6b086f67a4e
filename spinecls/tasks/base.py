"""A task: what the network should learn, as a head, a target in the batch and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from spinecls.dataloading.batch import Batch
from spinecls.planning.plan import Configuration, Plan


@dataclass(frozen=True)
class Outputs:
    """What the network gave for a batch.

    Attributes
    ----------
    open : outputs of `SpineModel.open_pass`, None while the sealed part of a step is computed
    logits, evidence : outputs of `SpineModel.sealed_pass`, None while the open part is computed
    """

    open: Mapping[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    evidence: torch.Tensor | None = None


class Task(ABC):
    """One thing to learn.

    Attributes
    ----------
    name : column of the loss in progress.csv
    sealed : whether the loss reads the sealed pass; else the open pass
    predicts : whether the head is kept for prediction; heads of other tasks are dropped from the final checkpoint
    """

    name: str
    sealed: bool = False
    predicts: bool = True

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        self.plan = plan
        self.configuration = configuration

    def dense_heads(self) -> dict[str, int]:
        """Further heads at full resolution that the task needs: name -> output channels."""
        return {}

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Scalar; zero, with a gradient, when the batch holds nothing annotated for this task."""


@dataclass(frozen=True)
class WeightedTask:
    """A task and its weight in the sum of losses."""

    task: Task
    weight: float = 1.0
