"""Codes in maps that dataset.json does not name: by whose scheme they make sense, and what to write or move."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from spinecls.anatomy import LEVEL_CODES, chain

_CANAL = 100
_ABOVE = (100, 200)
_FEWEST = 3
_MOST_NUMBERED = 12
_TOTALSPINESEG = {
    **{f"C{i}": 10 + i for i in range(1, 8)}, **{f"T{i}": 20 + i for i in range(1, 13)},
    **{f"L{i}": 40 + i for i in range(1, 6)}, "S1": 50,
}  # fmt: skip
_TOTALSPINESEG_OTHERS = {1, 2, *range(63, 68), *range(71, 83), *range(91, 96), 100}
_UPWARDS = chain()[::-1]
_FROM_BELOW = {
    "SPIDER": dict(zip(_UPWARDS[1:], range(1, 25), strict=True)),
    "TotalSegmentator's vertebrae_mr": dict(zip(_UPWARDS, range(1, 26), strict=True)),
    "TotalSegmentator's total, version 1": dict(zip(_UPWARDS[1:], range(18, 42), strict=True)),
    "TotalSegmentator's total, version 2": dict(zip(_UPWARDS, range(26, 51), strict=True)),
    "TotalSegmentator's total, version 2 (25 is the sacrum)": {
        "S1": 25, **dict(zip(_UPWARDS[1:], range(27, 51), strict=True)),
    },
}  # fmt: skip
"""Schemes whose codes fall from head to feet, each from S1 or L5 upwards."""
_BELOW_S1 = (27, 29, 30, 31, 32, 33)


def scheme_hint(present: Collection[int], levels: Mapping[str, int], falling: bool = False) -> str:
    """What the codes in a vertebra map may mean, given those of dataset.json; empty when nothing is known of them.

    Parameters
    ----------
    present : all codes in the map but 0 and the ignore_label
    levels : codes of dataset.json
    falling : whether the codes fall from head to feet
    """
    present = set(present)
    unknown = sorted(present - set(levels.values()))
    if not unknown:
        return ""
    if falling:
        return counted_from_below(sorted(present))
    spine = present - _TOTALSPINESEG_OTHERS
    if len(spine) >= _FEWEST and spine <= set(_TOTALSPINESEG.values()) and max(spine) > max(LEVEL_CODES.values()):
        written = _as_json({level: code for level, code in _TOTALSPINESEG.items() if code in spine})
        text = f" These are codes of TotalSpineSeg: write {written} in dataset.json, and move cord (1), canal (2) and "
        return text + "discs (63 to 100) to structuresTr, or set them to 0."
    return _others_than_bodies(present, unknown) or _below_s1(present, unknown)


def _below_s1(present: set[int], unknown: Sequence[int]) -> str:
    if not set(unknown) <= set(_BELOW_S1) or not present & set(range(20, 27)):
        return ""
    sacrum = LEVEL_CODES["S1"]
    text = " By the codes of TPTBox 27 is the coccyx and 29 to 33 are S2 to S6; others write 27 for S2. What lies "
    text += f"below S1 is not named here: set it to 0, or join it to S1 ({sacrum})."
    alone = sacrum not in present and len(unknown) == 1
    return text + (f' If {unknown[0]} is the sacrum, write "S1": {unknown[0]} under `vertebrae`.' if alone else "")


def counted_from_below(codes: Sequence[int], tools: Collection[str] = tuple(_FROM_BELOW)) -> str:
    """The `vertebrae` of dataset.json for codes that fall from head to feet, by every one of `tools` that has them."""
    told = [
        f"{name} write {_as_json({level: code for level, code in _FROM_BELOW[name].items() if code in codes})}"
        for name in tools
        if set(codes) <= set(_FROM_BELOW[name].values())
    ]
    if len(codes) < 2 or not told:
        return ""
    text = f" If the codes count from below, then by those of {'; by those of '.join(told)} in dataset.json."
    return text + (" Look which code the lowest vertebra has, and whether it is L5 or the sacrum." if told[1:] else "")


def _others_than_bodies(present: set[int], unknown: Sequence[int]) -> str:
    """Discs, endplates and the canal, as SPIDER, TPTBox and SPINEPS number them."""
    hundreds, two_hundreds = ([code for code in unknown if base < code <= base + 28] for base in _ABOVE)
    bodies = {code for code in present if code <= 28}
    if set(unknown) - {_CANAL, *hundreds, *two_hundreds} or not (bodies or two_hundreds):
        return ""
    move = "Move what is no vertebra to structuresTr (its codes under `structures` of dataset.json), or set it to 0."
    if _CANAL in unknown or (1 in bodies and two_hundreds and not hundreds):
        told = ["100 is the canal"] if _CANAL in unknown else []
        told += [f"{_run(hundreds)} vertebrae cut by the border"] if hundreds else []
        told += [f"{_run(two_hundreds)} discs"] if two_hundreds else []
        text = f" By SPIDER's codes {', '.join(told)}. {move}"
        return text + counted_from_below(sorted(bodies), ("SPIDER",))
    told = [f"{_run(hundreds)} discs"] if hundreds else []
    told += [f"{_run(two_hundreds)} endplates"] if two_hundreds else []
    return f" By the codes of TPTBox and SPINEPS, level + 100 and + 200: {', '.join(told)}. {move}"


def numbering_remedy(codes: Sequence[int]) -> str:
    """The `vertebrae` of dataset.json for maps that count vertebrae 1, 2, 3 ... from above; empty for other codes."""
    codes = sorted(codes)
    if codes != list(range(1, len(codes) + 1)) or not 2 <= len(codes) <= len(chain()) - 1:
        return ""
    names = _UPWARDS[1 : len(codes) + 1][::-1]
    written = _as_json(dict(zip(names, codes, strict=True)))
    text = f" If 1, 2 ... count vertebrae from above, and the lowest is L5, write {written} in dataset.json"
    return text + ", where every case begins at the same level; else change the maps."


def _as_json(codes: Mapping[str, int]) -> str:
    shown = [f'"{level}": {code}' for level, code in codes.items()]
    cut = shown if len(shown) <= _MOST_NUMBERED else [*shown[: _MOST_NUMBERED - 1], "..."]
    return f'"vertebrae": {{{", ".join(cut)}}}'


def _run(codes: Sequence[int]) -> str:
    return f"{codes[0]} to {codes[-1]} are" if len(codes) > 1 else f"{codes[0]} is"
