"""What one training step sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


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


@dataclass
class ClassRegions:
    """The M vertebrae of open patches of whose class something is believed.

    Attributes
    ----------
    numbers : (B, S, R, A) long, which vertebra of its patch a voxel belongs to, 0 = none
    patch, number : (M,) long, where each of the vertebrae is
    sets : (M, R, K) bool; masses : (M, R)
    """

    numbers: torch.Tensor
    patch: torch.Tensor
    number: torch.Tensor
    sets: torch.Tensor
    masses: torch.Tensor


@dataclass
class OpenBatch:
    """Patches of the open pass with their targets.

    Attributes
    ----------
    image : (B, C, S, R, A) float
    heatmap, heatmap_weight : (B, 1, S, R, A); weight 0 where nothing is known
    offset : (B, 3, S, R, A) vector to the own vertebra's centre in units of 10 mm; offset_weight : (B, 1, S, R, A)
    vertebra_map : (B, S, R, A) long, 0 background, 1 vertebra, 255 unknown
    structures : (B, S, R, A) long, codes of structuresTr, 255 unknown
    centre_batch, centre_index, centre_rank : (N,), (N, 3) patch index, (N,) level rank of the centres in the patches
    beliefs : by map (`vertebra_map`, `structures`); empty when no task asks for them
    bags : likewise
    classes : None when no task asks for them, or nothing is believed of any vertebra
    """

    image: torch.Tensor
    heatmap: torch.Tensor
    heatmap_weight: torch.Tensor
    offset: torch.Tensor
    offset_weight: torch.Tensor
    vertebra_map: torch.Tensor
    structures: torch.Tensor
    centre_batch: torch.Tensor
    centre_index: torch.Tensor
    centre_rank: torch.Tensor
    cases: tuple[str, ...] = ()
    beliefs: Mapping[str, BeliefPatches] = field(default_factory=dict)
    bags: Mapping[str, BagPatches] = field(default_factory=dict)
    classes: ClassRegions | None = None


@dataclass
class SealedBatch:
    """Crops of vertebrae with beliefs about their class.

    Attributes
    ----------
    crops : (N, C + 1, s, r, a), last channel the region, see `sealing.crop.sealed_crop`
    sets : (N, R, K) bool; masses : (N, R)
    lesions : (N, s, r, a) long, codes of structuresTr, 255 unknown
    readers : (N, R) long, who says each set; -1 = nobody known, or several together
    pooled : (N, s, r, a) bool, voxels whose evidence counts; None = the region
    """

    crops: torch.Tensor
    sets: torch.Tensor
    masses: torch.Tensor
    lesions: torch.Tensor
    cases: tuple[str, ...] = ()
    pooled: torch.Tensor | None = None
    readers: torch.Tensor | None = None


@dataclass
class Batch:
    """One training step of the finder (`open`) or of a reader (`sealed`).

    `images` (B, C, S, R, A) are patches of any scans, annotated or not, of which nothing but the image is known; None
    when no task asks for them.
    """

    open: OpenBatch | None = None
    sealed: SealedBatch | None = None
    images: torch.Tensor | None = None

    @property
    def cases(self) -> tuple[str, ...]:
        """Identifiers of the cases that it is made from, those of `images` left out."""
        return (self.open.cases if self.open is not None else ()) + (
            self.sealed.cases if self.sealed is not None else ()
        )
