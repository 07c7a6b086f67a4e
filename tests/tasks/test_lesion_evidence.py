"""Lesion outlines on the evidence map, by numbers worked by hand."""

import math

import pytest
import torch

from spinecls.dataloading.cases import UNKNOWN
from spinecls.planning.plan import Plan
from spinecls.tasks.lesion_evidence import lesion_codes, lesion_loss

CODES = ((1,), (2,))


def plan_of(lesion_structures, class_order=False):
    return Plan(
        plans_name="p", dataset_name="d", channel_names=("T2",), class_names=("normal", "oedema", "fat"),
        class_order=class_order, class_counts={}, levels={"L1": 20}, structures={"disc": 1, "bright": 3, "dark": 4},
        lesion_structures=lesion_structures, vertebrae_complete=True, ignore_label=255, level_statistics={},
        configurations={},
    )  # fmt: skip


def line(values):
    """One vertebra whose voxels lie in a row."""
    return torch.tensor(values).reshape(1, 1, 1, -1)


def evidence(first, second):
    return torch.stack([line(first)[0], line(second)[0]])[None].float()


def softplus(x):
    return math.log1p(math.exp(x))


def test_what_is_drawn_in_a_crop_weighs_as_much_as_all_that_is_not():
    # One lesion voxel of four. Evidence of the second class, of which nothing is drawn, is wanted low everywhere.
    lesions, counted = line([1, 0, 0, 0]), line([True] * 4)
    loss = lesion_loss(evidence([2.0, -1, -1, -3], [-3.0] * 4), lesions, counted, CODES)
    first = (softplus(-2) + (2 * softplus(-1) + softplus(-3)) / 3) / 2
    assert float(loss) == pytest.approx((first + softplus(-3)) / 2)


def test_a_large_lesion_counts_as_much_as_a_small_one_and_a_crop_without_any_half_as_much():
    # Three crops: one lesion voxel, two, none; five means in all.
    lesions = torch.cat([line([1, 0, 0, 0]), line([1, 1, 0, 0]), line([0, 0, 0, 0])])
    values = torch.cat([torch.full((1, 1, 1, 1, 4), v) for v in (1.0, 2.0, -3.0)])
    loss = lesion_loss(values, lesions, torch.ones_like(lesions, dtype=torch.bool), ((1,),))
    means = [softplus(-1), softplus(-2), softplus(1), softplus(2), softplus(-3)]
    assert float(loss) == pytest.approx(sum(means) / 5)


def test_voxels_outside_the_region_and_undrawn_cases_cost_nothing():
    lesions, counted = line([1, 0, UNKNOWN, 0]), line([True, True, True, False])
    loss = lesion_loss(evidence([1.0, 1, 99, 99], [-1.0, -1, 99, 99]), lesions, counted, CODES)
    assert float(loss) == pytest.approx(((softplus(-1) + softplus(1)) / 2 + softplus(-1)) / 2)


def test_a_crop_of_a_case_that_nobody_drew_does_not_dilute_the_others():
    lesions = torch.cat([line([1, 0]), line([UNKNOWN] * 2)])
    values = torch.cat([torch.full((1, 1, 1, 1, 2), v) for v in (1.0, 50.0)])
    loss = lesion_loss(values, lesions, torch.ones_like(lesions, dtype=torch.bool), ((1,),))
    assert float(loss) == pytest.approx((softplus(-1) + softplus(1)) / 2)


def test_a_batch_without_outlines_has_zero_loss_and_zero_gradient():
    values = evidence([1.0, 2.0], [3.0, 4.0]).requires_grad_()
    loss = lesion_loss(values, line([UNKNOWN] * 2), line([True] * 2), CODES)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not values.grad.any()


def test_structures_belong_to_the_evidence_of_the_class_they_show():
    assert lesion_codes(plan_of({"bright": "oedema", "dark": "fat"})) == ((3,), (4,))
    assert lesion_codes(plan_of({"dark": "fat"})) == ((), (4,))


def test_every_lesion_raises_the_one_severity_of_grades():
    assert lesion_codes(plan_of({"bright": "oedema", "dark": "fat"}, class_order=True)) == ((3, 4),)


def test_a_class_that_no_structure_shows_is_left_out():
    loss = lesion_loss(evidence([5.0, 5.0], [-1.0, -1.0]), line([0, 0]), line([True] * 2), ((), (2,)))
    assert float(loss) == pytest.approx(softplus(-1))
