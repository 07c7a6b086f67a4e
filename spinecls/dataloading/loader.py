"""Training batches, the same for a step whatever the number of workers and however often training was interrupted."""

from __future__ import annotations

import dataclasses
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgenerators.transforms.abstract_transforms import Compose

from spinecls.beliefs import partly_visible
from spinecls.beliefs.readers import Readers
from spinecls.dataloading.augmentation import open_augmentation, sealed_augmentation
from spinecls.dataloading.batch import Batch, ClassRegions, OpenBatch, SealedBatch
from spinecls.dataloading.cases import MARGIN_JITTER_MM, UNKNOWN, SealedSource, TrainingCase
from spinecls.dataloading.compiled import bag_patches, belief_patches, map_patch
from spinecls.dataloading.spatial import PatchSampler, random_affine
from spinecls.dataloading.targets import (
    binary_map,
    centres_in_patch,
    heatmap_target,
    offset_target,
)
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.planning.plan import Configuration
from spinecls.sealing.crop import VertebraCrop, snapped_centre, vertebra_crop
from spinecls.sealing.region import Region, ellipsoid_mask, vertebra_axes

CENTRED_ON_VERTEBRA = 0.8
"""Share of open patches centred near an annotated vertebra; the others teach what is none."""

CENTRE_JITTER_MM = (1.5, 1.5, 1.5)
"""Standard deviation of the centres' error that training adds, about that of the localiser (2 mm in space)."""

CLASS_SHOWN = 0.5
"""Share of a vertebra that an open patch must show for its class to be learnt there."""

SHORT_VIEW = (0.35, 0.9)
"""Least and greatest share of its rows that a scan cut short keeps."""

OTHER_VERTEBRA = 254
"""Value in a vertebra map of vertebrae whose centre was cut off."""


@dataclass(frozen=True)
class TrainingData:
    """Cases of one fold's training part.

    `images` are all scans to learn from as images, annotated or not; empty when no task does. `unplaced` are scans of
    which some vertebrae have a class and no position. `readers` made the labels
    of `sealed` from readings (None = these were averaged), together with `expected`, by case and level the class
    probabilities of an earlier round (None = there was none). `moved` are cases whose vertebrae lie where their
    surroundings show them (`dataloading.alignment`).
    """

    cases: Sequence[TrainingCase]
    sealed: Sequence[SealedSource]
    images: Sequence[TrainingCase] = ()
    unplaced: Sequence[PreprocessedCase] = ()
    readers: Readers | None = None
    expected: Mapping[str, Mapping[str, np.ndarray]] | None = None
    moved: Sequence[str] = ()


class StepLoader(SlimDataLoaderBase):
    """Makes the batch of a step from the seed and the step's number alone.

    Worker w of n makes the steps w, w + n, ...; every batch starts from its own random state, which the transforms
    after it go on with (batchgenerators draws from the global states of numpy and of `random`). So a resumed run sees
    the batches that an uninterrupted one would have seen.
    """

    def __init__(self, data: TrainingData, configuration: Configuration, seed: int, first_step: int, workers: int):
        super().__init__(data, configuration.batch_size, workers or 1)
        self.configuration = configuration
        self.seed = seed
        self.step = first_step
        self.stride = workers or 1
        self.in_workers = workers > 0
        self.started = False

    def generate_train_batch(self) -> dict:
        if not self.started:
            self._start_worker()
        rng = np.random.default_rng([self.seed, self.step])
        np.random.seed(int(rng.integers(2**31)))
        random.seed(int(rng.integers(2**31)))
        self.step += self.stride
        batch = self._open_patches(rng)
        if self._data.sealed:
            batch.update(self._sealed_crops(rng))
        if self._data.images:
            batch["images"] = self._images(rng)
        return batch

    def _start_worker(self) -> None:
        self.started = True
        if not self.in_workers:
            return
        self.step += self.thread_id
        # A forked process must not wait for threads that only its parent has, and leaves Ctrl-C to the parent.
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _open_patches(self, rng: np.random.Generator) -> dict:
        rows = [open_patch(self._data.cases[i], self.configuration, rng) for i in self._draw_cases(rng)]
        return {key: [row[key] for row in rows] for key in rows[0] if key != "data"} | {
            "data": np.stack([row["data"] for row in rows])
        }

    def _images(self, rng: np.random.Generator) -> np.ndarray:
        """Patches of any scans, turned and scaled as others, their intensities left as they are."""
        drawn = rng.integers(len(self._data.images), size=self.configuration.batch_size)
        cases = [self._data.images[i] for i in drawn]
        return np.stack([patch_sampler(case, self.configuration, rng).image(case.image) for case in cases])

    def _draw_cases(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(len(self._data.cases), size=self.configuration.batch_size)

    def _sealed_crops(self, rng: np.random.Generator) -> dict:
        drawn = draw_sources(self._data.sealed, self.configuration, rng)
        rows = [training_crop(source, self.configuration, rng) for source in drawn]
        crops = np.stack([crop.image.numpy() for crop, _ in rows])
        return {
            "sealed": crops[:, :-1],
            "sealed_region": crops[:, -1:],
            "sealed_shown": np.stack([crop.shown.numpy() for crop, _ in rows])[:, None],
            "sealed_pooled": np.stack([crop.pooled.numpy() for crop, _ in rows]),
            "sealed_lesions": np.stack([lesions for _, lesions in rows]),
            "sealed_sets": np.stack([source.label.sets for source in drawn]),
            "sealed_masses": np.stack([source.label.masses for source in drawn]),
            "sealed_readers": np.stack([source.label.readers for source in drawn]),
            "sealed_cases": [source.case for source in drawn],
        }


def draw_sources(
    sources: Sequence[SealedSource], configuration: Configuration, rng: np.random.Generator
) -> list[SealedSource]:
    """Vertebrae of a step: `balanced_crop_share` of them drawn evenly over the classes, the others as they come."""
    # Labels that are mostly sets have no class of their own and form a group of their own, -1.
    single = [source.label.singletons() for source in sources]
    likeliest = np.array(
        [int(m.argmax()) if m.sum() >= s.label.weight / 2 else -1 for m, s in zip(single, sources, strict=True)]
    )
    present = np.unique(likeliest)
    drawn = []
    for _ in range(configuration.sealed_batch_size):
        pool = np.arange(len(sources))
        if rng.random() < configuration.balanced_crop_share:
            pool = np.flatnonzero(likeliest == rng.choice(present))
        drawn.append(sources[rng.choice(pool)])
    return drawn


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


def training_crop(
    source: SealedSource, configuration: Configuration, rng: np.random.Generator
) -> tuple[VertebraCrop, np.ndarray]:
    """One augmented crop of a vertebra, at the configuration's sealing level.

    The region is jittered as the regions of a localiser are: grown or shrunk, shifted, and for an ellipsoid of a
    somewhat wrong size.

    Returns
    -------
    crop : on the sealed grid
    lesions : (s, r, a) uint8, codes of structuresTr, `UNKNOWN` where none are drawn for the case
    """
    region = _jittered_region(source, configuration, rng)
    matrix = random_affine(
        rng,
        configuration.sealed_rotation_degrees,
        configuration.scale_range,
        configuration.sealed_mirror_axes if source.distance is not None else without_front_back(configuration),
    )
    size, spacing_mm = configuration.sealed_size, configuration.sealed_spacing_mm
    centre = snapped_centre(region, size, spacing_mm, region.centre_lps + rng.normal(0, 1.5, 3))
    grid = source.grid or source.box
    crop = vertebra_crop(
        configuration.seal, source.image, grid, region, source.marrow, size, spacing_mm, matrix, centre
    )
    lesions = np.full(configuration.sealed_size, UNKNOWN, np.uint8)
    if source.lesions is not None:
        sampler = PatchSampler(size, spacing_mm, grid.to_index(centre), matrix, volume_spacing_mm=grid.spacing_mm)
        lesions = sampler.labels(source.lesions, outside=0)
    return crop, lesions


def without_front_back(configuration: Configuration) -> tuple[int, ...]:
    """Axes that a crop around an ellipsoid is mirrored on.

    An ellipsoid holds some of the canal behind the body, as bright as oedema; where the back is tells them apart.
    """
    return tuple(axis for axis in configuration.sealed_mirror_axes if axis != 2)


def _jittered_region(source: SealedSource, configuration: Configuration, rng: np.random.Generator) -> Region:
    if source.distance is not None:
        margin = configuration.sealing_margin_mm + rng.uniform(-MARGIN_JITTER_MM, MARGIN_JITTER_MM)
        return Region(source.distance <= max(margin, 0.0), (0, 0, 0), source.box, "mask")
    extent = source.extent_mm * rng.normal(1.0, 0.05, 3)
    centre = source.centre_lps + rng.normal(0, 1, 3) * CENTRE_JITTER_MM
    axes = vertebra_axes(source.box, source.tangent_lps)
    mask = ellipsoid_mask(source.box, centre, axes, extent)
    if not mask.any():
        # The jitter of a vertebra at the border led out of the image.
        mask = ellipsoid_mask(source.box, source.centre_lps, axes, source.extent_mm)
    return Region(mask, (0, 0, 0), source.box, "ellipsoid")


def to_batch(arrays: dict) -> Batch:
    """Tensors of a step from the arrays that the transforms return."""
    sealed = None
    if "sealed" in arrays:
        region = torch.from_numpy(arrays["sealed_region"])
        # Noise was added everywhere; where nothing of the image is shown the crop stays empty.
        shown = torch.from_numpy(arrays["sealed_shown"])
        crops = torch.cat([torch.from_numpy(np.asarray(arrays["sealed"], np.float32)) * shown, region], dim=1)
        sealed = SealedBatch(
            crops=crops,
            sets=torch.from_numpy(arrays["sealed_sets"]),
            masses=torch.from_numpy(arrays["sealed_masses"]),
            lesions=torch.from_numpy(arrays["sealed_lesions"]).long(),
            cases=tuple(arrays["sealed_cases"]),
            pooled=torch.from_numpy(arrays["sealed_pooled"]),
            readers=torch.from_numpy(arrays["sealed_readers"]).long(),
        )
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
        sealed=sealed,
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


def training_batches(
    data: TrainingData, configuration: Configuration, seed: int, first_step: int, workers: int
) -> Iterator[Batch]:
    """Batches from `first_step` on, for ever.

    Parameters
    ----------
    workers : 0 = in this process; else that many processes, whose batches come in the order of the steps
    """
    loader = StepLoader(data, configuration, seed, first_step, workers)
    transforms = Compose([open_augmentation(configuration), *([sealed_augmentation()] if data.sealed else [])])
    if workers == 0:
        augmenter = SingleThreadedAugmenter(loader, transforms)
    else:
        seeds = [int(s) for s in np.random.default_rng(seed).integers(2**31, size=workers)]
        augmenter = MultiThreadedAugmenter(loader, transforms, workers, num_cached_per_queue=2, seeds=seeds)
    try:
        while True:
            yield to_batch(next(augmenter))
    finally:
        if workers:
            augmenter._finish()
