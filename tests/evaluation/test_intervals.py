"""Guards against numbers that claim more than the data say: intervals of one patient, or beside their estimate."""

import re
from pathlib import Path

import numpy as np
import pytest

from spinecls import files
from spinecls.errors import UsageError
from spinecls.evaluation import intervals


def mean_of(values):
    values = np.asarray(values, float)
    return lambda weights: (weights @ values) / weights.sum(axis=1)


def test_every_draw_holds_as_many_patients_as_there_are():
    draws = intervals.draw_patients(["b", "a", "b", "c"], 50)
    assert draws.counts.shape == (50, 3)
    assert set(draws.counts.sum(axis=1)) == {3}


def test_vertebrae_of_one_patient_are_drawn_together():
    weights = intervals.draw_patients(["a", "b", "c"], 200).weights(["a", "b", "a"])
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert not np.array_equal(weights[:, 0], weights[:, 1])


def test_same_seed_gives_the_same_interval():
    first, second = (
        intervals.interval(mean_of([0, 1, 1, 0]), list("abcd"), intervals.draw_patients("abcd", 100, seed=3))
        for _ in range(2)
    )
    assert first == second


def test_draws_agree_with_a_plain_loop_over_copied_patients():
    values, patients = np.asarray([1.0, 5.0, 2.0, 8.0, 3.0]), ["a", "a", "b", "c", "c"]
    draws = intervals.draw_patients(patients, 40, seed=1)
    expected = []
    for counts in draws.counts:
        items = [
            value
            for name, column in draws.index.items()
            for _ in range(counts[column])
            for value, patient in zip(values, patients, strict=True)
            if patient == name
        ]
        expected.append(np.mean(items))
    assert intervals.evaluate_draws(mean_of(values), patients, draws) == pytest.approx(expected)


def test_blocks_of_draws_do_not_change_the_values(monkeypatch):
    draws = intervals.draw_patients("abcd", 103)
    whole = intervals.evaluate_draws(mean_of([0, 1, 2, 5]), list("abcd"), draws)
    monkeypatch.setattr(intervals, "_MAX_WEIGHTS_AT_ONCE", 40)
    assert np.array_equal(intervals.evaluate_draws(mean_of([0, 1, 2, 5]), list("abcd"), draws), whole)


def test_percentiles_are_the_ends_of_the_middle_95_of_100():
    # Of 1..1000 the smallest value that at least 2.5 % do not exceed is 25, for 97.5 % it is 975.
    assert intervals._percentiles(np.arange(1.0, 1001.0)) == (25.0, 975.0)


def test_infinite_draws_stay_and_undefined_draws_go():
    values = np.asarray([1.0] * 60 + [np.inf] * 40 + [np.nan] * 500)
    assert intervals._percentiles(values) == (1.0, np.inf)


def test_interval_of_nothing_is_undefined():
    empty = intervals.interval(mean_of([]), [], intervals.draw_patients(["a"], 10))
    assert np.isnan([empty.estimate, empty.low, empty.high]).all()
    assert (empty.items, empty.patients, empty.valid_draws) == (0, 0, 0)


def test_intervals_of_several_statistics_are_those_of_each_alone():
    first, second = mean_of([0, 1, 1, 0]), mean_of([3, 5, 4, np.nan])
    draws = intervals.draw_patients("abcd", 100)
    joint = intervals.joint_intervals(
        lambda w: np.stack([first(w), second(w)], axis=1), ["one", "two"], list("abcd"), draws
    )
    assert joint["one"] == intervals.interval(first, list("abcd"), draws)
    assert np.isnan([joint["two"].estimate, joint["two"].low]).all()


def test_joint_intervals_of_nothing_are_undefined():
    empty = intervals.joint_intervals(mean_of([]), ["one"], [], intervals.draw_patients(["a"], 10))["one"]
    assert np.isnan([empty.estimate, empty.low, empty.high]).all()


def test_undefined_estimate_has_no_interval():
    result = intervals.interval(mean_of([1, 2]), ["a", "b"], intervals.draw_patients("ab", 10), estimate=np.nan)
    assert np.isnan([result.low, result.high]).all()


def ends(result):
    return [result.low, result.high]


@pytest.mark.parametrize("values", [[0, 1, 1], [1, 1, 1]])
def test_one_patient_has_a_number_and_no_interval(values):
    result = intervals.interval(mean_of(values), ["a"] * 3, intervals.draw_patients("a", 20))
    assert result.estimate == pytest.approx(np.mean(values))
    assert np.isnan(ends(result)).all()
    assert result.no_interval == "one patient"
    assert intervals.format_score(result.as_dict()) == f"{np.mean(values):.3f} [one patient]"


def test_a_number_that_is_undefined_without_one_patient_hangs_on_him():
    # As the recall of a class whose vertebrae are all of patient b, who is one of six.
    def recall(weights):
        return (weights @ np.array([0, 0, 1, 1, 0, 0, 0.0])) / (weights @ np.array([0, 0, 1, 1, 0, 0, 0.0]))

    patients = list("aabbcde")
    result = intervals.interval(recall, patients, intervals.draw_patients(patients, 200))
    assert (result.estimate, result.no_interval) == (1.0, "hangs on one patient")
    assert np.isnan(ends(result)).all()


def test_a_number_of_two_patients_among_many_has_an_interval():
    def rate(weights):
        return (weights @ np.array([1, 0, 0, 0, 0.0])) / (weights @ np.array([1, 1, 0, 0, 0.0]))

    result = intervals.interval(rate, list("abcde"), intervals.draw_patients("abcde", 200))
    assert (result.estimate, result.low, result.high, result.no_interval) == (0.5, 0.0, 1.0, "")


def test_of_several_statistics_each_says_for_itself_whether_it_hangs_on_one():
    def both(weights):
        return np.stack([mean_of([0, 1, 2])(weights), (weights @ [0, 0, 1.0]) / (weights @ [0, 0, 1.0])], axis=1)

    found = intervals.joint_intervals(both, ["all", "last"], list("abc"), intervals.draw_patients("abc", 50))
    assert {name: score.no_interval for name, score in found.items()} == {"all": "", "last": "hangs on one patient"}


def test_a_paired_difference_on_one_patient_has_no_interval():
    draws = intervals.draw_patients("a", 20)
    result = intervals.paired_interval(mean_of([0, 1]), list("aa"), mean_of([1, 1]), list("aa"), draws)
    assert (result.estimate, result.no_interval) == (0.5, "one patient")
    assert np.isnan(ends(result)).all()


def test_an_interval_that_is_none_is_null_in_json(tmp_path):
    result = intervals.interval(mean_of([1]), ["a"], intervals.draw_patients("a", 5))
    files.write_json(tmp_path / "s.json", result.as_dict())
    content = files.read_json(tmp_path / "s.json")
    assert (content["estimate"], content["low"], content["high"]) == (1.0, None, None)
    assert content["no_interval"] == "one patient"
    assert intervals.format_score(content) == "1.000 [one patient]"


def test_an_interval_holds_its_estimate():
    # The draws of the greatest value lie below it more often than not, those of a shifted one always.
    draws = intervals.draw_patients("abcd", 50)
    found = intervals.interval(mean_of([1, 1, 1, 1]), list("abcd"), draws, estimate=1.25)
    assert found.low <= found.estimate <= found.high


def test_centred_draws_have_their_median_at_the_estimate_and_end_where_the_score_does():
    # 1..101 less their median 51 plus the estimate 10 run from -40 to 60; the 2.5th percentile, 3 - 41, is cut at 0.
    values = np.arange(1.0, 102.0)
    found = intervals.interval_of_draws(10.0, values, ["a", "b"], centred=True, least=0.0)
    assert (found.low, found.estimate, found.high) == (0.0, 10.0, 58.0)


INTERVALS = Path(intervals.__file__)


@pytest.mark.parametrize("path", sorted(INTERVALS.parents[1].rglob("*.py")), ids=lambda p: p.stem)
def test_no_other_module_makes_or_writes_an_interval(path):
    text = path.read_text()
    if path != INTERVALS:
        assert not re.search(r"import .*_percentiles|intervals\._percentiles|\.low:|\[.low.\]:", text)
        assert not re.search(r"(quantile|percentile)\([^)]*(0\.025|2\.5|97\.5|0\.975)", text)


def test_number_of_draws_must_be_positive():
    with pytest.raises(UsageError, match="got 0, expected at least 1"):
        intervals.draw_patients("ab", 0)


def test_interval_covers_the_true_rate_of_clustered_data_about_95_of_100_times():
    generator = np.random.default_rng(0)
    patients = [f"p{i}" for i in range(60) for _ in range(5)]
    draws = intervals.draw_patients(patients, 400)
    covered = 0
    for _ in range(200):
        # The rate of a patient is Beta(2, 2), so vertebrae of one patient are alike and the true mean rate is 0.5.
        values = generator.random(300) < np.repeat(generator.beta(2, 2, 60), 5)
        result = intervals.interval(mean_of(values), patients, draws)
        covered += result.low <= 0.5 <= result.high
    assert 0.89 <= covered / 200 <= 0.99


def test_drawing_vertebrae_alone_would_be_too_narrow_for_clustered_data():
    values, patients = np.repeat([0, 1] * 10, 6), [f"p{i}" for i in range(20) for _ in range(6)]
    clustered = intervals.interval(mean_of(values), patients, intervals.draw_patients(patients, 500))
    alone = [str(i) for i in range(120)]
    single = intervals.interval(mean_of(values), alone, intervals.draw_patients(alone, 500))
    assert clustered.high - clustered.low > 1.8 * (single.high - single.low)


def test_paired_difference_of_equal_predictions_is_exactly_zero():
    values, patients = [0.1, 0.9, 0.4], ["a", "b", "c"]
    draws = intervals.draw_patients(patients, 100)
    result = intervals.paired_interval(mean_of(values), patients, mean_of(values), patients, draws)
    assert (result.low, result.estimate, result.high) == (0.0, 0.0, 0.0)


def test_paired_difference_of_a_constant_gain_has_no_width():
    values = np.random.default_rng(0).random(30)
    patients = [str(i) for i in range(30)]
    draws = intervals.draw_patients(patients, 100)
    result = intervals.paired_interval(mean_of(values), patients, mean_of(values + 0.25), patients, draws)
    assert (result.low, result.estimate, result.high) == pytest.approx((0.25, 0.25, 0.25))


def test_paired_sets_may_hold_different_vertebrae():
    draws = intervals.draw_patients("abc", 50)
    result = intervals.paired_interval(mean_of([1, 1, 1, 1]), list("aabc"), mean_of([3, 3, 3]), list("abc"), draws)
    assert (result.estimate, result.low, result.patients) == (2.0, 2.0, 3)
