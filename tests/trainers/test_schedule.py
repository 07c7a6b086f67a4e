"""Learning rates over a training, at their ends and at their greatest."""

import itertools

import pytest

from spinecls.trainers.schedule import one_cycle


def test_one_cycle_rises_over_a_quarter_and_falls_to_nearly_nothing():
    rates = [one_cycle(step, 1000) for step in range(1000)]
    # Half a step after the start of 1/25 and before the end of a thousandth, where the waves are flat.
    assert rates[0] == pytest.approx(1 / 25, rel=1e-3)
    assert rates[-1] == pytest.approx(1e-3, rel=1e-2)
    assert max(rates) == pytest.approx(1.0, abs=1e-4)
    assert rates.index(max(rates)) in (249, 250)
    assert all(a < b for a, b in itertools.pairwise(rates[:250]))
    assert all(a > b for a, b in itertools.pairwise(rates[250:]))


def test_one_cycle_halfway_up_and_down_is_in_the_middle_of_the_wave():
    # Steps 124 and 125 of 1000 lie about an eighth, 624 and 625 about five eighths.
    assert sum(one_cycle(step, 1000) for step in (124, 125)) / 2 == pytest.approx((1 / 25 + 1) / 2)
    assert sum(one_cycle(step, 1000) for step in (624, 625)) / 2 == pytest.approx((1 + 1e-3) / 2)


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_one_cycle_of_a_few_steps_stays_between_nothing_and_the_highest_rate(steps):
    assert all(0 < one_cycle(step, steps) <= 1 for step in range(steps))
