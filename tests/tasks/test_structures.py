"""Structures that a physician drew: when they are learnt, and where."""

import dataclasses

import pytest
import torch

from spinecls.dataloading.batch import OpenBatch, SealedBatch
from spinecls.dataloading.cases import UNKNOWN
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.tasks.losses import map_loss
from spinecls.tasks.structures import SealedStructuresTask, StructuresTask, index_of_code
from spinecls.tasks.task import CropOutputs, OpenOutputs
from spinecls.trainers.auxiliary import AuxSegTrainer
from spinecls.trainers.trainer import RunSettings

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres", spacing_mm=(4.0, 2.0, 2.0), patch_size=(2, 4, 4), sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=(2, 4, 4), network=NETWORK, reader_network=NETWORK, members=2,
)  # fmt: skip
PLAN = Plan(
    plans_name="p", dataset_name="d", channel_names=("T2",), class_names=("normal", "oedema"), class_order=False,
    class_counts={}, levels={"L1": 20}, structures={"disc": 7, "bright": 3}, lesion_structures={"bright": "oedema"},
    vertebrae_complete=True, ignore_label=255, level_statistics={}, configurations={},
)  # fmt: skip


def tasks_of(tmp_path, **changes):
    """Names of the tasks of the finder and of each reader."""
    settings = RunSettings(tmp_path, torch.device("cpu"))
    trainer = AuxSegTrainer(dataclasses.replace(PLAN, **changes), CONFIGURATION, settings)
    return [{t.task.name for t in part.tasks} for part in trainer.parts]


FINDER = {"centre", "level", "vertebra_map"}


def test_structures_are_learnt_by_the_finder_and_by_every_reader(tmp_path):
    finder, *readers = tasks_of(tmp_path)
    assert finder == FINDER | {"structures"}
    assert readers == [{"class", "lesion", "sealed_structures"}] * 2


def test_structures_that_are_all_lesions_are_learnt_as_evidence_alone(tmp_path):
    finder, *readers = tasks_of(tmp_path, structures={"bright": 3})
    assert finder == FINDER
    assert readers == [{"class", "lesion"}] * 2


def test_lesions_without_classes_are_structures_of_the_finder(tmp_path):
    changes = {"structures": {"bright": 3}, "class_names": ()}
    assert tasks_of(tmp_path, **changes) == [FINDER | {"structures"}]


def test_without_structures_there_is_no_task_for_them(tmp_path):
    finder, *readers = tasks_of(tmp_path, structures={}, lesion_structures={})
    assert finder == FINDER
    assert readers == [{"class"}] * 2


def test_each_code_has_its_place_in_the_order_of_the_plan_and_others_are_unknown():
    table = index_of_code(PLAN)
    assert (table[0], table[7], table[3]) == (0, 1, 2)
    assert (table[[1, 2, 8, 254, UNKNOWN]] == UNKNOWN).all()


def opened(structures):
    image = torch.zeros(1, 1, *structures.shape[1:])
    return OpenBatch(image=image, targets={"structures": {"codes": structures}})


def test_the_finder_learns_structures_wherever_they_are_drawn():
    torch.manual_seed(0)
    drawn, logits = torch.tensor([0, 7, 3, UNKNOWN]).reshape(1, 1, 2, 2), torch.randn(1, 3, 1, 2, 2)
    target = torch.tensor([0, 1, 2, UNKNOWN]).reshape(1, 1, 2, 2)
    loss = StructuresTask(PLAN, CONFIGURATION).loss(OpenOutputs({"structures": logits}), opened(drawn))
    assert float(loss) == pytest.approx(float(map_loss(logits, target, UNKNOWN)))


def sealed(drawn, pooled):
    crops = torch.zeros(1, 2, *drawn.shape[1:])
    return SealedBatch(crops=crops, pooled=pooled, targets={"sealed_structures": {"codes": drawn}})


def test_a_reader_learns_structures_in_the_region_alone():
    torch.manual_seed(0)
    task, logits = SealedStructuresTask(PLAN, CONFIGURATION), torch.randn(1, 3, 1, 2, 2)
    pooled = torch.tensor([True, True, False, True]).reshape(1, 1, 2, 2)
    unread = torch.zeros(1, 2)
    losses = [
        float(task.loss(CropOutputs(unread, unread, {"sealed_structures": logits}),
                        sealed(torch.tensor([0, 7, beyond, UNKNOWN]).reshape(1, 1, 2, 2), pooled)))
        for beyond in (0, 3, 7)
    ]  # fmt: skip
    target = torch.tensor([0, 1, UNKNOWN, UNKNOWN]).reshape(1, 1, 2, 2)
    assert losses == pytest.approx([float(map_loss(logits, target, UNKNOWN))] * 3)
