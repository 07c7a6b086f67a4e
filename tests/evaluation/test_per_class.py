import numpy as np
import pytest
from sklearn import metrics as oracle

from spinecls.evaluation import metrics, per_class
from spinecls.evaluation.intervals import draw_patients


def sample(seed, count=80, classes=3, decimals=1):
    """Truth, probabilities with many ties, and integer weights of 6 draws."""
    generator = np.random.default_rng(seed)
    probabilities = np.round(generator.dirichlet(np.ones(classes), count), decimals) + 1e-3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return generator.integers(0, classes, count), probabilities, generator.integers(0, 4, (6, count)).astype(float)


def scores_of(truth, probabilities, patients, names=("a", "b", "c")):
    table = np.asarray(probabilities, float).reshape(-1, len(names))
    return per_class.scores_by_class(np.asarray(truth, int), table, names, patients, draw_patients(patients, 50))


def test_decision_scores_by_hand():
    # Of class 1: 3 hits, 1 wrongly decided, 2 overlooked, 4 rightly left alone.
    found = per_class.decision_scores(np.asarray([[[4.0, 1.0], [2.0, 3.0]]]))[0, 1]
    assert found == pytest.approx([3 / 4, 3 / 5, 4 / 5, 6 / 9])


@pytest.mark.parametrize("seed", range(3))
def test_decision_scores_of_draws_agree_with_scikit_learn(seed):
    truth, probabilities, weights = sample(seed)
    decided = metrics.decide(probabilities)
    found = per_class.decision_scores(metrics.confusion_draws(truth, decided, 3, weights))
    for row, scores in zip(weights, found, strict=True):
        expected = oracle.precision_recall_fscore_support(truth, decided, labels=range(3), sample_weight=row)
        assert np.allclose(scores[:, [0, 1, 3]].T, expected[:3])


def test_precision_of_a_class_that_is_never_decided_is_undefined():
    precision, recall, specificity, f1 = per_class.decision_scores(np.asarray([[[4.0, 0.0], [2.0, 0.0]]]))[0, 1]
    assert np.isnan(precision)
    assert (recall, specificity, f1) == (0.0, 1.0, 0.0)


def test_scores_of_a_class_that_never_occurs():
    precision, recall, specificity, f1 = per_class.decision_scores(np.asarray([[[3.0, 1.0], [0.0, 0.0]]]))[0, 1]
    assert np.isnan(recall)
    assert (precision, specificity, f1) == (0.0, 0.75, 0.0)


def test_average_precision_by_hand():
    # Positives at ranks 1 and 3: half of the recall at precision 1, half at 2/3.
    found = per_class.average_precision(np.asarray([True, False, True, False]), np.asarray([0.9, 0.8, 0.7, 0.6]))
    assert found == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_of_draws_agrees_with_scikit_learn(seed):
    truth, probabilities, weights = sample(seed)
    expected = [oracle.average_precision_score(truth == 1, probabilities[:, 1], sample_weight=row) for row in weights]
    assert per_class.average_precision_draws(truth == 1, probabilities[:, 1], weights) == pytest.approx(expected)


def test_average_precision_without_positives_is_undefined():
    none = np.zeros(3, bool)
    assert np.isnan(per_class.average_precision(none, np.arange(3.0)))
    assert np.isnan(per_class.average_precision_draws(none, np.arange(3.0), np.ones((1, 3)))[0])


def test_brier_parts_by_hand():
    # Two bins of 10: probability 0.2 with 3 of 10, 0.9 with 8 of 10; 11 of 20 in all. Both classes add the same.
    positive = np.r_[np.arange(10) < 3, np.arange(10) < 8]
    p = np.repeat([0.2, 0.9], 10)
    reliability = 0.5 * (0.1**2 - 0.21 / 9) + 0.5 * (0.1**2 - 0.16 / 9)
    of_all = 0.55 * 0.45 / 19
    resolution = 0.5 * (0.25**2 - 0.21 / 9) + 0.5 * (0.25**2 - 0.16 / 9) + of_all
    found = per_class.brier_parts(positive.astype(int), np.column_stack([1 - p, p]), np.ones((1, 20)))[0]
    assert found == pytest.approx([2 * reliability, 2 * resolution, 2 * (0.55 * 0.45 + of_all)])


@pytest.mark.parametrize("seed", range(3))
def test_brier_parts_add_up_to_the_brier_score_where_bins_share_a_probability(seed):
    generator = np.random.default_rng(seed)
    p = generator.choice([0.1, 0.3, 0.8], 90)
    truth, table = (generator.random(90) < p).astype(int), np.column_stack([1 - p, p])
    weights = generator.integers(0, 3, (5, 90)).astype(float)
    reliability, resolution, uncertainty = per_class.brier_parts(truth, table, weights).T
    expected = metrics.mean(metrics.brier(truth, table), weights)
    assert reliability - resolution + uncertainty == pytest.approx(expected)


def test_reliability_of_a_perfect_model_is_zero_on_average():
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        p = generator.choice([0.2, 0.5, 0.7], 60)
        truth = (generator.random(60) < p).astype(int)
        found.append(per_class.brier_parts(truth, np.column_stack([1 - p, p]), np.ones((1, 60)))[0, 0])
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)


def test_classwise_ece_is_the_mean_over_classes():
    truth, probabilities, _ = sample(1)
    scores = scores_of(truth, probabilities, [str(i) for i in range(80)])
    expected = [
        metrics.expected_calibration_error(probabilities[:, k], truth == k, np.ones((1, 80)))[0] for k in range(3)
    ]
    assert [own["ece"]["estimate"] for own in scores["by_class"].values()] == pytest.approx(expected)
    assert scores["classwise_ece"]["estimate"] == pytest.approx(np.mean(expected))


def test_each_class_names_its_vertebrae_and_patients():
    scores = scores_of([0, 0, 1, 1], np.eye(3)[[0, 1, 1, 1]], ["p", "p", "p", "q"])
    assert [(own["vertebrae"], own["patients"]) for own in scores["by_class"].values()] == [(2, 1), (2, 2), (0, 0)]


def test_scores_of_a_class_have_intervals_over_patients():
    truth, probabilities, _ = sample(2)
    own = scores_of(truth, probabilities, [str(i // 4) for i in range(80)])["by_class"]["b"]
    for name in ("precision", "recall", "specificity", "f1", "average_precision"):
        assert own[name]["low"] < own[name]["estimate"] < own[name]["high"]
        assert own[name]["patients"] == 20


def test_scores_of_no_vertebra_are_undefined():
    scores = scores_of([], [], [])
    assert np.isnan([scores["classwise_ece"]["estimate"], scores["brier_resolution"]["estimate"]]).all()
    assert np.isnan([scores["by_class"]["a"][name]["estimate"] for name in ("f1", "average_precision", "ece")]).all()
