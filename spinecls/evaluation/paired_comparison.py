"""Is one way to train better than another? Paired over patients and over draws of the training set.

Two sources of chance are drawn together (Bouthillier et al., MLSys 2021): which patients were trained on, with the seed
of the run, and which were tested on. Both arms of a comparison always share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spinecls.evaluation import metrics
from spinecls.evaluation.intervals import DEFAULT_DRAWS, Interval, draw_patients, interval_of_draws, no_interval
from spinecls.evaluation.vertebra_table import ReadVertebrae, require_same_classes

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm at one number of training patients.

    Attributes
    ----------
    area : macro AUC, end to end, mean over the draws
    gain : that less the first arm's, over the draws that both have; None for the first arm
    p_value : two-sided, of no gain, from the bootstrap; adjusted : the same after Holm over all comparisons
    draws : how many draws `gain`, or of the first arm `area`, rests on
    """

    arm: str
    size: str
    area: Interval
    draws: int
    gain: Interval | None = None
    p_value: float = np.nan
    adjusted: float = np.nan

    @property
    def verdict(self) -> str:
        """In words; a difference is claimed only after the adjustment for many comparisons."""
        if self.gain is None:
            return "reference"
        if np.isnan(self.gain.estimate):
            return "not defined"
        if self.draws < 2:
            return "no verdict from one draw"
        if self.gain.no_interval:
            return f"no verdict: {self.gain.no_interval}"
        if not self.adjusted < SIGNIFICANCE or self.gain.low <= 0 <= self.gain.high:
            return "no difference shown"
        return "better" if self.gain.estimate > 0 else "worse"


def compare(
    runs: Mapping[tuple[str, str, int], ReadVertebrae],
    arms: Sequence[str],
    sizes: Sequence[str],
    bootstrap_draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> list[Comparison]:
    """Compare arms with the first one at every size; what has not run yet is left out.

    Parameters
    ----------
    runs : (arm, size, number of the draw) -> held-out vertebrae, of the same test patients in all
    arms, sizes : in the order of the table; gains are over `arms[0]`

    Raises
    ------
    DatasetError
        When runs are of other classes.
    """
    require_same_classes(list(runs.values()))
    patients = sorted({patient for table in runs.values() for patient in table.patients})
    drawn = draw_patients(patients, bootstrap_draws, seed)
    rng = np.random.default_rng([seed, 1])
    areas = {key: _areas(table, drawn) for key, table in runs.items()}

    def score(point: float, spread: np.ndarray, keys: Sequence[tuple[str, str, int]]) -> Interval:
        tables = [runs[key] for key in keys]
        tested = [patient for table in tables for patient in table.patients]
        reasons = [str(no_interval(metrics.macro_auc(t.truth, t.probabilities), t.patients)) for t in tables]
        return interval_of_draws(point, spread, tested, max(reasons))

    comparisons = []
    for size in sizes:
        for arm in arms:
            own = sorted(draw for a, s, draw in runs if (a, s) == (arm, size))
            if not own:
                continue
            point, spread = _over_draws([areas[arm, size, d] for d in own], rng)
            area = score(point, spread, [(arm, size, d) for d in own])
            both = [d for d in own if (arms[0], size, d) in runs] if arm != arms[0] else []
            if not both:
                comparisons.append(Comparison(arm=arm, size=size, area=area, draws=len(own)))
                continue
            gains = [
                tuple(a - b for a, b in zip(areas[arm, size, d], areas[arms[0], size, d], strict=True)) for d in both
            ]
            point, spread = _over_draws(gains, rng)
            gain = score(point, spread, [(a, size, d) for a in (arm, arms[0]) for d in both])
            p_value = np.nan if gain.no_interval else _p_value(spread)
            comparisons.append(Comparison(arm=arm, size=size, area=area, draws=len(both), gain=gain, p_value=p_value))
    # The first arm has no p-value, which stays so.
    adjusted = holm([c.p_value for c in comparisons])
    return [replace(c, adjusted=p) for c, p in zip(comparisons, adjusted, strict=True)]


def _areas(table: ReadVertebrae, drawn) -> tuple[np.ndarray, np.ndarray]:
    """Macro AUC of one run: (1,) of all patients, (B,) of every draw of patients."""
    macro = metrics.macro_auc(table.truth, table.probabilities)
    return macro(np.ones((1, len(table.truth)))), macro(drawn.weights(table.patients))


def _over_draws(values: Sequence[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Mean over draws of the training set, and (B,) means over draws that are drawn again with replacement.

    Drawn again, k values scatter by (k - 1) / k less than they should; their deviations are stretched by its root.
    """
    point = float(np.mean([single[0] for single, _ in values]))
    table, count = np.stack([spread for _, spread in values]), len(values)
    chosen = rng.integers(count, size=(table.shape[1], count))
    again = table[chosen, np.arange(table.shape[1])[:, None]].mean(axis=1)
    stretch = np.sqrt(count / (count - 1)) if count > 1 else 1.0
    return point, table.mean(axis=0) + stretch * (again - table.mean(axis=0))


def _p_value(spread: np.ndarray) -> float:
    """Twice the smaller share of the bootstrap on either side of zero, at least 2 / B."""
    known = spread[~np.isnan(spread)]
    if not len(known):
        return np.nan
    side = min(np.mean(known <= 0), np.mean(known >= 0))
    return float(min(1.0, 2 * max(side, 1 / len(known))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm, Scand J Stat 1979): the chance of any false claim stays below the level.

    A value that is not a number stays so and does not count.
    """
    values = np.asarray(p_values, float)
    adjusted = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values) if not np.isnan(values[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted.tolist()
