import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from spinecls.evaluation import selective
from spinecls.evaluation.intervals import draw_patients
from spinecls.evaluation.metrics import referral_errors

ONE = np.ones((1, 4))
CONFIDENCE, WRONG = np.asarray([0.9, 0.8, 0.7, 0.6]), np.asarray([False, True, False, True])


def sample(seed, count=60):
    """Confidences with many ties, errors and integer weights of 4 draws."""
    generator = np.random.default_rng(seed)
    confidence = np.round(generator.random(count), 1)
    return confidence, generator.random(count) > confidence, generator.integers(0, 4, (4, count)).astype(float)


def test_curve_starts_with_the_surest_vertebra():
    coverage, risk = selective.risk_coverage(CONFIDENCE, WRONG)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_curve_has_one_point_for_equal_confidences():
    coverage, risk = selective.risk_coverage(np.asarray([0.9, 0.5, 0.5, 0.5]), WRONG)
    assert coverage.tolist() == [0.25, 1.0]
    assert risk.tolist() == [0.0, 0.5]


def test_risk_at_full_coverage_is_the_error_rate():
    assert selective.risk_at(CONFIDENCE, WRONG, ONE, 1.0) == pytest.approx([0.5])


def test_risk_splits_the_vertebra_at_the_border():
    # 0.9 of 4 is 3.6: one error and 0.6 of the other.
    assert selective.risk_at(CONFIDENCE, WRONG, ONE, 0.9) == pytest.approx([1.6 / 3.6])


def test_augrc_by_hand():
    # Decided and wrong after 1, 2, 3, 4 of 4: 0, 1/4, 1/4, 2/4; trapezia of width 1/4 from 0.
    expected = (0 + 0.125 + 0.25 + 0.375) / 4
    assert selective.augrc(CONFIDENCE, WRONG, ONE) == pytest.approx([expected])


@pytest.mark.parametrize("seed", range(3))
def test_augrc_follows_from_accuracy_and_the_auc_of_failure_detection(seed):
    # Traub et al.: (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2, of right decisions against wrong ones.
    confidence, wrong, weights = sample(seed)
    for row, found in zip(weights, selective.augrc(confidence, wrong, weights), strict=True):
        accuracy = np.average(~wrong, weights=row)
        area = roc_auc_score(~wrong, confidence, sample_weight=row)
        assert found == pytest.approx((1 - area) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_aurc_is_the_mean_risk_over_coverages(seed):
    confidence, wrong, weights = sample(seed)
    steps = (np.arange(4000) + 0.5) / 4000
    expected = np.mean([referral_errors(confidence, wrong, weights, 1 - c)[1] for c in steps], axis=0)
    assert selective.aurc(confidence, wrong, weights) == pytest.approx(expected, abs=1e-5)


def test_aurc_of_many_vertebrae_is_the_mean_risk_over_steps():
    generator = np.random.default_rng(0)
    confidence = generator.random(5000)
    wrong = generator.random(5000) > confidence
    risks = np.cumsum(wrong[np.argsort(-confidence)]) / np.arange(1, 5001)
    assert selective.aurc(confidence, wrong, np.ones((1, 5000))) == pytest.approx([risks.mean()], abs=1e-3)


@pytest.mark.parametrize("area", [selective.aurc, selective.augrc])
def test_order_does_not_matter(area):
    confidence, wrong, weights = sample(5)
    assert area(confidence[::-1], wrong[::-1], weights[:, ::-1]) == pytest.approx(area(confidence, wrong, weights))


@pytest.mark.parametrize("area", [selective.aurc, selective.augrc])
def test_area_of_a_draw_is_that_of_copied_vertebrae(area):
    confidence, wrong, weights = sample(6)
    copies = weights[0].astype(int)
    copied = area(np.repeat(confidence, copies), np.repeat(wrong, copies), np.ones((1, copies.sum())))
    assert copied == pytest.approx(area(confidence, wrong, weights[:1]))


def test_equal_confidences_give_the_error_rate_and_half_of_it():
    same = np.full(4, 0.5)
    assert selective.aurc(same, WRONG, ONE) == pytest.approx([0.5])
    assert selective.augrc(same, WRONG, ONE) == pytest.approx([0.25])


def test_draw_of_nothing_is_undefined():
    assert np.isnan(selective.aurc(CONFIDENCE, WRONG, np.zeros((1, 4)))[0])
    assert np.isnan(selective.augrc(CONFIDENCE, WRONG, np.zeros((1, 4)))[0])


def test_scores_have_intervals_over_patients():
    probabilities = np.asarray([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    patients = ["p", "q", "q", "r"]
    scores = selective.selective_scores(np.asarray([0, 1, 1, 0]), probabilities, patients, draw_patients("pqr", 50))
    assert list(scores["risk_at_coverage"]) == ["1", "0.9", "0.8"]
    assert scores["risk_at_coverage"]["1"]["estimate"] == 0.5
    assert scores["augrc"]["low"] < scores["augrc"]["estimate"] < scores["augrc"]["high"]
    assert scores["augrc"]["patients"] == 3


def test_scores_of_no_vertebra_are_undefined():
    scores = selective.selective_scores(np.zeros(0, int), np.zeros((0, 2)), [], draw_patients([], 5))
    assert np.isnan([scores["aurc"]["estimate"], scores["risk_at_coverage"]["1"]["estimate"]]).all()
