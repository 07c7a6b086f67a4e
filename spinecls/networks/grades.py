"""Ordered classes: from one severity to the probabilities of the grades."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as functional
from torch import nn


class CumulativeLink(nn.Module):
    """Log-probabilities of ordered classes from one severity s (McCullagh, J R Stat Soc B 1980).

    p_k = sigmoid(theta_(k+1) - s) - sigmoid(theta_k - s), with theta_0 = -inf, theta_K = inf and learnable thresholds
    theta_1 < ... < theta_(K-1) between. Without evidence, s = 0, all classes are equally probable at the start. Being
    log-probabilities, the outputs go into the same losses and prior shifts as any logits.
    """

    SMALLEST_GAP = 1e-3

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        even = [math.log(k / (num_classes - k)) for k in range(1, num_classes)]
        gaps = [upper - lower - self.SMALLEST_GAP for lower, upper in itertools.pairwise(even)]
        self.first = nn.Parameter(torch.tensor(even[0]))
        self.gap_logits = nn.Parameter(torch.tensor([math.log(math.expm1(gap)) for gap in gaps]))

    @property
    def gaps(self) -> torch.Tensor:
        """(K - 2,) positive distances of neighbouring thresholds."""
        return functional.softplus(self.gap_logits) + self.SMALLEST_GAP

    @property
    def thresholds(self) -> torch.Tensor:
        """(K - 1,) rising."""
        return self.first + torch.cat([torch.zeros_like(self.first)[None], self.gaps.cumsum(0)])

    def forward(self, severity: torch.Tensor) -> torch.Tensor:
        """(N, K) log-probabilities of (N,) severities."""
        distance = self.thresholds - severity.float()[:, None]
        below, above = functional.logsigmoid(distance), functional.logsigmoid(-distance)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of nearly equal numbers.
        between = below[:, 1:] + above[:, :-1] + torch.log(-torch.expm1(-self.gaps))
        return torch.cat([below[:, :1], between, above[:, -1:]], dim=1)
