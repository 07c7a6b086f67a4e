"""Vertebra levels: names, order from head to feet, codes in label maps, spellings of users.

The codes are those of VerSe and TPTBox: C1-C7 = 1-7, T1-T12 = 8-19, L1-L5 = 20-24, L6 = 25, S1 = 26, T13 = 28.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

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

_REGION_SPELLINGS = {"C": "C", "HWK": "C", "T": "T", "TH": "T", "D": "T", "BWK": "T", "L": "L", "LWK": "L", "S": "S"}


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
    found = set(present)
    return [level for level in LEVELS if level not in VARIANTS or level in found]


REGIONS = ("cervical", "thoracic", "lumbar", "sacral")
"""Parts of the spine from head to feet."""


def region(level: str) -> str:
    """Which of `REGIONS` a level belongs to."""
    return REGIONS["CTLS".index(level[0])]


def parse_level(text: str) -> str | None:
    """Level named by `text`, or None when it names none.

    Accepts case differences, leading zeros and the common spellings `Th12`, `D12`, `L01`, `LWK1`.
    """
    match = re.fullmatch(r"\s*([A-Za-z]+)[\s_-]*0*(\d+)\s*", text)
    if not match:
        return None
    letter = _REGION_SPELLINGS.get(match[1].upper())
    name = f"{letter}{int(match[2])}"
    return name if name in RANK else None
