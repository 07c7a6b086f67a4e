"""Training batches, the same for a step whatever the number of workers and however often training was interrupted."""

from __future__ import annotations

import random
import signal
import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from spinecls.beliefs.readers import Readers
from spinecls.dataloading.augmentation import open_augmentation, sealed_augmentation
from spinecls.dataloading.batch import Batch
from spinecls.dataloading.cases import SealedSource, TrainingCase
from spinecls.dataloading.open_patches import open_arrays, open_batch
from spinecls.dataloading.sealed_crops import likeliest_classes, sealed_arrays, sealed_batch
from spinecls.dataloading.targets import OwnsTarget
from spinecls.io.preprocessed import PreprocessedCase
from spinecls.planning.plan import Configuration

FAILED = "failed"
"""Key of a step that a worker could not make, and of its traceback."""


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
    """Makes the arrays of a step from the seed and the step's number alone.

    Worker w of n makes the steps w, w + n, ...; every batch starts from its own random state, which the transforms
    after it go on with (batchgenerators draws from the global states of numpy and of `random`). So a resumed run sees
    the batches that an uninterrupted one would have seen.

    Parameters
    ----------
    tasks : of the network that the batches are for
    sealed : crops for the readers; else patches for the finder
    """

    def __init__(
        self,
        data: TrainingData,
        configuration: Configuration,
        tasks: Sequence[OwnsTarget],
        sealed: bool,
        seed: int,
        first_step: int,
        workers: int,
    ) -> None:
        super().__init__(data, configuration.batch_size, workers or 1)
        self.configuration = configuration
        self.tasks = tasks
        if sealed:
            self.arrays = partial(sealed_arrays, data.sealed, likeliest_classes(data.sealed))
        else:
            self.arrays = partial(open_arrays, data.cases, data.images)
        self.seed = seed
        self.step = first_step
        self.stride = workers or 1
        self.in_workers = workers > 0
        self.started = False

    def generate_train_batch(self) -> dict:
        if not self.started:
            self._start_worker()
        step = self.step
        self.step += self.stride
        try:
            return self.arrays_of(step)
        except Exception:
            if not self.in_workers:
                raise
            # What is raised in a worker is lost with it.
            return {FAILED: (step, traceback.format_exc())}

    def arrays_of(self, step: int) -> dict:
        """Arrays of a step, for the transforms."""
        rng = np.random.default_rng([self.seed, step])
        np.random.seed(int(rng.integers(2**31)))
        random.seed(int(rng.integers(2**31)))
        return self.arrays(self.configuration, self.tasks, rng)

    def _start_worker(self) -> None:
        self.started = True
        if not self.in_workers:
            return
        self.step += self.thread_id
        # A forked process must not wait for threads that only its parent has, and leaves Ctrl-C to the parent.
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Transforms:
    """Transforms of what was made; what was not is handed on."""

    def __init__(self, transforms) -> None:
        self.transforms = transforms

    def __call__(self, **arrays) -> dict:
        return arrays if FAILED in arrays else self.transforms(**arrays)


def training_batches(
    data: TrainingData,
    configuration: Configuration,
    tasks: Sequence[OwnsTarget],
    sealed: bool,
    seed: int,
    first_step: int,
    workers: int,
) -> Generator[Batch, None, None]:
    """Batches of one kind from `first_step` on, for ever.

    Parameters
    ----------
    tasks : of the network that the batches are for; their targets are made where the batches are
    sealed : crops for the readers; else patches for the finder
    workers : 0 = in this process; else that many processes, whose batches come in the order of the steps
    """
    loader = StepLoader(data, configuration, tasks, sealed, seed, first_step, workers)
    transforms = _Transforms(sealed_augmentation() if sealed else open_augmentation(configuration))
    to_batch = sealed_batch if sealed else open_batch
    if workers == 0:
        augmenter = SingleThreadedAugmenter(loader, transforms)
    else:
        seeds = [int(s) for s in np.random.default_rng(seed).integers(2**31, size=workers)]
        augmenter = MultiThreadedAugmenter(loader, transforms, workers, num_cached_per_queue=2, seeds=seeds)
    try:
        while True:
            arrays = next(augmenter)
            if FAILED in arrays:
                step, told = arrays[FAILED]
                # Made once more, here: so it fails where its place in the code can be told.
                loader.arrays_of(step)
                raise RuntimeError(f"A worker could not make the batch of step {step}:\n{told}")
            yield to_batch(arrays, tasks)
    finally:
        if workers:
            augmenter._finish()
