"""The comparator: an ordinary crop classifier, which may use everything that its crop shows."""

from __future__ import annotations

import dataclasses

from spinecls.planning.plan import Configuration
from spinecls.planning.topology import round_up
from spinecls.trainers.baseline import BaselineTrainer
from spinecls.trainers.trainer import TRAINERS
from spinecls.types import triple

CONTEXT_MM = 16.0
"""What an open crop shows in plane beyond a sealed one on each side: the canal, the discs, part of the neighbours."""


@TRAINERS.register
class OpenBaselineTrainer(BaselineTrainer):
    """Baseline with open crops (S0): its classes are not guaranteed to come from the vertebra.

    Trained on the same folds as `BaselineTrainer`, the difference of the two is what sealing costs, or what the
    surroundings give away. Sealed crops are as tight as a vertebra; open ones show its surroundings, or there would be
    nothing to compare.
    """

    seal = "S0"

    @classmethod
    def configured(cls, configuration: Configuration) -> Configuration:
        return super().configured(with_context(configuration))


def with_context(configuration: Configuration) -> Configuration:
    """Larger crops, and half as many of them a step, so that a step costs not much more."""
    spacing, size = configuration.sealed_spacing_mm, configuration.sealed_size
    wide = (size[0], *(n + 2 * CONTEXT_MM / s for n, s in zip(size[1:], spacing[1:], strict=True)))
    return dataclasses.replace(
        configuration,
        sealed_size=round_up(triple(round(n) for n in wide), configuration.reader_network.divisor),
        sealed_batch_size=max(1, configuration.sealed_batch_size // 2),
    )
