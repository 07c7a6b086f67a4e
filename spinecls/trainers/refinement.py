"""What an earlier round of training says of the labels of a fold; `second_round` finds it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spinecls import files

REFINED = "Refined"
"""What is added to a trainer's name in the model folder of a refined round."""

Expected = Mapping[str, Mapping[str, np.ndarray]]
"""By case and level (K,) class probabilities by models that did not learn from the case."""


@dataclass(frozen=True)
class Refinement:
    """What an earlier round says of the training cases of a fold.

    Attributes
    ----------
    source : name of the model folder of that round; checkpoints : fold -> hash of the model that predicted
    sets : readings of the training cases that name several classes, not all; refined : those with a prediction
    noise_rate : share of their exact labels that seem wrong; None without any
    q : the `class_q` that it asks for
    expected : by case and level (K,) class probabilities, out of fold
    """

    source: str
    checkpoints: Mapping[str, str]
    sets: int
    refined: int
    noise_rate: float | None
    q: float | None
    expected: Expected

    def described(self) -> dict:
        """All for run.json; of the probabilities a hash."""
        names = ("source", "checkpoints", "sets", "refined", "noise_rate", "q")
        plain = {case: {v: p.tolist() for v, p in levels.items()} for case, levels in self.expected.items()}
        return {name: getattr(self, name) for name in names} | {"probabilities": files.text_hash(plain)[:16]}


def expected_of(expected: Expected | None, case: str) -> Mapping[str, np.ndarray] | None:
    """By level what is expected of a case, nothing where it was not predicted; None when labels are not refined."""
    return None if expected is None else expected.get(case, {})
