"""Simple classifiers that show whether some numbers know the class at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinecls.evaluation.intervals import Interval, draw_patients, interval
from spinecls.evaluation.metrics import auc_draws

PROBE_FOLDS = 5


def out_of_fold_scores(features: np.ndarray, positive: np.ndarray, patients: Sequence[str], seed: int) -> np.ndarray:
    """(N,) log-odds of a logistic regression that never saw the vertebra's patient.

    Classes weigh the same in the fit, so the intercept does not follow the share of positives: with it, a fold rich in
    positives would be scored low by the others and useless numbers would end below 0.5.

    Parameters
    ----------
    features : (N, F)
    positive : (N,) bool

    Returns
    -------
    (N,) array
        Zero where the training part of a fold holds one class only.
    """
    scores = np.zeros(len(positive))
    folds = StratifiedGroupKFold(PROBE_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(features, positive, patients):
        if len(np.unique(positive[train])) < 2:
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        scores[test] = probe.fit(features[train], positive[train]).decision_function(features[test])
    return scores


def probe_auc(features: np.ndarray, classes: np.ndarray, patients: Sequence[str], seed: int = 0) -> Interval:
    """Area under the ROC curve, one against rest and averaged over classes, with its 95 % interval over patients.

    Parameters
    ----------
    features : (N, F)
    classes : (N,) class indices; a class counts when it, and the rest, have a vertebra for every fold
    patients : whom each of the N vertebrae belongs to; at least `PROBE_FOLDS` different

    Returns
    -------
    Interval
        Not-a-number where no class counts.
    """
    counts = {int(k): int((classes == k).sum()) for k in np.unique(classes)}
    counting = [k for k, n in counts.items() if PROBE_FOLDS <= n <= len(classes) - PROBE_FOLDS]
    if not counting:
        return interval(lambda weights: np.full(len(weights), np.nan), patients, draw_patients(patients, draws=1))
    scores = {k: out_of_fold_scores(features, classes == k, patients, seed) for k in counting}

    def macro(weights: np.ndarray) -> np.ndarray:
        return np.mean([auc_draws(classes == k, scores[k], weights) for k in scores], axis=0)

    return interval(macro, patients, draw_patients(patients, seed=seed))
