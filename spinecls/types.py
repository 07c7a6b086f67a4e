"""Aliases for what is passed about: triples on the array axes, and arrays by what they hold.

Arrays are (slices, rows, columns) on the canonical axes; shapes stand in the docstrings of what takes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Triple = tuple[int, int, int]
"""A size, an index or factors along the three axes."""

SpacingMm = tuple[float, float, float]
"""Distance of voxels along the three axes."""

Point = tuple[float, float, float]
"""Millimetres in the world, x to the left, y to the back, z to the head (LPS)."""

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """Three values as a tuple whose length is known; ValueError of any other number."""
    first, second, third = values
    return first, second, third
