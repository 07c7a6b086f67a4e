"""What is believed of the voxels of patches: the target of a task that learns a map as loosely as it is annotated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinecls.beliefs.bags import BagMap, bag_map
from spinecls.beliefs.voxel import VoxelBeliefs
from spinecls.dataloading.forms import CompiledMap
from spinecls.dataloading.spatial import PatchSampler

SHOWN_WHOLE = 0.9
"""Share of a region that a patch must show for its bag to count."""


@dataclass
class BeliefPatches:
    """What is believed of the voxels of patches, see `beliefs.voxel.VoxelBeliefs`.

    Attributes
    ----------
    codes : (B, S, R, A) long, rows of `masses`
    sets : (F, K) bool; masses : (B, P, F)
    q : (B,) of the loss
    """

    codes: torch.Tensor
    sets: torch.Tensor
    masses: torch.Tensor
    q: torch.Tensor


@dataclass
class BagPatches:
    """Regions of patches, see `beliefs.bags.BagMap`; N regions a patch, those of fewer are filled up.

    Attributes
    ----------
    codes : (B, S, R, A) long, rows of `members`
    members : (B, P, N) bool
    classes : (B, N, K) bool
    low, high : (B, N)
    whole : (B, N) bool, whether the patch shows (nearly) all of the region; others say nothing
    line : (B, N) bool
    position : (B, 3, S, R, A) long, index in the whole map of each voxel, for `line`; None where no region has one
    """

    codes: torch.Tensor
    members: torch.Tensor
    classes: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    whole: torch.Tensor
    line: torch.Tensor
    position: torch.Tensor | None = None


@dataclass(frozen=True)
class MapPatch:
    """Codes of one patch with the tables that they point into."""

    beliefs: VoxelBeliefs
    bags: BagMap
    q: float
    whole: np.ndarray
    position: np.ndarray | None


def map_patch(compiled: CompiledMap, sampler: PatchSampler) -> MapPatch:
    """What is believed of the voxels of one patch; outside the image is background."""
    beliefs, bags = compiled.beliefs, compiled.bags
    codes = belief_codes(beliefs, sampler)
    regions = sampler.labels(bags.codes, outside=0) if len(bags.voxels) else np.zeros_like(codes)
    shown = np.bincount(regions.ravel(), minlength=len(bags.members))[: len(bags.members)] @ bags.members
    # A voxel of the patch stands for so many of the map.
    whole = shown * abs(np.linalg.det(sampler.step)) >= SHOWN_WHOLE * bags.voxels
    # Asked for by nothing that is compiled here; a trainer or benchmark of one's own may hold such bags.
    position = sampler.index(beliefs.codes.shape) if bags.line.any() else None
    return MapPatch(
        dataclasses.replace(beliefs, codes=codes),
        dataclasses.replace(bags, codes=regions),
        compiled.q,
        whole,
        position,
    )


def belief_codes(beliefs: VoxelBeliefs, sampler: PatchSampler) -> np.ndarray:
    """(S, R, A) rows of `beliefs.masses` on a patch; outside the image is background."""
    return sampler.labels(beliefs.codes, outside=_code_of_background(beliefs))


def silent_patch(size: tuple[int, int, int], num_classes: int) -> MapPatch:
    """A patch of which nothing is believed."""
    nothing = VoxelBeliefs(np.zeros(size, np.uint8), np.zeros((0, num_classes), bool), np.zeros((1, 0), np.float32))
    return MapPatch(nothing, bag_map([], size, num_classes), 0.0, np.zeros(0, bool), None)


def belief_patches(patches: Sequence[MapPatch]) -> BeliefPatches:
    """Beliefs of a batch of patches, whose cases may know different sets of classes."""
    keys = sorted({tuple(row) for p in patches for row in p.beliefs.sets.tolist()})
    rows = max(len(p.beliefs.masses) for p in patches)
    masses = np.zeros((len(patches), rows, len(keys)), np.float32)
    for number, patch in enumerate(patches):
        for column, row in enumerate(patch.beliefs.sets.tolist()):
            own = patch.beliefs.masses[:, column]
            masses[number, : len(own), keys.index(tuple(row))] += own
    num_classes = patches[0].beliefs.sets.shape[1]
    return BeliefPatches(
        codes=torch.from_numpy(np.stack([p.beliefs.codes for p in patches])).long(),
        sets=torch.tensor(keys, dtype=torch.bool).reshape(len(keys), num_classes),
        masses=torch.from_numpy(masses),
        q=torch.tensor([p.q for p in patches], dtype=torch.float32),
    )


def bag_patches(patches: Sequence[MapPatch]) -> BagPatches:
    """Regions of a batch of patches; those of patches with fewer are filled up with ones that say nothing."""
    count = max(len(p.bags.voxels) for p in patches)
    rows = max(len(p.bags.members) for p in patches)

    def filled(shape, name: str, kind) -> torch.Tensor:
        result = np.zeros((len(patches), *shape), kind)
        for number, patch in enumerate(patches):
            values = getattr(patch if name == "whole" else patch.bags, name)
            result[number][tuple(slice(0, n) for n in values.shape)] = values
        return torch.from_numpy(result)

    positions = [p.position for p in patches]
    shape = patches[0].bags.codes.shape
    position = None
    if any(p is not None for p in positions):
        position = np.stack([np.zeros((3, *shape), np.int64) if p is None else p for p in positions])
    return BagPatches(
        codes=torch.from_numpy(np.stack([p.bags.codes for p in patches])).long(),
        members=filled((rows, count), "members", bool),
        classes=filled((count, patches[0].bags.classes.shape[1]), "classes", bool),
        low=filled((count,), "low", np.float32),
        high=filled((count,), "high", np.float32),
        whole=filled((count,), "whole", bool),
        line=filled((count,), "line", bool),
        position=None if position is None else torch.from_numpy(position),
    )


def _code_of_background(beliefs: VoxelBeliefs) -> int:
    """Code of full mass on background alone; that of nothing known where no voxel has it."""
    sets = [row.nonzero()[0].tolist() for row in beliefs.sets]
    if [0] not in sets:
        return 0
    sure = np.flatnonzero(beliefs.masses[:, sets.index([0])] >= 1)
    return int(sure[0]) if len(sure) else 0
