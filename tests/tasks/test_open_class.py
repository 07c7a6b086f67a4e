"""Classes of vertebrae in the open pass, by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from made_up_cases import STILL, blocks, target_of, with_classes

from spinecls.beliefs import belief, certain
from spinecls.dataloading.batch import OpenBatch
from spinecls.dataloading.cases import LabelledRegion
from spinecls.dataloading.loader import TrainingData, training_batches
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.tasks.open_class import ClassRegions, OpenClassTask
from spinecls.tasks.open_tasks import VertebraMapTask
from spinecls.tasks.task import OpenOutputs

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
    batch = OpenBatch(image=torch.zeros(1, 1, *SHAPE), targets={"open_class": {"classes": classes}})
    return made.loss(OpenOutputs({"open_class": evidence}), batch)


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


OF_PATCHES = OpenClassTask(PLAN, STILL)


def test_a_patch_says_what_is_believed_of_the_vertebrae_that_it_shows():
    case = with_classes(blocks(), certain(2, 3), certain(0, 3))
    row = target_of(OF_PATCHES, case)
    assert {number: label.singletons().tolist() for number, label in row["labels"].items()} == {
        1: [0, 0, 1], 2: [1, 0, 0],
    }  # fmt: skip
    assert np.array_equal(row["numbers"], case.vertebra_map)


def test_without_a_map_a_usual_body_has_the_class_of_its_centre():
    drawn = blocks()
    case = dataclasses.replace(drawn, vertebra_map=None, bodies=drawn.vertebra_map)
    case = dataclasses.replace(case, classes=(LabelledRegion(certain(1, 3), 300.0),) * 2)
    row = target_of(OF_PATCHES, case)
    assert (row["numbers"][4, 20, 20], row["numbers"][4, 38, 20]) == (1, 2)
    assert set(row["labels"]) == {1, 2}


def test_a_vertebra_of_which_nobody_read_the_class_is_left_out():
    case = with_classes(blocks(), belief([], 3), certain(0, 3))
    assert set(target_of(OF_PATCHES, case)["labels"]) == {2}


@pytest.mark.parametrize(("rows", "expected"), [(9, {1: 0.9, 2: 1.0}), (3, {2: 1.0})])
def test_the_less_a_patch_shows_of_a_vertebra_the_less_is_believed(rows, expected):
    case = with_classes(blocks(), certain(1, 3), certain(0, 3))
    short = dataclasses.replace(
        case, image=case.image[:, :, 25 - rows :], vertebra_map=case.vertebra_map[:, 25 - rows :],
        unknown=case.unknown[:, 25 - rows :], centres=case.centres - [0, 25 - rows, 0],
    )  # fmt: skip
    labels = target_of(OF_PATCHES, short)["labels"]
    assert {number: label.weight for number, label in labels.items()} == pytest.approx(expected)


def test_a_batch_lists_the_vertebrae_of_all_its_patches():
    both = with_classes(blocks(identifier="both"), certain(1, 3), certain(0, 3))
    second = with_classes(blocks(identifier="second"), belief([], 3), certain(2, 3))
    data, many = TrainingData([both, second], []), dataclasses.replace(STILL, batch_size=6)
    tasks = [OpenClassTask(PLAN, many), VertebraMapTask(PLAN, many)]
    batches = training_batches(data, many, tasks, sealed=False, seed=0, first_step=0, workers=0)
    batch = next(batches)
    batches.close()
    assert set(batch.cases) == {"both", "second"}
    of_case = {"both": [(1, 1), (2, 0)], "second": [(2, 2)]}
    expected = [(patch, number, k) for patch, case in enumerate(batch.cases) for number, k in of_case[case]]
    classes = batch.targets["open_class"]["classes"]
    singletons = (classes.sets * classes.masses[..., None]).sum(dim=1)
    found = zip(classes.patch.tolist(), classes.number.tolist(), singletons.argmax(dim=1).tolist(), strict=True)
    assert list(found) == expected
    assert torch.equal(classes.numbers, batch.targets["vertebra_map"]["map"] * (1 + (classes.numbers == 2)))


def test_patches_of_cases_without_classes_say_nothing_of_any():
    (row,) = [target_of(OF_PATCHES, blocks())]
    assert OF_PATCHES.batched([row, row]) == {"classes": None}
