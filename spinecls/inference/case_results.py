"""Results of prediction in memory, and what is written of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinecls.anatomy import LEVELS
from spinecls.evaluation.metrics import entropy
from spinecls.geometry import Geometry
from spinecls.inference.level_decoding import LevelDecoding
from spinecls.inference.sealed_pass import SealedResult
from spinecls.planning.plan import Plan
from spinecls.records import REFER, UNFAMILIAR_IMAGE, CasePrediction, VertebraPrediction
from spinecls.sealing.region import Region

LEAST_REPORTED = 1e-3
"""Probability of a level from which on it is written to the result."""


@dataclass(frozen=True)
class Located:
    """Vertebrae after the open pass, head to feet.

    Attributes
    ----------
    centres_lps : (N, 3); scores (N,) heat
    decoding : names
    regions : one a vertebra, on the native grid
    masks : (S, R, A) uint8 instance map on the native grid, i + 1 for vertebra i; None when the model does not segment
    marrow : (C, 2) the two reference numbers a channel; not-a-number without any vertebra
    from_mask : whether each region comes from a mask
    visible_fractions : share of each vertebra that lies in the image
    """

    centres_lps: np.ndarray
    scores: np.ndarray
    decoding: LevelDecoding
    regions: tuple[Region, ...]
    masks: np.ndarray | None
    marrow: np.ndarray
    from_mask: tuple[bool, ...]
    visible_fractions: tuple[float, ...]


@dataclass(frozen=True)
class VolumePrediction:
    """Result of one image, on its native canonical grid.

    Attributes
    ----------
    vertebrae : head to feet
    level_map : (S, R, A) uint8, codes of the plan's levels
    evidence : (S, R, A) float32, evidence of the predicted class, zero outside every region (at S0 every crop)
    contributions : name of an evidence map -> (S, R, A) float32, what each voxel adds to the pooled evidence of its
        vertebra, zero outside every region; where regions overlap the sum of both
    """

    vertebrae: tuple[VertebraPrediction, ...]
    level_map: np.ndarray
    evidence: np.ndarray
    contributions: Mapping[str, np.ndarray]
    located: Located
    sealed: SealedResult | None


@dataclass(frozen=True)
class ImagePrediction:
    """Result of an image in memory; the maps are of its kind, SimpleITK images or arrays, and lie as it does.

    Attributes
    ----------
    vertebrae : head to feet, positions in world millimetres (LPS)
    warnings : what was odd in the image, and in which ways it is unlike those of training
    level_map, evidence, contributions : as in `VolumePrediction`
    """

    vertebrae: tuple[VertebraPrediction, ...]
    warnings: tuple[str, ...]
    level_map: Any
    evidence: Any
    contributions: Mapping[str, Any]


def class_names(plan: Plan) -> tuple[str, ...]:
    """Classes that predictions tell apart; none when the dataset names fewer than two."""
    return tuple(plan.class_names) if len(plan.class_names) > 1 else ()


def case_prediction(
    identifier: str,
    volume: VolumePrediction,
    plan: Plan,
    model: Mapping,
    geometry: Geometry | None = None,
    warnings: tuple[str, ...] = (),
    image_warnings: tuple[str, ...] = (),
) -> CasePrediction:
    """What is written for a case.

    Parameters
    ----------
    warnings : in which ways the image is unlike those of training, see `familiarity.unfamiliar`; with any, every
        vertebra is flagged
    image_warnings : what was odd in the files, see `Volume.warnings`; told, but no flag
    """
    return CasePrediction(
        identifier=identifier,
        class_names=class_names(plan),
        vertebrae=with_warnings(volume.vertebrae, warnings),
        model=model,
        geometry=geometry,
        warnings=(*image_warnings, *warnings),
    )


def with_warnings(vertebrae: Sequence[VertebraPrediction], warnings: Sequence[str]) -> tuple[VertebraPrediction, ...]:
    """Vertebrae of an image with such warnings: flagged, and what has a class referred to a reader."""
    if not warnings:
        return tuple(vertebrae)
    return tuple(
        dataclasses.replace(
            v,
            flags=(*((REFER,) if v.class_probabilities and REFER not in v.flags else ()), *v.flags, UNFAMILIAR_IMAGE),
        )
        for v in vertebrae
    )


def reported_levels(posterior: np.ndarray) -> dict[str, float]:
    """Levels of a (27,) posterior that are probable enough to be written."""
    return {name: float(p) for name, p in zip(LEVELS, posterior, strict=True) if p >= LEAST_REPORTED}


def entropy_of(probabilities: Sequence[float]) -> float:
    """Entropy in nats; 0 of no probabilities."""
    return float(entropy(np.asarray(probabilities, float)))
