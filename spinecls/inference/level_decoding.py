"""Names of the vertebrae of a column, decoded together: most probable sequence, probabilities, doubt.

A column is a chain of detections from head to feet. Each names one level; a chain costs, in nats,

* for each detection, visibility times minus the log-probability of its level (probabilities below
  `LEAST_PROBABILITY` count as that, so one blunder of the network cannot forbid the truth),
* for each step from a level to another, the cheapest way of getting there: the next level of a common spine (0), a
  numerical variant (T12 to T13, T11 to L1, L5 to L6, L4 to S1), or either of them twice with the vertebra between
  missed by the detector. T13 to L1 and L6 to S1 are free, as the variant was paid for. A way also costs its spacing,
  (ln(distance / expected))^2 / (2 sigma^2), the expected distance being the sum of the pitches passed,
* for each step to the same level, a doubled detection: its price, and where the distance exceeds half the pitch,
  (ln(distance / (pitch / 2)))^2 / (2 sigma^2). At most two detections in a row are one vertebra,
* for each detection below S1, also named S1: the next segment of the sacrum, which looks like the first, has its own
  price and may lie a whole pitch below; anything else there is no vertebra, at a price of its own whatever the
  distance, and with a name as good as drawn by lot. There may be several.

Nothing else is possible; no other name comes after S1. Exact dynamic programming over (level, first or second
detection) gives the cheapest chain; the probabilities sum exp(-cost) over all chains (forward-backward, Rabiner, Proc.
IEEE 1989).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax

from spinecls.anatomy import LEVELS, RANK, SUCCESSORS
from spinecls.curve import image_tangents_lps
from spinecls.errors import DatasetError, ModelError
from spinecls.geometry import Geometry

LEAST_PROBABILITY = 1e-9

AMBIGUOUS_BELOW_NATS = 2.0

ANCHORS = ("C1", "C2", "S1")
"""Levels that are recognised by themselves, without counting."""

_LEAST_DISTANCE_MM = 1.0
_COUNT = len(LEVELS)


@dataclass(frozen=True, kw_only=True)
class TransitionCosts:
    """Prices in nats, about minus the log of how often it happens; `spacing_sigma` in units of log distance."""

    t13: float = 4.0
    absent_t12: float = 4.0
    l6: float = 3.0
    absent_l5: float = 3.5
    missed: float = 4.0
    doubled: float = 5.0
    sacral: float = 3.5
    below_sacrum: float = 5.0
    spacing_sigma: float = 0.15


@dataclass(frozen=True, kw_only=True)
class LevelDecoding:
    """Names of N detections, head to feet.

    Attributes
    ----------
    labels : most probable chain of names
    cost : nats of that chain
    posterior : (N, 27) probability of each level of `anatomy.LEVELS`
    runner_up : most probable other level of each detection
    shift_margin_nats : cost of the cheapest chain that names every vertebra differently, second detections aside, less
        `cost`; infinite when there is none
    anchors : levels countable from that are probably in the image: detected, or, by `see_anchors`, next to a detection
    relative_names : "lowest", "lowest-1", ... counted upwards, vertebrae judged missed included
    doubled : pairs of rows that are one vertebra
    merged_away : of each pair the row that fits its name less
    """

    labels: tuple[str, ...]
    cost: float
    posterior: np.ndarray
    runner_up: tuple[str, ...]
    shift_margin_nats: float
    anchors: tuple[str, ...]
    relative_names: tuple[str, ...]
    doubled: tuple[tuple[int, int], ...]
    merged_away: tuple[int, ...]

    @property
    def ambiguous(self) -> bool:
        """Whether the numbering hangs on too little: a single vertebra, no anchor in view, or too small a margin.

        A lone detection is its own only witness: in pure noise a network can be sure of an S1.
        """
        return len(self.kept) < 2 or not self.anchors or self.shift_margin_nats < AMBIGUOUS_BELOW_NATS

    @property
    def kept(self) -> list[int]:
        """Rows that are one vertebra each: all but those merged away."""
        return [row for row in range(len(self.labels)) if row not in self.merged_away]

    def rows(self, rows: Sequence[int]) -> LevelDecoding:
        """The decoding reduced to some of its rows; what was concluded from all of them stands."""
        new = {int(old): i for i, old in enumerate(rows)}
        return replace(
            self,
            labels=tuple(self.labels[i] for i in new),
            posterior=self.posterior[list(new)],
            runner_up=tuple(self.runner_up[i] for i in new),
            relative_names=tuple(self.relative_names[i] for i in new),
            doubled=tuple((new[a], new[b]) for a, b in self.doubled if a in new and b in new),
            merged_away=tuple(new[i] for i in self.merged_away if i in new),
        )


@dataclass(frozen=True)
class _Way:
    """One way of getting from a level to another below it."""

    upper: str
    lower: str
    cost: float
    expected_mm: float
    missed: bool


def decode_levels(
    centres_lps: np.ndarray,
    log_probabilities: np.ndarray,
    pitch_mm: Mapping[str, float] | None = None,
    *,
    visibility: np.ndarray | None = None,
    costs: TransitionCosts | None = None,
    certainty: float = 1.0,
) -> LevelDecoding:
    """Name the detections of one column.

    Parameters
    ----------
    centres_lps : (N, 3) from head to feet, world mm
    log_probabilities : (N, 27) of the levels in the order of `anatomy.LEVELS`, natural logarithm
    pitch_mm : median distance of a level's centre to the next one below; levels that are absent or not positive get
        a rough one
    visibility : (N,) in 0..1, how much each detection's own probabilities count; all 1 by default
    costs : prices of the steps
    certainty : in 0..1, by which every cost is multiplied: the names stay, and are less sure

    Raises
    ------
    ModelError
        When the log-probabilities are not numbers.
    DatasetError
        With more detections than a doubled spine has.
    """
    costs = costs or TransitionCosts()
    pitch = complete_pitch_mm(pitch_mm or {})
    centres = np.asarray(centres_lps, float).reshape(-1, 3)
    weight = _weights(len(centres), visibility)
    emission = _emission_cost(log_probabilities, weight)
    if len(centres) == 0:
        return _nothing()
    if len(centres) > 2 * _COUNT:
        raise DatasetError(
            f"{len(centres)} detections in one column: expected at most {2 * _COUNT}, each level twice. "
            "Raise the detection threshold, or check that the image shows one spine."
        )
    own = certainty * _by_state(emission, weight)
    ways = _ways(costs, pitch)
    steps_mm = np.maximum(np.linalg.norm(np.diff(centres, axis=0), axis=1), _LEAST_DISTANCE_MM)
    step_cost = certainty * _step_costs(steps_mm, ways, costs, pitch)
    states, cost = _cheapest(own, step_cost)
    chosen = states % _COUNT
    vertebrae = np.flatnonzero(states < _COUNT)
    forbidden = own.copy()
    forbidden[vertebrae, chosen[vertebrae]] = np.inf
    forbidden[vertebrae, chosen[vertebrae] + _COUNT] = np.inf
    posterior = _posterior(own, step_cost)
    others = posterior.copy()
    others[np.arange(len(chosen)), chosen] = -1
    anchors = tuple(level for level in ANCHORS if posterior[:, RANK[level]].max() > 0.5)
    margin = float(_cheapest(forbidden, step_cost)[1] - cost)
    doubled = tuple((i - 1, i) for i in range(1, len(states)) if states[i] >= _COUNT)
    labels = tuple(LEVELS[i] for i in chosen)
    return LevelDecoding(
        labels=labels,
        cost=float(cost),
        posterior=posterior,
        runner_up=tuple(LEVELS[i] for i in others.argmax(axis=1)),
        shift_margin_nats=margin,
        anchors=anchors,
        relative_names=_relative_names(labels, steps_mm, ways, costs),
        doubled=doubled,
        merged_away=tuple(_worse(emission, chosen, a, b) for a, b in doubled),
    )


def _worse(emission: np.ndarray, chosen: np.ndarray, upper: int, lower: int) -> int:
    """Of two detections of one vertebra the row that fits its name less; of two named S1 the lower one."""
    if chosen[upper] == RANK["S1"]:
        return lower
    return upper if emission[upper, chosen[upper]] > emission[lower, chosen[lower]] else lower


def see_anchors(
    decoding: LevelDecoding, centres_lps: np.ndarray, geometry: Geometry, pitch_mm: Mapping[str, float] | None = None
) -> LevelDecoding:
    """Add the anchors that lie in the image beside a detection without being detected themselves.

    A sacrum is seen, and its neighbour recognised by it, though nobody ever annotated S1 and so no network learnt to
    detect it. S1 counts as in view when its centre, one pitch below a detection named L5 or L6 along the spine, lies in
    the image; C2 likewise above C3.

    Parameters
    ----------
    centres_lps : (N, 3) of the decoding's detections, head to feet
    geometry : grid of the image
    """
    if not decoding.labels:
        return decoding
    pitch = complete_pitch_mm(pitch_mm or {})
    tangents = image_tangents_lps(centres_lps, geometry)
    first, last = decoding.labels[0], decoding.labels[-1]
    seen = set(decoding.anchors)
    if last in ("L5", "L6") and geometry.contains(centres_lps[-1] + pitch[last] * tangents[-1]):
        seen.add("S1")
    if first == "C3" and geometry.contains(centres_lps[0] - pitch["C2"] * tangents[0]):
        seen.add("C2")
    return replace(decoding, anchors=tuple(level for level in ANCHORS if level in seen))


def complete_pitch_mm(pitch_mm: Mapping[str, float]) -> dict[str, float]:
    """Pitch of every level: as given, else rising evenly from 16 mm at C1 to 34 mm at L5."""
    rough = np.interp(range(_COUNT), [0, RANK["L5"]], [16.0, 34.0])
    given = {level: float(value) for level, value in pitch_mm.items() if value > 0}
    return {level: given.get(level, float(rough[RANK[level]])) for level in LEVELS}


def _weights(count: int, visibility: np.ndarray | None) -> np.ndarray:
    """(N,) how much each detection's own probabilities count."""
    weight = np.ones(count) if visibility is None else np.asarray(visibility, float)
    if weight.shape != (count,) or np.any((weight < 0) | (weight > 1)):
        raise ValueError(f"visibility: expected {count} numbers in 0..1, got {weight}")
    return weight


def _emission_cost(log_probabilities: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, 27) nats of each name for each detection."""
    count = len(weight)
    logs = np.asarray(log_probabilities, float)
    if logs.shape != (count, _COUNT):
        raise ValueError(f"log_probabilities: expected shape ({count}, {_COUNT}), got {logs.shape}")
    if np.isnan(logs).any() or np.isposinf(logs).any():
        row = int(np.flatnonzero((np.isnan(logs) | np.isposinf(logs)).any(axis=1))[0])
        raise ModelError(f"Level probabilities of detection {row} are not numbers: the network gave {logs[row].max()}.")
    return -weight[:, None] * np.maximum(logs, np.log(LEAST_PROBABILITY))


def _successors(costs: TransitionCosts) -> dict[str, dict[str, float]]:
    """Levels that may follow a level in a spine, and their prices."""
    table = {upper: dict.fromkeys(lowers, 0.0) for upper, lowers in SUCCESSORS.items()}
    table["T12"]["T13"] = costs.t13
    table["T11"]["L1"] = costs.absent_t12
    table["L5"]["L6"] = costs.l6
    table["L4"]["S1"] = costs.absent_l5
    return table


def _ways(costs: TransitionCosts, pitch: Mapping[str, float]) -> tuple[_Way, ...]:
    """Steps to the next vertebra, and steps over one that was missed."""
    follow = _successors(costs)
    ways = []
    for upper, nexts in follow.items():
        for middle, price in nexts.items():
            ways.append(_Way(upper, middle, price, pitch[upper], False))
            for lower, further in follow[middle].items():
                total = costs.missed + price + further
                ways.append(_Way(upper, lower, total, pitch[upper] + pitch[middle], True))
    return tuple(ways)


def _way_costs(steps_mm: np.ndarray, ways: Sequence[_Way], costs: TransitionCosts) -> np.ndarray:
    """(N - 1, ways) nats of price and spacing."""
    deviation = np.log(steps_mm[:, None] / np.array([way.expected_mm for way in ways]))
    return np.array([way.cost for way in ways]) + deviation**2 / (2 * costs.spacing_sigma**2)


def _step_costs(
    steps_mm: np.ndarray, ways: Sequence[_Way], costs: TransitionCosts, pitch: Mapping[str, float]
) -> np.ndarray:
    """(N - 1, 54, 54) nats from state to state; state = level rank, + 27 for the second detection of a vertebra."""
    between = np.full((len(steps_mm), _COUNT, _COUNT), np.inf)
    for way, nats in zip(ways, _way_costs(steps_mm, ways, costs).T, strict=True):
        cell = between[:, RANK[way.upper], RANK[way.lower]]
        np.minimum(cell, nats, out=cell)
    reach = np.array([pitch[level] / (1 if level == "S1" else 2) for level in LEVELS])
    excess = np.maximum(np.log(steps_mm[:, None] / reach), 0)
    cost = np.full((len(steps_mm), 2 * _COUNT, 2 * _COUNT), np.inf)
    cost[:, :_COUNT, :_COUNT] = between
    cost[:, _COUNT:, :_COUNT] = between
    ranks = np.arange(_COUNT)
    price = np.full(_COUNT, costs.doubled)
    price[RANK["S1"]] = costs.sacral
    again = price + excess**2 / (2 * costs.spacing_sigma**2)
    sacrum = RANK["S1"]
    again[:, sacrum] = np.minimum(again[:, sacrum], costs.below_sacrum)
    cost[:, ranks, ranks + _COUNT] = again
    cost[:, sacrum + _COUNT, sacrum + _COUNT] = again[:, sacrum]
    return cost


def _by_state(emission: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N, 54) emission costs; the first detection of the column is the first of its vertebra."""
    doubled = np.concatenate([emission, emission], axis=1)
    below_s1 = _COUNT + RANK["S1"]
    doubled[:, below_s1] = np.minimum(doubled[:, below_s1], weight * np.log(_COUNT))
    doubled[0, _COUNT:] = np.inf
    return doubled


def _cheapest(own: np.ndarray, step_cost: np.ndarray) -> tuple[np.ndarray, float]:
    """States (N,) of the cheapest chain and its cost (Viterbi), of (N, 54) emission costs; infinite without any."""
    total = own[0]
    origins = []
    for step, here in zip(step_cost, own[1:], strict=True):
        reached = total[:, None] + step
        origins.append(reached.argmin(axis=0))
        total = reached.min(axis=0) + here
    states = [total.argmin()]
    for origin in reversed(origins):
        states.append(origin[states[-1]])
    return np.array(states[::-1]), float(total.min())


def _posterior(own: np.ndarray, step_cost: np.ndarray) -> np.ndarray:
    """(N, 27) probability of each level over all chains, of (N, 54) emission costs."""
    own = -own
    down, up = [own[0]], [np.zeros(2 * _COUNT)]
    for step, here in zip(step_cost, own[1:], strict=True):
        down.append(np.logaddexp.reduce(down[-1][:, None] - step, axis=0) + here)
    for step, below in zip(step_cost[::-1], own[:0:-1], strict=True):
        up.append(np.logaddexp.reduce(up[-1] + below - step, axis=1))
    log_weight = np.array(down) + np.array(up[::-1])
    probability = np.exp(log_softmax(log_weight, axis=1))
    return probability[:, :_COUNT] + probability[:, _COUNT:]


def _relative_names(
    labels: Sequence[str], steps_mm: np.ndarray, ways: Sequence[_Way], costs: TransitionCosts
) -> tuple[str, ...]:
    """Counts from the lowest detection upwards."""
    nats = _way_costs(steps_mm, ways, costs)
    above = [0]
    for i in range(len(labels) - 1, 0, -1):
        taken = [k for k, way in enumerate(ways) if (way.upper, way.lower) == (labels[i - 1], labels[i])]
        passed = 1 + ways[taken[nats[i - 1, taken].argmin()]].missed if taken else 0
        above.append(above[-1] + passed)
    return tuple(f"lowest-{n}" if n else "lowest" for n in reversed(above))


def _nothing() -> LevelDecoding:
    return LevelDecoding(
        labels=(),
        cost=0.0,
        posterior=np.zeros((0, _COUNT)),
        runner_up=(),
        shift_margin_nats=0.0,
        anchors=(),
        relative_names=(),
        doubled=(),
        merged_away=(),
    )
