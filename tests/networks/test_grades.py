"""Ordered classes: probabilities from one severity."""

import math

import pytest
import torch

from spinecls.networks.grades import CumulativeLink
from spinecls.networks.reader import Reader
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.checkpoint import ModelSpec

NETWORK = NetworkPlan(features=(4, 6), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
SEVERITIES = torch.linspace(-30, 30, 121)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def link_with(thresholds):
    """Link with given thresholds, set through its parameters."""
    link = CumulativeLink(len(thresholds) + 1)
    gaps = torch.tensor(thresholds).diff() - CumulativeLink.SMALLEST_GAP
    with torch.no_grad():
        link.first.fill_(thresholds[0])
        link.gap_logits.copy_(gaps.expm1().log())
    return link


def test_probabilities_by_hand():
    link = link_with([-1.0, 0.5, 2.0])
    expected = [
        sigmoid(-1 - 0.7),
        sigmoid(0.5 - 0.7) - sigmoid(-1 - 0.7),
        sigmoid(2 - 0.7) - sigmoid(0.5 - 0.7),
        1 - sigmoid(2 - 0.7),
    ]
    assert link(torch.tensor([0.7])).exp()[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_probabilities_sum_to_one_and_their_logarithms_are_finite(num_classes):
    logs = CumulativeLink(num_classes)(SEVERITIES)
    assert torch.isfinite(logs).all()
    assert logs.exp().sum(1).tolist() == pytest.approx([1.0] * len(SEVERITIES), abs=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_without_evidence_all_classes_are_equally_probable_at_the_start(num_classes):
    found = CumulativeLink(num_classes)(torch.zeros(1)).exp()[0]
    assert found.tolist() == pytest.approx([1 / num_classes] * num_classes, abs=1e-6)


def test_the_probability_of_at_least_a_grade_rises_with_the_severity():
    link = link_with([-1.0, 0.5, 2.0])
    found = link(torch.linspace(-8, 8, 200)).exp()
    for grade in (1, 2, 3):
        assert (found[:, grade:].sum(1).diff() > 0).all()


def test_thresholds_rise_whatever_the_parameters():
    link = CumulativeLink(5)
    with torch.no_grad():
        link.gap_logits.fill_(-50.0)
    assert (link.thresholds.diff() > 0).all()
    assert torch.isfinite(link(torch.zeros(1))).all()


def test_gradients_are_finite_far_from_the_thresholds():
    severity = torch.tensor([-200.0, 200.0], requires_grad=True)
    CumulativeLink(4)(severity).sum().backward()
    assert torch.isfinite(severity.grad).all()


def graded_reader(num_classes=4, pooling="lse"):
    torch.manual_seed(0)
    return Reader(NETWORK, 1, num_classes, {}, pooling=pooling, ordinal=True).eval()


def test_a_reader_of_grades_has_one_map_of_evidence():
    logits, evidence = graded_reader().sealed_pass(torch.rand(2, 2, 4, 8, 8))
    assert logits.shape == (2, 4)
    assert evidence.shape == (2, 1, 4, 8, 8)


def test_more_severity_everywhere_never_lowers_the_expected_grade():
    reader, crops = graded_reader(pooling="extent"), torch.rand(2, 2, 4, 8, 8)
    grades = torch.arange(4.0)
    before = (reader.sealed_pass(crops)[0].exp() * grades).sum(1)
    with torch.no_grad():
        reader.evidence.bias.add_(1.0)
    assert ((reader.sealed_pass(crops)[0].exp() * grades).sum(1) > before).all()


def test_grades_without_classes_are_no_classification():
    assert not ModelSpec(NETWORK, NETWORK, 2, 1, 0, {}, {}, ordinal=True).build().ordinal
    assert ModelSpec(NETWORK, NETWORK, 2, 1, 3, {}, {}, ordinal=True).build().ordinal


def test_a_voxel_speaks_for_grades_by_the_odds_of_any_but_the_first():
    torch.manual_seed(0)
    reader = Reader(NETWORK, 1, 4, {}, ordinal=True)
    crops = torch.cat([torch.randn(1, 1, 4, 8, 8), torch.ones(1, 1, 4, 8, 8)], dim=1)
    one = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    one[0, 1, 2, 3] = True
    found = reader.explained_pass(crops, one)
    first = found.logits[0, 0].exp().item()
    assert found.speaks[0, 0, 1, 2, 3].item() == pytest.approx(math.log((1 - first) / first), abs=1e-5)
    assert found.speaks.count_nonzero() == 1
