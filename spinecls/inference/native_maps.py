"""Maps of a result on the image's own grid: levels, evidence, and what each voxel adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spinecls.geometry import Geometry
from spinecls.inference.case_results import Located
from spinecls.inference.sealed_pass import SealedResult
from spinecls.planning.plan import Configuration
from spinecls.sealing.crop import evidence_to_native, shares_to_native, shown_voxels, snapped_centre
from spinecls.sealing.region import Region


def level_map(located: Located, codes: Mapping[str, int], geometry: Geometry) -> np.ndarray:
    """(S, R, A) uint8 codes of the named vertebrae; ellipsoids where there is no mask, the upper keeping an overlap."""
    levels = np.zeros(geometry.shape, np.uint8)
    for i, (region, level) in enumerate(zip(located.regions, located.decoding.labels, strict=True)):
        if located.masks is not None and located.from_mask[i]:
            levels[located.masks == i + 1] = codes[level]
        else:
            view = levels[region.slices]
            view[region.mask & (view == 0)] = codes[level]
    return levels


def evidence_map(
    located: Located,
    sealed: SealedResult | None,
    probabilities: Sequence[Sequence[float]] | np.ndarray,
    configuration: Configuration,
    geometry: Geometry,
) -> np.ndarray:
    """(S, R, A) float32 evidence of abnormality, in logits: zero where no voxel speaks for it, so a normal one is dark.

    Each vertebra shows what its voxels, each by itself, say for the most probable class but the first, of grades for
    any but the first.

    Parameters
    ----------
    probabilities : (N, K) of the vertebrae, as reported
    """
    evidence = np.zeros(geometry.shape, np.float32)
    if sealed is None:
        return evidence
    for i, (region, row) in enumerate(zip(located.regions, probabilities, strict=True)):
        pooled, centre = _pooled_voxels(region, configuration, geometry)
        # Of grades there is one map for all.
        speaks = sealed.speaks[i, min(abnormal_class(row), len(sealed.speaks[i])) - 1]
        native = evidence_to_native(speaks, pooled, configuration.sealed_spacing_mm, centre)
        view = evidence[pooled.slices]
        # Regions of neighbours may overlap by their margins, crops by more; the stronger evidence stands.
        np.maximum(view, native, out=view, where=pooled.mask)
    return evidence


def abnormal_class(probabilities: Sequence[float] | np.ndarray) -> int:
    """Index of the most probable class but the first."""
    return 1 + int(np.argmax(probabilities[1:]))


def contribution_maps(
    located: Located,
    sealed: SealedResult | None,
    names: Sequence[str],
    configuration: Configuration,
    geometry: Geometry,
) -> dict[str, np.ndarray]:
    """Name of an evidence map -> (S, R, A) float32, what each voxel adds; overlapping regions are summed."""
    maps = np.zeros((len(names), *geometry.shape), np.float32)
    shares = zip(located.regions, sealed.contributions, strict=True) if sealed is not None else ()
    for region, own in shares:
        pooled, centre = _pooled_voxels(region, configuration, geometry)
        native = shares_to_native(own, pooled, configuration.sealed_spacing_mm, centre)
        maps[(slice(None), *pooled.slices)] += native.astype(np.float32)
    return dict(zip(names, maps, strict=True))


def _pooled_voxels(region: Region, configuration: Configuration, geometry: Geometry) -> tuple[Region, np.ndarray]:
    """Native voxels whose evidence counts, and the middle (world mm) of the sealed grid."""
    size, spacing_mm = configuration.sealed_size, configuration.sealed_spacing_mm
    pooled = shown_voxels(geometry, region, size, spacing_mm) if configuration.seal == "S0" else region
    return pooled, snapped_centre(region, size, spacing_mm)
