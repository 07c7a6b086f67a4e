"""Tasks of the open pass: where the vertebrae are, what they are called, which voxels are theirs."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from spinecls.dataloading.batch import Batch
from spinecls.dataloading.cases import UNKNOWN
from spinecls.tasks.base import Outputs, Task
from spinecls.tasks.losses import heatmap_loss, map_loss, offset_loss


class CentreTask(Task):
    """Heat map of the centres, and from each voxel of a vertebra the vector to its centre."""

    name = "centre"

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        heat = heatmap_loss(outputs.open["heatmap"], batch.open.heatmap, batch.open.heatmap_weight)
        return heat + 0.5 * offset_loss(outputs.open["offset"], batch.open.offset, batch.open.offset_weight)


class LevelTask(Task):
    """Name of the vertebra at each annotated centre, from features that see its neighbours."""

    name = "level"

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        logits = outputs.open["level"].float()
        if len(batch.open.centre_rank) == 0:
            return 0 * logits.sum()
        found = logits_at(logits, batch.open.centre_batch, batch.open.centre_index, batch.open.image.shape[2:])
        return functional.cross_entropy(found, batch.open.centre_rank, ignore_index=-1, label_smoothing=0.05)


def logits_at(logits: torch.Tensor, batch_index: torch.Tensor, index: torch.Tensor, full_shape) -> torch.Tensor:
    """(N, L) values of a coarse (B, L, s, r, a) map at continuous indices of the full-resolution grid."""
    extent = torch.tensor([float(n) for n in full_shape], device=logits.device)
    unit = (2 * index.to(logits.device) + 1) / extent - 1
    rows = []
    for row, position in zip(batch_index.tolist(), unit, strict=True):
        grid = position.flip(0).view(1, 1, 1, 1, 3)
        sampled = functional.grid_sample(logits[row : row + 1], grid, padding_mode="border", align_corners=False)
        rows.append(sampled.view(-1))
    return torch.stack(rows)


class VertebraMapTask(Task):
    """Which voxels belong to a vertebra; kept at prediction, where it gives the regions and the instances."""

    name = "vertebra_map"
    share = 0.3

    def dense_heads(self) -> dict[str, int]:
        return {"vertebra_map": 2}

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        return map_loss(outputs.open["vertebra_map"], batch.open.vertebra_map, UNKNOWN)
