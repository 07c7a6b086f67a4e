"""The sealed pass: class probabilities and evidence of vertebrae, each from its own region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinecls.planning.plan import Configuration
from spinecls.sealing.crop import sealed_crop
from spinecls.sealing.region import Region

CHUNK = 8
"""Crops in one forward pass, padded with empty ones: a vertebra's numbers never depend on how many others there are."""


def mirrored_views(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Axes of a (N, C, s, r, a) batch that the views of test-time augmentation mirror: none, one, or two of them.

    Parameters
    ----------
    axes : spatial axes that training mirrored; of three the last is left out, eight views would add little
    """
    first = [axis + 2 for axis in sorted(axes)[:2]]
    return [(), *((axis,) for axis in first), *([tuple(first)] if len(first) == 2 else [])]


@dataclass(frozen=True)
class SealedResult:
    """Classes of the vertebrae of one case.

    Attributes
    ----------
    probabilities : (N, K), mean over folds and views
    members : (M, N, K) probabilities of every fold and view
    evidence : (N, K, s, r, a) mean evidence on the sealed grid; the first is that of class 0, see `class_evidence`
    """

    probabilities: np.ndarray
    members: np.ndarray
    evidence: np.ndarray


def make_crops(
    image: np.ndarray, regions: Sequence[Region], marrow: np.ndarray, configuration: Configuration
) -> torch.Tensor:
    """(N, C + 1, s, r, a) sealed crops of a native image."""
    return torch.stack(
        [
            sealed_crop(image, region, marrow, configuration.sealed_size, configuration.sealed_spacing_mm)
            for region in regions
        ]
    )


@torch.inference_mode()
def classify(
    models: Sequence[torch.nn.Module],
    crops: torch.Tensor,
    balanced_shift: np.ndarray,
    device: torch.device,
    views: Sequence[tuple[int, ...]],
) -> SealedResult:
    """Class probabilities and evidence of sealed crops.

    Parameters
    ----------
    crops : (N, C + 1, s, r, a)
    balanced_shift : (K,) added to the logits before the softmax: it removes the prior that training drew by and puts
        in the one that is reported
    """
    members = []
    evidence_sum = None
    for axes in views:
        for model in models:
            logits, evidence = _in_chunks(model, crops.flip(axes) if axes else crops, device)
            members.append(torch.softmax(logits.double() + torch.from_numpy(balanced_shift), dim=1).numpy())
            evidence = evidence.flip(axes) if axes else evidence
            evidence_sum = evidence if evidence_sum is None else evidence_sum + evidence
    stacked = np.stack(members)
    mean_evidence = (evidence_sum / len(members)).numpy()
    return SealedResult(stacked.mean(axis=0), stacked, np.concatenate([_absence(mean_evidence), mean_evidence], axis=1))


def _in_chunks(model: torch.nn.Module, crops: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    logits, evidence = [], []
    for start in range(0, len(crops), CHUNK):
        part = crops[start : start + CHUNK]
        filled = torch.cat([part, torch.zeros((CHUNK - len(part), *part.shape[1:]))]) if len(part) < CHUNK else part
        z, e = model.sealed_pass(filled.to(device))
        logits.append(z[: len(part)].float().cpu())
        evidence.append(e[: len(part)].float().cpu())
    return torch.cat(logits), torch.cat(evidence)


def _absence(evidence: np.ndarray) -> np.ndarray:
    """Evidence of class 0, which is the absence of evidence: minus the greatest evidence of any other class."""
    return -evidence.max(axis=1, keepdims=True)
