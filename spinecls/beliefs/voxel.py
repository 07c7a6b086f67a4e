"""Belief masses of voxels, stored as one code a voxel and a table of what the codes mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.errors import UsageError

MASS_STEPS = (100, 20, 10)
"""Masses are rounded to so many parts of one: to the first for which the different beliefs of a map fit its codes."""

MOST_CODES = 256


@dataclass(frozen=True)
class VoxelBeliefs:
    """Belief masses of the voxels of a map.

    Few different beliefs occur in a map, so a voxel holds the number of its belief; sampling a patch by the nearest
    voxel is that of any label map.

    Attributes
    ----------
    codes : (S, R, A) uint8, rows of `masses`
    sets : (F, K) bool, the classes that each focal set allows
    masses : (P, F) float32, of each belief the mass on each set; rows sum to at most 1, row 0 says nothing
    """

    codes: np.ndarray
    sets: np.ndarray
    masses: np.ndarray

    def mass(self, classes: Sequence[int]) -> np.ndarray:
        """(S, R, A) mass that lies on exactly this set of classes."""
        wanted = np.zeros(self.sets.shape[1], bool)
        wanted[list(classes)] = True
        rows = np.flatnonzero((self.sets == wanted).all(axis=1))
        return self.masses[:, rows].sum(axis=1)[self.codes]

    @property
    def silent(self) -> np.ndarray:
        """(S, R, A) mass that says nothing, 1 - the sum of all others."""
        return (1 - self.masses.sum(axis=1))[self.codes]


def voxel_beliefs(fields: Mapping[tuple[int, ...], np.ndarray], num_classes: int) -> VoxelBeliefs:
    """Beliefs from one array of masses for each set of classes.

    Parameters
    ----------
    fields : classes of a focal set -> (S, R, A) masses in 0..1; where they sum to more than 1 they are scaled to 1.
        Mass on the set of all classes says nothing and is left out

    Raises
    ------
    UsageError
        When a set is empty or names a class that does not exist, or the arrays differ in shape.
    """
    kept = {tuple(sorted(set(classes))): np.asarray(mass, np.float32) for classes, mass in fields.items()}
    for classes in kept:
        if not classes or not 0 <= min(classes) <= max(classes) < num_classes:
            raise UsageError(f"set of classes {classes}: expected some of 0 to {num_classes - 1}.")
    shapes = {mass.shape for mass in kept.values()}
    if len(shapes) != 1:
        raise UsageError(f"masses of different shapes: {sorted(shapes)}.")
    kept = {classes: mass for classes, mass in kept.items() if len(classes) < num_classes}
    sets = np.zeros((len(kept), num_classes), bool)
    for row, classes in enumerate(kept):
        sets[row, list(classes)] = True
    shape = next(iter(shapes))
    if not kept:
        return VoxelBeliefs(np.zeros(shape, np.uint8), sets, np.zeros((1, 0), np.float32))
    stacked = np.stack([np.clip(mass, 0, 1).ravel() for mass in kept.values()], axis=1)
    stacked /= np.maximum(stacked.sum(axis=1, keepdims=True), 1)
    for steps in MASS_STEPS:
        # Rounding down keeps sums at or below one; what is lost says nothing.
        parts = np.floor(stacked * steps + 1e-4).astype(np.int64)
        # Column by column, for a number of all columns would not fit; nothing at all stays the least key, 0.
        keys = np.zeros(len(parts) + 1, np.int64)
        for column in parts.T:
            keys = np.unique(keys * (steps + 1) + np.append(column, 0), return_inverse=True)[1]
        distinct, first, codes = np.unique(keys, return_index=True, return_inverse=True)
        if len(distinct) <= MOST_CODES:
            break
    else:
        raise UsageError(f"a map holds more than {MOST_CODES} different beliefs. Use fewer readers or classes.")
    table = np.append(parts, np.zeros((1, parts.shape[1]), np.int64), axis=0)[first]
    return VoxelBeliefs(codes[:-1].reshape(shape).astype(np.uint8), sets, (table / steps).astype(np.float32))


def mean_beliefs(readers: Sequence[np.ndarray], num_classes: int) -> VoxelBeliefs:
    """Mean of what several readers drew; for a loss that is linear in the masses like drawing a reader at random.

    Parameters
    ----------
    readers : maps of class indices; any other number where a reader drew nothing
    """
    fields: dict[tuple[int, ...], np.ndarray] = {
        (index,): np.mean([labels == index for labels in readers], axis=0) for index in range(num_classes)
    }
    return voxel_beliefs(fields, num_classes)
