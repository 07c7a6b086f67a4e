"""The sealed pass: class probabilities and evidence of vertebrae, each from its region (S2, S3) or crop (S0, S1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinecls.geometry import Geometry
from spinecls.networks.model import SpineModel
from spinecls.networks.reader import Reader, SealedOutputs
from spinecls.planning.plan import Configuration
from spinecls.sealing.crop import vertebra_crop
from spinecls.sealing.region import Region

CHUNK = 8
"""Crops in one forward pass, padded with empty ones: a vertebra's numbers never depend on how many others there are."""


CONTRASTS = (0.9, 1.1)
"""Factors of the intensities, which are deviations from the marrow's, in views of test-time augmentation."""


@dataclass(frozen=True)
class View:
    """How a crop is looked at: mirrored along some axes of a (N, C, s, r, a) batch, with more or less contrast."""

    mirrored: tuple[int, ...] = ()
    contrast: float = 1.0

    def of(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (N, C + 1, s, r, a) in this view; the last channel shows the region and has no contrast."""
        seen = crops.flip(self.mirrored)
        return seen if self.contrast == 1 else torch.cat([seen[:, :-1] * self.contrast, seen[:, -1:]], dim=1)


UNCHANGED = (View(),)
"""The crop as it is."""


def augmented_views(axes: Sequence[int]) -> list[View]:
    """Views of test-time augmentation: mirrored along none, one or two of the axes, and of two other contrasts.

    Parameters
    ----------
    axes : spatial axes that training mirrored; of three the last is left out, eight views would add little
    """
    first = [axis + 2 for axis in sorted(axes)[:2]]
    mirrored = [(), *((axis,) for axis in first), *([tuple(first)] if len(first) == 2 else [])]
    return [*map(View, mirrored), *(View(contrast=factor) for factor in CONTRASTS)]


@dataclass(frozen=True)
class SealedResult:
    """Classes of the vertebrae of one case.

    Attributes
    ----------
    probabilities : (N, K), mean over folds, readers and views
    members : (F, R x V, N, K) probabilities of every fold by each of its readers in every view, reader by reader
    evidence : (N, K, s, r, a) mean evidence on the sealed grid. Of class 0, the absence of evidence, it is minus the
        greatest of any other class; of grades it is the severity, the same for each
    pooled : (N, E) mean pooled evidence, one number a map: a class but the first, or of grades the severity
    contributions : (N, E, s, r, a) mean of what each voxel adds to it
    speaks : (N, E, s, r, a) mean logit against the first class that each voxel would have as a region of its own
    """

    probabilities: np.ndarray
    members: np.ndarray
    evidence: np.ndarray
    pooled: np.ndarray
    contributions: np.ndarray
    speaks: np.ndarray


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
    models: Sequence[SpineModel],
    crops: torch.Tensor,
    pooled: torch.Tensor,
    balanced_shift: np.ndarray,
    device: torch.device,
    views: Sequence[View],
) -> SealedResult:
    """Class probabilities and evidence of crops, the views of one reader in batches together.

    Parameters
    ----------
    crops, pooled : as `make_crops` gives them
    balanced_shift : (K,), or (M, K) for each model, added to the logits before the softmax: it removes the prior that
        training drew by and puts in the one that is reported
    """
    # Vertebra by vertebra, so that the row of a view never depends on how many vertebrae follow.
    seen = torch.stack([view.of(crops) for view in views], dim=1).flatten(0, 1)
    # The crop's second spatial axis is its fourth, the map of pooled voxels has no channels.
    counted = torch.stack([pooled.flip([axis - 1 for axis in view.mirrored]) for view in views], dim=1).flatten(0, 1)
    members: list[list[np.ndarray]] = []
    sums = [torch.zeros(())] * 4
    shifts = np.broadcast_to(balanced_shift, (len(models), np.shape(balanced_shift)[-1]))
    for model, shift in zip(models, shifts, strict=True):
        members.append([])
        for reader in model.readers:
            outputs = _in_chunks(reader, seen, counted, device)
            shifted = outputs.logits.double() + torch.from_numpy(shift.copy())
            probabilities = torch.softmax(shifted, dim=1).numpy()
            members[-1] += [probabilities[i :: len(views)] for i in range(len(views))]
            maps = (outputs.evidence, outputs.contributions, outputs.speaks)
            for i, view in enumerate(views):
                own = [values[i :: len(views)].flip(view.mirrored) for values in maps]
                own.append(outputs.pooled[i :: len(views)])
                sums = [before + part for before, part in zip(sums, own, strict=True)]
    stacked = np.array(members)
    total = stacked.shape[0] * stacked.shape[1]
    evidence, contributions, speaks, numbers = ((x / total).numpy() for x in sums)
    by_class = _by_class(evidence, stacked.shape[-1], models[0].ordinal)
    return SealedResult(stacked.mean(axis=(0, 1)), stacked, by_class, numbers, contributions, speaks)


def _in_chunks(reader: Reader, crops: torch.Tensor, pooled: torch.Tensor, device: torch.device) -> SealedOutputs:
    parts = []
    for start in range(0, len(crops), CHUNK):
        rows = slice(start, start + CHUNK)
        outputs = reader.explained_pass(_filled(crops[rows]).to(device), _filled(pooled[rows]).to(device))
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
