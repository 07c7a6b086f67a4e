"""Tasks of the open pass: where the vertebrae are, what they are called, which voxels are theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as functional

from spinecls.dataloading.batch import OpenBatch
from spinecls.dataloading.cases import UNKNOWN, TrainingCase
from spinecls.dataloading.open_patches import OpenSampler
from spinecls.dataloading.targets import Target
from spinecls.tasks.losses import heatmap_loss, map_loss, offset_loss
from spinecls.tasks.open_targets import binary_map, heatmap_target, offset_target, vertebra_numbers
from spinecls.tasks.task import OpenOutputs, OpenTask


class CentreTask(OpenTask):
    """Heat map of the centres, and from each voxel of a vertebra the vector to its centre."""

    name = "centre"

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target:
        unknown = sampler.labels(case.unknown.astype(np.uint8), outside=1) > 0
        centres = sampler.points(case.centres).reshape(-1, 3)
        heatmap = heatmap_target(self.size, centres, case.spacing_mm, self.configuration.heatmap_sigma_mm)
        offset, known = offset_target(self.size, centres, case.spacing_mm, vertebra_numbers(case, sampler))
        # A Gaussian that reaches into the unknown zone is still known there.
        weight = ~unknown | (heatmap > 0.1)
        return {
            "heatmap": heatmap[None],
            "heatmap_weight": weight[None].astype(np.float32),
            "offset": offset,
            "offset_weight": known[None].astype(np.float32),
        }

    def empty(self) -> Target:
        one, three = np.zeros((1, *self.size), np.float32), np.zeros((3, *self.size), np.float32)
        return {"heatmap": one, "heatmap_weight": one, "offset": three, "offset_weight": one}

    def loss(self, outputs: OpenOutputs, batch: OpenBatch) -> torch.Tensor:
        wanted = batch.targets[self.name]
        heat = heatmap_loss(outputs.open["heatmap"], wanted["heatmap"], wanted["heatmap_weight"])
        return heat + 0.5 * offset_loss(outputs.open["offset"], wanted["offset"], wanted["offset_weight"])


class LevelTask(OpenTask):
    """Name of the vertebra at each annotated centre, from features that see its neighbours."""

    name = "level"

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target:
        return {"index": sampler.named_index, "rank": sampler.named_ranks}

    def empty(self) -> Target:
        return {"index": np.zeros((0, 3), np.float32), "rank": np.zeros(0, int)}

    def batched(self, rows: Sequence[Target]) -> dict[str, torch.Tensor]:
        """The N centres of all patches: `patch` and `rank` (N,) long, `index` (N, 3) in the patch."""
        counts = [len(row["index"]) for row in rows]
        return {
            "patch": torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).long(),
            "index": torch.from_numpy(np.concatenate([row["index"] for row in rows]).reshape(-1, 3)),
            "rank": torch.from_numpy(np.concatenate([row["rank"] for row in rows])).long(),
        }

    def loss(self, outputs: OpenOutputs, batch: OpenBatch) -> torch.Tensor:
        logits, wanted = outputs.open["level"].float(), batch.targets[self.name]
        if len(wanted["rank"]) == 0:
            return 0 * logits.sum()
        point_logits = _logits_at(logits, wanted["patch"], wanted["index"], batch.image.shape[2:])
        return functional.cross_entropy(point_logits, wanted["rank"], ignore_index=-1, label_smoothing=0.05)


def _logits_at(logits: torch.Tensor, batch_index: torch.Tensor, index: torch.Tensor, full_shape) -> torch.Tensor:
    """(N, L) values of a coarse (B, L, s, r, a) map at continuous indices of the full-resolution grid."""
    extent = torch.tensor([float(n) for n in full_shape], device=logits.device)
    unit = (2 * index.to(logits.device) + 1) / extent - 1
    rows = []
    for row, position in zip(batch_index.tolist(), unit, strict=True):
        grid = position.flip(0).view(1, 1, 1, 1, 3)
        sampled = functional.grid_sample(logits[row : row + 1], grid, padding_mode="border", align_corners=False)
        rows.append(sampled.view(-1))
    return torch.stack(rows)


class VertebraMapTask(OpenTask):
    """Which voxels belong to a vertebra; kept at prediction, where it gives the regions and the instances."""

    name = "vertebra_map"
    share = 0.3

    def dense_heads(self) -> dict[str, int]:
        return {"vertebra_map": 2}

    def target(self, case: TrainingCase, sampler: OpenSampler) -> Target | None:
        if case.vertebra_map is None:
            return None
        return {"map": binary_map(sampler.labels(case.vertebra_map, outside=0))}

    def empty(self) -> Target:
        return {"map": np.full(self.size, UNKNOWN, np.uint8)}

    def loss(self, outputs: OpenOutputs, batch: OpenBatch) -> torch.Tensor:
        return map_loss(outputs.open["vertebra_map"], batch.targets[self.name]["map"], UNKNOWN)
