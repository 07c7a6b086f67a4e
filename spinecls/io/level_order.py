"""Whether levels follow each other from head to feet, in maps and in tables; needs nothing but positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spinecls.anatomy import RANK, levels_between
from spinecls.geometry import Geometry
from spinecls.io.code_schemes import counted_from_below
from spinecls.io.findings import Finding, error, warning

_LEVEL_STEP_MM = -1.0


def order_findings(
    case: str,
    geometry: Geometry,
    centres: Mapping[str, Sequence[float]],
    codes: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Levels must follow each other from head to feet.

    Parameters
    ----------
    centres : position (LPS mm) of every level, from a map or a table
    codes : codes of the levels, if they come from a map
    """
    levels = sorted(centres, key=RANK.__getitem__)
    if len(levels) < 2:
        return []
    down_mm = geometry.to_index(np.array([centres[name] for name in levels]))[:, 1] * geometry.spacing_mm[1]
    steps = np.diff(down_mm)
    if np.all(steps < _LEVEL_STEP_MM):
        text = f"{levels[-1]} lies {-steps.sum():.0f} mm above {levels[0]}. Is the {'map' if codes else 'case'} upside "
        text += "down, or are the levels counted from below?"
        remedy = counted_from_below([codes[name] for name in levels]) if codes else ""
        return [error("605", text + remedy, case)]
    findings = []
    for upper, lower, step in zip(levels, levels[1:], steps, strict=False):
        if step < _LEVEL_STEP_MM:
            findings.append(error("606", f"{lower} lies {-step:.0f} mm above {upper}. Correct the levels.", case))
        between = levels_between(upper, lower)
        if between:
            text = f"{', '.join(between)} missing between {upper} and {lower}"
            findings.append(warning("607", text, case))
    return findings
