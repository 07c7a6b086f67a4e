"""The sealing levels: which voxels of an image the class of a vertebra may depend on."""

from __future__ import annotations

SEALS = ("S0", "S1", "S2", "S3")
"""From open to strict.

S0: an open crop, evidence pooled over all of it; the comparator, an ordinary crop classifier.
S1: an open crop, evidence pooled over the region; features still mix what lies outside into it.
S2: outside the region everything is overwritten; two numbers a channel of the case's marrow enter.
S3: as S2, but these numbers come from the region itself, so nothing from outside enters.
"""

GUARANTEED = ("S2", "S3")
"""Levels at which the result is the same to the last bit whatever the image shows outside the region."""


def is_guaranteed(seal: str) -> bool:
    """Whether classes at this level provably come from the vertebra's own region."""
    return seal in GUARANTEED
