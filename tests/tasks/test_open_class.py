"""Classes of vertebrae in the open pass, by hand."""

import dataclasses
import math

import pytest
import torch

from spinecls.dataloading.batch import ClassRegions
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.tasks.base import Outputs
from spinecls.tasks.uncertain import OpenClassTask

SHAPE = (2, 4, 4)
NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres", spacing_mm=(4.0, 2.0, 2.0), patch_size=SHAPE, sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=SHAPE, logit_adjustment=0.0, pooling="mean",
    network=NETWORK, reader_network=NETWORK,
)  # fmt: skip
PLAN = Plan(
    plans_name="p", dataset_name="d", channel_names=("T2",), class_names=("normal", "inflammatory", "structural"),
    class_order=False, class_counts={"normal": 98, "inflammatory": 98, "structural": 0}, levels={}, structures={},
    lesion_structures={}, vertebrae_complete=True, ignore_label=255, level_statistics={}, configurations={},
)  # fmt: skip


def regions(*labels, numbers=None):
    """Vertebrae 1, 2, ... of the first patch with a class each."""
    return ClassRegions(
        numbers=torch.zeros(1, *SHAPE, dtype=torch.long) if numbers is None else numbers,
        patch=torch.zeros(len(labels), dtype=torch.long),
        number=torch.arange(len(labels)) + 1,
        sets=torch.eye(3, dtype=torch.bool)[torch.tensor(labels)][:, None],
        masses=torch.ones(len(labels), 1),
    )


def task(plan=PLAN, **settings):
    made = OpenClassTask(plan, dataclasses.replace(CONFIGURATION, **settings))
    made.pooling = made.module()
    return made


def loss(made, evidence, classes):
    batch = type("Batch", (), {"open": type("Open", (), {"classes": classes})})
    return made.loss(Outputs(open={"open_class": evidence}), batch)


def two_vertebrae():
    numbers = torch.zeros(1, *SHAPE, dtype=torch.long)
    numbers[0, :, 0], numbers[0, :, 3] = 1, 2
    return numbers


def test_the_class_of_a_vertebra_is_pooled_over_its_own_voxels():
    numbers = two_vertebrae()
    evidence = torch.full((1, 2, *SHAPE), 50.0)
    # Means over the regions: (1, -1) in the first, (0, 2) in the second; what lies elsewhere does not matter.
    evidence[0, 0][numbers[0] == 1], evidence[0, 1][numbers[0] == 1] = 1.0, -1.0
    evidence[0, 0][numbers[0] == 2], evidence[0, 1][numbers[0] == 2] = 0.0, 2.0
    first = math.log(1 + math.e + math.exp(-1)) - 1
    second = math.log(2 + math.exp(2))
    found = loss(task(), evidence, regions(1, 0, numbers=numbers))
    assert float(found.detach()) == pytest.approx((first + second) / 2, rel=1e-5)


def test_frequent_classes_are_expected_as_often_as_they_are():
    # Shares 0.495, 0.495 and, smoothed, 0.01; without any evidence that is what the class is taken to be.
    found = loss(task(logit_adjustment=1.0), torch.zeros(1, 2, *SHAPE), regions(0, numbers=two_vertebrae()))
    assert float(found.detach()) == pytest.approx(-math.log(99 / 199), rel=1e-5)


def test_a_patch_without_a_class_costs_nothing_and_has_a_gradient():
    evidence = torch.ones(1, 2, *SHAPE, requires_grad=True)
    found = loss(task(), evidence, None)
    found.backward()
    assert float(found.detach()) == 0
    assert not evidence.grad.any()


def test_a_wrong_class_costs_at_most_what_q_allows():
    evidence = torch.zeros(1, 2, *SHAPE)
    evidence[:, 0] = 40.0
    found = loss(task(class_q=0.5), evidence, regions(2, numbers=two_vertebrae()))
    assert float(found.detach()) == pytest.approx(1 / 0.5, rel=1e-3)


def test_grades_come_from_one_map():
    graded = task(dataclasses.replace(PLAN, class_order=True))
    assert graded.dense_heads() == {"open_class": 1}
    # Without evidence all grades are equally probable at the start.
    found = loss(graded, torch.zeros(1, 1, *SHAPE), regions(2, numbers=two_vertebrae()))
    assert float(found.detach()) == pytest.approx(math.log(3), rel=1e-3)


def test_the_soft_maximum_stands_for_attention():
    made = OpenClassTask(PLAN, dataclasses.replace(CONFIGURATION, pooling="attention"))
    assert type(made.module().pooling).__name__ == "LogSumExpPooling"
