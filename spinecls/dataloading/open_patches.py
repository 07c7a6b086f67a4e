"""Patches of the open pass, from which the finder learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from spinecls.beliefs import partly_visible
from spinecls.dataloading.batch import Batch, ClassRegions, OpenBatch
from spinecls.dataloading.cases import UNKNOWN, TrainingCase
from spinecls.dataloading.compiled import bag_patches, belief_patches, map_patch
from spinecls.dataloading.spatial import PatchSampler, random_affine
from spinecls.dataloading.targets import (
    CENTRE_JITTER_MM,
    binary_map,
    centres_in_patch,
    heatmap_target,
    offset_target,
)
from spinecls.planning.plan import Configuration

CENTRED_ON_VERTEBRA = 0.8
"""Share of open patches centred near an annotated vertebra; the others teach what is none."""

CLASS_SHOWN = 0.5
"""Share of a vertebra that an open patch must show for its class to be learnt there."""

SHORT_VIEW = (0.35, 0.9)
"""Least and greatest share of its rows that a scan cut short keeps."""

OTHER_VERTEBRA = 254
"""Value in a vertebra map of vertebrae whose centre was cut off."""


def open_arrays(
    cases: Sequence[TrainingCase],
    images: Sequence[TrainingCase],
    configuration: Configuration,
    rng: np.random.Generator,
) -> dict:
    """Arrays of a step's patches, for the transforms (key `data`) and then for `open_batch`.

    Parameters
    ----------
    cases : with annotation
    images : all scans to learn from as images; empty when no task does
    """
    drawn = rng.integers(len(cases), size=configuration.batch_size)
    rows = [open_patch(cases[i], configuration, rng) for i in drawn]
    arrays = {key: [row[key] for row in rows] for key in rows[0]} | {"data": np.stack([row["data"] for row in rows])}
    if images:
        arrays["images"] = plain_patches(images, configuration, rng)
    return arrays


def plain_patches(
    cases: Sequence[TrainingCase], configuration: Configuration, rng: np.random.Generator
) -> np.ndarray:
    """(B, C, S, R, A) patches of any scans, turned and scaled as others, their intensities left as they are."""
    drawn = [cases[i] for i in rng.integers(len(cases), size=configuration.batch_size)]
    return np.stack([patch_sampler(case, configuration, rng).image(case.image) for case in drawn])


def open_patch(case: TrainingCase, configuration: Configuration, rng: np.random.Generator) -> dict:
    """One augmented patch of the open pass with its targets."""
    size = configuration.patch_size
    if rng.random() < configuration.short_view_share:
        case = short_view(case, rng)
    sampler = patch_sampler(case, configuration, rng)
    unknown = sampler.labels(case.unknown.astype(np.uint8), outside=1) > 0
    vertebra_map = None if case.vertebra_map is None else sampler.labels(case.vertebra_map, outside=0)
    centres = sampler.points(case.centres).reshape(-1, 3)
    heatmap = heatmap_target(size, centres, case.spacing_mm, configuration.heatmap_sigma_mm)
    numbers = vertebra_map if case.bodies is None else sampler.labels(case.bodies, outside=0)
    numbers = np.where(numbers <= len(centres), numbers, 0).astype(np.uint8)
    offset, known = offset_target(size, centres, case.spacing_mm, numbers)
    # A Gaussian that reaches into the unknown zone is still known there.
    weight = ~unknown | (heatmap > 0.1)
    named = np.concatenate([centres, sampler.points(case.implied).reshape(-1, 3)])
    rows = centres_in_patch(named, size)
    jitter = rng.normal(0, 1, (len(rows), 3)) * np.asarray(CENTRE_JITTER_MM) / case.spacing_mm
    structures = case.structures
    return {
        "data": sampler.image(case.image),
        "heatmap": heatmap[None],
        "heatmap_weight": weight[None].astype(np.float32),
        "offset": offset,
        "offset_weight": known[None].astype(np.float32),
        "vertebra_map": binary_map(vertebra_map, size),
        "structures": np.full(size, UNKNOWN, np.uint8) if structures is None else sampler.labels(structures, 0),
        "centre_index": (named[rows] + jitter).astype(np.float32),
        "centre_rank": np.concatenate([case.ranks, case.implied_ranks])[rows],
        "compiled": {name: map_patch(compiled, sampler) for name, compiled in case.compiled.items()},
        "cases": case.identifier,
    } | (_classes(case, numbers, sampler) if case.classes else {})


def _classes(case: TrainingCase, numbers: np.ndarray, sampler: PatchSampler) -> dict:
    """Beliefs about the classes of the vertebrae that a patch shows, the less of them the less is believed."""
    # A voxel of the patch stands for so many of the map.
    shown = abs(np.linalg.det(sampler.step)) * np.bincount(numbers.ravel(), minlength=len(case.classes) + 1)[1:]
    shares = shown / [max(region.voxels, 1) for region in case.classes]
    labels = {
        row + 1: partly_visible(region.label, float(share))
        for row, (region, share) in enumerate(zip(case.classes, shares, strict=True))
        if share >= CLASS_SHOWN and region.label.weight > 0
    }
    return {"numbers": numbers, "labels": labels}


def patch_sampler(case: TrainingCase, configuration: Configuration, rng: np.random.Generator) -> PatchSampler:
    """A place, turn, scale and mirroring of an open patch, drawn at random."""
    matrix = random_affine(rng, configuration.rotation_degrees, configuration.scale_range, configuration.mirror_axes)
    size = configuration.patch_size
    return PatchSampler(size, case.spacing_mm, patch_middle(case, size, rng), matrix)


def short_view(case: TrainingCase, rng: np.random.Generator) -> TrainingCase:
    """A case as a scan that shows only a part of it, head to feet; unchanged when no centre would be left.

    Vertebrae whose centre is cut off are no targets any more, but their voxels stay vertebra.
    """
    rows = case.image.shape[2]
    length = max(1, round(rows * rng.uniform(*SHORT_VIEW)))
    first = int(rng.integers(rows - length + 1))
    kept = _rows_within(case.centres, first, length)
    if len(kept) == 0:
        return case
    implied = _rows_within(case.implied, first, length)
    view = (slice(None), slice(first, first + length))
    renumber = np.full(256, OTHER_VERTEBRA, np.uint8)
    renumber[[0, UNKNOWN]] = 0, UNKNOWN
    renumber[kept + 1] = np.arange(len(kept)) + 1
    return dataclasses.replace(
        case,
        image=case.image[(slice(None), *view)],
        vertebra_map=None if case.vertebra_map is None else renumber[case.vertebra_map[view]],
        bodies=None if case.bodies is None else renumber[case.bodies[view]],
        structures=None if case.structures is None else case.structures[view],
        compiled={name: compiled.cropped(view) for name, compiled in case.compiled.items()},
        unknown=case.unknown[view],
        centres=case.centres[kept] - [0, first, 0],
        ranks=case.ranks[kept],
        implied=case.implied[implied] - [0, first, 0],
        implied_ranks=case.implied_ranks[implied],
        classes=tuple(case.classes[row] for row in kept) if case.classes else (),
    )


def _rows_within(index: np.ndarray, first: int, length: int) -> np.ndarray:
    return np.flatnonzero((index[:, 1] >= first) & (index[:, 1] <= first + length - 1))


def patch_middle(case: TrainingCase, size, rng: np.random.Generator) -> np.ndarray:
    """Continuous index of the middle of a patch: near an annotated vertebra, or anywhere.

    The patch lies in the image if it can. Its slices are slices of the image, never means of two: at prediction the
    network sees true slices.
    """
    last = np.asarray(case.image.shape[1:]) - 1
    if len(case.centres) and rng.random() < CENTRED_ON_VERTEBRA:
        middle = case.centres[rng.integers(len(case.centres))] + rng.uniform(-0.25, 0.25, 3) * size
    else:
        middle = rng.uniform(0, last)
    half = (np.asarray(size) - 1) / 2
    middle = np.clip(middle, np.minimum(half, last / 2), np.maximum(last - half, last / 2))
    middle[0] = np.round(middle[0] - half[0]) + half[0]
    return middle


def open_batch(arrays: dict) -> Batch:
    """Tensors of a step from the arrays that the transforms return."""
    stacked = {
        key: torch.from_numpy(np.stack(arrays[key]))
        for key in ("heatmap", "heatmap_weight", "offset", "offset_weight", "vertebra_map", "structures")
    }
    counts = [len(index) for index in arrays["centre_index"]]
    compiled = {name: [row[name] for row in arrays["compiled"]] for name in arrays["compiled"][0]}
    return Batch(
        open=OpenBatch(
            image=torch.from_numpy(np.asarray(arrays["data"], np.float32)),
            heatmap=stacked["heatmap"],
            heatmap_weight=stacked["heatmap_weight"],
            offset=stacked["offset"],
            offset_weight=stacked["offset_weight"],
            vertebra_map=stacked["vertebra_map"].long(),
            structures=stacked["structures"].long(),
            centre_batch=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).long(),
            centre_index=torch.from_numpy(np.concatenate(arrays["centre_index"]).reshape(-1, 3)),
            centre_rank=torch.from_numpy(np.concatenate(arrays["centre_rank"])).long(),
            cases=tuple(arrays["cases"]),
            beliefs={name: belief_patches(patches) for name, patches in compiled.items()},
            bags={name: bag_patches(patches) for name, patches in compiled.items()},
            classes=_class_regions(arrays["numbers"], arrays["labels"]) if "labels" in arrays else None,
        ),
        images=torch.from_numpy(np.asarray(arrays["images"], np.float32)) if "images" in arrays else None,
    )


def _class_regions(numbers: Sequence[np.ndarray], labels: Sequence[dict]) -> ClassRegions | None:
    found = [(patch, number, label) for patch, row in enumerate(labels) for number, label in row.items()]
    if not found:
        return None
    return ClassRegions(
        numbers=torch.from_numpy(np.stack(numbers)).long(),
        patch=torch.tensor([patch for patch, _, _ in found]),
        number=torch.tensor([number for _, number, _ in found]),
        sets=torch.from_numpy(np.stack([label.sets for _, _, label in found])),
        masses=torch.from_numpy(np.stack([label.masses for _, _, label in found])),
    )
