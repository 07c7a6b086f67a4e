"""Every pooling: the number by hand, and what its contributions add up to."""

import math

import pytest
import torch

from spinecls.networks.pooling import POOLINGS, AttentionPooling, ExtentPooling, LogSumExpPooling, MeanPooling
from spinecls.planning import plan

WIDTH = 5
VALUES = [1.0, -2.0, 0.5]
"""Evidence inside the region of `small`; a fourth voxel lies outside."""


def small():
    evidence = torch.tensor([*VALUES, 7.0]).view(1, 1, 1, 2, 2)
    return evidence, torch.tensor([True, True, True, False]).view(1, 1, 2, 2)


def material(seed=0):
    """Two crops of three evidence maps, with features and regions."""
    torch.manual_seed(seed)
    evidence, features = torch.randn(2, 3, 4, 6, 5), torch.randn(2, WIDTH, 4, 6, 5)
    return evidence, torch.rand(2, 4, 6, 5) > 0.6, features


def made(name, outputs=3):
    torch.manual_seed(1)
    pooling = POOLINGS[name](outputs, WIDTH)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return pooling


def divergence(evidence, region, sharpness):
    """Kullback-Leibler divergence of the weights of the soft maximum from uniform ones, over each region."""
    found = torch.zeros(evidence.shape[:2])
    for n in range(len(evidence)):
        for k in range(evidence.shape[1]):
            w = torch.softmax(sharpness[k] * evidence[n, k][region[n]].double(), 0)
            found[n, k] = (w * (w * len(w)).log()).sum()
    return found


def test_the_plan_knows_every_pooling():
    assert set(POOLINGS) == set(plan.POOLINGS)


def test_mean_by_hand():
    assert POOLINGS["mean"](1)(*small()).item() == pytest.approx(sum(VALUES) / 3)


def test_max_by_hand():
    assert POOLINGS["max"](1)(*small()).item() == pytest.approx(1.0)


def test_extent_by_hand():
    soft_maximum = math.log((math.exp(4) + math.exp(-8) + math.exp(2)) / 3) / 4
    shown = sum(1 / (1 + math.exp(-v)) for v in VALUES) / 3
    assert ExtentPooling(1)(*small()).item() == pytest.approx(soft_maximum + math.log(1e-4 + shown), abs=1e-3)


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_a_voxel_alone_says_what_a_region_of_it_alone_pools_to(name):
    evidence, _, features = material()
    pooling = made(name)
    one = torch.zeros(2, 4, 6, 5, dtype=torch.bool)
    one[:, 2, 3, 1] = True
    assert torch.allclose(pooling.alone(evidence)[:, :, 2, 3, 1], pooling(evidence, one, features), atol=1e-5)


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_no_region_says_more_than_the_loudest_of_its_voxels(name):
    evidence, region, features = material()
    pooling = made(name)
    loudest = pooling.alone(evidence).masked_fill(~region[:, None], -torch.inf).flatten(2).max(dim=2).values
    assert (pooling(evidence, region, features) <= loudest + 1e-6).all()


def test_extent_rises_with_the_size_of_a_lesion_where_the_soft_maximum_hardly_does():
    evidence = torch.full((2, 1, 1, 10, 100), -6.0)
    evidence[0, 0, 0, 0, :30] = 4.0
    evidence[1, 0, 0, 0:3] = 4.0
    region = torch.ones(2, 1, 10, 100, dtype=torch.bool)
    gains = {name: POOLINGS[name](1)(evidence, region).diff(dim=0).item() for name in ("lse", "extent")}
    assert gains["lse"] == pytest.approx(math.log(10) / 4, abs=0.01)
    assert gains["extent"] > 2.5


def test_attention_that_scores_all_voxels_alike_is_the_mean():
    pooling = AttentionPooling(1, WIDTH)
    torch.nn.init.zeros_(pooling.score.weight)
    evidence, region = small()
    assert pooling(evidence, region, torch.randn(1, WIDTH, 1, 2, 2)).item() == pytest.approx(sum(VALUES) / 3)


def test_attention_leaves_a_tenth_to_all_voxels_alike():
    pooling = AttentionPooling(1, 1)
    with torch.no_grad():
        pooling.content.weight.fill_(100.0)
        pooling.gate.weight.fill_(100.0)
        pooling.score.weight.fill_(100.0)
    evidence, region = small()
    chosen = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 1, 2, 2)  # all attention goes to the voxel of 0.5
    assert pooling(evidence, region, chosen).item() == pytest.approx(0.9 * 0.5 + 0.1 * sum(VALUES) / 3, abs=1e-5)


@pytest.mark.parametrize("name", ["mean", "max", "attention"])
def test_contributions_add_up_to_the_logit(name):
    pooling, (evidence, region, features) = made(name), material()
    total = pooling.contributions(evidence, region, features).flatten(2).sum(2) + pooling.bias
    logits = pooling(evidence, region, features)
    assert total.detach().numpy() == pytest.approx(logits.detach().numpy(), abs=1e-5)


def test_contributions_of_the_soft_maximum_exceed_the_logit_by_the_divergence_of_its_weights():
    pooling, (evidence, region, _) = made("lse"), material()
    total = pooling.contributions(evidence, region).flatten(2).sum(2) + pooling.bias
    excess = divergence(evidence, region, pooling.sharpness) / pooling.sharpness
    assert (excess > 0.05).all()
    assert (total - excess).detach().numpy() == pytest.approx(pooling(evidence, region).detach().numpy(), abs=1e-5)


def test_contributions_of_extent_exceed_the_logit_by_the_share_of_the_soft_maximum():
    pooling, (evidence, region, _) = made("extent"), material()
    total = pooling.contributions(evidence, region).flatten(2).sum(2) + pooling.bias
    excess = pooling.factors[0] * divergence(evidence, region, pooling.sharpness) / pooling.sharpness
    assert (total - excess).detach().numpy() == pytest.approx(pooling(evidence, region).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
def test_nothing_outside_the_region_counts(name):
    pooling, (evidence, region, features) = made(name), material()
    outside = ~region[:, None]
    changed = torch.where(outside, 50.0, evidence)
    other_features = torch.where(outside, -3.0, features)
    assert torch.equal(pooling(evidence, region, features), pooling(changed, region, other_features))
    contributions = pooling.contributions(changed, region, other_features)
    assert (contributions[outside.expand_as(contributions)] == 0).all()


@pytest.mark.parametrize("name", POOLINGS)
def test_the_logit_rises_with_the_evidence(name):
    pooling, (evidence, region, features) = made(name), material()
    assert (pooling(evidence + 0.5, region, features) > pooling(evidence, region, features)).all()


@pytest.mark.parametrize("name", POOLINGS)
def test_an_empty_region_pools_to_the_bias_with_a_finite_gradient(name):
    pooling, (evidence, region, features) = made(name), material()
    evidence.requires_grad_()
    pooled = pooling(evidence, torch.zeros_like(region), features)
    pooled.sum().backward()
    assert torch.equal(pooled, pooling.bias.expand(2, 3))
    assert torch.isfinite(evidence.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in pooling.parameters() if p.grad is not None)


def test_a_crop_is_pooled_alike_in_any_batch():
    pooling, (evidence, region, _) = MeanPooling(3), material()
    assert torch.equal(pooling(evidence, region)[1:], pooling(evidence[1:], region[1:]))


def test_weights_of_earlier_checkpoints_fit_the_soft_maximum():
    assert set(LogSumExpPooling(2, WIDTH).state_dict()) == {"bias", "sharpness_logit"}
