"""Numbers that compare two outputs of a classifier, or a map with a drawn lesion."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

HIT_RADIUS_MM = 3.0
"""Farthest distance from a lesion at which the voxel of greatest evidence counts as lying on it."""


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(...,) Jensen-Shannon divergence in nats of probabilities (..., K); 0 = equal, log 2 = disjoint.

    Lin, IEEE Transactions on Information Theory 1991.
    """
    middle = (first + second) / 2
    return np.maximum(0.0, (_relative_entropy(first, middle) + _relative_entropy(second, middle)) / 2)


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    ratio = np.divide(p, q, out=np.ones_like(p, dtype=float), where=(p > 0) & (q > 0))
    return (p * np.log(ratio)).sum(axis=-1)


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two (N,) arrays, equal values sharing their mean rank; not-a-number where one is constant."""
    ranks = np.stack([rankdata(first), rankdata(second)])
    if np.ptp(ranks, axis=1).min() == 0:
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def area_under_curve(values: np.ndarray) -> float:
    """Area under equally spaced values over the unit interval, by the trapezoidal rule."""
    return float(np.trapezoid(values, dx=1 / (len(values) - 1)))


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve as a sum of steps; chance is the share of positives.

    Parameters
    ----------
    scores : (N,); equal scores share one threshold
    positive : (N,) bool, at least one true

    Notes
    -----
    sum over thresholds of (R_n - R_(n-1)) P_n, without interpolation.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision = hits[last_of_ties] / (last_of_ties + 1)
    recall = hits[last_of_ties] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def distance_to_set_mm(points_lps: np.ndarray, targets_lps: np.ndarray) -> np.ndarray:
    """(N,) distance (mm, 3-D) of (N, 3) points to the nearest of (M, 3) voxel centres."""
    best = np.full(len(points_lps), np.inf)
    # One target at a time: a lesion has few voxels, and the whole table would not fit for a large one.
    for target in targets_lps:
        np.minimum(best, np.square(points_lps - target).sum(axis=1), out=best)
    return np.sqrt(best)
