"""What one training step sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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


@dataclass
class SealedBatch:
    """Crops of vertebrae with beliefs about their class.

    Attributes
    ----------
    crops : (N, C + 1, s, r, a), last channel the region
    sets : (N, R, K) bool; masses : (N, R)
    lesions : (N, s, r, a) long, codes of structuresTr, 255 unknown
    pooled : (N, s, r, a) bool, voxels whose evidence counts; None = the region
    """

    crops: torch.Tensor
    sets: torch.Tensor
    masses: torch.Tensor
    lesions: torch.Tensor
    cases: tuple[str, ...] = ()
    pooled: torch.Tensor | None = None


@dataclass
class Batch:
    """One training step.

    `images` (B, C, S, R, A) are patches of any scans, annotated or not, of which nothing but the image is known; None
    when no task asks for them.
    """

    open: OpenBatch
    sealed: SealedBatch | None
    images: torch.Tensor | None = None
