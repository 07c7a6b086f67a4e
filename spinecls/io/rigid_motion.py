"""How a patient moved between two sequences of one examination."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_MM = 40.0
MOST_DEGREES = 20.0
"""What a patient who stays on the table can move; anything beyond is a failure of the search."""


@dataclass(frozen=True, kw_only=True)
class RigidMotion:
    """Where points of the first channel lie in another channel: turned about `centre_lps`, then moved.

    Attributes
    ----------
    rotation_degrees : turns about the world axes x, y, z; the matrix is Rz Rx Ry, as in ITK's Euler3DTransform
    translation_mm : world millimetres (LPS)
    centre_lps : centre of the first channel's grid
    """

    rotation_degrees: tuple[float, float, float]
    translation_mm: tuple[float, float, float]
    centre_lps: tuple[float, float, float]

    @property
    def plausible(self) -> bool:
        """Whether a patient can have moved so far between two sequences."""
        return math.hypot(*self.translation_mm) <= MOST_MM and math.hypot(*self.rotation_degrees) <= MOST_DEGREES
