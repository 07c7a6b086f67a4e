"""Losses, all as functions of log-probabilities, each with its source."""

from __future__ import annotations

import torch
import torch.nn.functional as functional


def belief_loss(
    log_probabilities: torch.Tensor, sets: torch.Tensor, masses: torch.Tensor, q: float = 0.0
) -> torch.Tensor:
    """Loss of belief masses on sets of classes: sum over S of m(S) (1 - P(S)^q) / q, with P(S) the set's probability.

    At q = 0 it is -m(S) log P(S): cross entropy for a singleton, the marginal likelihood for a set, nothing for an
    unlabelled item. q > 0 bounds what a wrong label can cost (Zhang and Sabuncu, NeurIPS 2018, equation 6).

    Parameters
    ----------
    log_probabilities : (N, K), or (N, R, K) where every set has probabilities of its own
    sets : (N, R, K) bool
    masses : (N, R), rows sum to at most 1
    q : 0 <= q <= 1

    Returns
    -------
    Scalar: mean over the mass that says something; 0 (with a gradient of 0) when none does
    """
    own = log_probabilities if log_probabilities.ndim == 3 else log_probabilities[:, None, :]
    hidden = own.masked_fill(~sets, -1e4)
    log_set = torch.logsumexp(hidden, dim=2)
    cost = (1 - torch.exp(q * log_set)) / q if q > 0 else -log_set
    total = masses.sum()
    # Empty sets carry no mass; their huge cost must not turn 0 * inf into not-a-number.
    return (torch.where(masses > 0, cost, torch.zeros_like(cost)) * masses).sum() / total.clamp_min(1e-6)


def adjusted_log_probabilities(logits: torch.Tensor, log_prior: torch.Tensor, tau: float) -> torch.Tensor:
    """Log-softmax of logits plus tau times the log prior (Menon et al., ICLR 2021, equation 10).

    Training so lets the logits alone be the balanced decision, and the prior be put back, or another, afterwards.
    """
    return functional.log_softmax(logits.float() + tau * log_prior, dim=1)


def heatmap_loss(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted squared error of the sigmoid; voxels at centres count 50 times, there are few of them."""
    weight = weight * (1 + 50 * target)
    squared = (torch.sigmoid(logits.float()) - target) ** 2
    return (squared * weight).sum() / weight.sum().clamp_min(1.0) * 10


def offset_loss(offset: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of the vectors to the centre, in units of 10 mm, inside vertebrae."""
    return ((offset.float() - target).abs() * weight).sum() / (3 * weight.sum()).clamp_min(1.0)


def map_loss(logits: torch.Tensor, target: torch.Tensor, unknown: int) -> torch.Tensor:
    """Cross entropy plus soft Dice over the voxels whose class is known.

    Parameters
    ----------
    logits : (B, K, S, R, A)
    target : (B, S, R, A) long; `unknown` costs nothing

    References
    ----------
    Milletari et al., 3DV 2016 (Dice); Isensee et al., Nature Methods 2021 (their sum).
    """
    known = target != unknown
    if not bool(known.any()):
        return 0 * logits.sum()
    log_probabilities = functional.log_softmax(logits.float(), dim=1)
    labels = torch.where(known, target, torch.zeros_like(target))
    entropy = functional.nll_loss(log_probabilities, labels, reduction="none")
    cross_entropy = (entropy * known).sum() / known.sum()
    probabilities = log_probabilities.exp()[:, 1:] * known[:, None]
    truth = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:] * known[:, None]
    axes = (0, 2, 3, 4)
    overlap = (probabilities * truth).sum(axes)
    dice = (2 * overlap + 1) / (probabilities.sum(axes) + truth.sum(axes) + 1)
    return cross_entropy + 1 - dice.mean()
