"""Targets of the built-in tasks of the finder."""

import numpy as np
import pytest
import torch
from made_up_cases import CONFIGURATION, PLAN, STILL, a_case, blocks, target_of

from spinecls.dataloading.cases import UNKNOWN
from spinecls.dataloading.open_patches import OTHER_VERTEBRA
from spinecls.tasks.open_tasks import CentreTask, LevelTask, VertebraMapTask


def test_an_unknown_zone_has_no_weight_except_near_a_centre():
    case = a_case(unknown=np.ones((9, 60, 40), bool))
    row = target_of(CentreTask(PLAN, CONFIGURATION), case)
    assert np.array_equal(row["heatmap_weight"] > 0, row["heatmap"] > 0.1)


def test_a_case_without_a_map_is_unknown_everywhere():
    task = VertebraMapTask(PLAN, CONFIGURATION)
    assert (target_of(task, a_case(vertebra_map=None, bodies=np.zeros((9, 60, 40), np.uint8)))["map"] == UNKNOWN).all()


def test_a_map_says_vertebra_of_all_that_are_one_and_what_is_unknown():
    case = blocks()
    case.vertebra_map[0, 0, :3] = UNKNOWN, OTHER_VERTEBRA, 2
    assert target_of(VertebraMapTask(PLAN, STILL), case)["map"][0, 0, :4].tolist() == [UNKNOWN, 1, 1, 0]


@pytest.mark.parametrize("counts", [(2, 0, 1), (0, 0, 0)])
def test_centres_of_all_patches_are_listed_with_their_patch(counts):
    rows = [{"index": np.full((n, 3), n, np.float32), "rank": np.full(n, n)} for n in counts]
    batch = LevelTask(PLAN, CONFIGURATION).batched(rows)
    assert batch["patch"].tolist() == [row for row, n in enumerate(counts) for _ in range(n)]
    assert batch["rank"].tolist() == [n for n in counts for _ in range(n)]
    assert batch["index"].shape == (sum(counts), 3)
    assert (batch["patch"].dtype, batch["rank"].dtype) == (torch.int64, torch.int64)
