import numpy as np
import pytest
from sklearn import metrics as oracle

from spinecls.evaluation import metrics
from spinecls.evaluation.intervals import draw_patients, interval
from spinecls.records import DatasetDescription

ONE = np.ones((1, 4))


def sample(seed, count=80, classes=3, decimals=1):
    """Truth, probabilities with many ties, and integer weights of 6 draws that contain every vertebra or none."""
    generator = np.random.default_rng(seed)
    probabilities = np.round(generator.dirichlet(np.ones(classes), count), decimals) + 1e-3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return generator.integers(0, classes, count), probabilities, generator.integers(0, 4, (6, count)).astype(float)


def test_auc_is_the_share_of_pairs_in_the_right_order():
    positive = np.asarray([True, True, False, False])
    assert metrics.auc(positive, np.asarray([0.9, 0.4, 0.4, 0.1])) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("positive", [[], [True, True], [False, False]])
def test_auc_needs_both_sides(positive):
    assert np.isnan(metrics.auc(np.asarray(positive, bool), np.ones(len(positive))))


@pytest.mark.parametrize("seed", range(3))
def test_auc_of_draws_agrees_with_scikit_learn(seed):
    truth, probabilities, weights = sample(seed)
    expected = [oracle.roc_auc_score(truth == 1, probabilities[:, 1], sample_weight=row) for row in weights]
    assert metrics.auc_draws(truth == 1, probabilities[:, 1], weights) == pytest.approx(expected)


def test_auc_of_a_draw_without_positives_is_undefined():
    weights = np.asarray([[1.0, 1.0], [0.0, 2.0]])
    areas = metrics.auc_draws(np.asarray([True, False]), np.asarray([0.7, 0.3]), weights)
    assert areas[0] == 1.0
    assert np.isnan(areas[1])


def test_plain_decision_is_the_greatest_probability():
    assert metrics.decide(np.asarray([[0.6, 0.4], [0.3, 0.7]])).tolist() == [0, 1]


def test_prior_corrected_decision_is_the_greatest_gain_over_the_prior():
    # 0.6 / 0.9 < 0.4 / 0.1, and 0.95 / 0.9 > 0.05 / 0.1.
    assert metrics.decide(np.asarray([[0.6, 0.4], [0.95, 0.05]]), np.asarray([0.9, 0.1])).tolist() == [1, 0]


def test_vertebra_that_only_has_the_prior_is_decided_to_have_nothing():
    prior = np.asarray([0.2, 0.7, 0.1])
    assert metrics.decide(prior[None], prior).tolist() == [0]


def test_class_that_training_never_saw_is_not_decided_for():
    assert metrics.decide(np.asarray([[0.1, 0.2, 0.7]]), np.asarray([0.5, 0.5, 0.0])).tolist() == [1]


@pytest.mark.parametrize("seed", range(3))
def test_confusions_of_draws_agree_with_scikit_learn(seed):
    truth, probabilities, weights = sample(seed)
    decided = metrics.decide(probabilities)
    expected = [oracle.confusion_matrix(truth, decided, labels=range(3), sample_weight=row) for row in weights]
    assert metrics.confusion_draws(truth, decided, 3, weights) == pytest.approx(np.asarray(expected))


def test_confusion_of_nothing_is_all_zero():
    assert metrics.confusion(np.asarray([], int), np.asarray([], int), 2).tolist() == [[0, 0], [0, 0]]


def test_balanced_accuracy_of_draws_agrees_with_scikit_learn():
    truth, probabilities, weights = sample(4)
    decided = metrics.decide(probabilities)
    expected = [oracle.balanced_accuracy_score(truth, decided, sample_weight=row) for row in weights]
    confusions = metrics.confusion_draws(truth, decided, 3, weights)
    assert metrics.balanced_accuracy(confusions, np.arange(3)) == pytest.approx(expected)


def test_balanced_accuracy_of_a_draw_without_a_class_is_undefined():
    confusions = np.asarray([[[3.0, 1.0], [0.0, 0.0]]])
    assert np.isnan(metrics.balanced_accuracy(confusions, np.arange(2))[0])


@pytest.mark.parametrize(("ordered", "weighting"), [(False, None), (True, "quadratic")])
def test_kappa_of_draws_agrees_with_scikit_learn(ordered, weighting):
    truth, probabilities, weights = sample(5)
    decided = metrics.decide(probabilities)
    expected = [oracle.cohen_kappa_score(truth, decided, weights=weighting, sample_weight=row) for row in weights]
    confusions = metrics.confusion_draws(truth, decided, 3, weights)
    assert metrics.kappa_draws(confusions, ordered) == pytest.approx(expected)


def test_quadratic_kappa_punishes_far_errors_more():
    truth = np.asarray([0, 0, 1, 1, 2, 2])
    near, far = np.asarray([0, 1, 1, 1, 2, 2]), np.asarray([0, 2, 1, 1, 2, 2])
    assert metrics.kappa(truth, near, 3, ordered=True) > metrics.kappa(truth, far, 3, ordered=True) + 0.2


def test_kappa_with_one_class_is_undefined():
    assert np.isnan(metrics.kappa(np.zeros(3, int), np.zeros(3, int), 2, ordered=False))


def test_brier_sums_over_classes():
    assert metrics.brier(np.asarray([1]), np.asarray([[0.5, 0.3, 0.2]])) == pytest.approx([0.25 + 0.49 + 0.04])


def test_negative_log_likelihood_agrees_with_scikit_learn():
    truth, probabilities, _ = sample(6)
    expected = oracle.log_loss(truth, probabilities, labels=range(3))
    assert metrics.negative_log_likelihood(truth, probabilities).mean() == pytest.approx(expected)


def test_impossible_truth_costs_a_finite_amount():
    assert metrics.negative_log_likelihood(np.asarray([0]), np.asarray([[0.0, 1.0]])) == pytest.approx([-np.log(1e-12)])


def test_confidence_is_the_probability_of_the_decision_however_the_rest_is_shared():
    probabilities = np.asarray([[0.6, 0.4, 0.0], [0.6, 0.2, 0.2]])
    assert metrics.confidence_of(probabilities).tolist() == [0.6, 0.6]


def test_entropy_is_in_nats():
    # Over the last axis: even over two of three classes is log 2.
    assert metrics.entropy(np.asarray([[[0.5, 0.5, 0.0]], [[0.0, 0.0, 1.0]]])) == pytest.approx(
        np.asarray([[np.log(2)], [0.0]])
    )


def test_shares_give_every_patient_the_weight_one():
    assert metrics.patient_shares(["b", "a", "b", "c", "b"]) == pytest.approx([1 / 3, 1, 1 / 3, 1, 1 / 3])


def test_bins_hold_equal_mass():
    confidence = np.arange(30) / 30
    cut = metrics.calibration_bins(confidence, confidence > 0.5, np.ones((1, 30)))
    assert cut.mass[0] == pytest.approx(np.full(15, 1 / 15))
    assert cut.confidence[0] == pytest.approx(confidence.reshape(15, 2).mean(axis=1))
    assert cut.effective_items[0] == pytest.approx(np.full(15, 2.0))


def test_bins_follow_the_weights_of_patients():
    # Six vertebrae of one patient weigh as much as the single one of each of two others: three bins, one a patient.
    confidence, weights = np.asarray([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]), np.asarray([[1 / 6] * 6 + [1.0, 1.0]])
    cut = metrics.calibration_bins(confidence, np.ones(8, bool), weights, bins=3)
    assert cut.confidence[0] == pytest.approx([0.35, 0.7, 0.8])
    assert cut.effective_items[0] == pytest.approx([6, 1, 1])


def test_equal_confidences_stay_in_one_bin():
    cut = metrics.calibration_bins(np.full(20, 0.7), np.arange(20) < 10, np.ones((1, 20)))
    assert sorted(cut.mass[0])[-2:] == [0.0, 1.0]


def test_ece_of_sure_errors_is_one():
    error = metrics.expected_calibration_error(np.ones(4), np.zeros(4, bool), ONE)
    assert error == pytest.approx([1.0])


def test_ece_of_one_bin_by_hand():
    # Gap |0.5 - 0.9| = 0.4 and scatter sqrt(0.25 / 100) = 0.05: at 8 standard deviations chance adds nothing.
    error = metrics.expected_calibration_error(np.full(100, 0.9), np.arange(100) < 50, np.ones((1, 100)))
    assert error == pytest.approx([0.4], abs=1e-9)


def test_debiasing_agrees_with_resampled_normal_scatter():
    # Gap 0.02, scatter sqrt(0.24 / 96) = 0.05; the excess over the gap is found here by drawing.
    correct = np.arange(100) < 60
    drawn = np.abs(np.random.default_rng(0).normal(0.02, np.sqrt(0.24 / 100), 400_000)).mean()
    error = metrics.expected_calibration_error(np.full(100, 0.58), correct, np.ones((1, 100)))
    assert error == pytest.approx([max(0.0, 0.02 - (drawn - 0.02))], abs=5e-4)


def test_debiasing_takes_a_third_or_more_of_the_error_of_a_perfect_model():
    generator = np.random.default_rng(1)
    debiased, plain = [], []
    for _ in range(40):
        confidence = generator.uniform(0.5, 1, 300)
        correct = generator.random(300) < confidence
        debiased.append(metrics.expected_calibration_error(confidence, correct, np.ones((1, 300)))[0])
        cut = metrics.calibration_bins(confidence, correct, np.ones((1, 300)))
        plain.append((cut.mass * np.abs(cut.accuracy - cut.confidence)).sum())
    assert np.mean(plain) > 0.06
    assert np.mean(debiased) < 0.67 * np.mean(plain)


def test_ece_does_not_depend_on_the_order_of_vertebrae():
    truth, probabilities, weights = sample(7)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    turned = metrics.expected_calibration_error(confidence[::-1], correct[::-1], weights[:, ::-1])
    assert turned == pytest.approx(metrics.expected_calibration_error(confidence, correct, weights))


def test_referral_compares_the_fifth_of_least_confidence():
    confidence, wrong = np.arange(10) / 10, np.asarray([1, 1, 0, 1, 0, 0, 0, 0, 0, 0], bool)
    referred, others = metrics.referral_errors(confidence, wrong, np.ones((1, 10)))
    assert (referred[0], others[0]) == pytest.approx((1.0, 1 / 8))


def test_referral_splits_the_vertebra_at_the_border():
    # A fifth of 7 is 1.4: the first (right) and 0.4 of the second (wrong).
    wrong = np.asarray([0, 1, 0, 0, 0, 0, 1], bool)
    referred, others = metrics.referral_errors(np.arange(7) / 7, wrong, np.ones((1, 7)))
    assert (referred[0], others[0]) == pytest.approx((0.4 / 1.4, 1.6 / 5.6))


def test_referral_treats_equal_confidences_alike():
    referred, others = metrics.referral_errors(np.full(10, 0.5), np.arange(10) < 3, np.ones((1, 10)))
    assert (referred[0], others[0]) == pytest.approx((0.3, 0.3))


def test_referral_of_a_draw_is_that_of_copied_vertebrae():
    truth, probabilities, weights = sample(8, count=20, decimals=6)
    confidence, wrong = metrics.confidence_of(probabilities), probabilities.argmax(axis=1) != truth
    copies = weights[0].astype(int)
    expected = metrics.referral_errors(
        np.repeat(confidence, copies), np.repeat(wrong, copies), np.ones((1, copies.sum()))
    )
    found = metrics.referral_errors(confidence, wrong, weights[:1])
    assert np.ravel(found) == pytest.approx(np.ravel(expected))


def scores_of(truth, probabilities, patients, **more):
    description = DatasetDescription(
        name="D", channel_names=("T2",), class_names=("a", "b", "c"), file_ending=".nii.gz", **more
    )
    draws = draw_patients(patients, 50)
    truth, probabilities = np.asarray(truth, int), np.asarray(probabilities, float).reshape(-1, 3)
    return metrics.class_scores(truth, probabilities, np.full(3, 1 / 3), description, patients, draws)


def test_macro_auc_is_the_mean_over_classes():
    truth, probabilities, _ = sample(9)
    scores = scores_of(truth, probabilities, [str(i // 4) for i in range(80)])
    expected = oracle.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    assert scores["auc_macro"]["estimate"] == pytest.approx(expected)


def test_macro_auc_leaves_out_a_class_that_never_occurs():
    truth, probabilities, _ = sample(10)
    truth = truth % 2
    scores = scores_of(truth, probabilities, [str(i // 4) for i in range(80)])
    expected = np.mean([oracle.roc_auc_score(truth == k, probabilities[:, k]) for k in (0, 1)])
    assert scores["auc_macro"]["estimate"] == pytest.approx(expected)
    assert np.isnan(scores["auc_by_class"]["c"]["estimate"])


def test_ece_gives_every_patient_the_same_weight():
    # Nine vertebrae of p are right and one of q is wrong, all with confidence 0.8: half right, not nine tenths.
    scores = scores_of([0] * 9 + [1], [[0.8, 0.1, 0.1]] * 10, ["p"] * 9 + ["q"])
    gap, scatter = 0.3, np.sqrt(0.25 / (1 / (9 / 81 / 4 + 1 / 4)))
    excess = np.abs(np.random.default_rng(0).normal(gap, scatter, 400_000)).mean() - gap
    assert scores["ece"]["estimate"] == pytest.approx(gap - excess, abs=2e-3)


def test_ordered_classes_have_quadratic_kappa():
    truth, probabilities, _ = sample(11)
    patients = [str(i // 4) for i in range(80)]
    expected = oracle.cohen_kappa_score(truth, probabilities.argmax(axis=1), weights="quadratic")
    assert scores_of(truth, probabilities, patients, class_order=True)["kappa_quadratic"]["estimate"] == expected
    assert "kappa_quadratic" not in scores_of(truth, probabilities, patients)


def test_scores_of_no_vertebra_are_undefined():
    scores = scores_of([], [], [])
    single = [value["estimate"] for value in scores.values() if isinstance(value, dict) and "estimate" in value]
    assert len(single) == 10
    assert np.isnan(single).all()
    assert scores["confusion"].sum() == 0


def test_point_estimate_lies_in_its_interval():
    truth, probabilities, _ = sample(12)
    probabilities[np.arange(80), truth] += 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    scores = scores_of(truth, probabilities, [str(i // 4) for i in range(80)])
    for name in ("auc_macro", "balanced_accuracy", "kappa", "brier", "nll"):
        assert scores[name]["low"] < scores[name]["estimate"] < scores[name]["high"]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [2, 4, 12])
def test_the_debiased_ece_lies_in_its_own_interval(count, seed):
    # A model that is nearly right, three vertebrae a patient: the plain percentiles lie above the estimate.
    rng = np.random.default_rng([count, seed])
    confidence = rng.uniform(0.5, 1, 3 * count)
    correct = rng.random(3 * count) < confidence
    patients = [str(i // 3) for i in range(3 * count)]

    def error(weights):
        return metrics.expected_calibration_error(confidence, correct, weights)

    found = interval(error, patients, draw_patients(patients, 200), centred=True, least=0.0)
    assert 0 <= found.low <= found.estimate <= found.high


def test_moved_draws_hold_a_known_calibration_error_more_often_than_plain_percentiles():
    # Everything is given 0.8 and is right in 0.7, so the true error is 0.1; two vertebrae a patient, 20 patients.
    confidence, patients = np.full(40, 0.8), [str(i // 2) for i in range(40)]
    held = {False: 0, True: 0}
    for seed in range(60):
        correct = np.random.default_rng(seed).random(40) < 0.7

        def error(weights, correct=correct):
            return metrics.expected_calibration_error(confidence + 1e-6 * np.arange(40), correct, weights)

        draws = draw_patients(patients, 200, seed)
        for centred in held:
            found = interval(error, patients, draws, centred=centred, least=0.0)
            held[centred] += found.low <= 0.1 <= found.high
    # Too seldom even so, because the estimate is too large for so few vertebrae.
    assert held[True] >= held[False] + 10
