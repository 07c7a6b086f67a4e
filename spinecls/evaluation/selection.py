"""Which of several models, or means of them, to use: no one is called better without an interval that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spinecls.errors import DatasetError
from spinecls.evaluation import metrics
from spinecls.evaluation.intervals import DEFAULT_DRAWS, Interval, Statistic, draw_patients, interval, paired_interval
from spinecls.evaluation.vertebra_table import ReadVertebrae, require_same_classes

CHANCE = 0.5
"""Macro AUC of probabilities that know nothing."""


def preference(score: float | None, identified_share: float, chance: float) -> tuple[bool, float, float]:
    """What is preferred where scores are compared, ascending: that anything is found, the score, the share found.

    A vertebra that was not found has the prior as its probabilities, so a model that finds nothing scores as chance
    does, which by luck is more than one that finds all and has learnt little. Scores up to chance all say nothing.

    Parameters
    ----------
    score : None where it is not defined
    identified_share : share of the vertebrae that were found and named
    chance : score of a model that knows nothing
    """
    return identified_share > 0, max(chance, chance if score is None or np.isnan(score) else score), identified_share


@dataclass(frozen=True)
class Candidate:
    """What could be used.

    Attributes
    ----------
    models : names of the models that are averaged; one alone is just that one
    patients : of each item that is scored out of fold
    score : statistic of weights of these items
    eligible : whether it may be chosen; others are compared only
    identified_share : share of the items whose vertebra it found and named
    chance : score of what knows nothing
    """

    models: tuple[str, ...]
    patients: tuple[str, ...]
    score: Statistic
    eligible: bool = True
    identified_share: float = 1.0
    chance: float = 0.0


@dataclass(frozen=True)
class Judged:
    """A candidate's score, and how much it is better than the chosen one; None for the chosen one itself."""

    models: tuple[str, ...]
    score: Interval
    gain: Interval | None
    identified_share: float = 1.0

    @property
    def verdict(self) -> str:
        """In words."""
        if self.gain is None:
            return "chosen"
        if not self.identified_share:
            return "found nothing"
        if self.gain.no_interval:
            return f"no verdict ({self.gain.no_interval})"
        if not (self.gain.low > 0 or self.gain.high < 0):
            return "no difference shown"
        return "better" if self.gain.estimate > 0 else "worse"


def select(candidates: Sequence[Candidate], draws: int = DEFAULT_DRAWS, seed: int = 0) -> list[Judged]:
    """Score all and choose: the first of the list, the others follow by their score.

    Of the candidates that cannot be told from the best (the 95 % interval of the difference, patients drawn together,
    holds zero) those of the fewest models are taken, and of these the one with the best score (`preference`). What
    found nothing is chosen only where nothing was found at all.

    Raises
    ------
    DatasetError
        Without candidates, or when none has a score.
    """
    if not candidates:
        raise DatasetError("There is nothing to choose from.")
    drawn = draw_patients([patient for c in candidates for patient in c.patients], draws, seed)
    scores = [interval(c.score, c.patients, drawn) for c in candidates]
    known = [i for i, score in enumerate(scores) if candidates[i].eligible and not np.isnan(score.estimate)]
    if not known:
        raise DatasetError(
            f"None of {len(candidates)} candidates that may be chosen has a score; are there classes in every fold?"
        )

    known = [i for i in known if candidates[i].identified_share > 0] or known

    def gain(over: int, of: int) -> Interval:
        first, second = candidates[over], candidates[of]
        return paired_interval(first.score, first.patients, second.score, second.patients, drawn)

    top = max(known, key=lambda i: scores[i].estimate)
    tied = [i for i in known if i == top or not gain(i, top).low > 0]
    fewest = min(len(candidates[i].models) for i in tied)
    single = [i for i in tied if len(candidates[i].models) == fewest]
    chosen = max(
        single, key=lambda i: preference(scores[i].estimate, candidates[i].identified_share, candidates[i].chance)
    )
    others = [i for i in range(len(candidates)) if i != chosen]
    others.sort(key=lambda i: -np.nan_to_num(scores[i].estimate))
    return [Judged(candidates[chosen].models, scores[chosen], None, candidates[chosen].identified_share)] + [
        Judged(candidates[i].models, scores[i], gain(chosen, i), candidates[i].identified_share) for i in others
    ]


def classification_candidate(models: Sequence[str], tables: Sequence[ReadVertebrae]) -> Candidate:
    """Macro AUC, end to end, of the mean of some models' probabilities.

    A vertebra that some of the models found has the mean of these; one that none found has the prior.

    Raises
    ------
    DatasetError
        When the models were not tested on the same vertebrae.
    """
    first = tables[0]
    require_same_classes(tables)
    for name, table in zip(models, tables, strict=True):
        if table.names != first.names or not np.array_equal(table.truth, first.truth):
            raise DatasetError(
                f"{name} was tested on {len(table.names)} vertebrae, {models[0]} on {len(first.names)}, and they are "
                "not the same. Train both on the same folds of the same annotation."
            )
    identified = np.stack([table.identified for table in tables]).astype(float)
    # Where none was found all hold the prior.
    weights = np.where(identified.any(axis=0), identified, 1.0)
    probabilities = (weights[..., None] * np.stack([t.probabilities for t in tables])).sum(axis=0)
    probabilities /= weights.sum(axis=0)[:, None]
    return Candidate(
        tuple(models),
        first.patients,
        metrics.macro_auc(first.truth, probabilities),
        identified_share=float(identified.any(axis=0).mean()) if identified.size else 0.0,
        chance=CHANCE,
    )
