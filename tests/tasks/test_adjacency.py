"""Forbidden neighbours: which, and what they cost."""

import numpy as np
import pytest
import torch

from spinecls.anatomy import LEVELS, RANK
from spinecls.tasks.adjacency import adjacency_loss, forbidden_pairs


def named(*names):
    """(1, 27, 1, 1, N) sure of each voxel's name."""
    probabilities = torch.zeros(1, len(LEVELS), 1, 1, len(names))
    for i, name in enumerate(names):
        probabilities[0, RANK[name], 0, 0, i] = 1.0
    return probabilities


@pytest.mark.parametrize(
    ("pair", "forbidden"),
    [
        (("L1", "L1"), False), (("L1", "L2"), False), (("L2", "L1"), False), (("L1", "L3"), True),
        (("T12", "L1"), False), (("T12", "T13"), False), (("T13", "L1"), False), (("T11", "L1"), False),
        (("L5", "L6"), False), (("L6", "S1"), False), (("L4", "S1"), False), (("L3", "S1"), True),
        (("C1", "S1"), True), (("T13", "L2"), True),
    ],
)  # fmt: skip
def test_only_levels_that_no_spine_has_next_to_each_other_are_forbidden(pair, forbidden):
    table = forbidden_pairs()
    assert bool(table[RANK[pair[0]], RANK[pair[1]]]) == forbidden
    assert torch.equal(table, table.T)


def test_a_spine_in_order_costs_nothing():
    assert float(adjacency_loss(named("T12", "L1", "L1", "L2"), forbidden_pairs())) == 0


def test_one_forbidden_pair_of_three_costs_a_third():
    assert float(adjacency_loss(named("L1", "L4", "L4", "L5"), forbidden_pairs())) == pytest.approx(1 / 3)


def test_loss_equals_the_plain_sum_over_all_six_neighbours():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(len(LEVELS)), (3, 4, 2)).transpose(3, 0, 1, 2)
    table = forbidden_pairs().numpy()
    total, count = 0.0, 0
    for v in np.ndindex(3, 4, 2):
        for axis in range(3):
            for step in (-1, 1):
                other = list(v)
                other[axis] += step
                if 0 <= other[axis] < p.shape[1 + axis]:
                    total += p[(slice(None), *v)] @ table @ p[(slice(None), *other)]
                    count += 1
    found = adjacency_loss(torch.from_numpy(p)[None], forbidden_pairs())
    assert float(found) == pytest.approx(total / count)


def test_a_map_of_one_voxel_has_no_neighbours():
    assert float(adjacency_loss(named("L1"), forbidden_pairs())) == 0
