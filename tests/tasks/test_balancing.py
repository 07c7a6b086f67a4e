"""Weights of auxiliary tasks: from measured gradients, from uncertainty, fixed."""

import math

import pytest
import torch

from spinecls.tasks.balancing import MEASURED_FROM, MEASURED_STEPS, TaskWeighting
from spinecls.tasks.task import Task, WeightedTask

AFTER = MEASURED_FROM + MEASURED_STEPS


def task(name, share=None, weight=1.0):
    kind = type(name, (Task,), {"loss": lambda self, outputs, batch: None})
    made = object.__new__(kind)
    made.name, made.share = name, share
    return WeightedTask(made, weight)


def weighting(how="gradient_norm", chosen=None):
    tasks = [task("class"), task("level", weight=0.5), task("map", share=1.0), task("image", share=0.1)]
    return TaskWeighting(tasks, how, chosen or {})


GRADIENTS = {
    "class": torch.tensor([3.0, 0.0]),
    "level": torch.tensor([0.0, 8.0]),
    "map": torch.tensor([0.0, 2.0]),
    "image": torch.tensor([-0.5, 0.0]),
}
"""The main tasks together pull by (3, 0.5 x 8), a norm of 5."""


def measured(**options):
    made = weighting(**options)
    for step in range(MEASURED_FROM, AFTER):
        made.record(GRADIENTS, step)
    return made


def test_an_auxiliary_gradient_becomes_its_share_of_the_main_one():
    made = measured()
    assert made.weight("map") == pytest.approx(1.0 * 5 / 2)
    assert made.weight("image") == pytest.approx(0.1 * 5 / 0.5)


def test_main_tasks_keep_their_weights():
    made = measured()
    assert made.weight("class") == 1.0
    assert made.weight("level") == 0.5


def test_the_trainers_weights_hold_until_all_is_measured():
    made = weighting()
    for step in range(MEASURED_FROM, AFTER - 1):
        made.record(GRADIENTS, step)
    assert made.weight("map") == 1.0
    assert made.measures(AFTER - 1, ["map"])


def test_a_task_that_runs_on_some_steps_is_measured_as_often_as_others():
    made = weighting()
    for step in range(AFTER):
        made.record({n: g for n, g in GRADIENTS.items() if n != "image" or step % 4 == 0}, step)
    assert not made.measures(AFTER, ["map"])
    assert made.measures(AFTER, ["map", "image"])
    assert made.weight("image") == 1.0


def test_without_a_main_task_there_is_nothing_to_measure_against():
    alone = TaskWeighting([task("image", share=0.1)], "gradient_norm", {})
    assert not alone.measures(MEASURED_FROM, ["image"])


@pytest.mark.parametrize(("norm", "weight"), [(1e-9, 20.0), (0.0, 20.0), (1e9, 0.05)])
def test_weights_are_bounded(norm, weight):
    made = weighting()
    for step in range(MEASURED_FROM, AFTER):
        made.record({**GRADIENTS, "map": torch.tensor([norm, 0.0])}, step)
    assert made.weight("map") == weight


def test_gradients_of_other_steps_do_not_change_the_weights():
    made = measured()
    made.record({**GRADIENTS, "map": torch.tensor([50.0, 0.0])}, AFTER + 7)
    assert made.weight("map") == pytest.approx(2.5)


def test_a_gradient_that_is_no_number_is_left_out():
    made = measured()
    made.record({**GRADIENTS, "map": torch.tensor([math.nan, 0.0])}, AFTER - 1)
    assert made.weight("map") == pytest.approx(2.5)


def test_the_cosine_tells_whether_a_task_pulls_with_the_main_ones():
    found = weighting().record(GRADIENTS, 0)
    assert found["map"]["cosine"] == pytest.approx(4 / 5)
    assert found["image"]["cosine"] == pytest.approx(-3 / 5)


def test_what_the_user_sets_is_a_share_of_auxiliary_and_a_weight_of_main_tasks():
    made = measured(chosen={"map": 2.0, "level": 1.0})
    # The main gradient is now (3, 8).
    assert made.weight("level") == 1.0
    assert made.weight("map") == pytest.approx(2 * math.hypot(3, 8) / 2)


def test_fixed_weights_are_the_trainers():
    made = measured(how="fixed")
    assert made.weight("map") == 1.0
    assert not made.measures(MEASURED_FROM, ["map"])


def test_uncertainty_turns_an_auxiliary_loss_down_and_leaves_the_main_one():
    made = weighting(how="uncertainty")
    with torch.no_grad():
        made.log_variance[:] = torch.tensor([1.0, 9.0])
    losses = {name: torch.tensor(2.0) for name in GRADIENTS}
    # Beyond 3 the log-variance is clipped.
    expected = 2 + 0.5 * 2 + (2 * math.exp(-1) + 0.5) + 0.1 * (2 * math.exp(-3) + 1.5)
    assert float(made.total(losses).detach()) == pytest.approx(expected)


def test_the_learnt_uncertainty_is_where_the_loss_wants_it():
    # exp(-s) L + s / 2 is least at s = log(2 L).
    made = weighting(how="uncertainty")
    optimiser = torch.optim.SGD(made.parameters(), lr=0.5)
    for _ in range(400):
        optimiser.zero_grad()
        made.total({"map": torch.tensor(3.0)}).backward()
        optimiser.step()
    assert float(made.log_variance.detach()[0]) == pytest.approx(math.log(6), abs=1e-3)


def test_measurements_survive_saving_and_loading():
    made, other = measured(), weighting()
    other.load_state_dict(made.state_dict())
    assert other.weight("map") == made.weight("map")
