"""Numbers by which outputs are compared."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from spinecls.verification import measures


def test_divergence_of_disjoint_probabilities_is_log_two():
    assert measures.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(math.log(2))


def test_divergence_of_a_coin_and_a_certainty_by_hand():
    # Middle (3/4, 1/4): (1/2 log 2/3 + 1/2 log 2 + log 4/3) / 2 = (0.143841 + 0.287682) / 2
    assert measures.jensen_shannon(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == pytest.approx(0.2157616, abs=1e-6)


def test_divergence_of_equal_probabilities_is_exactly_zero():
    same = np.array([[0.2, 0.3, 0.5]])
    assert measures.jensen_shannon(same, same)[0] == 0


def test_rank_correlation_by_hand():
    # One neighbouring pair exchanged: 1 - 6 * 2 / (4 * 15)
    assert measures.spearman(np.array([1, 2, 3, 4]), np.array([10, 30, 20, 40])) == pytest.approx(0.8)


def test_rank_correlation_with_ties_agrees_with_scipy():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 4, (2, 40))
    assert measures.spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_rank_correlation_with_a_constant_is_not_defined():
    assert math.isnan(measures.spearman(np.ones(5), np.arange(5)))


@pytest.mark.parametrize(("curve", "area"), [([1, 0.5, 0], 0.5), ([1, 1, 0], 0.75), ([0.2] * 21, 0.2)])
def test_area_under_a_curve_by_hand(curve, area):
    assert measures.area_under_curve(np.array(curve, float)) == pytest.approx(area)


def test_average_precision_by_hand():
    # Precision 1 at recall 1/2, 2/3 at recall 1
    assert measures.average_precision(np.array([3, 2, 1]), np.array([True, False, True])) == pytest.approx(5 / 6)


def test_average_precision_with_ties_agrees_with_scikit_learn():
    generator = np.random.default_rng(1)
    scores, positive = generator.integers(0, 5, 60).astype(float), generator.random(60) < 0.3
    expected = average_precision_score(positive, scores)
    assert measures.average_precision(scores, positive) == pytest.approx(expected)


def test_distance_is_that_to_the_nearest_voxel_in_three_dimensions():
    points = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
    targets = np.array([[2.0, 3.0, 6.0], [10.0, 0.0, 1.5]])
    assert measures.distance_to_set_mm(points, targets) == pytest.approx([7.0, 1.5])
