"""Guards against names of tasks, heads and modules that are empty, taken, shared or no names at all."""

import dataclasses

import pytest
import torch
from torch import nn

from spinecls.errors import ModelError, TrainerError
from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader
from spinecls.planning.plan import Configuration, NetworkPlan, Plan
from spinecls.tasks.task import Task, WeightedTask, heads_of
from spinecls.trainers.trainer import RunSettings, Trainer

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres", spacing_mm=(4.0, 2.0, 2.0), patch_size=(8, 24, 20), sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=(6, 16, 16), network=NETWORK, reader_network=NETWORK,
)  # fmt: skip
PLAN = Plan(
    plans_name="plans", dataset_name="d", channel_names=("T2",), class_names=("no", "yes"), class_order=False,
    class_counts={}, levels={}, structures={}, lesion_structures={}, vertebrae_complete=True, ignore_label=255,
    level_statistics={}, configurations={},
)  # fmt: skip
NO_NAMES = ("", " ", "a b", "1st", "a.b", "a-b", None, 3)
TAKEN_BY_TORCH = ("keys", "pop", "train", "values", "forward", "_modules")
TAKEN_NAMES = ("task_weighting", "part", "step", "seconds", "learning_rate")
BUILT_IN = ("heatmap", "offset", "level")


def task(name="mine", heads=None, module=None):
    class Mine(Task):
        def dense_heads(self):
            return {} if heads is None else heads

        def module(self):
            return module

        def loss(self, outputs, batch):
            return 0

    Mine.name = name
    return WeightedTask(Mine(PLAN, CONFIGURATION))


@pytest.mark.parametrize("name", [*NO_NAMES, *TAKEN_BY_TORCH, *TAKEN_NAMES])
def test_a_task_must_have_a_name_of_its_own(name):
    with pytest.raises(TrainerError, match=r"Task 0 \(Mine\): (its|the) name .*(no name|taken)"):
        heads_of([task(name)])


def test_a_task_without_a_name_is_told():
    class Nameless(Task):
        def loss(self, outputs, batch):
            return 0

    with pytest.raises(TrainerError, match="Set the attribute name of the class"):
        heads_of([WeightedTask(Nameless(PLAN, CONFIGURATION))])


def test_two_tasks_must_not_have_one_name():
    with pytest.raises(TrainerError, match=r"Task 1 \(Mine\): another task has the name 'a'"):
        heads_of([task("a"), task("a")])


@pytest.mark.parametrize("head", [*NO_NAMES, *TAKEN_BY_TORCH, *BUILT_IN])
def test_a_head_must_have_a_name_of_its_own(head):
    with pytest.raises(TrainerError, match=r"Task 0 \(Mine\): its head .*(no name|taken)"):
        heads_of([task(heads={head: 3})])
    with pytest.raises(ModelError, match=r"Head .*(no name|taken)"):
        Finder(NETWORK, 1, {head: 3})
    with pytest.raises(ModelError, match=r"Head .*(no name|taken)"):
        Reader(NETWORK, 1, 2, {head: 3})


@pytest.mark.parametrize("channels", [0, -1, 1.5, None, "3", True])
def test_a_head_must_have_a_number_of_channels(channels):
    with pytest.raises(TrainerError, match="output channels, expected a whole number from 1 on"):
        heads_of([task(heads={"mine": channels})])


def test_two_tasks_must_not_declare_one_head():
    with pytest.raises(TrainerError, match=r"its head 'shared' is already one of task 'a'.*others may read it"):
        heads_of([task("a", {"shared": 1}), task("b", {"shared": 1})])


@pytest.mark.parametrize("heads", [["mine"], "mine", 3])
def test_heads_must_be_names_with_channels(heads):
    with pytest.raises(TrainerError, match="expected name -> output channels"):
        heads_of([task(heads=heads)])


@pytest.mark.parametrize("tasks", [None, "tasks", [task().task], [3]])
def test_a_trainer_must_list_weighted_tasks(tasks):
    with pytest.raises(TrainerError, match="expected a list of WeightedTask"):
        heads_of(tasks)


def test_good_names_are_taken_as_they_are():
    assert heads_of([task("a", {"one": 1, "two": 2}), task("b", {"three": 3})]) == {"one": 1, "two": 2, "three": 3}


def test_a_module_must_be_one(tmp_path):
    trainer = trainer_of(task(module="conv"))
    with pytest.raises(TrainerError, match=r"Task 'mine': module\(\) gives 'conv', expected a nn.Module"):
        trainer(PLAN, CONFIGURATION, RunSettings(tmp_path, torch.device("cpu")))


def test_two_tasks_must_not_train_one_module(tmp_path):
    shared = nn.Conv3d(1, 1, 1)
    trainer = trainer_of(task("a", module=shared), task("b", module=shared))
    with pytest.raises(TrainerError, match=r"Task 'b': module\(\) gives weights that the finder has already"):
        trainer(PLAN, CONFIGURATION, RunSettings(tmp_path, torch.device("cpu")))


def test_a_task_with_no_weight_is_looked_at_too(tmp_path):
    unused = dataclasses.replace(task("step"), weight=0.0)
    with pytest.raises(TrainerError, match="'step' is taken"):
        trainer_of(task(module=nn.Identity()), unused)(PLAN, CONFIGURATION, RunSettings(tmp_path, torch.device("cpu")))


def trainer_of(*tasks):
    class Mine(Trainer):
        def build_tasks(self):
            return list(tasks)

    return Mine
