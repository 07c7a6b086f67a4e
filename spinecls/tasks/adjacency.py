"""Forbidden neighbours: names that never touch in a spine must not touch in an image, annotated or not."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from spinecls.anatomy import LEVELS, RANK, SUCCESSORS
from spinecls.dataloading.batch import ImageBatch
from spinecls.networks.finder import Finder
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.task import ImageTask, OwnOutputs


def forbidden_pairs() -> torch.Tensor:
    """(27, 27) bool, symmetric: pairs of levels that are never next to each other."""
    allowed = torch.eye(len(LEVELS), dtype=torch.bool)
    for upper, lowers in SUCCESSORS.items():
        for lower in lowers:
            allowed[RANK[upper], RANK[lower]] = allowed[RANK[lower], RANK[upper]] = True
    return ~allowed


def adjacency_loss(probabilities: torch.Tensor, forbidden: torch.Tensor) -> torch.Tensor:
    """Share of neighbouring voxels whose names never touch.

    The sum over forbidden (k, l) of the mean over v of p_k(v) p_l(v + o). The mean runs over the six neighbours o of
    every voxel that has them; opposite ones give the same sum, so three are computed. NonAdjLoss of Ganaye, Sdika and
    Benoit-Cattin, MICCAI 2018.

    Parameters
    ----------
    probabilities : (B, L, s, r, a); they may add up to less than one, the rest being "no vertebra"
    forbidden : (L, L) bool, symmetric
    """
    matrix = forbidden.to(probabilities)
    total, count = 0 * probabilities.sum(), 0
    for axis in (2, 3, 4):
        length = probabilities.shape[axis]
        if length < 2:
            continue
        first, second = probabilities.narrow(axis, 0, length - 1), probabilities.narrow(axis, 1, length - 1)
        total = total + torch.einsum("bksra,kl,blsra->", first, matrix, second)
        count += first[:, 0].numel()
    return total / max(count, 1)


class NonAdjacencyTask(ImageTask[dict[str, torch.Tensor]]):
    """`adjacency_loss` of the level map on patches of any scans, weighted by where the network sees vertebrae.

    A level means something near a centre only, so each name counts by the heat there.
    """

    name = "adjacency"
    predicts = False
    share = 0.05
    every = 4

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        self.forbidden = forbidden_pairs()

    def run(self, network: Finder, batch: ImageBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return network.open_pass(batch.images)

    def loss(self, outputs: OwnOutputs[dict[str, torch.Tensor]], batch: ImageBatch) -> torch.Tensor:
        names = functional.softmax(outputs.own["level"].float(), dim=1)
        heat = torch.sigmoid(outputs.own["heatmap"].float())
        # Which voxels count is not to be learnt here: no heat would be the cheapest way to obey.
        seen = functional.adaptive_max_pool3d(heat.detach(), names.shape[2:])
        return adjacency_loss(names * seen, self.forbidden)
