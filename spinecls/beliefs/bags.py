"""Bags: what is known of a region as a whole and of none of its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SMALLEST_LESION_MM3 = 30.0


@dataclass(frozen=True)
class Bag:
    """A region of which a share within bounds is of some classes.

    Attributes
    ----------
    region : (S, R, A) bool
    classes : class indices that count
    low, high : least and greatest share of the region's voxels
    line : whether every plane of the region along each array axis holds a voxel of the classes, as a tight box around
        an object of unknown shape has it; of vertebrae it is not asked (`dataloading.forms`)
    """

    region: np.ndarray
    classes: tuple[int, ...]
    low: float
    high: float
    line: bool = False


def size_bag(region: np.ndarray, classes: Sequence[int], low: float, high: float) -> Bag:
    """Between `low` and `high` of the region's voxels are of the classes; none of them when both are 0."""
    return Bag(region, tuple(classes), float(low), float(high))


def exists_bag(region: np.ndarray, classes: Sequence[int], voxel_mm3: float) -> Bag:
    """Somewhere in the region is at least the smallest lesion worth the name."""
    volume = region.sum() * voxel_mm3
    return Bag(region, tuple(classes), float(min(1.0, SMALLEST_LESION_MM3 / max(volume, 1e-9))), 1.0)


@dataclass(frozen=True)
class BagMap:
    """The bags of a map on its grid: as for beliefs, one code a voxel and a table of the bags it belongs to.

    Attributes
    ----------
    codes : (S, R, A) uint8, rows of `members`; 0 = in no bag
    members : (P, N) bool
    classes : (N, K) bool
    low, high : (N,) shares
    line : (N,) bool
    voxels : (N,) size of each region, of which a patch may show a part
    """

    codes: np.ndarray
    members: np.ndarray
    classes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    line: np.ndarray
    voxels: np.ndarray


def bag_map(bags: Sequence[Bag], shape: tuple[int, int, int], num_classes: int) -> BagMap:
    """Bags on one grid; regions may overlap.

    Combinations of overlapping regions beyond the 255 most frequent ones, which a code cannot tell, lose their bags.
    """
    classes = np.zeros((len(bags), num_classes), bool)
    for row, bag in enumerate(bags):
        classes[row, list(bag.classes)] = True
    membership = np.stack([bag.region.ravel() for bag in bags], axis=1) if bags else np.zeros((np.prod(shape), 0), bool)
    inside = np.flatnonzero(membership.any(axis=1))
    codes = np.zeros(int(np.prod(shape)), np.uint8)
    members = np.zeros((1, len(bags)), bool)
    if len(inside):
        rows, code, count = np.unique(membership[inside], axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(-count, kind="stable")[:255]
        number = np.zeros(len(rows), np.uint8)
        number[order] = np.arange(len(order)) + 1
        codes[inside] = number[code.ravel()]
        members = np.concatenate([members, rows[order]])
    return BagMap(
        codes=codes.reshape(shape),
        members=members,
        classes=classes,
        low=np.array([b.low for b in bags], np.float32),
        high=np.array([b.high for b in bags], np.float32),
        line=np.array([b.line for b in bags], bool),
        voxels=np.array([int(b.region.sum()) for b in bags]),
    )
