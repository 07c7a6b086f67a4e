"""What readers said of a vertebra, as belief masses on sets of classes."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_SETS = 3
MAX_READERS = 8
"""Readings of one vertebra that are told apart."""

REFINED_SHARE = 0.5
"""Share of the mass of a set that what a model expects may move to single classes."""

LARGEST_EXPECTED = 0.9
"""Share of that for one class at most, for a model may be sure and wrong. Both shares are our own choice, untried."""


@dataclass(frozen=True)
class Belief:
    """Masses on sets of class indices.

    Attributes
    ----------
    sets : (R, K) bool array, row r = the classes allowed by focal set r
    masses : (R,) float array
    readers : (R,) int array, number of the reader who says so; -1 = unknown, or several of one mind
    """

    sets: np.ndarray
    masses: np.ndarray
    readers: np.ndarray = field(default_factory=lambda: np.full(MAX_SETS, -1))

    @property
    def weight(self) -> float:
        """Mass that says something, 1 - m(all classes)."""
        return float(self.masses.sum())

    def singletons(self) -> np.ndarray:
        """(K,) mass on each single class."""
        single = self.sets.sum(axis=1) == 1
        return (self.sets[single] * self.masses[single, None]).sum(axis=0)

    def discounted(self, certainty: float) -> Belief:
        """The same with its masses this much smaller (0 to 1), the difference falling to "nothing known"."""
        return dataclasses.replace(self, masses=self.masses * np.float32(certainty))


def belief(readings: Iterable[tuple[Sequence[int], float]], num_classes: int) -> Belief:
    """Mean of the beliefs of several readings.

    Parameters
    ----------
    readings : pairs (class indices meant, confidence in 0..1), one a reading; none = nothing known
    num_classes : K

    Returns
    -------
    Belief
        With equal sets merged, the set of all classes left out, and at most `MAX_SETS` sets kept, those of greatest
        mass; the mass of the others falls to "nothing known", which is the cautious side.
    """
    collected: dict[tuple[int, ...], float] = {}
    readings = list(readings)
    for classes, confidence in readings:
        key = tuple(sorted(set(classes)))
        if 0 < len(key) < num_classes:
            collected[key] = collected.get(key, 0.0) + confidence / len(readings)
    kept = sorted(collected.items(), key=lambda item: -item[1])[:MAX_SETS]
    return _filled([(classes, mass, -1) for classes, mass in kept], MAX_SETS, num_classes)


def belief_by_reader(readings: Iterable[tuple[Sequence[int], float, int]], num_classes: int) -> Belief:
    """As `belief`, with one focal set for each of the first `MAX_READERS` readings, so that it is known who said what.

    Parameters
    ----------
    readings : (class indices meant, confidence in 0..1, number of the reader or -1)
    """
    readings = list(readings)
    kept = [r for r in readings if 0 < len(set(r[0])) < num_classes][:MAX_READERS]
    shares = [(classes, confidence / len(readings), reader) for classes, confidence, reader in kept]
    return _filled(shares, MAX_READERS, num_classes)


def _filled(rows: Iterable[tuple[Sequence[int], float, int]], count: int, num_classes: int) -> Belief:
    """Belief of `count` rows, the first of them these: classes, mass and reader."""
    made = Belief(np.zeros((count, num_classes), bool), np.zeros(count, np.float32), np.full(count, -1))
    for row, (classes, mass, reader) in enumerate(rows):
        made.sets[row, list(classes)] = True
        made.masses[row] = mass
        made.readers[row] = reader
    return made


def certain(index: int, num_classes: int) -> Belief:
    """All mass on one class."""
    return belief([((index,), 1.0)], num_classes)


def partly_visible(full: Belief, visible_fraction: float, smallest: float = 0.9) -> Belief:
    """Belief about a vertebra of which only a part is seen.

    Class 0 (nothing found) stays true of any part. Another class may lie in the part that is not seen, so below
    `smallest` its set is widened by class 0. All masses shrink to the visible fraction.
    """
    sets = full.sets.copy()
    if visible_fraction < smallest:
        # A slice, for without classes there is no column 0.
        sets[sets.any(axis=1), :1] = True
    return dataclasses.replace(full, sets=sets).discounted(min(1.0, visible_fraction))


def refined(told: Belief, probabilities: np.ndarray) -> Belief:
    """Belief in which sets of several classes give up to half of their mass to those that a model expects.

    Of the half, class k of a set S gets the share min(p_k / P(S), 0.9); what nobody gets stays on S. Sets of one class
    stay as they are, and so do all where no class of the set is expected at all.

    Parameters
    ----------
    probabilities : (K,) of the classes, by a model that did not learn from this vertebra; zeros = unknown

    Returns
    -------
    Belief
        Of K more rows: mass that moved lies on single classes, and is no reader's (-1).
    """
    within = told.sets * np.asarray(probabilities, np.float32)
    total = within.sum(axis=1, keepdims=True)
    shares = np.minimum(within / np.where(total > 0, total, 1), LARGEST_EXPECTED)
    several = told.sets.sum(axis=1, keepdims=True) > 1
    moved = REFINED_SHARE * told.masses[:, None] * shares * several
    num_classes = told.sets.shape[1]
    return Belief(
        np.concatenate([told.sets, np.eye(num_classes, dtype=bool)]),
        np.concatenate([told.masses - moved.sum(axis=1), moved.sum(axis=0)]).astype(np.float32),
        np.concatenate([told.readers, np.full(num_classes, -1)]),
    )


def agreed_class(readings: Iterable[tuple[Sequence[str], float]]) -> str | None:
    """The class that most confidence of the exact readings lies on; None without any confidence, or at a tie.

    Parameters
    ----------
    readings : pairs (class names meant, confidence), one a reading; sets of several classes do not vote
    """
    votes: defaultdict[str, float] = defaultdict(float)
    for classes, confidence in readings:
        if len(classes) == 1:
            votes[classes[0]] += confidence
    ranked = sorted(votes.items(), key=lambda vote: vote[1], reverse=True)
    if not ranked or ranked[0][1] <= 0 or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
