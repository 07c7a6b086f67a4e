"""The two numbers a channel by which the intensities of a crop are counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinecls.sealing.region import Region

MAD_TO_SD = 1.4826
LEFT_OUT_SHARE = 0.2
"""Share of the vertebrae, those whose median deviates most, that the reference leaves out: they may be diseased."""


def marrow_reference(image: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Median and scaled median absolute deviation of normal marrow in one case.

    A reader calls a vertebra abnormal by comparing it with normal marrow of the same patient. These numbers carry that
    comparison and nothing else.

    Parameters
    ----------
    image : (C, S, R, A) array, native grid
    regions : one a vertebra, at least one

    Returns
    -------
    (C, 2) float64 array
    """
    reference = np.zeros((len(image), 2))
    for channel, volume in enumerate(image):
        values = [np.asarray(volume[region.slices][region.mask], np.float64) for region in regions]
        medians = np.array([np.median(v) for v in values])
        deviation = np.abs(medians - np.median(medians))
        kept = np.argsort(deviation, kind="stable")[: max(1, round(len(values) * (1 - LEFT_OUT_SHARE)))]
        pooled = np.concatenate([values[i] for i in kept])
        median = np.median(pooled)
        spread = MAD_TO_SD * np.median(np.abs(pooled - median))
        reference[channel] = median, spread if spread > 0 else max(float(pooled.std()), 1.0)
    return reference


def own_reference(image: np.ndarray, region: Region) -> np.ndarray:
    """Median and scaled median absolute deviation of one region alone (level S3).

    Nothing of the case enters, and the price is that a lesion as large as the vertebra becomes its own reference.

    Returns
    -------
    (C, 2) float64 array
    """
    return marrow_reference(image, [region])
