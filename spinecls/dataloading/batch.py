"""What one training step sees: what the network is shown, and what each task wants of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

Targets = Mapping[str, Mapping[str, Any]]
"""By task what `Task.batched` made of its targets: name -> tensor, or a dataclass of tensors."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training step of a network.

    Attributes
    ----------
    cases : identifiers of the cases that it is made from, one a patch or crop
    targets : by task
    """

    cases: tuple[str, ...] = ()
    targets: Targets


@dataclass(frozen=True, kw_only=True)
class OpenBatch(Batch):
    """Patches from which the finder learns.

    Attributes
    ----------
    image : (B, C, S, R, A) float
    """

    image: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class ImageBatch(OpenBatch):
    """The same where a task runs the finder on images as such.

    Attributes
    ----------
    images : (B, C, S, R, A) patches of any scans, annotated or not, of which nothing but the image is known
    """

    images: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class SealedBatch(Batch):
    """Crops of vertebrae from which a reader learns.

    Attributes
    ----------
    crops : (N, C + 1, s, r, a), last channel the region, see `sealing.crop.sealed_crop`
    pooled : (N, s, r, a) bool, voxels whose evidence counts
    """

    crops: torch.Tensor
    pooled: torch.Tensor
