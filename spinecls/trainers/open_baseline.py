"""The comparator: an ordinary crop classifier, which may use everything that its crop shows."""

from __future__ import annotations

from spinecls.trainers.base import TRAINERS
from spinecls.trainers.baseline import BaselineTrainer


@TRAINERS.register
class OpenBaselineTrainer(BaselineTrainer):
    """Baseline with open crops (S0): its classes are not guaranteed to come from the vertebra.

    Trained on the same folds as `BaselineTrainer`, the difference of the two is what sealing costs, or what the
    surroundings give away.
    """

    seal = "S0"
