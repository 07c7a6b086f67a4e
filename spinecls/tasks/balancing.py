"""Weights of auxiliary tasks: measured once from gradients, learnt, or fixed.

Main tasks (finding, naming, classifying) keep the weights that the trainer gives them. What an auxiliary task may pull
at the shared weights is told as a share of what the main tasks pull.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from spinecls.tasks.task import WeightedTask

MEASURED_FROM = 30
MEASURED_STEPS = 20
"""The first steps, whose gradients say little of what follows, are left out."""

WEIGHT_LIMITS = (0.05, 20.0)

LOG_VARIANCE_LIMIT = 3.0


class TaskWeighting(nn.Module):
    """Weight of every task in a run; its state is saved and resumed with the network's.

    `gradient_norm`, the default: over `MEASURED_STEPS` steps in which the task ran, the norm of each auxiliary loss's
    gradient on the weights that all tasks share is compared with that of the weighted sum of the main losses; from then
    on an auxiliary weight is share x |main| / |auxiliary|, within `WEIGHT_LIMITS`, and constant. (Two comparisons found
    that multi-task optimisers do not beat constant weights: Kurin et al. and Xin et al., NeurIPS 2022.) The shares of
    tasks of the open pass are small, for the main gradient of the first steps is mostly noise: with a share of 1 for
    each, phantoms' centres were not learnt, and with one of 1 for the vertebra map a tenth of the names of real scans
    were lost for a hundredth of overlap. Drawn lesions, which teach the class itself, have a share of 1: on real
    scans a third of it gained nothing.
    `uncertainty`: auxiliary losses count exp(-s) L + s / 2 with learnt s (Kendall, Gal and Cipolla, CVPR 2018); main
    tasks are kept out of it, or a noisy class loss would be turned down.
    `fixed`: the trainer's weights.

    Parameters
    ----------
    tasks : of the trainer
    how : one of `planning.plan.WEIGHTINGS`
    chosen : what the user set, by task: the share of an auxiliary task, the weight of a main one
    """

    main_norm: torch.Tensor
    norm: torch.Tensor
    count: torch.Tensor

    def __init__(self, tasks: Sequence[WeightedTask], how: str, chosen: Mapping[str, float]) -> None:
        super().__init__()
        self.how = how
        self.main = {t.task.name: chosen.get(t.task.name, t.weight) for t in tasks if t.task.share is None}
        auxiliary = [(t.task.name, share, t.weight) for t in tasks if (share := t.task.share) is not None]
        self.names = [name for name, _, _ in auxiliary]
        self.shares = {name: chosen.get(name, share * weight) for name, share, weight in auxiliary}
        self.fixed = {name: chosen.get(name, weight) for name, _, weight in auxiliary}
        self.register_buffer("main_norm", torch.zeros(len(self.names)))
        self.register_buffer("norm", torch.zeros(len(self.names)))
        self.register_buffer("count", torch.zeros(len(self.names), dtype=torch.int64))
        if how == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def measures(self, step: int, running: Sequence[str]) -> bool:
        """Whether the gradients of this step are measured for the weights: while any task that runs still needs it."""
        if self.how != "gradient_norm" or step < MEASURED_FROM or not self.main:
            return False
        return any(int(self.count[self.names.index(name)]) < MEASURED_STEPS for name in running if name in self.names)

    def weight(self, name: str) -> float:
        """What a loss counts now; 1 for a loss that `total` weighs by its uncertainty."""
        if name in self.main:
            return self.main[name]
        row = self.names.index(name)
        if self.how == "gradient_norm" and int(self.count[row]) >= MEASURED_STEPS:
            own, main = float(self.norm[row]), float(self.main_norm[row])
            low, high = WEIGHT_LIMITS
            return min(max(self.shares[name] * main / own, low), high) if own > 0 else high
        return 1.0 if self.how == "uncertainty" else self.fixed[name]

    def total(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Weighted sum of the losses of some tasks, at least one."""
        parts = []
        for name, loss in losses.items():
            weighted = self.weight(name) * loss
            if self.how == "uncertainty" and name in self.names:
                doubt = self.log_variance[self.names.index(name)].clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
                weighted = self.shares[name] * (weighted * torch.exp(-doubt) + doubt / 2)
            parts.append(weighted)
        return functools.reduce(operator.add, parts)

    def record(self, gradients: Mapping[str, torch.Tensor], step: int) -> dict[str, dict[str, float]]:
        """Take note of one step's gradients; returns norm, weight and cosine with the main tasks of each auxiliary one.

        Parameters
        ----------
        gradients : by task, on the shared weights, flat, unweighted
        """
        main = sum(self.main[name] * gradient for name, gradient in gradients.items() if name in self.main)
        measured = {}
        for row, name in enumerate(self.names):
            if name not in gradients or not isinstance(main, torch.Tensor):
                continue
            own, pull = gradients[name].float(), main.float()
            norm, main_norm = float(own.norm()), float(pull.norm())
            if not (math.isfinite(norm) and math.isfinite(main_norm)):
                continue
            if self.measures(step, [name]):
                self.norm[row] += norm
                self.main_norm[row] += main_norm
                self.count[row] += 1
            cosine = float(own @ pull) / (norm * main_norm) if norm > 0 and main_norm > 0 else math.nan
            measured[name] = {"gradient_norm": norm, "main_norm": main_norm, "cosine": cosine}
        return measured
