"""Do the sizes and distances of vertebrae in maps fit their names?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from spinecls.anatomy import (
    COMMON_PITCH,
    PLAUSIBLE_PITCH,
    RANK,
    TALLEST_MM,
    VARIANTS,
    chain,
    levels_between,
    pitch_quotient,
    region,
    step_quotients,
)
from spinecls.io.case_facts import CaseFacts
from spinecls.io.code_schemes import numbering_remedy
from spinecls.io.findings import Finding, error, warning

_IMPOSSIBLE_QUOTIENT = 1.6
_FEW = 3
_LIKE_OTHERS = (0.5, 1.6)
_SACRUM = 2.0


def name_findings(cases: Sequence[CaseFacts], codes: Mapping[str, int]) -> list[Finding]:
    """Faults that the levels in the maps of cases show together.

    Parameters
    ----------
    cases : those whose levels follow each other from head to feet
    codes : codes of the levels in maps
    """
    case_findings = [
        finding for facts in cases for finding in _size_findings(facts, codes) or _pitch_findings(facts, codes)
    ]
    return [*(case_findings or _common_findings(cases, codes)), *_variant_findings(cases)]


def _size_findings(facts: CaseFacts, codes: Mapping[str, int]) -> list[Finding]:
    """Codes that stand for more than one vertebra."""
    findings = []
    for level, size_mm in facts.sizes_mm.items():
        if size_mm[1] > TALLEST_MM * (_SACRUM if region(level) == "sacral" else 1.0):
            text = f"code {codes[level]} ({level}) reaches over about {size_mm[1]:.0f} mm from head to feet, so it "
            text += "holds several vertebrae."
            if len(facts.sizes_mm) == 1:
                text += " A mask of one value does not tell them apart: give each vertebra the code of its level."
            findings.append(error("615", text, facts.identifier))
    return findings


def _pitch_findings(facts: CaseFacts, codes: Mapping[str, int]) -> list[Finding]:
    if list(facts.centres_lps) == ["C1"]:
        text = f"C1 (code {codes['C1']}) is the only vertebra of the map, and hardly a scan shows no other. A mask of "
        text += "one value does not tell which vertebra it is: give it the code of its level."
        return [warning("614", text, facts.identifier)]
    quotient = pitch_quotient(facts.centres_lps)
    low, high = PLAUSIBLE_PITCH
    if quotient is None or low <= quotient <= high:
        text = odd_step_text(facts.centres_lps)
        return [warning("614", text, facts.identifier)] if text else []
    impossible = quotient > _IMPOSSIBLE_QUOTIENT and len(facts.centres_lps) >= _FEW
    text = _unlike_text(facts, codes, quotient)
    return [(error if impossible else warning)("614", text, facts.identifier)]


def odd_step_text(centres_mm: Mapping[str, Sequence[float]]) -> str:
    """The step of a column that is unlike the others, or nothing; columns of few vertebrae are not judged.

    The sacrum is left out, which some draw as S1 and others as a whole.
    """
    steps = step_quotients({level: place for level, place in centres_mm.items() if region(level) != "sacral"})
    if len(steps) < _FEW:
        return ""
    usual = statistics.median(steps.values())
    low, high = _LIKE_OTHERS
    # Some people have no T12 or no L5, so that names further apart may be neighbours.
    odd = {
        (upper, lower): value / usual
        for (upper, lower), value in steps.items()
        if value > high * usual or (value < low * usual and not levels_between(upper, lower))
    }
    if not odd:
        return ""
    (upper, lower), share = max(odd.items(), key=lambda item: abs(math.log(max(item[1], 1e-6))))
    text = f"{upper} and {lower} lie {share:.2g} times as far from each other as the other neighbours do. "
    return text + ("Does a vertebra between them bear no name?" if share > 1 else "Are they two vertebrae?")


def _common_findings(cases: Sequence[CaseFacts], codes: Mapping[str, int]) -> list[Finding]:
    """One warning where single cases are plausible, but hardly all of them."""
    facts_of = {facts.identifier: facts for facts in cases}
    median = unlike_median({name: facts.centres_lps for name, facts in facts_of.items()})
    if median is None:
        return []
    name, quotient, count = median
    return [warning("614", f"in the median of {count} cases, {_unlike_text(facts_of[name], codes, quotient)}")]


def unlike_median(centres: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, float, int] | None:
    """`median_pitch`, if it is more than of adults and like that of another region."""
    median = median_pitch(centres)
    if median is None or median[2] < _FEW or median[1] <= COMMON_PITCH[1] or not region_like(centres[median[0]]):
        return None
    return median


def median_pitch(centres: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, float, int] | None:
    """The median case by pitch, its quotient (see `pitch_quotient`) and the number of cases; None without neighbours.

    Parameters
    ----------
    centres : position (mm) of every level by case
    """
    quotients = {name: pitch_quotient(of_case) for name, of_case in centres.items()}
    known = sorted((quotient, name) for name, quotient in quotients.items() if quotient is not None)
    if not known:
        return None
    quotient, name = known[(len(known) - 1) // 2]
    return name, quotient, len(known)


def _variant_findings(cases: Sequence[CaseFacts]) -> list[Finding]:
    """Levels that few people have and most cases of the dataset."""
    shown = [facts.centres_lps for facts in cases if facts.centres_lps]
    findings = []
    for level in VARIANTS:
        count = sum(level in centres for centres in shown)
        if count >= _FEW and count > len(shown) / 2:
            text = f"{count} of {len(shown)} cases have {level}, which about one person in twenty has. Are the names "
            findings.append(warning("614", f"{text}one level off, or does its code stand for another structure?"))
    return findings


def _unlike_text(facts: CaseFacts, codes: Mapping[str, int], quotient: float) -> str:
    """What is odd about the distances of the vertebrae of a case, and what to do."""
    levels = sorted(facts.centres_lps, key=RANK.__getitem__)
    far = "far from" if quotient > 1 else "close to"
    text = f"{levels[0]} to {levels[-1]} lie too {far} each other, {quotient:.2g} times what is usual in adults."
    like = region_like(facts.centres_lps)
    text += f" Their distances are those of {like} vertebrae: are the names right?" if like else ""
    remedy = numbering_remedy([codes[level] for level in levels])
    text += remedy or " Check the codes under `vertebrae` in dataset.json, and the spacing of the image."
    return text + (" Or are they children?" if quotient < 1 else "")


def region_like(centres_mm: Mapping[str, Sequence[float]]) -> str:
    """Part of the spine whose distances two or more vertebrae have, if it is another than their names say."""
    levels = sorted(centres_mm, key=RANK.__getitem__)
    whole = chain(levels)
    ranks = [whole.index(level) for level in levels]
    best, region_of_best = math.inf, ""
    for shift in range(-ranks[0], len(whole) - ranks[-1]):
        moved = {whole[rank + shift]: centres_mm[level] for rank, level in zip(ranks, levels, strict=True)}
        unlike = abs(math.log(max(statistics.median(step_quotients(moved).values()), 1e-6)))
        if unlike < best:
            best, region_of_best = unlike, region(whole[ranks[len(ranks) // 2] + shift])
    return region_of_best if region_of_best != region(levels[len(levels) // 2]) else ""
