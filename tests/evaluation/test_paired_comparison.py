"""Paired comparison of trainers, against plain loops and worked numbers."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from spinecls.evaluation.intervals import Interval
from spinecls.evaluation.paired_comparison import Comparison, compare, holm
from spinecls.evaluation.vertebra_table import ReadVertebrae

PATIENTS = tuple(f"p{i // 4}" for i in range(80))


def table(signal, seed):
    """Vertebrae whose probabilities know the class by so much."""
    truth = np.random.default_rng(7).integers(0, 2, 80)
    noise = np.random.default_rng(seed).normal(size=80)
    p = 1 / (1 + np.exp(-(signal * (2 * truth - 1) + noise)))
    names = tuple((f"case{i // 4}", f"L{i % 4 + 1}") for i in range(80))
    return ReadVertebrae(names, PATIENTS, truth, np.column_stack([1 - p, p]), np.ones(len(p), bool))


def runs(signals, draws=3):
    numbered = enumerate(signals.items())
    return {(arm, "all", d): table(signal, 10 * d + i) for i, (arm, signal) in numbered for d in range(draws)}


def test_the_area_is_the_mean_over_draws():
    tables = runs({"A": 1.0})
    found = compare(tables, ["A"], ["all"])[0]
    areas = [roc_auc_score(t.truth, t.probabilities[:, 1]) for t in tables.values()]
    assert found.area.estimate == pytest.approx(np.mean(areas))
    assert found.area.low < found.area.estimate < found.area.high
    assert found.verdict == "reference"


def test_the_gain_is_paired_by_draw():
    tables = runs({"A": 0.5, "B": 1.5})
    found = compare(tables, ["A", "B"], ["all"])[1]
    expected = np.mean([
        roc_auc_score(tables["B", "all", d].truth, tables["B", "all", d].probabilities[:, 1])
        - roc_auc_score(tables["A", "all", d].truth, tables["A", "all", d].probabilities[:, 1])
        for d in range(3)
    ])  # fmt: skip
    assert found.gain.estimate == pytest.approx(expected)
    assert found.verdict == "better"


def test_equal_runs_show_no_difference():
    tables = runs({"A": 1.0})
    same = {**tables, **{("B", "all", d): tables["A", "all", d] for d in range(3)}}
    found = compare(same, ["A", "B"], ["all"])[1]
    assert (found.gain.estimate, found.gain.low, found.gain.high) == (0.0, 0.0, 0.0)
    assert found.p_value == 1.0
    assert found.verdict == "no difference shown"


def test_a_worse_trainer_is_called_worse():
    assert compare(runs({"A": 2.0, "B": 0.0}), ["A", "B"], ["all"])[1].verdict == "worse"


def test_the_interval_holds_the_scatter_of_draws_as_well():
    # Draws that disagree about the gain widen the interval beyond that of one of them.
    one = {("A", "all", 0): table(0.5, 1), ("B", "all", 0): table(1.5, 2)}
    two = {**one, ("A", "all", 1): table(1.5, 3), ("B", "all", 1): table(0.5, 4)}
    widths = [
        found.gain.high - found.gain.low for found in (compare(tables, ["A", "B"], ["all"])[1] for tables in (one, two))
    ]
    assert widths[1] > 1.3 * widths[0]


def test_what_has_not_run_yet_is_left_out():
    tables = runs({"A": 1.0, "B": 1.0})
    del tables["B", "all", 2]
    found = compare(tables, ["A", "B", "C"], ["8", "all"])
    assert [(c.arm, c.size, c.draws) for c in found] == [("A", "all", 3), ("B", "all", 2)]


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03 times 3, 2, 1; never falling.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    adjusted = holm([0.01, float("nan")])
    assert adjusted[0] == 0.01
    assert np.isnan(adjusted[1])


@pytest.mark.parametrize(
    ("gain", "adjusted", "verdict"),
    [
        ((0.05, 0.01, 0.09), 0.01, "better"),
        ((-0.05, -0.09, -0.01), 0.01, "worse"),
        ((0.05, 0.01, 0.09), 0.06, "no difference shown"),
        ((0.05, -0.01, 0.09), 0.01, "no difference shown"),
        ((0.05, 0.01, 0.09), float("nan"), "no difference shown"),
    ],
)
def test_a_difference_is_claimed_only_with_both_the_interval_and_the_adjusted_p(gain, adjusted, verdict):
    score = Interval(estimate=gain[0], low=gain[1], high=gain[2], items=9, patients=9, valid_draws=9)
    made = Comparison(arm="B", size="8", area=score, draws=2, gain=score, p_value=0.01, adjusted=adjusted)
    assert made.verdict == verdict


def test_a_class_that_nobody_has_does_not_count():
    tables = {}
    for key, made in runs({"A": 0.5, "B": 1.5}).items():
        tables[key] = dataclasses.replace(made, probabilities=np.pad(made.probabilities, ((0, 0), (0, 1))))
    found, plain = compare(tables, ["A", "B"], ["all"])[1], compare(runs({"A": 0.5, "B": 1.5}), ["A", "B"], ["all"])[1]
    assert found.gain == plain.gain
    assert found.verdict == "better"


def test_one_draw_gives_no_verdict_and_no_class_no_number():
    one = compare(runs({"A": 0.0, "B": 3.0}, draws=1), ["A", "B"], ["all"])[1]
    assert one.verdict == "no verdict from one draw"
    tables = runs({"A": 1, "B": 1})
    bare = {
        k: ReadVertebrae(t.names, t.patients, t.truth * 0, t.probabilities, t.identified) for k, t in tables.items()
    }
    assert compare(bare, ["A", "B"], ["all"])[1].verdict == "not defined"
