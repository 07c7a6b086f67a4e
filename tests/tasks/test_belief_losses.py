import math

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from spinecls.beliefs.voxel import mean_beliefs, voxel_beliefs
from spinecls.tasks.belief_losses import (
    bag_loss,
    disagreement,
    masked_dice_loss,
    voxel_belief_loss,
)
from spinecls.tasks.belief_patches import BagPatches, BeliefPatches
from spinecls.tasks.losses import map_loss

SHAPE = (2, 5, 4)
LOGITS = torch.randn((1, 3, *SHAPE), generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (1, *SHAPE), generator=torch.Generator().manual_seed(1))


def patches(beliefs, q=0.0):
    return BeliefPatches(
        torch.from_numpy(beliefs.codes)[None].long(),
        torch.from_numpy(beliefs.sets),
        torch.from_numpy(beliefs.masses)[None],
        torch.tensor([q]),
    )


def hard_patches(labels, q=0.0):
    return patches(mean_beliefs([labels[0].numpy()], 3), q)


def log_p(logits=LOGITS):
    return functional.log_softmax(logits, dim=1)


def gradient(beliefs, q=0.0):
    logits = LOGITS.clone().requires_grad_()
    voxel_belief_loss(log_p(logits), patches(beliefs, q)).backward()
    return logits.grad


def bags(region, classes, low, high, line=False, whole=True):
    region = torch.as_tensor(region)[None]
    allowed = torch.zeros((1, 1, 3), dtype=torch.bool)
    allowed[0, 0, list(classes)] = True
    position = torch.stack(torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij"))[None]
    return BagPatches(
        region.long(),
        torch.tensor([[[False], [True]]]),
        allowed,
        torch.tensor([[low]]),
        torch.tensor([[high]]),
        torch.tensor([[whole]]),
        torch.tensor([[line]]),
        position,
    )


def test_singletons_cost_the_cross_entropy():
    loss = voxel_belief_loss(log_p(), hard_patches(LABELS))
    assert loss.item() == pytest.approx(functional.cross_entropy(LOGITS, LABELS).item(), abs=1e-6)


def test_cross_entropy_and_overlap_of_a_hard_map_are_those_of_the_exact_trainers():
    labels = LABELS.clone()
    labels[0, 0, :2] = 255
    beliefs = hard_patches(labels)
    loss = voxel_belief_loss(log_p(), beliefs) + masked_dice_loss(log_p().exp(), beliefs)
    assert loss.item() == pytest.approx(map_loss(LOGITS, labels, 255).item(), abs=1e-6)


def test_soft_labels_cost_the_divergence_and_their_entropy():
    share = np.full(SHAPE, 0.25)
    loss = voxel_belief_loss(log_p(), patches(voxel_beliefs({(0,): share, (1,): 3 * share}, 3)))
    target = torch.zeros_like(LOGITS)
    target[:, 0], target[:, 1] = 0.25, 0.75
    divergence = functional.kl_div(log_p(), target, reduction="none").nan_to_num().sum(1).mean()
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert loss.item() == pytest.approx(divergence.item() + entropy, abs=1e-5)


def test_a_set_costs_the_log_of_its_summed_probability():
    loss = voxel_belief_loss(log_p(), patches(voxel_beliefs({(0, 2): np.ones(SHAPE)}, 3)))
    p = log_p().exp()
    assert loss.item() == pytest.approx(-(p[:, 0] + p[:, 2]).log().mean().item(), abs=1e-6)


def test_nothing_known_costs_nothing_and_has_a_gradient_of_zero():
    beliefs = voxel_beliefs({(0,): np.zeros(SHAPE)}, 3)
    assert torch.equal(gradient(beliefs), torch.zeros_like(LOGITS))


def test_unknown_voxels_do_not_dilute_the_others():
    labels = LABELS.clone()
    labels[0, 1] = 255
    loss = voxel_belief_loss(log_p(), hard_patches(labels))
    expected = functional.cross_entropy(LOGITS, labels, ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_gradient_of_averaged_readers_is_the_mean_of_theirs():
    readers = [torch.randint(0, 3, SHAPE, generator=torch.Generator().manual_seed(s)).numpy() for s in range(4)]
    separate = torch.stack([gradient(mean_beliefs([labels], 3)) for labels in readers]).mean(dim=0)
    assert torch.allclose(gradient(mean_beliefs(readers, 3)), separate, atol=1e-6)


@pytest.mark.parametrize("q", [0.0, 0.7])
def test_the_order_in_which_sets_are_stored_changes_nothing(q):
    half = np.full(SHAPE, 0.5)
    one = voxel_beliefs({(0,): half, (1, 2): half}, 3)
    other = voxel_beliefs({(1, 2): half, (0,): half}, 3)
    assert not np.array_equal(one.sets, other.sets)
    assert torch.equal(gradient(one, q), gradient(other, q))


def test_q_bounds_what_a_wrong_voxel_costs():
    logits = torch.zeros((1, 2, *SHAPE))
    logits[:, 0] = 50
    beliefs = patches(mean_beliefs([np.ones(SHAPE, int)], 2), q=0.5)
    assert voxel_belief_loss(log_p(logits), beliefs).item() == pytest.approx(2.0, abs=1e-4)


def test_q_of_one_is_one_minus_the_probability():
    loss = voxel_belief_loss(log_p(), hard_patches(LABELS, q=1.0))
    expected = 1 - log_p().exp().gather(1, LABELS[:, None]).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_each_patch_has_its_own_q():
    first, second = (hard_patches(LABELS, q) for q in (0.0, 1.0))
    both = BeliefPatches(
        first.codes.repeat(2, 1, 1, 1), first.sets, first.masses.repeat(2, 1, 1), torch.cat([first.q, second.q])
    )
    mean = (voxel_belief_loss(log_p(), first) + voxel_belief_loss(log_p(), second)) / 2
    assert voxel_belief_loss(log_p().repeat(2, 1, 1, 1, 1), both).item() == pytest.approx(mean.item(), abs=1e-6)


def test_overlap_counts_voxels_that_are_mostly_sure():
    sure, doubtful = np.zeros(SHAPE), np.zeros(SHAPE)
    sure[0], doubtful[1] = 0.8, 0.3
    loss = masked_dice_loss(log_p().exp(), patches(voxel_beliefs({(1,): sure + doubtful}, 3)))
    p = log_p().exp()[0, :, 0]
    first = (2 * 0.8 * p[1].sum() + 1) / (0.8 * p[1].sum() + 0.8 * p[1].numel() + 1)
    second = 1 / (0.8 * p[2].sum() + 1)
    assert loss.item() == pytest.approx(1 - ((first + second) / 2).item(), abs=1e-5)


def test_without_a_sure_voxel_there_is_no_overlap():
    beliefs = patches(voxel_beliefs({(1,): np.full(SHAPE, 0.3)}, 3))
    assert masked_dice_loss(log_p().exp(), beliefs).item() == 0


@pytest.mark.parametrize(("low", "high", "expected"), [(0.2, 0.6, 0.0), (0.7, 1.0, 0.09), (0.0, 0.1, 0.09)])
def test_a_size_costs_its_squared_distance_to_the_bounds(low, high, expected):
    logits = torch.zeros((1, 3, *SHAPE))
    logits[:, 1] = math.log(2 * 0.4 / 0.6)
    region = np.zeros(SHAPE, bool)
    region[0] = True
    assert bag_loss(log_p(logits), bags(region, [1], low, high)).item() == pytest.approx(expected, abs=1e-5)


def test_the_classes_of_a_region_count_together():
    region = np.ones(SHAPE, bool)
    assert bag_loss(log_p(torch.zeros((1, 3, *SHAPE))), bags(region, [1, 2], 0.7, 1.0)).item() < 0.01


def test_a_region_that_the_patch_cuts_says_nothing():
    region = np.ones(SHAPE, bool)
    assert bag_loss(log_p(), bags(region, [1], 1.0, 1.0, whole=False)).item() == 0


def test_a_tight_box_wants_a_voxel_in_every_plane():
    logits = torch.full((1, 3, *SHAPE), 0.0)
    region = np.ones(SHAPE, bool)
    p = torch.full(SHAPE, 0.1)
    # A diagonal through the box: every slice, row and column but the last row.
    for s, r, a in [(0, 0, 0), (1, 1, 1), (0, 2, 2), (1, 3, 3)]:
        p[s, r, a] = 0.9
    logits[0, 1] = torch.log(2 * p / (1 - p))
    loss = bag_loss(log_p(logits), bags(region, [1], 0.0, 1.0, line=True))
    expected = (-10 * math.log(0.9) - math.log(0.1)) / 11
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_disagreement_is_the_jensen_shannon_divergence():
    first, second = log_p(), log_p(LOGITS.flip(1))
    counted = torch.zeros((1, *SHAPE), dtype=torch.bool)
    counted[0, 1] = True
    p, q = (t.exp().movedim(1, -1)[counted].double().numpy() for t in (first, second))
    middle = (p + q) / 2
    expected = ((p * np.log(p / middle)).sum(1) + (q * np.log(q / middle)).sum(1)).mean() / 2
    assert disagreement(first, second, counted).item() == pytest.approx(expected, abs=1e-6)


def test_equal_maps_agree():
    counted = torch.ones((1, *SHAPE), dtype=torch.bool)
    assert disagreement(log_p(), log_p(), counted).item() == pytest.approx(0, abs=1e-7)
