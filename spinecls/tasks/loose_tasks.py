"""Tasks that learn from loose, partial and contradictory annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

from spinecls.beliefs.readers import READERS, described
from spinecls.dataloading.batch import OpenBatch, SealedBatch
from spinecls.dataloading.cases import TrainingCase
from spinecls.dataloading.forms import CompiledMap
from spinecls.dataloading.open_patches import OpenSampler
from spinecls.dataloading.targets import Target
from spinecls.errors import TrainerError, UsageError
from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader
from spinecls.tasks.belief_losses import bag_loss, disagreement, masked_dice_loss, voxel_belief_loss
from spinecls.tasks.belief_patches import (
    BagPatches,
    BeliefPatches,
    MapPatch,
    bag_patches,
    belief_codes,
    belief_patches,
    map_patch,
    silent_patch,
)
from spinecls.tasks.classification import ClassificationTask
from spinecls.tasks.losses import adjusted_log_probabilities, belief_loss
from spinecls.tasks.open_tasks import VertebraMapTask
from spinecls.tasks.structures import StructuresTask
from spinecls.tasks.task import CropOutputs, OpenOutputs, OpenTask, OwnOutputs, OwnPassTask

DICE_WEIGHT = 0.5
BAG_RAMP = 0.2
"""Share of the training over which bags come in: before the map means anything, the size of it does not either."""

READERS_FROM = 0.2
"""Share of the training after which readers may be told apart; a class must have been learnt to see who errs."""

TRACE_WEIGHT = 0.01
READER_SCALE = 50.0
"""Logits of a matrix for one unit of its parameter: at the rate that suits a network it would hardly move in a run."""

TRUST_LOGIT = 4.0
"""Start of the diagonal of a reader's matrix: of three classes a reader is first taken to tell 96 of 100 right."""

SMOOTHING = 0.99
CONSISTENCY_RAMP = 0.3
CONSISTENCY_NOISE = 0.1
SAID = 0.5
"""Mass from which on something is said of a voxel."""

SILENT_SHARE = 0.3
"""Share of voxels of a patch of which nothing is said, from which on the mean teacher speaks."""


def ramp(progress: float, over: float) -> float:
    """From 0 to 1, linearly, over a share of the training."""
    return min(1.0, progress / over)


def _compiled_map(case: TrainingCase, name: str) -> CompiledMap:
    """What the annotation of a case says of the voxels of a map.

    Raises
    ------
    TrainerError
        When the trainer does not have it said.
    """
    if name not in case.compiled:
        raise TrainerError(f"What is believed of {name} was not made. Set learns_beliefs = True in the trainer.")
    return case.compiled[name]


class _BelievedMap(OpenTask):
    """What makes of a task that learns an exact map one that learns it as far as it is annotated."""

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target:
        return {"patch": map_patch(_compiled_map(case, self.name), sampler)}

    def empty(self) -> Target:
        return {"patch": silent_patch(self.size, self.dense_heads()[self.name])}

    def batched(self, rows: Sequence[Target]) -> dict[str, BeliefPatches | BagPatches]:
        patches: list[MapPatch] = [row["patch"] for row in rows]
        return {"beliefs": belief_patches(patches), "bags": bag_patches(patches)}

    def loss(self, outputs: OpenOutputs, batch: OpenBatch) -> torch.Tensor:
        """Loss of the beliefs, half a Dice over what is sure, and the bags, which come in first."""
        wanted = batch.targets[self.name]
        log_probabilities = functional.log_softmax(outputs.open[self.name].float(), dim=1)
        loss = voxel_belief_loss(log_probabilities, wanted["beliefs"])
        loss = loss + DICE_WEIGHT * masked_dice_loss(log_probabilities.exp(), wanted["beliefs"])
        return loss + ramp(self.progress, BAG_RAMP) * bag_loss(log_probabilities, wanted["bags"])


class BelievedMapTask(_BelievedMap, VertebraMapTask):
    """The vertebra map as far as it is drawn, boxed, pointed at or scribbled."""


class BelievedStructuresTask(_BelievedMap, StructuresTask):
    """Structures as loosely as they are drawn."""


class ReaderMatrices(nn.Module):
    """How each reader calls each class: (R, K, K) probabilities, [r, said, true].

    Every column is a softmax whose diagonal starts at `TRUST_LOGIT`; of grades a reader errs by one at most. Tanno et
    al., CVPR 2019.
    """

    possible: torch.Tensor

    def __init__(self, num_readers: int, num_classes: int, ordinal: bool) -> None:
        super().__init__()
        start = TRUST_LOGIT / READER_SCALE * torch.eye(num_classes)
        self.scaled_logits = nn.Parameter(start.repeat(num_readers, 1, 1))
        distance = torch.arange(num_classes)[:, None] - torch.arange(num_classes)[None]
        self.register_buffer("possible", (distance.abs() <= 1) | (not ordinal), persistent=False)

    def forward(self) -> torch.Tensor:
        return torch.softmax((READER_SCALE * self.scaled_logits).masked_fill(~self.possible, -1e4), dim=1)


class ReaderClassificationTask(ClassificationTask):
    """Class of a vertebra from what two known readers said, each as trustworthy as is learnt.

    Where they differ only the network can tell who errs; three are judged by each other before (`beliefs.readers`).
    What reader r says has the probability A_r p, p the network's; so the network may be right where a reader is wrong.
    The trace of the A_r is kept small, or the network would learn a reader's mistakes and call him faultless (Tanno et
    al., CVPR 2019, equation 7). Readings of others count as they are.
    """

    def module(self) -> nn.Module:
        return ReaderMatrices(len(self.plan.readers), len(self.plan.class_names), self.plan.class_order)

    def bind(self, network: Reader) -> None:
        self.matrices = network.auxiliary[self.name]

    def report(self) -> Mapping[str, Mapping]:
        """`readers.json`, of matrices as they were learnt."""
        return {READERS: described(self.plan.readers, self.matrices().detach().cpu().numpy())}

    def loss(self, outputs: CropOutputs, batch: SealedBatch) -> torch.Tensor:
        log_prior, wanted = self.log_prior.to(outputs.logits.device), batch.targets[self.name]
        adjusted = adjusted_log_probabilities(outputs.logits, log_prior, self.configuration.logit_adjustment)
        if self.progress < READERS_FROM:
            said = adjusted[:, None].expand(-1, wanted["sets"].shape[1], -1)
            trace = 0.0
        else:
            matrices = self.matrices()
            said = said_log_probabilities(adjusted, matrices, wanted["readers"])
            trace = matrices.diagonal(dim1=1, dim2=2).mean(dim=1).sum() * (wanted["masses"].sum() > 0)
        return belief_loss(said, wanted["sets"], wanted["masses"], self.q) + TRACE_WEIGHT * trace


def said_log_probabilities(
    log_probabilities: torch.Tensor, matrices: torch.Tensor, readers: torch.Tensor
) -> torch.Tensor:
    """(N, R, K) log-probabilities of what each reading says; unknown readers (-1) say what is true.

    Parameters
    ----------
    log_probabilities : (N, K) of the true class
    matrices : (readers, K, K), [r, said, true]
    readers : (N, R) long
    """
    true = torch.eye(matrices.shape[1], device=matrices.device)[None]
    used = torch.cat([matrices, true])[torch.where(readers < 0, len(matrices), readers)]
    return torch.logsumexp(torch.log(used.clamp_min(1e-12)) + log_probabilities[:, None, None, :], dim=3)


class ConsistencyTask(OwnPassTask[Finder, TrainingCase, OpenSampler, OpenBatch, torch.Tensor | None]):
    """Where nothing is said, the map agrees with that of a mean teacher, whatever the noise.

    The teacher is the running mean of the network (Tarvainen and Valpola, NeurIPS 2017). It sees the patch as it is,
    the network one with noise. Only patches count of which more than `SILENT_SHARE` is open.
    """

    name = "consistency"
    predicts = False
    every = 4

    teacher: Finder

    def module(self) -> nn.Module:
        """The teacher; its weights are saved with the run, so that a resumed one has the same."""
        teacher = Finder(self.configuration.network, len(self.plan.channel_names), {"vertebra_map": 2})
        return teacher.requires_grad_(False)

    def bind(self, network: Finder) -> None:
        if "vertebra_map" not in network.heads:
            raise UsageError("The task consistency is about the map of vertebra_map: give both a weight, or neither.")
        self.teacher = network.auxiliary[self.name]  # type: ignore[assignment]  # torch forgets of what it is a dict
        _follow(self.teacher, network, 0.0)

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target:
        beliefs = _compiled_map(case, "vertebra_map").beliefs
        return {"silent": beliefs.masses.sum(axis=1)[belief_codes(beliefs, sampler)] < SAID}

    def empty(self) -> Target:
        return {"silent": np.ones(self.size, bool)}

    def run(self, network: Finder, batch: OpenBatch, generator: torch.Generator) -> torch.Tensor | None:
        # What the network started with may have come later than the teacher.
        _follow(self.teacher, network, SMOOTHING**self.every if self.progress > 0 else 0.0)
        silent: torch.Tensor = batch.targets[self.name]["silent"]
        counted = silent & (silent.float().mean(dim=(1, 2, 3), keepdim=True) > SILENT_SHARE)
        if not bool(counted.any()):
            return None
        image = batch.image
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        made = network.open_pass(image + CONSISTENCY_NOISE * noise)["vertebra_map"]
        with torch.no_grad():
            wanted = self.teacher.open_pass(image)["vertebra_map"]
        first, second = (functional.log_softmax(t.float(), dim=1) for t in (made, wanted))
        return disagreement(first, second, counted)

    def loss(self, outputs: OwnOutputs[torch.Tensor | None], batch: OpenBatch) -> torch.Tensor:
        if outputs.own is None:
            return torch.zeros((), device=batch.image.device, requires_grad=True)
        return ramp(self.progress, CONSISTENCY_RAMP) * outputs.own


def _follow(teacher: nn.Module, network: nn.Module, kept: float) -> None:
    """Move the teacher's weights towards those of the same names in the network."""
    own: Mapping[str, torch.Tensor] = network.state_dict()
    with torch.no_grad():
        for name, weight in teacher.state_dict().items():
            weight.mul_(kept).add_(own[name].to(weight), alpha=1 - kept)
