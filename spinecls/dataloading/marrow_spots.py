"""Spots in vertebrae of training patches, so that lesions do not hide the vertebra that they lie in.

A localiser that has seen few lesions leaves out of a vertebra what does not look like marrow, at its rim above all.
What is left out lies outside the region that decides the class.
"""

from __future__ import annotations

import numpy as np

RADII_MM = (3.0, 12.0)
"""Least and greatest half length of a spot along each axis, from a lesion at a corner to most of a body."""

STRENGTH = (0.5, 3.0)
"""Least and greatest change in standard deviations of the patch, from what is hardly seen to as bright as fluid."""

SOFT_EDGE = 0.5
"""Width of a spot's edge in parts of its radius."""


def with_spots(
    image: np.ndarray, numbers: np.ndarray, spacing_mm: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A patch in which some vertebrae have a brighter or darker spot, cut off where the vertebra ends.

    The spot's middle is the farther from the vertebra's middle of two of its voxels: lesions of spondyloarthritis lie
    at corners and end plates.

    Parameters
    ----------
    image : (C, s, r, a)
    numbers : (s, r, a) integers, 0 where no vertebra is, n in the n-th vertebra
    spacing_mm : (3,)
    share : of the vertebrae that get one

    Returns
    -------
    image : a copy
    changed : (s, r, a) bool, voxels in a spot; what lesions they show is no longer known
    """
    image, changed = image.copy(), np.zeros(numbers.shape, bool)
    deviation = image.std(axis=(1, 2, 3))
    for number in range(1, int(numbers.max(initial=0)) + 1):
        voxels = np.argwhere(numbers == number)
        if len(voxels) == 0 or rng.random() >= share:
            continue
        places_mm = voxels * np.asarray(spacing_mm, float)
        drawn = places_mm[rng.integers(len(voxels), size=2)]
        middle = drawn[np.linalg.norm(drawn - places_mm.mean(axis=0), axis=1).argmax()]
        distance = np.linalg.norm((places_mm - middle) / rng.uniform(*RADII_MM, 3), axis=1)
        seen = np.clip((1 - distance) / SOFT_EDGE + 0.5, 0, 1)
        # Channels are other sequences, in which the same lesion may be bright, dark or not seen.
        change = deviation * rng.uniform(*STRENGTH, len(image)) * rng.choice((-1, 1), len(image))
        index = (slice(None), *voxels.T)
        image[index] += (change[:, None] * seen).astype(image.dtype)
        changed[tuple(voxels.T)] |= seen > 0
    return image, changed
