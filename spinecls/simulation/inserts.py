"""What is known of each thing that was put into a scan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinecls.geometry import Geometry

HEADER = [
    "case", "vertebra", "class", "role", "kind", "site", "size_grade", "marker", "channel", "contrast", "stratum",
    "marrow_deviation", "volume_mm3", "area_mm2", "x_mm", "y_mm", "z_mm",
]  # fmt: skip
"""Columns of lesions.csv."""


@dataclass(frozen=True, kw_only=True)
class Insert:
    """One lesion, sham, distractor or marker; None and "" where something has no meaning.

    Attributes
    ----------
    level : vertebra that it lies in or beside; "" for a marker of the whole image
    class_name : class of that vertebra
    role : "lesion", "sham", "distractor" or "marker"
    kind, site, grade : what, where, size grade
    marker : "m4" on a lesion that is drawn by the state of the vertebra above
    channel : name of the channel with the greatest contrast
    contrast : absolute mean change in the outline over `marrow_deviation`, measured on the stored voxels
    volume_mm3, area_mm2 : of the outline, the area in the slice where it is largest
    centre_lps : mean of the outline's voxels, world mm
    """

    level: str
    class_name: str
    role: str
    kind: str
    site: str = ""
    grade: int | None = None
    marker: str = ""
    channel: str = ""
    contrast: float | None = None
    stratum: str = ""
    marrow_deviation: float | None = None
    volume_mm3: float | None = None
    area_mm2: float | None = None
    centre_lps: tuple[float, float, float] | None = None

    def row(self, case: str) -> dict[str, Any]:
        """Row of lesions.csv."""
        values = dataclasses.asdict(self)
        x, y, z = (round(v, 3) for v in self.centre_lps) if self.centre_lps else ("", "", "")
        moved = {"vertebra": values.pop("level"), "class": values.pop("class_name"), "size_grade": values.pop("grade")}
        values.pop("centre_lps")
        numbers = {k: round(v, 4) for k, v in values.items() if isinstance(v, float)}
        return {"case": case, **moved, **values, **numbers, "x_mm": x, "y_mm": y, "z_mm": z}


def measured(outline: np.ndarray, geometry: Geometry) -> dict[str, Any]:
    """Volume, area and centre of an outline, the fields of `Insert`.

    Parameters
    ----------
    outline : bool array on `geometry`, not empty
    """
    count = outline.sum(axis=(1, 2))
    area_mm2 = float(count.max() * np.prod(geometry.spacing_mm[1:]))
    centre = geometry.to_world(np.argwhere(outline).mean(axis=0))
    return {
        "volume_mm3": float(count.sum() * np.prod(geometry.spacing_mm)),
        "area_mm2": area_mm2,
        "centre_lps": tuple(float(v) for v in centre),
    }
