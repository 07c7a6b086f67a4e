"""Crops of the sealed pass, from which the readers learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spinecls.dataloading.batch import SealedBatch
from spinecls.dataloading.cases import SealedSource
from spinecls.dataloading.rough import rough_distance
from spinecls.dataloading.spatial import CENTRE_JITTER_MM, PatchSampler, random_affine
from spinecls.dataloading.targets import OwnsTarget, batched_targets, targets_of
from spinecls.geometry import Geometry
from spinecls.planning.plan import Configuration
from spinecls.sealing.crop import VertebraCrop, snapped_centre, vertebra_crop
from spinecls.sealing.region import Region, ellipsoid_mask, vertebra_axes


class CropSampler(PatchSampler):
    """A crop of a vertebra, at a place, turn, scale and mirroring drawn at random.

    Parameters
    ----------
    grid : of the maps that it reads, see `on`
    configuration : its sealed grid
    centre_lps : world position (mm) that the middle of the crop shows
    matrix : (3, 3) from millimetre offsets in the crop to offsets along the grid's axes
    """

    def __init__(self, grid: Geometry, configuration: Configuration, centre_lps: np.ndarray, matrix: np.ndarray):
        size, spacing_mm = configuration.sealed_size, configuration.sealed_spacing_mm
        super().__init__(size, spacing_mm, grid.to_index(centre_lps), matrix, volume_spacing_mm=grid.spacing_mm)
        self.configuration = configuration
        self.centre_lps = centre_lps

    def on(self, grid: Geometry) -> CropSampler:
        """The same crop, read out of maps on another grid of the same image, such as the box of a vertebra."""
        return CropSampler(grid, self.configuration, self.centre_lps, self.matrix)


def sealed_arrays(
    sources: Sequence[SealedSource],
    classes: np.ndarray,
    configuration: Configuration,
    tasks: Sequence[OwnsTarget],
    rng: np.random.Generator,
) -> dict:
    """Arrays of a step's crops, for the transforms (key `sealed`) and then for `sealed_batch`.

    Parameters
    ----------
    classes : `likeliest_classes` of the sources
    tasks : of the reader
    """
    drawn = draw_sources(sources, classes, configuration, rng)
    made = [training_crop(source, configuration, rng) for source in drawn]
    crops = np.stack([crop.image.numpy() for crop, _ in made])
    return {
        "sealed": crops[:, :-1],
        "region": crops[:, -1:],
        "shown": np.stack([crop.shown.numpy() for crop, _ in made])[:, None],
        "pooled": np.stack([crop.pooled.numpy() for crop, _ in made]),
        "targets": [targets_of(tasks, source, sampler) for source, (_, sampler) in zip(drawn, made, strict=True)],
        "cases": [source.case for source in drawn],
    }


def sealed_batch(arrays: dict, tasks: Sequence[OwnsTarget]) -> SealedBatch:
    """Tensors of a step from the arrays that the transforms return."""
    region = torch.from_numpy(arrays["region"])
    # Noise was added everywhere; where nothing of the image is shown the crop stays empty.
    shown = torch.from_numpy(arrays["shown"])
    return SealedBatch(
        cases=tuple(arrays["cases"]),
        targets=batched_targets(tasks, arrays["targets"]),
        crops=torch.cat([torch.from_numpy(np.asarray(arrays["sealed"], np.float32)) * shown, region], dim=1),
        pooled=torch.from_numpy(arrays["pooled"]),
    )


def likeliest_classes(sources: Sequence[SealedSource]) -> np.ndarray:
    """(N,) index of the class that each vertebra most likely has; -1 where its label is mostly sets of classes."""
    single = [source.label.singletons() for source in sources]
    return np.array(
        [int(m.argmax()) if m.sum() >= s.label.weight / 2 else -1 for m, s in zip(single, sources, strict=True)]
    )


def draw_sources(
    sources: Sequence[SealedSource], classes: np.ndarray, configuration: Configuration, rng: np.random.Generator
) -> list[SealedSource]:
    """Vertebrae of a step: `balanced_crop_share` of them drawn evenly over the classes, the others as they come.

    Labels that are mostly sets form a group of their own.
    """
    present = np.unique(classes)
    drawn = []
    for _ in range(configuration.sealed_batch_size):
        pool = np.arange(len(sources))
        if rng.random() < configuration.balanced_crop_share:
            pool = np.flatnonzero(classes == rng.choice(present))
        drawn.append(sources[rng.choice(pool)])
    return drawn


def training_crop(
    source: SealedSource, configuration: Configuration, rng: np.random.Generator
) -> tuple[VertebraCrop, CropSampler]:
    """One augmented crop of a vertebra, at the configuration's sealing level, and where it reads the source's maps.

    The region is what a finder would make of the vertebra: around a roughly drawn outline, or an ellipsoid somewhat
    off its place and of a somewhat wrong size.
    """
    region = rough_region(source, configuration, rng)
    matrix = random_affine(
        rng,
        configuration.sealed_rotation_degrees,
        configuration.scale_range,
        configuration.sealed_mirror_axes if source.distance is not None else _without_front_back(configuration),
    )
    size, spacing_mm = configuration.sealed_size, configuration.sealed_spacing_mm
    centre = snapped_centre(region, size, spacing_mm, region.centre_lps + rng.normal(0, 1.5, 3))
    grid = source.grid or source.box
    crop = vertebra_crop(
        configuration.seal, source.image, grid, region, source.marrow, size, spacing_mm, matrix, centre
    )
    return crop, CropSampler(grid, configuration, centre, matrix)


def _without_front_back(configuration: Configuration) -> tuple[int, ...]:
    """Axes that a crop around an ellipsoid is mirrored on.

    An ellipsoid holds some of the canal behind the body, as bright as oedema; where the back is tells them apart.
    """
    return tuple(axis for axis in configuration.sealed_mirror_axes if axis != 2)


def rough_region(source: SealedSource, configuration: Configuration, rng: np.random.Generator) -> Region:
    if source.distance is not None:
        distance = rough_distance(source.distance, source.box.spacing_mm, configuration.region_error_mm, rng)
        return Region(distance <= configuration.sealing_margin_mm, (0, 0, 0), source.box, "mask", outline=distance <= 0)
    extent = source.extent_mm * rng.normal(1.0, 0.05, 3)
    centre = source.centre_lps + rng.normal(0, 1, 3) * CENTRE_JITTER_MM
    axes = vertebra_axes(source.box, source.tangent_lps)
    mask = ellipsoid_mask(source.box, centre, axes, extent)
    if not mask.any():
        # The jitter of a vertebra at the border led out of the image.
        mask = ellipsoid_mask(source.box, source.centre_lps, axes, source.extent_mm)
    return Region(mask, (0, 0, 0), source.box, "ellipsoid")
