"""Pooling of voxel evidence over the region of a vertebra."""

from __future__ import annotations

import torch
from torch import nn

OUTSIDE = -1e4
"""Evidence of voxels outside the region: its exponential is zero in float32, and its gradient finite."""


class LogSumExpPooling(nn.Module):
    """Soft maximum of evidence over a region, with learnable sharpness.

    z_k = b_k + (1 / r_k) log( (1 / |M|) sum over v in M of exp(r_k e_k(v)) ), with 1 < r_k < 10 and r_k = 4 at the
    start. A lesion of half a percent of the vertebra still decides; a mean would not see it. Pinheiro and Collobert,
    CVPR 2015.
    """

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.sharpness_logit = nn.Parameter(torch.full((num_outputs,), -0.6931))

    @property
    def sharpness(self) -> torch.Tensor:
        """(K,) r_k."""
        return 1 + 9 * torch.sigmoid(self.sharpness_logit)

    def forward(self, evidence: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
        """(N, K) pooled logits of (N, K, S, R, A) evidence inside the (N, S, R, A) bool region."""
        scaled = evidence.float() * self.sharpness.view(1, -1, 1, 1, 1)
        # An empty region pools to the bias: nothing was seen.
        hidden = scaled.masked_fill(~region[:, None], OUTSIDE).flatten(2)
        count = region.flatten(1).sum(dim=1).clamp_min(1).float()
        pooled = torch.logsumexp(hidden, dim=2) - count.log()[:, None]
        pooled = torch.where(region.flatten(1).any(dim=1)[:, None], pooled, torch.zeros_like(pooled))
        return pooled / self.sharpness + self.bias
