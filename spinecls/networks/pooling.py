"""Pooling of voxel evidence over the region of a vertebra.

Every pooling gives z_k = b_k + (something that depends on the evidence inside the region only), and `contributions`
says how much of it comes from which voxel. An empty region pools to the bias: nothing was seen.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as functional
from torch import nn

OUTSIDE = -1e4
"""Evidence of voxels outside the region: its exponential is zero in float32, and its gradient finite."""

SOFTPLUS_OF_ONE = math.log(math.e - 1)
"""Softplus of this is 1."""


class Pooling(nn.Module, ABC):
    """Evidence of a region's voxels to one number an output.

    Parameters
    ----------
    num_outputs : K evidence maps
    width : F, features a voxel, for poolings that look at them
    """

    def __init__(self, num_outputs: int, width: int = 0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def forward(
        self, evidence: torch.Tensor, region: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pooled logits.

        Parameters
        ----------
        evidence : (N, K, S, R, A)
        region : (N, S, R, A) bool
        features : (N, F, S, R, A)

        Returns
        -------
        (N, K)
        """
        inside = region.flatten(1)[:, None]
        pooled = self._pool(evidence.float().flatten(2), inside, features)
        return torch.where(inside.any(dim=2), pooled, torch.zeros_like(pooled)) + self.bias

    def contributions(
        self, evidence: torch.Tensor, region: torch.Tensor, features: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What each voxel adds: (N, K, S, R, A), zero outside the region, summing as the class documents."""
        inside = region.flatten(1)[:, None]
        values = evidence.float().flatten(2).masked_fill(~inside, 0.0)
        return self._shares(values, inside, features).masked_fill(~inside, 0.0).view_as(evidence)

    def alone(self, evidence: torch.Tensor) -> torch.Tensor:
        """(N, K, S, R, A) pooled logits of regions that are one voxel each: what every voxel says by itself.

        The greatest of a region's is at least the pooled logit of the region: where there is a class, a voxel says so.
        """
        return evidence.float() + self.bias.view(-1, 1, 1, 1)

    @abstractmethod
    def _pool(self, evidence: torch.Tensor, inside: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """(N, K), without the bias, of (N, K, V) evidence; finite also where `inside` (N, 1, V) is empty."""

    @abstractmethod
    def _shares(self, evidence: torch.Tensor, inside: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """(N, K, V) contributions; what stands outside the region is thrown away."""


def _mean(evidence: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return evidence.masked_fill(~inside, 0.0).sum(dim=2) / _count(inside)


def _count(inside: torch.Tensor) -> torch.Tensor:
    """(N, 1) voxels of the region, at least 1."""
    return inside.sum(dim=2).clamp_min(1).float()


class MeanPooling(Pooling):
    """z_k = b_k + mean of e_k. The contributions add up to z_k - b_k. A small lesion is drowned."""

    def _pool(self, evidence, inside, features):
        return _mean(evidence, inside)

    def _shares(self, evidence, inside, features):
        return evidence / _count(inside)[..., None]


class MaxPooling(Pooling):
    """z_k = b_k + max of e_k. The contribution of one voxel is z_k - b_k, that of all others zero."""

    def _pool(self, evidence, inside, features):
        return evidence.masked_fill(~inside, OUTSIDE).max(dim=2).values

    def _shares(self, evidence, inside, features):
        first = evidence.masked_fill(~inside, OUTSIDE).argmax(dim=2, keepdim=True)
        return torch.zeros_like(evidence).scatter(2, first, evidence.gather(2, first))


class LogSumExpPooling(Pooling):
    """Soft maximum of evidence over a region, with learnable sharpness.

    z_k = b_k + (1 / r_k) log( (1 / |M|) sum over v in M of exp(r_k e_k(v)) ), with 1 < r_k < 10 and r_k = 4 at the
    start. A lesion of half a percent of the vertebra still decides; a mean would not see it. Pinheiro and Collobert,
    CVPR 2015.

    The contribution of a voxel is w_v e_k(v) with w = softmax over M of r_k e_k. Their sum is z_k - b_k + D / r_k,
    where D = log|M| + sum of w_v log w_v >= 0 tells how far the weights are from uniform (Kullback-Leibler).
    """

    def __init__(self, num_outputs: int, width: int = 0) -> None:
        super().__init__(num_outputs)
        self.sharpness_logit = nn.Parameter(torch.full((num_outputs,), -0.6931))

    @property
    def sharpness(self) -> torch.Tensor:
        """(K,) r_k."""
        return 1 + 9 * torch.sigmoid(self.sharpness_logit)

    def _scaled(self, evidence: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return (evidence * self.sharpness[:, None]).masked_fill(~inside, OUTSIDE)

    def _pool(self, evidence, inside, features):
        return (torch.logsumexp(self._scaled(evidence, inside), dim=2) - _count(inside).log()) / self.sharpness

    def _shares(self, evidence, inside, features):
        return torch.softmax(self._scaled(evidence, inside), dim=2) * evidence


class ExtentPooling(LogSumExpPooling):
    """Soft maximum and extent: how strong the strongest evidence is, and how much of the region shows some.

    z_k = b_k + a_k lse_k + c_k u_k with u_k = log(1e-4 + mean of sigmoid(e_k)) and learnable a_k, c_k > 0, so z_k
    rises with the evidence of every voxel. For classes that are graded by size.

    The contributions are a_k times those of the soft maximum, and c_k u_k shared out by sigmoid(e_k). Their sum is
    z_k - b_k + a_k D / r_k, with D as in `LogSumExpPooling`.
    """

    SMALLEST = 1e-4

    def __init__(self, num_outputs: int, width: int = 0) -> None:
        super().__init__(num_outputs)
        self.strength_logit = nn.Parameter(torch.full((num_outputs,), SOFTPLUS_OF_ONE))
        self.extent_logit = nn.Parameter(torch.full((num_outputs,), SOFTPLUS_OF_ONE))

    @property
    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(K,) a_k and (K,) c_k."""
        return functional.softplus(self.strength_logit), functional.softplus(self.extent_logit)

    def alone(self, evidence):
        strength, extent = (factor.view(-1, 1, 1, 1) for factor in self.factors)
        values = evidence.float()
        shown = (self.SMALLEST + torch.sigmoid(values)).log()
        return strength * values + extent * shown + self.bias.view(-1, 1, 1, 1)

    def _extent(self, evidence: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return (self.SMALLEST + _mean(torch.sigmoid(evidence), inside)).log()

    def _pool(self, evidence, inside, features):
        strength, extent = self.factors
        return strength * super()._pool(evidence, inside, features) + extent * self._extent(evidence, inside)

    def _shares(self, evidence, inside, features):
        strength, extent = self.factors
        shown = torch.sigmoid(evidence).masked_fill(~inside, 0.0)
        shared = self._extent(evidence, inside)[..., None] * shown / shown.sum(dim=2, keepdim=True).clamp_min(1e-12)
        return strength[:, None] * super()._shares(evidence, inside, features) + extent[:, None] * shared


class AttentionPooling(Pooling):
    """Additive gated attention: z_k = b_k + sum over v in M of [(1 - g) a_v + g / |M|] e_k(v), with g = 0.1.

    a = softmax over M of w'(tanh(V h) * sigmoid(U h)), with h the features. The attention multiplies evidence, not
    features, so the contributions add up to z_k - b_k exactly. Ilse et al., ICML 2018 (gated attention); Javed et al.,
    NeurIPS 2022 (additive).
    """

    UNIFORM_SHARE = 0.1
    HIDDEN = 32

    def __init__(self, num_outputs: int, width: int = 0) -> None:
        super().__init__(num_outputs)
        self.content = nn.Conv3d(width, self.HIDDEN, 1)
        self.gate = nn.Conv3d(width, self.HIDDEN, 1)
        self.score = nn.Conv3d(self.HIDDEN, 1, 1, bias=False)

    def _weights(self, inside: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(N, 1, V), summing to one over the region."""
        scores = self.score(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features)))
        attention = torch.softmax(scores.float().flatten(2).masked_fill(~inside, OUTSIDE), dim=2)
        return (1 - self.UNIFORM_SHARE) * attention + self.UNIFORM_SHARE / _count(inside)[..., None]

    def _pool(self, evidence, inside, features):
        return self._shares(evidence, inside, features).masked_fill(~inside, 0.0).sum(dim=2)

    def _shares(self, evidence, inside, features):
        return self._weights(inside, features) * evidence


POOLINGS: dict[str, type[Pooling]] = {
    "lse": LogSumExpPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "attention": AttentionPooling,
    "extent": ExtentPooling,
}
"""By the names of `planning.plan.POOLINGS`."""
