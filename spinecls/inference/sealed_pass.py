"""The sealed pass: class probabilities and evidence of vertebrae, each from its region (S2, S3) or crop (S0, S1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinecls.geometry import Geometry
from spinecls.networks.model import SealedOutputs
from spinecls.planning.plan import Configuration
from spinecls.sealing.crop import vertebra_crop
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
    evidence : (N, K, s, r, a) mean evidence on the sealed grid. Of class 0, the absence of evidence, it is minus the
        greatest of any other class; of grades it is the severity, the same for each
    pooled : (N, E) mean pooled evidence, one number a map: a class but the first, or of grades the severity
    contributions : (N, E, s, r, a) mean of what each voxel adds to it
    """

    probabilities: np.ndarray
    members: np.ndarray
    evidence: np.ndarray
    pooled: np.ndarray
    contributions: np.ndarray


def make_crops(
    image: np.ndarray, geometry: Geometry, regions: Sequence[Region], marrow: np.ndarray, configuration: Configuration
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of the vertebrae of a native image, at the configuration's sealing level.

    Returns
    -------
    crops : (N, C + 1, s, r, a)
    pooled : (N, s, r, a) bool, voxels whose evidence counts
    """
    size, spacing_mm = configuration.sealed_size, configuration.sealed_spacing_mm
    made = [vertebra_crop(configuration.seal, image, geometry, r, marrow, size, spacing_mm) for r in regions]
    return torch.stack([crop.image for crop in made]), torch.stack([crop.pooled for crop in made])


@torch.inference_mode()
def classify(
    models: Sequence[torch.nn.Module],
    crops: torch.Tensor,
    pooled: torch.Tensor,
    balanced_shift: np.ndarray,
    device: torch.device,
    views: Sequence[tuple[int, ...]],
) -> SealedResult:
    """Class probabilities and evidence of crops.

    Parameters
    ----------
    crops, pooled : as `make_crops` gives them
    balanced_shift : (K,) added to the logits before the softmax: it removes the prior that training drew by and puts
        in the one that is reported
    """
    members = []
    evidence, contributions, numbers = 0.0, 0.0, 0.0
    for axes in views:
        for model in models:
            # The crop's second spatial axis is its fourth, the map of pooled voxels has no channels.
            counted = pooled.flip([axis - 1 for axis in axes])
            outputs = _in_chunks(model, crops.flip(axes) if axes else crops, counted, device)
            members.append(torch.softmax(outputs.logits.double() + torch.from_numpy(balanced_shift), dim=1).numpy())
            evidence = evidence + (outputs.evidence.flip(axes) if axes else outputs.evidence)
            contributions = contributions + (outputs.contributions.flip(axes) if axes else outputs.contributions)
            numbers = numbers + outputs.pooled
    stacked = np.stack(members)
    evidence, contributions, numbers = ((x / len(members)).numpy() for x in (evidence, contributions, numbers))
    by_class = _by_class(evidence, stacked.shape[2], models[0].ordinal)
    return SealedResult(stacked.mean(axis=0), stacked, by_class, numbers, contributions)


def _in_chunks(
    model: torch.nn.Module, crops: torch.Tensor, pooled: torch.Tensor, device: torch.device
) -> SealedOutputs:
    parts = []
    for start in range(0, len(crops), CHUNK):
        rows = slice(start, start + CHUNK)
        outputs = model.explained_pass(_filled(crops[rows]).to(device), _filled(pooled[rows]).to(device))
        kept = len(crops[rows])
        parts.append([getattr(outputs, field.name)[:kept].float().cpu() for field in dataclasses.fields(outputs)])
    return SealedOutputs(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _filled(part: torch.Tensor) -> torch.Tensor:
    """`CHUNK` rows, the missing ones empty."""
    missing = CHUNK - len(part)
    return torch.cat([part, part.new_zeros((missing, *part.shape[1:]))]) if missing else part


def _by_class(evidence: np.ndarray, num_classes: int, ordinal: bool) -> np.ndarray:
    """(N, K, s, r, a) evidence of every class from the maps that the network has, see `SealedResult`."""
    if ordinal:
        return np.broadcast_to(evidence, (len(evidence), num_classes, *evidence.shape[2:]))
    return np.concatenate([-evidence.max(axis=1, keepdims=True), evidence], axis=1)
