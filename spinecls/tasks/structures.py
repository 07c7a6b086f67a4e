"""Structures that the physician knows to have a role, as voxel labels: discs, canal, endplates, corners ..."""

from __future__ import annotations

import numpy as np
import torch

from spinecls.dataloading.batch import OpenBatch, SealedBatch
from spinecls.dataloading.cases import UNKNOWN, SealedSource, TrainingCase
from spinecls.dataloading.open_patches import OpenSampler
from spinecls.dataloading.sealed_crops import CropSampler
from spinecls.dataloading.spatial import PatchSampler
from spinecls.dataloading.targets import Target
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.losses import map_loss
from spinecls.tasks.task import CropOutputs, OpenOutputs, OpenTask, SealedTask, Task


def codes_target(drawn: np.ndarray | None, sampler: PatchSampler) -> Target | None:
    """Codes of structuresTr on a patch or crop; beyond the scan is nothing."""
    return None if drawn is None else {"codes": sampler.labels(drawn, outside=0)}


def no_codes(size: tuple[int, int, int]) -> Target:
    """Target of a patch or crop of which nothing is drawn."""
    return {"codes": np.full(size, UNKNOWN, np.uint8)}


def index_of_code(plan: Plan) -> torch.Tensor:
    """(256,) long, place of each code of structuresTr among the outputs of a head; other codes are unknown."""
    table = torch.full((256,), UNKNOWN)
    table[0] = 0
    for index, code in enumerate(plan.structures.values(), start=1):
        table[code] = index
    return table


class _MapOfStructures(Task):
    """Head that tells the structures of structuresTr apart, needed in training alone."""

    predicts = False
    share = 0.1

    def __init__(self, plan: Plan, configuration: Configuration) -> None:
        super().__init__(plan, configuration)
        self.index_of_code = index_of_code(plan)

    def dense_heads(self) -> dict[str, int]:
        return {self.name: 1 + len(self.plan.structures)}

    def empty(self) -> Target:
        return no_codes(self.size)

    def loss_of_codes(self, logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Loss of a map of codes (B, S, R, A), `UNKNOWN` where nothing is known."""
        return map_loss(logits, self.index_of_code.to(codes.device)[codes], UNKNOWN)


class StructuresTask(_MapOfStructures, OpenTask):
    """Which voxels belong to which structure of structuresTr (discs, canal, lesions ...), learnt by the finder."""

    name = "structures"

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target | None:
        return codes_target(case.structures, sampler)

    def loss(self, outputs: OpenOutputs, batch: OpenBatch) -> torch.Tensor:
        return self.loss_of_codes(outputs.open[self.name], batch.targets[self.name]["codes"])


class SealedStructuresTask(_MapOfStructures, SealedTask):
    """The same in the region of a vertebra, learnt by a reader."""

    name = "sealed_structures"

    def target(self, case: SealedSource, sampler: CropSampler) -> Target | None:
        return codes_target(case.lesions, sampler)

    def loss(self, outputs: CropOutputs, batch: SealedBatch) -> torch.Tensor:
        drawn = torch.where(batch.pooled, batch.targets[self.name]["codes"], UNKNOWN)
        return self.loss_of_codes(outputs.sealed[self.name], drawn)
