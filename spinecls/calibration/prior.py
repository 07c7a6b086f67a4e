"""Moving probabilities to the share of classes where the model is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spinecls.calibration.temperature import SMALLEST_PROBABILITY
from spinecls.errors import UsageError

_SUM_TOLERANCE = 1e-3


def checked_prior(shares: Mapping[str, float], class_names: Sequence[str], old: np.ndarray) -> np.ndarray:
    """(K,) shares in the order of `class_names`, with the sum 1, from what a user gave by name.

    Parameters
    ----------
    old : (K,) shares where the model was calibrated

    Raises
    ------
    UsageError
        On an unknown or missing class, a share outside 0 to 1, a sum that is off 1 by more than 0.001, or a share for a
        class that `old` does not have, of which nothing is known.
    """
    known = ", ".join(class_names)
    for name in shares:
        if name not in class_names:
            raise UsageError(f"Prevalence: {name!r} is not a class. Known: {known}.")
    for name, before in zip(class_names, old, strict=True):
        if name not in shares:
            raise UsageError(f"Prevalence: the share of {name!r} is missing. Give one for each of {known}.")
        # Written so that not-a-number counts as wrong.
        if not 0 <= shares[name] <= 1:
            raise UsageError(f"Prevalence: the share of {name!r} is {shares[name]:g}, expected 0 to 1.")
        if before <= 0 < shares[name]:
            raise UsageError(
                f"Prevalence: {name!r} never occurred where the model was calibrated, so nothing is known of it. Got "
                f"the share {shares[name]:g}, expected 0."
            )
    values = np.asarray([shares[name] for name in class_names], float)
    if abs(values.sum() - 1) > _SUM_TOLERANCE:
        raise UsageError(f"Prior: the shares add up to {values.sum():g}, expected 1.")
    return values / values.sum()


def move_prior(probabilities: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Probabilities where classes are as frequent as `new` says, of probabilities that are right where `old` holds.

    p_k new_k / old_k, made to sum to 1: equation 4 of Saerens, Latinne and Decaestecker, Neural Computation 2002. Right
    when a class looks the same in both places and only its share differs.

    Parameters
    ----------
    probabilities : (N, K)
    old, new : (K,) shares of the classes, `new` from `checked_prior`
    """
    ratio = np.divide(new, old, out=np.zeros(len(old)), where=old > 0)
    moved = np.maximum(probabilities, SMALLEST_PROBABILITY) * ratio
    return moved / moved.sum(axis=1, keepdims=True)
