"""Random numbers that depend on what they are for and on nothing else.

A draw derives from the seed, the case, the level and the purpose, so leaving out a case, or planting a marker, changes
no other draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

Stream = Callable[..., np.random.Generator]
"""`stream(level, purpose)` of one case; the level is "" for what concerns the whole image."""


def case_stream(seed: int, case: str) -> Stream:
    """Generators of one case by level and purpose."""

    def stream(level: str, purpose: str) -> np.random.Generator:
        text = "\0".join((case, level, purpose))
        return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])])

    return stream
