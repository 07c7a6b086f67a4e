"""95 % intervals by drawing patients with replacement, because vertebrae of one patient are alike.

A *statistic* is a function of weights (B, N), one row a draw and one column an item (a vertebra or a case), that
returns B values; so one matrix holds all draws and no draw is looped over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinecls.errors import UsageError

Statistic = Callable[[np.ndarray], np.ndarray]

DEFAULT_DRAWS = 2000
_MAX_WEIGHTS_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % percentile interval; not-a-number where it is not defined.

    `items` and `patients` are what it rests on; `valid_draws` is how many draws gave a number.
    """

    estimate: float
    low: float
    high: float
    items: int
    patients: int
    valid_draws: int

    def as_dict(self) -> dict[str, float | int]:
        """Plain types for JSON."""
        return {
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "items": self.items,
            "patients": self.patients,
            "valid_draws": self.valid_draws,
        }


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


def percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
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


def interval(
    statistic: Statistic, item_patients: Sequence[str], draws: PatientDraws, estimate: float | None = None
) -> Interval:
    """Estimate and 95 % interval of a statistic (Efron and Tibshirani 1993, percentile method, clusters drawn).

    Parameters
    ----------
    statistic : function of weights (B, N) that returns (B,)
    item_patients : the patient of each of the N items; N may be 0
    draws : from `draw_patients`, of all patients of the evaluation, so that all intervals share their draws
    estimate : the estimate itself where it is known already; else the statistic of equal weights
    """
    if not len(item_patients):
        return _UNDEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = _point(statistic, item_patients) if estimate is None else float(estimate)
        values = evaluate_draws(statistic, item_patients, draws)
    return _percentile_interval(estimate, values, len(item_patients), len(set(item_patients)))


def joint_intervals(
    statistic: Statistic, names: Sequence[Hashable], item_patients: Sequence[str], draws: PatientDraws
) -> dict[Hashable, Interval]:
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
    count = len(set(item_patients))
    return {
        name: _percentile_interval(float(estimates[m]), values[:, m], len(item_patients), count)
        for m, name in enumerate(names)
    }


def _percentile_interval(estimate: float, values: np.ndarray, items: int, patients: int) -> Interval:
    # An estimate that is not defined has no interval, even where single draws happen to give a number.
    low, high = percentiles(values) if not np.isnan(estimate) else (np.nan, np.nan)
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        items=items,
        patients=patients,
        valid_draws=int((~np.isnan(values)).sum()),
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
    return _percentile_interval(estimate, values, len(second_patients), len({*first_patients, *second_patients}))


def format_score(score: Mapping[str, Any], form: str = ".3f") -> str:
    """Estimate and interval as a person writes them."""
    if score["estimate"] is None or np.isnan(score["estimate"]):
        return "not defined"
    return f"{score['estimate']:{form}} [{score['low']:{form}}, {score['high']:{form}}]"
