"""A guess at what was done to the codes of a map that dataset.json does not know."""

from __future__ import annotations

from collections.abc import Collection, Set
from pathlib import Path

from spinecls.io.remedies import python_line

_ROUND = 100
"""Offsets that are multiples of it are meant; TPTBox numbers discs by level + 100."""
_FACTORS = (10, 100, 1000)
_FEWEST_DOUBLED = 3


def code_hint(path: Path, present: Collection[int], known: Set[int]) -> str:
    """What turns the codes of a map into known ones, and the line that does it; empty where nothing simple does.

    Parameters
    ----------
    path : as it is to stand in the line
    present : codes above 0 in the map
    known : codes that dataset.json names
    """
    if not present or set(present) <= known:
        return ""
    read = f"i = s.ReadImage('{path}')"
    factor = next((f for f in _factors(present) if all(code % f == 0 and code // f in known for code in present)), None)
    if factor is not None:
        line = python_line(read, f"s.WriteImage(i // {factor}, '{path}')")
        return f" Divided by {factor} all codes of the map are known ones: {line}"
    offset = _offset(present, known)
    if offset is None:
        return ""
    sign, back = ("+", "-") if offset > 0 else ("-", "+")
    moved = f"s.Cast(i, s.sitkInt16) {back} {abs(offset)} * s.Cast(i > 0, s.sitkInt16)"
    # Counted from 1, levels may as well be counted from below, or from another level.
    sure = ", if they are counted from the head" if min(present) == 1 else ""
    line = python_line(read, f"s.WriteImage({moved}, '{path}')")
    text = f" All codes of the map are known ones {sign} {abs(offset)}{sure}: {line}"
    return text + (" (By the codes of TPTBox they would be discs.)" if offset == _ROUND else "")


def _factors(present: Collection[int]) -> tuple[int, ...]:
    """Few codes are even by chance."""
    return (*_FACTORS, 2) if len(present) >= _FEWEST_DOUBLED else _FACTORS


def _offset(present: Collection[int], known: Set[int]) -> int | None:
    """The one number between the codes; of several only a round one is no guess."""
    lowest = min(present)
    fitting = [lowest - code for code in known if lowest != code]
    fitting = [offset for offset in fitting if all(code - offset in known for code in present)]
    if len(fitting) > 1:
        fitting = [offset for offset in fitting if offset % _ROUND == 0]
    return fitting[0] if len(fitting) == 1 else None
