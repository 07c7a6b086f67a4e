"""Losses of voxels of which beliefs are held, and of regions of which only the whole is known."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from spinecls.tasks.belief_patches import BagPatches, BeliefPatches

SURE = 0.5
"""Mass on single classes from which on a voxel counts for the overlap."""

NEVER = -1e4
"""Logit of a class that is left out of a sum."""


def voxel_belief_loss(log_probabilities: torch.Tensor, beliefs: BeliefPatches) -> torch.Tensor:
    """`tasks.losses.belief_loss` of every voxel: sum over S of m(S) (1 - P(S)^q) / q, the mean over all mass.

    Parameters
    ----------
    log_probabilities : (B, K, S, R, A)
    """
    total, weight = 0 * log_probabilities.sum(), beliefs.masses.new_zeros(())
    q = beliefs.q.view(-1, 1, 1, 1)
    for column, allowed in enumerate(beliefs.sets):
        mass = _of_codes(beliefs.masses[:, :, column], beliefs.codes)
        if not bool((mass > 0).any()):
            continue
        log_set = torch.logsumexp(log_probabilities[:, allowed], dim=1)
        robust = (1 - torch.exp(q * log_set)) / q.clamp_min(1e-6)
        total = total + (mass * torch.where(q > 0, robust, -log_set)).sum()
        weight = weight + mass.sum()
    return total / weight.clamp_min(1e-6)


def masked_dice_loss(probabilities: torch.Tensor, beliefs: BeliefPatches) -> torch.Tensor:
    """One minus the soft Dice over the voxels whose mass lies on single classes, the mean of all classes but the first.

    With b the mass on single classes and q_k its share on k: D_k = (2 sum b p_k q_k + 1) / (sum b (p_k + q_k) + 1),
    over voxels of b of at least `SURE`. 0 when there are none. Milletari et al., 3DV 2016. Of chances D is greatest
    for a body a little larger than the one believed, as the overlap to be expected is where nobody knows the size.
    """
    single = beliefs.sets.sum(dim=1) == 1
    num_classes = beliefs.sets.shape[1]
    columns = {int(row.nonzero()): i for i, row in enumerate(beliefs.sets) if int(row.sum()) == 1}
    share = _of_codes(beliefs.masses[:, :, single].sum(dim=2), beliefs.codes)
    share = torch.where(share >= SURE, share, torch.zeros_like(share))
    if not bool((share > 0).any()):
        return 0 * probabilities.sum()
    scores = []
    for index in range(1, num_classes):
        column = columns.get(index)
        mass = 0 * share if column is None else _of_codes(beliefs.masses[:, :, column], beliefs.codes)
        truth = torch.where(share > 0, mass, torch.zeros_like(mass))
        made = share * probabilities[:, index]
        overlap = (truth * probabilities[:, index]).sum()
        scores.append((2 * overlap + 1) / (made.sum() + truth.sum() + 1))
    return 1 - torch.stack(scores).mean()


def bag_loss(log_probabilities: torch.Tensor, bags: BagPatches) -> torch.Tensor:
    """What regions as a whole ask for, the mean over those that the patches show.

    With r the mean probability of a region's classes: max(0, low - r)^2 + max(0, r - high)^2 (Kervadec et al., Medical
    Image Analysis 2019), for the two bounds of the size. Where `line` holds, for each plane across the region also
    -log of the greatest probability in it, the mean of the planes (Kervadec et al., MIDL 2020, and Wang and Xia,
    MICCAI 2021, in the plane; in space every plane of a tight box touches the object, and not every line).
    """
    costs = []
    for row, codes in enumerate(bags.codes):
        for number in torch.nonzero(bags.whole[row]).flatten().tolist():
            region = bags.members[row, :, number][codes]
            if not bool(region.any()):
                continue
            log_share = torch.logsumexp(log_probabilities[row, bags.classes[row, number]], dim=0)[region]
            share = log_share.exp().mean()
            low, high = bags.low[row, number], bags.high[row, number]
            cost = functional.relu(low - share) ** 2 + functional.relu(share - high) ** 2
            if bags.position is not None and bool(bags.line[row, number]):
                cost = cost + _tightness(log_share, bags.position[row][:, region])
            costs.append(cost)
    return torch.stack(costs).mean() if costs else 0 * log_probabilities.sum()


def disagreement(first: torch.Tensor, second: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean Jensen-Shannon divergence (nats) of two (B, K, S, R, A) log-probabilities over the voxels `counted`."""
    if not bool(counted.any()):
        return 0 * first.sum()
    first, second = (t.movedim(1, -1)[counted] for t in (first, second))
    middle = torch.logaddexp(first, second) - torch.log(torch.tensor(2.0))
    parts = [functional.kl_div(middle, t, log_target=True, reduction="none").sum(-1) for t in (first, second)]
    return (parts[0] + parts[1]).mean() / 2


def _of_codes(table: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """(B, S, R, A) values of a (B, P) table."""
    return torch.gather(table, 1, codes.flatten(1)).view(codes.shape)


def _tightness(log_share: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Mean over the planes of -log of the greatest probability; position (3, V) of the region's voxels."""
    costs = []
    for plane in position:
        first = plane.min()
        greatest = torch.full((int(plane.max() - first) + 1,), NEVER, device=log_share.device)
        greatest = greatest.scatter_reduce(0, plane - first, log_share, "amax")
        costs.append(-greatest[greatest > NEVER])
    return torch.cat(costs).mean()
