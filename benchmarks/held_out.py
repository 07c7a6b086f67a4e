"""Scores of a fold's validation cases, judged by the exact annotation; differences paired by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinecls import files
from spinecls.errors import SpineclsError
from spinecls.evaluation import intervals, matching, metrics, summary
from spinecls.evaluation.intervals import Interval, PatientDraws, Statistic
from spinecls.inference.case_results import case_prediction
from spinecls.inference.models import ModelChoice, choose_model, load_predictor
from spinecls.io.preprocessed import load_case
from spinecls.networks.device import pick_device
from spinecls.planning.plan import Plan, load_plan
from spinecls.trainers.validation import TrainingReference, plan_description, preprocessed_truth

GRID = "spineclsPlans_3d_fullres"


def judged_fold(model: Path, fold: str, preprocessed: Path) -> list[matching.CaseOutcome]:
    """Validation cases of a fold, predicted without mirrored views, judged by the annotation in `preprocessed`.

    Parameters
    ----------
    preprocessed : of the exact dataset; its folds count
    """
    choice = choose_model(ModelChoice(folder=model, folds=(fold,)))
    predictor = load_predictor(choice, pick_device(None), augment=False)
    description = plan_description(predictor.plan)
    predictions, truth = [], []
    for name in files.read_json(preprocessed / "splits_final.json")[int(fold)]["val"]:
        case = load_case(preprocessed, GRID, name)
        try:
            volume = predictor.predict_volume(case.native.astype(np.float32), case.native_geometry)
        except (SpineclsError, RuntimeError, ValueError, MemoryError) as error:
            # As in validation: nothing was predicted, so all its vertebrae are missed.
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            truth.append(preprocessed_truth(case, np.zeros(case.native_geometry.shape, np.uint8), description))
            continue
        predictions.append(case_prediction(name, volume, predictor.plan, {}))
        truth.append(preprocessed_truth(case, volume.level_map, description))
    return matching.judge(predictions, truth, description, None)


def training_prior(plan: Plan) -> np.ndarray:
    """(K,) share of each class in the training cases of a fold, by the plan in its folder."""
    counts = [plan.class_counts.get(name, 0) for name in plan.class_names]
    return np.asarray(TrainingReference(levels=(), class_counts=counts).prior)


def fold_plan(model: Path, fold: str) -> Plan:
    return load_plan(model / f"fold_{fold}" / "plan.json")


@dataclass(frozen=True)
class Score:
    """A statistic with the patient of each item that it weighs."""

    statistic: Statistic
    patients: tuple[str, ...]

    def interval(self, draws: PatientDraws) -> Interval:
        return intervals.interval(self.statistic, self.patients, draws)

    def less(self, other: Score, draws: PatientDraws) -> Interval:
        """This less another, the same patients drawn for both."""
        return intervals.paired_interval(other.statistic, other.patients, self.statistic, self.patients, draws)


def draws_of(outcomes: Sequence[matching.CaseOutcome]) -> PatientDraws:
    return intervals.draw_patients([case.patient for case in outcomes])


def mean_of(values: Sequence[float], patients: Sequence[str]) -> Score:
    """Mean of one value an item."""
    array = np.asarray(values, float)
    return Score(lambda weights: metrics.mean(array, weights), tuple(patients))


def identification(outcomes: Sequence[matching.CaseOutcome]) -> Score:
    """Share of the annotated vertebrae that were found and named."""
    placed = [v for case in outcomes for v in case.vertebrae if v.match is not None]
    return mean_of([v.match.status == matching.IDENTIFIED for v in placed], [v.patient for v in placed])


def dice(outcomes: Sequence[matching.CaseOutcome]) -> Score:
    """Mean Dice of an instance; a vertebra that was missed or misnamed has 0."""
    drawn = [v for case in outcomes for v in case.vertebrae if v.dice is not None]
    return mean_of([v.dice for v in drawn], [v.patient for v in drawn])


def _read(outcomes: Sequence[matching.CaseOutcome], prior: np.ndarray):
    """Truth, probabilities end to end, and patients of the vertebrae whose class was read."""
    read = [v for case in outcomes for v in case.vertebrae if v.true_class is not None]
    truth = np.array([v.true_class for v in read], int)
    return truth, summary.probability_table(read, prior), tuple(v.patient for v in read)


def macro_auc(outcomes: Sequence[matching.CaseOutcome], prior: np.ndarray) -> Score:
    """Macro AUC end to end: a vertebra that was missed or misnamed has the prior."""
    truth, table, patients = _read(outcomes, prior)
    return Score(metrics.macro_auc(truth, table), patients)


def log_loss(outcomes: Sequence[matching.CaseOutcome], prior: np.ndarray) -> Score:
    """Mean negative log-likelihood end to end, nats."""
    truth, table, patients = _read(outcomes, prior)
    return mean_of(metrics.negative_log_likelihood(truth, table), patients)


def mean_score(scores: Sequence[Score]) -> Score:
    """Mean of the scores of several models on the same items."""
    if len({score.patients for score in scores}) > 1:
        raise SystemExit("the models were not judged on the same vertebrae")
    return Score(lambda weights: np.mean([s.statistic(weights) for s in scores], axis=0), scores[0].patients)


def closed_text(low: Score, high: Score, reached: Score, draws: PatientDraws) -> str:
    """Share of the gap from `low` to `high` that `reached` closes, where the interval of the gap lies above 0."""
    if not high.less(low, draws).low > 0:
        return "no gap to close"

    def share(weights: np.ndarray) -> np.ndarray:
        base = low.statistic(weights)
        return (reached.statistic(weights) - base) / (high.statistic(weights) - base)

    return text(Score(share, low.patients).interval(draws))


def text(found: Interval) -> str:
    return intervals.format_score(found.as_dict())
