"""Logistic regressions, cross-validated by patient."""

import numpy as np
import pytest

from spinecls.evaluation.probes import PROBE_FOLDS, out_of_fold_scores, probe_auc

PATIENTS = [f"p{i // 4}" for i in range(160)]


def test_a_number_that_is_the_class_reaches_an_area_of_one():
    classes = np.arange(160) % 2
    area = probe_auc(classes[:, None].astype(float), classes, PATIENTS)
    assert (area.estimate, area.low, area.high) == (1, 1, 1)


def test_noise_is_not_told_from_chance():
    generator = np.random.default_rng(0)
    area = probe_auc(generator.normal(size=(160, 3)), generator.integers(0, 3, 160), PATIENTS)
    # Left out, vertebrae of a class make the others' share larger, so noise ends a little below one half.
    assert 0.35 < area.estimate < 0.6
    assert area.low < 0.5


def test_a_rule_that_holds_within_a_patient_only_is_not_carried_over():
    # The patient's number tells the class of all its vertebrae; patients are never on both sides.
    classes = np.array([int(p[1:]) % 2 for p in PATIENTS])
    own = np.eye(40)[[int(p[1:]) for p in PATIENTS]]
    assert probe_auc(own, classes, PATIENTS).estimate <= 0.5


def test_the_share_of_positives_in_a_fold_does_not_move_useless_scores():
    generator = np.random.default_rng(3)
    rates = generator.beta(0.3, 0.3, 40).repeat(4)
    positive = generator.random(160) < rates
    scores = out_of_fold_scores(np.zeros((160, 1)), positive, PATIENTS, seed=0)
    assert scores == pytest.approx(0, abs=1e-6)


def test_classes_that_are_too_rare_for_the_folds_do_not_count():
    classes = np.zeros(160, int)
    classes[: PROBE_FOLDS - 1] = 1
    assert np.isnan(probe_auc(np.ones((160, 1)), classes, PATIENTS).estimate)
