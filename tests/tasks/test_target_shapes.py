"""Targets that do not fit are refused with what is wrong."""

import numpy as np
import pytest
import torch
from made_up_cases import CONFIGURATION, PLAN

from spinecls.errors import TrainerError
from spinecls.tasks.task import Task

SIZE = CONFIGURATION.patch_size


class Distance(Task):
    name = "distance"

    def empty(self):
        return {"mm": np.zeros((1, *self.size), np.float32)}

    def loss(self, outputs, batch):
        return 0


TASK = Distance(PLAN, CONFIGURATION)
WRONG = {
    "nothing": (None, "its target is None, expected what empty"),
    "another name": ({"cm": np.zeros((1, *SIZE), np.float32)}, "its target is cm, expected what empty.* mm"),
    "another shape": ({"mm": np.zeros(SIZE, np.float32)}, r"shape \(6, 24, 20\) .*expected \(1, 6, 24, 20\)"),
    "another kind": ({"mm": np.zeros((1, *SIZE), np.int64)}, "is int64, expected .*float32"),
    "a tensor": ({"mm": torch.zeros(1, *SIZE)}, "'mm' is a Tensor, in empty.* a ndarray"),
}


@pytest.mark.parametrize(("row", "said"), WRONG.values(), ids=WRONG)
def test_a_target_must_be_as_the_empty_one(row, said):
    with pytest.raises(TrainerError, match=rf"(?s)Task 'distance' \(Distance\): .*{said}"):
        TASK.batched([TASK.empty(), row])


def test_numbers_of_voxels_need_an_axis_of_channels(monkeypatch):
    monkeypatch.setattr(Distance, "empty", lambda self: {"mm": np.zeros(SIZE, np.float32)})
    with pytest.raises(TrainerError, match=r"expected \(1, 6, 24, 20\): a head gives channels first"):
        TASK.batched([TASK.empty()])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(np.float64, torch.float32), (np.uint8, torch.int64), (np.int16, torch.int64), (bool, torch.bool)],
)
def test_targets_of_a_batch_are_stacked_as_losses_take_them(kind, expected, monkeypatch):
    monkeypatch.setattr(Distance, "empty", lambda self: {"code": np.zeros((2, 3), kind)})
    found = TASK.batched([{"code": np.ones((2, 3), kind)}, TASK.empty()])["code"]
    assert (found.shape, found.dtype) == ((2, 2, 3), expected)
    assert found[0].all()
    assert not found[1].any()


def test_whole_numbers_may_be_of_any_width(monkeypatch):
    monkeypatch.setattr(Distance, "empty", lambda self: {"code": np.zeros(3, np.uint8)})
    assert TASK.batched([{"code": np.array([1, -1, 300])}])["code"].tolist() == [[1, -1, 300]]


def test_a_task_without_a_target_has_none():
    class Without(Task):
        name = "without"

        def loss(self, outputs, batch):
            return 0

    task = Without(PLAN, CONFIGURATION)
    assert task.batched([task.target(None, None)] * 2) == {}
