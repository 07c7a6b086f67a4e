"""Vertebra levels: names, order from head to feet, codes in label maps, spellings of users.

The codes are those of VerSe and TPTBox: C1-C7 = 1-7, T1-T12 = 8-19, L1-L5 = 20-24, L6 = 25, S1 = 26, T13 = 28.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

_CERVICAL = [f"C{i}" for i in range(1, 8)]
_THORACIC = [f"T{i}" for i in range(1, 13)]
_LUMBAR = [f"L{i}" for i in range(1, 6)]

LEVEL_CODES: dict[str, int] = {
    **{name: code for code, name in enumerate(_CERVICAL + _THORACIC + _LUMBAR, start=1)},
    "L6": 25,
    "S1": 26,
    "T13": 28,
}

LEVELS: tuple[str, ...] = (*_CERVICAL, *_THORACIC, "T13", *_LUMBAR, "L6", "S1")
"""All levels from head to feet."""

VARIANTS = ("T13", "L6")
"""Levels that most people do not have."""

RANK: dict[str, int] = {name: rank for rank, name in enumerate(LEVELS)}

_REGION_SPELLINGS = {
    spelling: letter
    for letter, spellings in {
        "C": ("C", "HWK", "HW", "VC", "CERVICAL", "ZERVIKAL"),
        "T": ("T", "TH", "D", "BWK", "BW", "VT", "VD", "THORACIC", "THORAKAL", "DORSAL"),
        "L": ("L", "LWK", "LW", "VL", "LUMBAR", "LUMBAL"),
        "S": ("S", "SWK", "SW", "VS", "SACRAL", "SAKRAL"),
    }.items()
    for spelling in spellings
}

_PITCH_MM = dict(
    zip(
        LEVELS[:-1],
        (15, 17, 17, 17, 17, 18, 19, 20, 21, 21, 22, 22, 23, 24, 25, 26, 27, 29, 31, 32, 34, 36, 37, 37, 36, 36),
        strict=True,
    )
)
"""Centre of a body to that of the next below in adults. Our rounding of the heights of bodies that Panjabi et al.
measured (Spine 1991, cervical and thoracic; 1992, lumbar) plus usual heights of discs and endplates."""

PLAUSIBLE_PITCH = (0.51, 1.4)
"""Least and greatest quotient of a column's pitch and an adult's that happen: from a child of two years to a giant."""

COMMON_PITCH = (0.82, 1.22)
"""The same, but for the median of several people; in 56 lumbar examinations of adults it
lay between 0.9 and 1.16."""

VERTEBRA_SIDE_MM = (3.0, 180.0)
"""Least and greatest side of a box around a vertebra or its body, the whole sacrum and newborns included."""

TALLEST_MM = 100.0
"""More than any vertebra above the sacrum reaches from head to feet, its processes included."""


SUCCESSORS: dict[str, tuple[str, ...]] = {
    **{upper: (lower,) for upper, lower in itertools.pairwise(level for level in LEVELS if level not in VARIANTS)},
    "T11": ("T12", "L1"),
    "T12": ("L1", "T13"),
    "T13": ("L1",),
    "L4": ("L5", "S1"),
    "L5": ("S1", "L6"),
    "L6": ("S1",),
    "S1": (),
}
"""Levels that may come next below a level in a spine, numerical variants included."""


def chain(present: Iterable[str] = ()) -> list[str]:
    """All levels of a spine from head to feet; numerical variants only where they are `present`."""
    present_levels = set(present)
    return [level for level in LEVELS if level not in VARIANTS or level in present_levels]


REGIONS = ("cervical", "thoracic", "lumbar", "sacral")
"""Parts of the spine from head to feet."""


def region(level: str) -> str:
    """Which of `REGIONS` a level belongs to."""
    return REGIONS["CTLS".index(level[0])]


def parse_level(text: str) -> str | None:
    """Level named by `text`, or None when it names none.

    Accepts case differences, leading zeros and the common spellings `Th12`, `D12`, `L01`, `LWK1`, `lumbar 1`.
    """
    match = re.fullmatch(r"\s*([A-Za-z]+)[\s._-]*0*(\d+)\s*", unicodedata.normalize("NFKC", text))
    if not match:
        return None
    letter = _REGION_SPELLINGS.get(match[1].upper())
    name = f"{letter}{int(match[2])}"
    return name if name in RANK else None


def levels_between(upper: str, lower: str) -> list[str]:
    """Levels that most people have between two others."""
    return [level for level in LEVELS[RANK[upper] + 1 : RANK[lower]] if level not in VARIANTS]


def adult_pitch_mm(upper: str, lower: str) -> float:
    """Usual distance of the centres of two levels in adults, `upper` above `lower`."""
    between = LEVELS[RANK[upper] : RANK[lower]]
    return sum(_PITCH_MM[level] for level in between if level not in VARIANTS or level == upper)


def step_quotients(centres_mm: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], float]:
    """Distance of each vertebra of a column to the next one below in units of what is usual in adults.

    Parameters
    ----------
    centres_mm : position of each level in any frame of millimetres
    """
    return {
        (upper, lower): math.dist(centres_mm[upper], centres_mm[lower]) / adult_pitch_mm(upper, lower)
        for upper, lower in itertools.pairwise(sorted(centres_mm, key=RANK.__getitem__))
    }


def pitch_quotient(centres_mm: Mapping[str, Sequence[float]]) -> float | None:
    """Median of `step_quotients`; None for a single vertebra."""
    quotients = step_quotients(centres_mm).values()
    return statistics.median(quotients) if quotients else None
