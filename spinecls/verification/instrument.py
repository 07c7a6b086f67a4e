"""The one place where the checks touch the model: from a vertebra in an image to class probabilities and evidence.

Everything runs in batches of the same shape as in prediction and without mirrored views, which are flips of the very
same crops. On a CPU equal inputs then give equal bits; on a GPU `reproducible` sees to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinecls.geometry import Geometry
from spinecls.inference.predictor import Predictor
from spinecls.inference.sealed_pass import CHUNK, UNCHANGED, classify, make_crops
from spinecls.networks.model import SpineModel
from spinecls.networks.reader import Reader
from spinecls.sealing.crop import evidence_to_native, shown_voxels, snapped_centre
from spinecls.sealing.region import Region
from spinecls.sealing.sealing_levels import is_guaranteed
from spinecls.verification.check_results import Outcome


@dataclass(frozen=True, kw_only=True)
class Question:
    """One vertebra, to be classified: `region` and `marrow` (C, 2) in an image (C, S, R, A) on `grid`."""

    image: np.ndarray
    grid: Geometry
    region: Region
    marrow: np.ndarray


@dataclass(frozen=True)
class Crops:
    """What the network is given: (N, C + 1, s, r, a) crops, the last channel the region, and (N, s, r, a) bool
    voxels whose evidence counts."""

    images: torch.Tensor
    pooled: torch.Tensor

    def repeated(self, times: int) -> Crops:
        """The same crops so many times."""
        return Crops(self.images.repeat(times, 1, 1, 1, 1), self.pooled.repeat(times, 1, 1, 1))

    def with_channels(self, channels: torch.Tensor) -> Crops:
        """These regions with other channels (N, C, s, r, a); one region serves all of them."""
        count = len(channels)
        region = self.images[:, -1:].expand(count, *self.images[:, -1:].shape[1:])
        return Crops(torch.cat([channels, region], dim=1), self.pooled.expand(count, *self.pooled.shape[1:]))


@dataclass(frozen=True)
class Answers:
    """Output for N vertebrae.

    Attributes
    ----------
    members : (M, N, K) probabilities of every reader of every fold, double precision
    probabilities : (N, K) their mean
    evidence : (N, K, s, r, a) mean over them
    """

    members: np.ndarray
    probabilities: np.ndarray
    evidence: np.ndarray

    @property
    def logits(self) -> np.ndarray:
        """(M, N, K) logits relative to class 0, including the shift to the reported prior."""
        logarithms = np.log(np.maximum(self.members, np.finfo(float).tiny))
        return logarithms - logarithms[..., :1]

    @property
    def classes(self) -> np.ndarray:
        """(N,) predicted class."""
        return self.probabilities.argmax(axis=1)

    @property
    def lesion_classes(self) -> np.ndarray:
        """(N,) most probable class other than 0: the one whose evidence there is something to say about."""
        return self.probabilities[:, 1:].argmax(axis=1) + 1


@dataclass(frozen=True)
class Instrument:
    """A predictor, asked about single vertebrae."""

    predictor: Predictor

    @property
    def seal(self) -> str:
        """Sealing level of the model."""
        return self.predictor.configuration.seal

    @property
    def guaranteed(self) -> bool:
        """Whether the sealing level promises that nothing outside the region counts."""
        return is_guaranteed(self.seal)

    def judged(self, intact: bool) -> Outcome:
        """A promise is kept or broken; where none is made the numbers are only reported."""
        if not self.guaranteed:
            return Outcome.REPORTED
        return Outcome.PASSED if intact else Outcome.FAILED

    @property
    def models(self) -> Sequence[SpineModel]:
        return self.predictor.models

    @property
    def readers(self) -> list[Reader]:
        """All readers of all folds."""
        return [reader for model in self.models for reader in model.readers]

    @property
    def device(self) -> torch.device:
        return self.predictor.device

    def crops(self, questions: Sequence[Question]) -> Crops:
        """Crops, exactly as prediction makes them."""
        made = [make_crops(q.image, q.grid, [q.region], q.marrow, self.predictor.configuration) for q in questions]
        return Crops(torch.cat([images for images, _ in made]), torch.cat([pooled for _, pooled in made]))

    def answer(self, crops: Crops, models: Sequence[SpineModel] | None = None) -> Answers:
        """Output for crops, by other networks than the predictor's if given."""
        # The predictor does not offer the shift to its reported prior; written out here it could drift apart.
        shift = self.predictor.class_shift()
        # Networks of the caller's own have no training counts; those of the first fold serve for all.
        shift = shift if models is None else shift[0]
        result = classify(models or self.models, crops.images, crops.pooled, shift, self.device, UNCHANGED)
        # There is one view, so what is left are folds and readers.
        members = result.members.reshape(-1, *result.probabilities.shape)
        return Answers(members, result.probabilities, result.evidence)

    def ask(self, questions: Sequence[Question]) -> Answers:
        """Output for vertebrae in images."""
        return self.answer(self.crops(questions))

    def reference(self, question: Question, count: int) -> Answers:
        """Output for the same vertebra `count` times, each in the row of the batch that a variant of it will have."""
        rows = self.answer(self.crops([question]).repeated(CHUNK))
        index = np.arange(count) % CHUNK
        return Answers(rows.members[:, index], rows.probabilities[index], rows.evidence[index])

    def native_evidence(self, question: Question, evidence: np.ndarray) -> tuple[np.ndarray, Region]:
        """Map (s, r, a) of the sealed grid on the native voxels that it counts, and these voxels as a region."""
        size, spacing_mm = self.predictor.configuration.sealed_size, self.predictor.configuration.sealed_spacing_mm
        counted = question.region
        if self.seal == "S0":
            counted = shown_voxels(question.grid, question.region, size, spacing_mm)
        centre_lps = snapped_centre(question.region, size, spacing_mm)
        return evidence_to_native(evidence, counted, spacing_mm, centre_lps), counted


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic convolution algorithms on a GPU; on a CPU they are deterministic anyway."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
