"""The comparator that looks at no image: call the lowest body by the usual name and count upwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from spinecls.anatomy import RANK, chain


def commonest_lowest_level(levels_by_case: Iterable[Iterable[str]]) -> str | None:
    """Commonest lowest level of the cases (the lower one when two are equally common); None without any level.

    Parameters
    ----------
    levels_by_case : annotated levels, one collection a training case; empty ones are passed over
    """
    lowest = Counter(max(levels, key=RANK.__getitem__) for case in levels_by_case if (levels := list(case)))
    return max(lowest, key=lambda level: (lowest[level], RANK[level])) if lowest else None


def count_upwards(centres_lps: Sequence[Sequence[float]] | np.ndarray, lowest_level: str) -> list[str | None]:
    """Names of bodies from their places alone.

    Parameters
    ----------
    centres_lps : (N, 3) centres in world LPS mm, in any order
    lowest_level : name of the body nearest to the feet

    Returns
    -------
    list
        N names in the order of `centres_lps`; None for bodies above C1. Numerical variants (T13, L6) are not counted,
        unless one is the lowest level itself.
    """
    upwards = [level for level in chain() if RANK[level] < RANK[lowest_level]][::-1]
    names = [lowest_level, *upwards]
    heights_mm = np.asarray(centres_lps, float).reshape(-1, 3)[:, 2]
    result: list[str | None] = [None] * len(heights_mm)
    for place, name in zip(np.argsort(heights_mm, kind="stable"), names, strict=False):
        result[place] = name
    return result
