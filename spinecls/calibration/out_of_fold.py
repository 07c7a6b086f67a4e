"""What calibration learns from: vertebrae predicted by the one model of the cross-validation that never saw them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from spinecls.errors import DatasetError

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions of vertebrae that are annotated with one class and were identified.

    Attributes
    ----------
    patients : (N,) str
    folds : (N,) str, the fold whose model predicted the vertebra without having trained on its patient
    truth : (N,) int, class index
    probabilities : (N, K), the mean over test-time views of that model

    Raises
    ------
    DatasetError
        When the arrays do not fit together, a row is no distribution over the classes, or a patient has two folds.
    """

    patients: np.ndarray
    folds: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        where = "Out-of-fold predictions"
        count = len(self.truth)
        if self.probabilities.ndim != 2 or {len(self.patients), len(self.folds), len(self.probabilities)} != {count}:
            shapes = [np.shape(a) for a in (self.patients, self.folds, self.truth, self.probabilities)]
            raise DatasetError(
                f"{where}: patients, folds, truth and probabilities have the shapes {shapes}, "
                "expected (N,), (N,), (N,) and (N, K)."
            )
        if count and (self.truth.min() < 0 or self.truth.max() >= self.num_classes):
            raise DatasetError(
                f"{where}: class indices run from {self.truth.min()} to {self.truth.max()}, "
                f"but there are probabilities of {self.num_classes} classes."
            )
        # Written so that not-a-number counts as wrong.
        right = (self.probabilities >= 0).all(axis=1) & (np.abs(self.probabilities.sum(axis=1) - 1) <= _SUM_TOLERANCE)
        if not right.all():
            row = int(np.argmin(right))
            raise DatasetError(
                f"{where}: vertebra {row} (patient {self.patients[row]}) has the probabilities "
                f"{self.probabilities[row].tolist()}, which are not all at least 0 with the sum 1."
            )
        pairs = {(str(p), str(f)) for p, f in zip(self.patients, self.folds, strict=True)}
        parted = [a for a, b in itertools.pairwise(sorted(patient for patient, _ in pairs)) if a == b]
        if parted:
            raise DatasetError(
                f"{where}: patient {parted[0]} was predicted by several folds. Folds must not part patients; predict "
                "each one by the fold that held it out."
            )

    @property
    def num_classes(self) -> int:
        return self.probabilities.shape[1]
