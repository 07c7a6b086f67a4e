"""calibration.json: all that prediction needs to report calibrated probabilities and prediction sets."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.calibration import conformal
from spinecls.calibration.conformal import CalibrationScores, Pool
from spinecls.calibration.prior import checked_prior, move_prior
from spinecls.calibration.temperature import TEMPERATURES, apply_temperature
from spinecls.errors import DatasetError, ModelError, PlanError
from spinecls.plain import from_plain

CALIBRATION = "calibration.json"
LARGEST_FILE_BYTES = 64 * 2**20
"""About a million vertebrae; a larger file is no calibration."""
LARGEST_ALPHA = 0.5
AGAIN = "Run spinecls_find_best_configuration to calibrate again."
NOT_FITTED = "No temperature was fitted"
"""How a note begins in files of earlier versions, which were written even where nothing could be fitted."""
_LARGEST_PATIENT_NUMBER = 10**9


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Out-of-fold vertebrae of one class, one entry each: number of the patient, fold, and 1 - p of the class."""

    patients: tuple[int, ...]
    folds: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """How much a class rests on."""

    vertebrae: int
    patients: int


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What calibration brought to vertebrae that it was not learnt from; every patient weighs the same.

    Attributes
    ----------
    nll_before, nll_after : negative log-likelihood in nats
    ece_before, ece_after : debiased calibration error of the greatest probability
    coverage : class -> share of its vertebrae whose set holds it; None for a class without any
    mean_set_size : number of classes in a set
    """

    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    coverage: Mapping[str, float | None]
    mean_set_size: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperature and scores of a model, learnt from its out-of-fold predictions; see `calibrate`.

    Attributes
    ----------
    class_names, class_order : as in the plan
    checkpoints : fold -> hash of the checkpoint that predicted it
    test_time_augmentation : whether the out-of-fold predictions are means over mirrored views
    temperature : divides the logarithms of probabilities
    alpha : share of vertebrae whose class may be missing in the set
    refer_below : `metrics.confidence_of` calibrated probabilities that a fifth of the vertebrae did not reach
    counts : what each class rests on
    quality : measured by cross-fitting
    notes : decisions in words, such as which classes were pooled
    scores : at the temperature; patients are numbers without meaning, so nobody is named

    Raises
    ------
    ModelError
        On numbers that no calibration can have, or parts that do not fit together.
    """

    class_names: tuple[str, ...]
    class_order: bool
    checkpoints: Mapping[str, str]
    test_time_augmentation: bool
    temperature: float
    alpha: float
    refer_below: float
    counts: Mapping[str, ClassCounts]
    quality: Quality
    notes: tuple[str, ...]
    spinecls_version: str
    scores: Mapping[str, ClassScores]

    def __post_init__(self) -> None:
        _check_numbers(self)
        if unfitted := [note for note in self.notes if note.startswith(NOT_FITTED)]:
            raise ModelError(f"Calibration: is none, because nothing was learnt. {unfitted[0]}")
        for name in self.class_names:
            _check_class(name, self.scores[name], self.counts[name], self.checkpoints)
        fold_of: dict[int, str] = {}
        for part in self.scores.values():
            if any(fold_of.setdefault(i, fold) != fold for i, fold in zip(part.patients, part.folds, strict=True)):
                raise ModelError("Calibration: scores: a patient has several folds.")

    @property
    def prior(self) -> np.ndarray:
        """(K,) share of each class among the out-of-fold vertebrae."""
        counts = np.asarray([self.counts[name].vertebrae for name in self.class_names], float)
        return counts / counts.sum()

    def require_models(self, checkpoints: Mapping[str, str], test_time_augmentation: bool) -> None:
        """Refuse models that this was not learnt from.

        Parameters
        ----------
        checkpoints : fold -> hash of the folds in use, which may be some of those that were calibrated
        test_time_augmentation : whether they predict with mirrored views

        Raises
        ------
        ModelError
            Saying what differs.
        """
        self._require_folds(checkpoints)
        for fold, checkpoint in checkpoints.items():
            if checkpoint != self.checkpoints[fold]:
                raise ModelError(
                    f"Fold {fold} was trained again after the calibration (checkpoint {checkpoint}, calibrated was "
                    f"{self.checkpoints[fold]}). {AGAIN}"
                )
        if test_time_augmentation != self.test_time_augmentation:
            how = ("without", "with")[self.test_time_augmentation]
            raise ModelError(f"The model was calibrated {how} test-time augmentation. Predict in the same way.")

    def calibrated(self, mean_probabilities: np.ndarray, prevalence: Mapping[str, float] | None = None) -> np.ndarray:
        """(N, K) calibrated probabilities of (N, K) means over folds and views.

        Parameters
        ----------
        prevalence : class -> share where the model is used; None = as in the training data. UsageError when faulty.
        """
        scaled = apply_temperature(mean_probabilities, self.temperature)
        if prevalence is None:
            return scaled
        return move_prior(scaled, self.prior, checked_prior(prevalence, self.class_names, self.prior))

    def prediction_sets(
        self, reported: np.ndarray, fold_probabilities: np.ndarray, folds: Sequence[str]
    ) -> list[tuple[str, ...]]:
        """Class names in the set of each vertebra, in class order; what they promise stands in `conformal`.

        Parameters
        ----------
        reported : (N, K) from `calibrated`; the most probable class is always in the set
        fold_probabilities : (F, N, K) as the fold models give them, means over views
        folds : names of these F folds, all or some of those that were calibrated
        """
        scores = self._scores_of(folds)
        pools = conformal.make_pools(scores, len(self.class_names), self.class_order)
        scaled = apply_temperature(fold_probabilities, self.temperature)
        p_values = conformal.class_p_values(scores, pools, folds, scaled)
        sets = conformal.sets_from_p_values(p_values, reported.argmax(axis=1), self.alpha, self.class_order)
        return [tuple(self.class_names[k] for k in np.flatnonzero(row)) for row in sets]

    def pooled(self, folds: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The classes that had too few patients in `folds` to stand alone -> all classes of their pool."""
        pools = conformal.make_pools(self._scores_of(folds), len(self.class_names), self.class_order)
        return pool_names(pools, self.class_names)

    def _require_folds(self, folds: Iterable[str]) -> None:
        unknown = [fold for fold in folds if fold not in self.checkpoints]
        if unknown:
            known = ", ".join(self.checkpoints)
            raise ModelError(f"Fold {unknown[0]} was not calibrated; folds {known} were. {AGAIN}")

    def _scores_of(self, folds: Sequence[str]) -> CalibrationScores:
        self._require_folds(folds)
        return self._known.rows(np.isin(self._known.folds, list(folds)))

    @functools.cached_property
    def _known(self) -> CalibrationScores:
        parts = [self.scores[name] for name in self.class_names]
        return CalibrationScores(
            patients=np.asarray([i for part in parts for i in part.patients], int),
            folds=np.asarray([f for part in parts for f in part.folds], str),
            classes=np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts]),
            scores=np.asarray([s for part in parts for s in part.scores], float),
        )


def pool_names(pools: Sequence[Pool], class_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names of the pools that hold more than the class itself, by that class."""
    named = {class_names[k]: tuple(class_names[c] for c in pool) for k, pool in enumerate(pools)}
    return {name: pool for name, pool in named.items() if len(pool) > 1}


def _check_numbers(calibration: Calibration) -> None:
    names, quality = calibration.class_names, calibration.quality
    if len(names) < 2 or len(set(names)) != len(names):
        raise ModelError(f"Calibration: class_names: got {list(names)}, expected at least two different ones.")
    by_class = {"scores": calibration.scores, "counts": calibration.counts, "quality.coverage": quality.coverage}
    for field, values in by_class.items():
        if set(values) != set(names):
            raise ModelError(f"Calibration: {field}: has the classes {', '.join(values)}, expected {', '.join(names)}.")
    # Comparisons are written so that not-a-number counts as wrong.
    low, high = TEMPERATURES
    if not low <= calibration.temperature <= high:
        raise ModelError(f"Calibration: temperature: got {calibration.temperature:g}, expected {low:g} to {high:g}.")
    if not 0 < calibration.alpha < LARGEST_ALPHA:
        raise ModelError(f"Calibration: alpha: got {calibration.alpha:g}, expected between 0 and {LARGEST_ALPHA:g}.")
    covered = [share for share in quality.coverage.values() if share is not None]
    shares = [calibration.refer_below, quality.ece_before, quality.ece_after, *covered]
    others = [quality.nll_before, quality.nll_after, quality.mean_set_size]
    if not all(0 <= s <= 1 for s in shares) or not all(n >= 0 and math.isfinite(n) for n in others):
        raise ModelError(f"Calibration: refer_below or quality: {quality} holds a number that cannot be.")
    if not any(counts.vertebrae for counts in calibration.counts.values()):
        raise ModelError(f"Calibration: scores: there is no vertebra. {AGAIN}")


def _check_class(name: str, known: ClassScores, counts: ClassCounts, checkpoints: Mapping[str, str]) -> None:
    where = f"Calibration: scores of {name!r}"
    sizes = (len(known.patients), len(known.folds), len(known.scores))
    if set(sizes) != {counts.vertebrae} or len(set(known.patients)) != counts.patients:
        raise ModelError(
            f"{where}: {sizes} patients, folds and scores of {len(set(known.patients))} different patients, expected "
            f"{counts.vertebrae} of {counts.patients}."
        )
    if not all(0 <= score <= 1 for score in known.scores):
        raise ModelError(f"{where}: a score does not lie between 0 and 1.")
    if not all(0 <= patient < _LARGEST_PATIENT_NUMBER for patient in known.patients):
        raise ModelError(f"{where}: a patient has a number below 0 or too large.")
    unknown = set(known.folds) - set(checkpoints)
    if unknown:
        raise ModelError(f"{where}: fold {min(unknown)} has no checkpoint; there are {', '.join(checkpoints)}.")


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as JSON."""
    files.write_json(path, dataclasses.asdict(calibration))


def load_calibration(path: Path) -> Calibration:
    """Calibration from its JSON file.

    Raises
    ------
    ModelError
        When the file is missing, too large, no JSON, or has an unknown, missing, ill-typed or impossible part.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: the model was not calibrated.")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise ModelError(f"{path}: {path.stat().st_size} bytes are too many for a calibration. {AGAIN}")
    try:
        return from_plain(Calibration, files.read_json(path), str(path))
    except (DatasetError, PlanError, ModelError) as error:
        message = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise ModelError(message) from None
    except OverflowError:
        raise ModelError(f"{path}: a number is too large. {AGAIN}") from None
