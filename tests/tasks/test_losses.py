import math

import pytest
import torch
import torch.nn.functional as functional

from spinecls.beliefs import belief, certain
from spinecls.tasks.losses import adjusted_log_probabilities, belief_loss, heatmap_loss, map_loss, offset_loss


def tensors(*labels):
    sets = torch.stack([torch.from_numpy(label.sets) for label in labels])
    masses = torch.stack([torch.from_numpy(label.masses) for label in labels])
    return sets, masses


LOGITS = torch.tensor([[0.2, -1.0, 1.5], [0.0, 0.3, -0.7]])


def test_singleton_belief_is_cross_entropy():
    loss = belief_loss(functional.log_softmax(LOGITS, 1), *tensors(certain(2, 3), certain(0, 3)))
    assert loss.item() == pytest.approx(functional.cross_entropy(LOGITS, torch.tensor([2, 0])).item(), abs=1e-6)


def test_a_set_costs_the_log_of_its_summed_probability():
    p = functional.softmax(LOGITS[:1], 1)[0]
    loss = belief_loss(p.log()[None], *tensors(belief([((0, 1), 1.0)], 3)))
    assert loss.item() == pytest.approx(-math.log(float(p[0] + p[1])), abs=1e-6)


def test_nothing_known_costs_nothing_and_has_a_gradient():
    logits = LOGITS.clone().requires_grad_()
    loss = belief_loss(functional.log_softmax(logits, 1), *tensors(belief([], 3), belief([], 3)))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_an_unread_vertebra_does_not_dilute_the_others():
    log_p = functional.log_softmax(LOGITS, 1)
    both = belief_loss(log_p, *tensors(certain(2, 3), belief([], 3)))
    alone = belief_loss(log_p[:1], *tensors(certain(2, 3)))
    assert both.item() == pytest.approx(alone.item(), abs=1e-6)


def test_soft_label_is_divergence_plus_entropy():
    q = torch.tensor([0.25, 0.25, 0.5])
    label = belief([((2,), 1.0), ((2,), 1.0), ((0,), 1.0), ((1,), 1.0)], 3)
    log_p = functional.log_softmax(LOGITS[:1], 1)
    expected = float((q * (q.log() - log_p[0])).sum() - (q * q.log()).sum())
    assert belief_loss(log_p, *tensors(label)).item() == pytest.approx(expected, abs=1e-6)


def test_gradient_of_averaged_masses_is_the_mean_of_the_readers_gradients():
    def gradient(label):
        logits = LOGITS[:1].clone().requires_grad_()
        belief_loss(functional.log_softmax(logits, 1), *tensors(label)).backward()
        return logits.grad

    mean = (gradient(certain(0, 3)) + gradient(certain(1, 3))) / 2
    assert torch.allclose(gradient(belief([((0,), 1.0), ((1,), 1.0)], 3)), mean, atol=1e-6)


def test_q_bounds_the_cost_of_a_wrong_label():
    log_p = functional.log_softmax(torch.tensor([[30.0, 0.0, 0.0]]), 1)
    assert belief_loss(log_p, *tensors(certain(1, 3)), q=0.7).item() <= 1 / 0.7 + 1e-6
    assert belief_loss(log_p, *tensors(certain(1, 3))).item() == pytest.approx(30, abs=1e-3)


def test_logit_adjustment_adds_the_log_prior_before_the_softmax():
    prior = torch.tensor([0.7, 0.2, 0.1])
    expected = functional.log_softmax(LOGITS + prior.log(), 1)
    assert torch.allclose(adjusted_log_probabilities(LOGITS, prior.log(), 1.0), expected)


def test_unknown_voxels_cost_nothing():
    logits = torch.randn(1, 2, 2, 4, 4)
    target = torch.randint(0, 2, (1, 2, 4, 4))
    target[0, 0] = 255
    changed = logits.clone()
    changed[:, :, 0] += 5
    assert map_loss(logits, target, 255).item() == pytest.approx(map_loss(changed, target, 255).item())


def test_a_case_without_a_map_costs_nothing():
    assert map_loss(torch.randn(1, 2, 2, 4, 4), torch.full((1, 2, 4, 4), 255), 255).item() == 0


def test_a_perfect_map_costs_almost_nothing_and_a_wrong_one_much():
    target = torch.zeros(1, 2, 4, 4, dtype=torch.long)
    target[0, :, 1:3, 1:3] = 1
    logits = functional.one_hot(target, 2).movedim(-1, 1).float() * 20 - 10
    assert map_loss(logits, target, 255).item() < 0.01
    assert map_loss(-logits, target, 255).item() > 2


def test_heat_outside_what_is_known_costs_nothing():
    target = torch.zeros(1, 1, 2, 4, 4)
    weight = torch.ones_like(target)
    weight[..., 2:] = 0
    quiet, loud = torch.full_like(target, -9.0), torch.full_like(target, -9.0)
    loud[..., 2:] = 9
    assert heatmap_loss(quiet, target, weight).item() == heatmap_loss(loud, target, weight).item()


def test_offset_error_is_averaged_over_vertebra_voxels_only():
    target = torch.zeros(1, 3, 1, 2, 2)
    known = torch.zeros(1, 1, 1, 2, 2)
    known[..., 0, 0] = 1
    offset = torch.full_like(target, 5.0)
    offset[..., 0, 0] = torch.tensor([1.0, 2.0, 3.0])[None, :, None]
    assert offset_loss(offset, target, known).item() == pytest.approx(2.0)
