"""Patches of the open pass, from which the finder learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from spinecls.dataloading.batch import ImageBatch, OpenBatch
from spinecls.dataloading.cases import UNKNOWN, TrainingCase
from spinecls.dataloading.spatial import CENTRE_JITTER_MM, PatchSampler, random_affine
from spinecls.dataloading.targets import OwnsTarget, batched_targets, targets_of
from spinecls.planning.plan import Configuration

CENTRED_ON_VERTEBRA = 0.8
"""Share of open patches centred near an annotated vertebra; the others teach what is none."""

SHORT_VIEW = (0.35, 0.9)
"""Least and greatest share of its rows that a scan cut short keeps."""

OTHER_VERTEBRA = 254
"""Value in a vertebra map of vertebrae whose centre was cut off."""


class OpenSampler(PatchSampler):
    """A patch of a case, at a place, turn, scale and mirroring drawn at random.

    Attributes
    ----------
    named_index : (N, 3) float32, patch index of the centres that the patch shows, those of implied neighbours included,
        each off by the error of a localiser
    named_ranks : (N,) level ranks of these
    """

    def __init__(self, case: TrainingCase, configuration: Configuration, rng: np.random.Generator) -> None:
        middle, matrix = _place(case, configuration, rng)
        super().__init__(configuration.patch_size, case.spacing_mm, middle, matrix)
        named = np.concatenate([self.points(case.centres).reshape(-1, 3), self.points(case.implied).reshape(-1, 3)])
        rows = centres_in_patch(named, self.patch_size)
        # Drawn here and not by the task that learns names: what a patch shows must not depend on the tasks that are
        # trained, and the numbers for the next patch follow after these.
        jitter = rng.normal(0, 1, (len(rows), 3)) * np.asarray(CENTRE_JITTER_MM) / case.spacing_mm
        self.named_index = (named[rows] + jitter).astype(np.float32)
        self.named_ranks = np.concatenate([case.ranks, case.implied_ranks])[rows]


def open_arrays(
    cases: Sequence[TrainingCase],
    images: Sequence[TrainingCase],
    configuration: Configuration,
    tasks: Sequence[OwnsTarget],
    rng: np.random.Generator,
) -> dict:
    """Arrays of a step's patches, for the transforms (key `data`) and then for `open_batch`.

    Parameters
    ----------
    cases : with annotation
    images : all scans to learn from as images; empty when no task does
    tasks : of the finder
    """
    drawn = rng.integers(len(cases), size=configuration.batch_size)
    rows = [open_patch(cases[i], configuration, tasks, rng) for i in drawn]
    arrays = {key: [row[key] for row in rows] for key in rows[0]} | {"data": np.stack([row["data"] for row in rows])}
    if images:
        arrays["images"] = _plain_patches(images, configuration, rng)
    return arrays


def open_batch(arrays: dict, tasks: Sequence[OwnsTarget]) -> OpenBatch:
    """Tensors of a step from the arrays that the transforms return."""
    batch = OpenBatch(
        cases=tuple(arrays["cases"]),
        targets=batched_targets(tasks, arrays["targets"]),
        image=torch.from_numpy(np.asarray(arrays["data"], np.float32)),
    )
    if "images" not in arrays:
        return batch
    return ImageBatch(**vars(batch), images=torch.from_numpy(np.asarray(arrays["images"], np.float32)))


def _plain_patches(cases: Sequence[TrainingCase], configuration: Configuration, rng: np.random.Generator) -> np.ndarray:
    """(B, C, S, R, A) patches of any scans, turned and scaled as others, their intensities left as they are."""
    patches = []
    for i in rng.integers(len(cases), size=configuration.batch_size):
        middle, matrix = _place(cases[i], configuration, rng)
        sampler = PatchSampler(configuration.patch_size, cases[i].spacing_mm, middle, matrix)
        patches.append(sampler.image(cases[i].image))
    return np.stack(patches)


def open_patch(
    case: TrainingCase, configuration: Configuration, tasks: Sequence[OwnsTarget], rng: np.random.Generator
) -> dict:
    """One patch of the open pass with what the tasks want of it."""
    if rng.random() < configuration.short_view_share:
        case = short_view(case, rng)
    sampler = OpenSampler(case, configuration, rng)
    return {
        "data": sampler.image(case.image),
        "targets": targets_of(tasks, case, sampler),
        "cases": case.identifier,
    }


def centres_in_patch(centres: np.ndarray, shape: tuple[int, int, int], border_voxels: float = 1.0) -> np.ndarray:
    """Rows of `centres` that lie at least `border_voxels` inside the patch (slices count to their outer face)."""
    inset = np.array([-0.5, border_voxels, border_voxels])
    upper = np.asarray(shape) - 1 - inset
    return np.flatnonzero(np.all((centres >= inset) & (centres <= upper), axis=1)) if len(centres) else np.zeros(0, int)


def _place(case: TrainingCase, configuration: Configuration, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Middle and matrix of a patch, for `PatchSampler`."""
    matrix = random_affine(rng, configuration.rotation_degrees, configuration.scale_range, configuration.mirror_axes)
    return patch_middle(case, configuration.patch_size, rng), matrix


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
    view = (slice(None), slice(first, first + length), slice(None))
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
        axes=case.axes[kept],
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
