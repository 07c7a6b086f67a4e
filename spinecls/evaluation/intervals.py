"""95 % intervals by drawing patients with replacement, because vertebrae of one patient are alike.

Every interval of the package is made here, so that all keep three rules:

- What rests on one patient has no interval, and says so (`Interval.no_interval`). It rests on one when it is of one, or
  when there is one without whom it is not defined: all vertebrae of a class, say, are his. How much patients differ
  cannot be known from one, and the draws that hold him would be as good as equal.
- An interval holds its estimate.
- Of a score that is freed of what chance adds (`centred`) the draws are moved until their median is the estimate. A
  draw repeats patients and so scatters more than the sample; chance adds more to it than the score takes away, and
  the draws lie too high, in small samples above the estimate altogether.

A *statistic* is a function of weights (B, N), one row a draw and one column an item (a vertebra or a case), that
returns B values; so one matrix holds all draws and no draw is looped over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from spinecls.errors import UsageError

Statistic = Callable[[np.ndarray], np.ndarray]
Name = TypeVar("Name", bound=Hashable)

DEFAULT_DRAWS = 2000
_MAX_WEIGHTS_AT_ONCE = 2_000_000

ONE_PATIENT = "one patient"
HANGS_ON_ONE = "hangs on one patient"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % percentile interval; not-a-number where it is not defined.

    `items` and `patients` are what it rests on; `valid_draws` is how many draws gave a number; `no_interval` is why a
    number has no interval (its ends are not-a-number then), empty where it has one or is not defined itself.
    """

    estimate: float
    low: float
    high: float
    items: int
    patients: int
    valid_draws: int
    no_interval: str = ""

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Plain types for JSON, where not-a-number becomes null."""
        return dataclasses.asdict(self) | {"no_interval": self.no_interval or None}


_UNDEFINED = Interval(estimate=np.nan, low=np.nan, high=np.nan, items=0, patients=0, valid_draws=0)


@dataclass(frozen=True)
class PatientDraws:
    """Patients drawn with replacement.

    Attributes
    ----------
    index : position of each patient in the columns of `counts`
    counts : (B, P) how often each draw holds each patient
    """

    index: dict[str, int]
    counts: np.ndarray

    def weights(self, item_patients: Sequence[str], start: int = 0, stop: int | None = None) -> np.ndarray:
        """(draws, N) weights of items by the patients they belong to, for the draws `start` to `stop`."""
        columns = np.asarray([self.index[patient] for patient in item_patients], int)
        return self.counts[start:stop, columns].astype(float)


def draw_patients(patients: Sequence[str], draws: int = DEFAULT_DRAWS, seed: int = 0) -> PatientDraws:
    """Draw as many patients as there are, with replacement, `draws` times.

    Parameters
    ----------
    patients : identifiers, repeated ones count once
    """
    if draws < 1:
        raise UsageError(f"Bootstrap draws: got {draws}, expected at least 1.")
    distinct = sorted(set(patients))
    count = len(distinct)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(count, np.full(count, 1 / count), size=draws) if count else np.zeros((draws, 0), int)
    return PatientDraws({patient: column for column, patient in enumerate(distinct)}, counts)


def evaluate_draws(statistic: Statistic, item_patients: Sequence[str], draws: PatientDraws) -> np.ndarray:
    """(B,) values of a statistic over all draws, or (B, M) of one that returns M; in blocks that fit into memory."""
    total = len(draws.counts)
    block = max(1, _MAX_WEIGHTS_AT_ONCE // max(1, len(item_patients)))
    return np.concatenate(
        [statistic(draws.weights(item_patients, start, start + block)) for start in range(0, total, block)]
    )


def _point(statistic: Statistic, item_patients: Sequence[str]) -> float:
    return float(statistic(np.ones((1, len(item_patients))))[0])


def _percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Lower and upper end of the middle `level` of the values; not-a-number is left out, infinity stays.

    The ends are values that were drawn, not interpolated ones, so that infinite ones do no harm.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan
    # Rounded, because 1 - 0.95 is a little more than 0.05 in binary, which would shift the lower end by one value.
    ends = [round((1 - level) / 2, 12), round((1 + level) / 2, 12)]
    low, high = np.quantile(known, ends, method="inverted_cdf")
    return float(low), float(high)


def no_interval(statistic: Statistic, item_patients: Sequence[str]) -> np.ndarray:
    """Why the number of each statistic has no interval, an empty text where it may have one; (M,) or () of texts.

    Parameters
    ----------
    statistic : function of weights (B, N) that returns (B,) or (B, M)
    """
    patients = np.asarray(item_patients)
    with np.errstate(divide="ignore", invalid="ignore"):
        defined = ~np.isnan(statistic(np.ones((1, len(patients))))[0])
        if len(distinct := np.unique(patients)) < 2:
            return np.where(defined, ONE_PATIENT, "")
        needed = np.zeros(np.shape(defined), bool)
        block = max(1, _MAX_WEIGHTS_AT_ONCE // len(patients))
        for start in range(0, len(distinct), block):
            without_one = patients != distinct[start : start + block, None]
            needed |= np.isnan(statistic(without_one.astype(float))).any(axis=0)
    return np.where(defined & needed, HANGS_ON_ONE, "")


def interval(
    statistic: Statistic,
    item_patients: Sequence[str],
    draws: PatientDraws,
    estimate: float | None = None,
    centred: bool = False,
    least: float = -np.inf,
) -> Interval:
    """Estimate and 95 % interval of a statistic (Efron and Tibshirani 1993, percentile method, clusters drawn).

    Parameters
    ----------
    statistic : function of weights (B, N) that returns (B,)
    item_patients : the patient of each of the N items; N may be 0
    draws : from `draw_patients`, of all patients of the evaluation, so that all intervals share their draws
    estimate : the estimate itself where it is known already; else the statistic of equal weights
    centred : whether the score is freed of what chance adds, see the head of this module
    least : what such a score cannot fall below
    """
    if not len(item_patients):
        return _UNDEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = _point(statistic, item_patients) if estimate is None else float(estimate)
        values = evaluate_draws(statistic, item_patients, draws)
    reason = str(no_interval(statistic, item_patients))
    return interval_of_draws(estimate, values, item_patients, reason, centred, least)


def joint_intervals(
    statistic: Statistic,
    names: Sequence[Name],
    item_patients: Sequence[str],
    draws: PatientDraws,
    centred: bool = False,
    least: float = -np.inf,
) -> dict[Name, Interval]:
    """As `interval`, of several statistics that are computed together.

    Parameters
    ----------
    statistic : function of weights (B, N) that returns (B, M)
    names : M of them, keys of the result
    """
    if not len(item_patients):
        return dict.fromkeys(names, _UNDEFINED)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimates = statistic(np.ones((1, len(item_patients))))[0]
        values = evaluate_draws(statistic, item_patients, draws)
    reasons = no_interval(statistic, item_patients)
    return {
        name: interval_of_draws(float(estimates[m]), values[:, m], item_patients, str(reasons[m]), centred, least)
        for m, name in enumerate(names)
    }


def interval_of_draws(
    estimate: float,
    values: np.ndarray,
    item_patients: Sequence[str],
    reason: str = "",
    centred: bool = False,
    least: float = -np.inf,
) -> Interval:
    """Interval of an estimate whose (B,) draws are known.

    Parameters
    ----------
    item_patients : the patients that the estimate rests on; of one alone there is no interval
    reason : why there is no interval, from `no_interval`
    centred, least : as in `interval`
    """
    patients = len(set(item_patients))
    reason = reason or (ONE_PATIENT if patients == 1 else "")
    # An estimate that is not defined has no interval, even where single draws happen to give a number.
    low, high = np.nan, np.nan
    if np.isnan(estimate):
        reason = ""
    elif not reason:
        moved = np.maximum(least, values - np.nanmedian(values) + estimate) if centred else values
        low, high = _percentiles(moved)
        low, high = min(low, estimate), max(high, estimate)
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        items=len(item_patients),
        patients=patients,
        valid_draws=int((~np.isnan(values)).sum()),
        no_interval=reason,
    )


def paired_interval(
    first: Statistic,
    first_patients: Sequence[str],
    second: Statistic,
    second_patients: Sequence[str],
    draws: PatientDraws,
) -> Interval:
    """Difference second - first of two sets of predictions on the same patients, each draw the same for both.

    The two may hold different items (such as the vertebrae that each identified); they must hold the same patients
    as `draws`, or fewer.
    """
    if not len(first_patients) or not len(second_patients):
        return _UNDEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = _point(second, second_patients) - _point(first, first_patients)
        values = evaluate_draws(second, second_patients, draws) - evaluate_draws(first, first_patients, draws)
    reason = str(no_interval(first, first_patients)) or str(no_interval(second, second_patients))
    difference = interval_of_draws(estimate, values, [*first_patients, *second_patients], reason)
    return dataclasses.replace(difference, items=len(second_patients))


def format_interval(score: Mapping[str, Any], form: str = ".3f") -> str:
    """The interval as a person writes it, or what the number rests on alone; `score` is `Interval.as_dict`."""
    if score.get("no_interval"):
        return f"[{ONE_PATIENT}]"
    if score["low"] is None or np.isnan(score["low"]):
        return "[no interval]"
    return f"[{score['low']:{form}}, {score['high']:{form}}]"


def format_score(score: Mapping[str, Any], form: str = ".3f") -> str:
    """Estimate and interval as a person writes them."""
    if score["estimate"] is None or np.isnan(score["estimate"]):
        return "not defined"
    return f"{score['estimate']:{form}} {format_interval(score, form)}"
