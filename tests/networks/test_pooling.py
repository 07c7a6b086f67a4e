import math

import pytest
import torch

from spinecls.networks.pooling import LogSumExpPooling


def test_sharpness_starts_at_four():
    assert LogSumExpPooling(2).sharpness.tolist() == pytest.approx([4.0, 4.0], abs=1e-3)


def test_pooled_logit_is_the_formula():
    evidence = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 1, 1, 2, 2)
    region = torch.tensor([True, True, True, False]).view(1, 1, 2, 2)
    expected = math.log((math.exp(4) + math.exp(-8) + math.exp(2)) / 3) / 4
    assert LogSumExpPooling(1)(evidence, region).item() == pytest.approx(expected, abs=1e-3)


def test_evidence_outside_the_region_does_not_count():
    pooling = LogSumExpPooling(1)
    region = torch.zeros(1, 2, 3, 3, dtype=torch.bool)
    region[0, 0] = True
    evidence = torch.randn(1, 1, 2, 3, 3)
    changed = evidence.clone()
    changed[0, 0, 1] = 1e3
    assert torch.equal(pooling(evidence, region), pooling(changed, region))


def test_a_small_lesion_decides():
    evidence = torch.full((1, 1, 1, 50, 100), -4.0)
    evidence[..., 0, :25] = 3.0
    region = torch.ones(1, 1, 50, 100, dtype=torch.bool)
    assert LogSumExpPooling(1)(evidence, region).item() > 1.5
    assert evidence.mean().item() < -3.9


def test_an_empty_region_pools_to_the_bias_with_a_finite_gradient():
    pooling = LogSumExpPooling(2)
    with torch.no_grad():
        pooling.bias.copy_(torch.tensor([0.3, -0.2]))
    evidence = torch.randn(1, 2, 1, 2, 2, requires_grad=True)
    pooled = pooling(evidence, torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    pooled.sum().backward()
    assert pooled[0].tolist() == pytest.approx([0.3, -0.2])
    assert torch.isfinite(evidence.grad).all()
