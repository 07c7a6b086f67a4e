"""What is simulated: options, kinds of lesion, the classes they show and how each looks in each sequence.

Kinds follow the ASAS/OMERACT descriptions (Hermann et al., Ann Rheum Dis 2012): oedema bright on T2 and STIR and dark
on T1, fat the other way round on STIR and T1, sclerosis and erosion dark everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinecls.errors import UsageError, nearest

TASKS = ("nominal", "ordinal", "binary")
SEQUENCES = ("T2", "STIR", "T1")
SHORTCUTS = ("m1", "m2", "m3", "m4", "m5")
STRATA: dict[str, tuple[float, float]] = {"subtle": (1.5, 3.0), "mid": (3.0, 6.0), "intense": (6.0, 10.0)}
"""Contrast in marrow deviations; a measured contrast above the last bound is still intense."""
CONTRASTS = (*STRATA, "mixed")
FAINT, SHAM = "faint", "sham"
"""Strata of a lesion that could not be made strong enough, and of a normal vertebra."""
GRADE_SHARES = (0.5, 0.325, 0.175)
"""Shares of the size grades 1 to 3 among lesions."""

SIGN: dict[str, Mapping[str, int]] = {
    "corner_oedema": {"T2": 1, "STIR": 1, "T1": -1},
    "endplate_oedema": {"T2": 1, "STIR": 1, "T1": -1},
    "fat": {"T2": 1, "STIR": -1, "T1": 1},
    "sclerosis": {"T2": -1, "STIR": -1, "T1": -1},
    "erosion": {"T2": -1, "STIR": -1, "T1": -1},
}
"""Whether a kind of lesion brightens or darkens the marrow."""
KINDS = tuple(SIGN)
INFLAMMATORY = ("corner_oedema", "endplate_oedema")

DEFAULT_KINDS: dict[str, tuple[str, ...]] = {
    "T2": ("corner_oedema", "endplate_oedema", "sclerosis", "erosion"),
    "STIR": ("corner_oedema", "endplate_oedema", "fat", "sclerosis", "erosion"),
    "T1": ("corner_oedema", "endplate_oedema", "fat"),
}
"""Kinds whose brightness tells inflammatory from structural.

On T2 fat brightens as oedema does; on T1 sclerosis and erosion darken as oedema does.
"""
KIND_WEIGHT = {"corner_oedema": 0.75, "endplate_oedema": 0.25, "fat": 0.4, "sclerosis": 0.6, "erosion": 0.4}


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """What `simulate_dataset` does.

    Attributes
    ----------
    seed : not negative; every draw derives from it, the case, the level and its purpose
    task : "nominal" (normal, inflammatory, structural), "ordinal" (size grades 0 to 3), "binary" (normal, lesion)
    prevalence : probability that a vertebra is diseased, 0..1, both excluded
    contrast : a stratum of `STRATA`, or "mixed" for each with equal probability
    kinds : kinds of lesion; empty = those of `DEFAULT_KINDS` for the sequence that the task can use
    sequence : sequence of data of one channel; empty = from the channel's name or from cases.csv
    cases, exclude_cases : identifiers; empty `cases` = all
    distractors : share of vertebrae with a spot outside the bodies that means nothing
    sham : also list where the lesion code, with amplitude 0, went in normal vertebrae
    shortcuts : markers of `SHORTCUTS`
    shortcut_correlation : P(marker | diseased); P(marker | normal) is 1 minus it
    shortcut_contrast : strength of m1 and m2 in marrow deviations
    """

    seed: int = 0
    task: str = "nominal"
    prevalence: float = 0.4
    contrast: str = "mixed"
    kinds: tuple[str, ...] = ()
    sequence: str = ""
    cases: tuple[str, ...] = ()
    exclude_cases: tuple[str, ...] = ()
    distractors: float = 0.3
    sham: bool = True
    shortcuts: tuple[str, ...] = ()
    shortcut_correlation: float = 0.5
    shortcut_contrast: float = 6.0

    def __post_init__(self) -> None:
        _among("task", [self.task], TASKS)
        _among("contrast", [self.contrast], CONTRASTS)
        _among("sequence", [self.sequence] if self.sequence else [], SEQUENCES)
        _among("kinds", self.kinds, KINDS)
        _among("shortcut", self.shortcuts, SHORTCUTS)
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected a whole number from 0.")
        if not 0 < self.prevalence < 1:
            raise UsageError(f"prevalence is {self.prevalence:g}, expected more than 0 and less than 1.")
        for name in ("distractors", "shortcut_correlation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name):g}, expected 0 to 1.")
        if not 0 < self.shortcut_contrast < float("inf"):
            raise UsageError(f"shortcut_contrast is {self.shortcut_contrast:g}, expected a number above 0.")

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}


def _among(name: str, values: Sequence[str], known: Collection[str]) -> None:
    for value in values:
        if value not in known:
            raise UsageError(f"--{name}: {value!r} is not known.{nearest(value, known)} Known: {', '.join(known)}.")


def kinds_for(options: SimulationOptions, sequence: str) -> tuple[str, ...]:
    """Kinds of lesion drawn in images whose first channel is of `sequence`."""
    if options.kinds:
        return options.kinds
    kinds = DEFAULT_KINDS[sequence]
    return tuple(kind for kind in kinds if kind in INFLAMMATORY) if options.task == "ordinal" else kinds


def class_of(task: str, kind: str, grade: int) -> str:
    """Class that a lesion shows."""
    if task == "ordinal":
        return f"grade{grade}"
    if task == "binary":
        return "lesion"
    return "inflammatory" if kind in INFLAMMATORY else "structural"


def class_names(task: str, kinds: Collection[str]) -> tuple[str, ...]:
    """Classes in index order, "normal" first."""
    diseased = {class_of(task, kind, grade) for kind in kinds for grade in (1, 2, 3)}
    return ("normal", *sorted(diseased))


def stratum_of(contrast: float) -> str:
    """Stratum that a measured contrast lies in."""
    reached = [name for name, (low, _) in STRATA.items() if contrast >= low]
    return reached[-1] if reached else FAINT
