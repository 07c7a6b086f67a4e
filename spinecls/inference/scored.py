"""How well trained models did in the validation of their folds, and which of several is taken unasked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinecls.errors import ModelError, counted
from spinecls.evaluation.selection import CHANCE, preference
from spinecls.inference.folds import require_same_classes
from spinecls.model_folder import FoldFolder
from spinecls.planning.plan import Plan

if TYPE_CHECKING:
    from spinecls.inference.models import TrainedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Scored:
    """A model and what the validation of its folds says: the mean of the scores that are defined, and what it found."""

    model: TrainedModel
    plan: Plan
    folds: int
    score: float | None
    identified_share: float

    @property
    def preference(self) -> tuple:
        """Ascending: folds count more than the score, and that anything is found more than both."""
        something, score, identified_share = preference(self.score, self.identified_share, _chance_of(self.plan))
        return something, self.folds, score, identified_share

    def __str__(self) -> str:
        score = "not defined" if self.score is None else f"{self.score:.3f}"
        return f"{self.model.name} ({score}, {self.identified_share:.0%} identified, {counted(self.folds, 'fold')})"


def best_validated(models: Sequence[TrainedModel]) -> TrainedModel:
    """The model with the best mean validation score, among those with the most folds; the reason is logged.

    A model whose folds do not mean the same is passed over, and one that found nothing is taken only where none did.
    """
    scored = []
    for model in models:
        if (judged := _scored(model)) is not None:
            scored.append(judged)
    if not scored:
        names = "; ".join(m.name for m in models)
        raise ModelError(
            f"Several models are trained ({names}), none with a validation score and folds that mean the same. Name "
            "one by -m, or by -d -c -tr."
        )
    remedy = "Their scores are of different questions. Name one by -m, or by -d -c -tr -p."
    require_same_classes([one.model for one in scored], remedy)
    scored.sort(key=lambda one: one.preference, reverse=True)
    best = scored[0]
    logger.warning(
        "Several models are trained; taking %s: of those that found vertebrae and have the most folds the best %s in "
        "validation. Others: %s.",
        best,
        score_name(best.plan),
        "; ".join(map(str, scored[1:])) or "none scored",
    )
    return best.model


def _scored(model: TrainedModel) -> _Scored | None:
    folds = [fold for fold in model.fold_folders() if fold.scored]
    if not folds:
        return None
    try:
        plan = next(iter(model.fold_plans().values()))
    except ModelError as error:
        logger.warning("Not chosen among: %s", error)
        return None
    known = [score for score in map(validation_score, folds) if score is not None]
    identified_share = sum(map(_validation_found, folds)) / len(folds)
    return _Scored(model, plan, len(folds), sum(known) / len(known) if known else None, identified_share)


def validation_score(fold: FoldFolder) -> float | None:
    """Macro AUC end to end of a fold's validation; the identification rate when there are no classes.

    None where it was not validated, or its cases do not define the score.
    """
    if not fold.scored:
        return None
    content = fold.scores()
    classification = content.get("classification")
    if classification:
        return classification["end_to_end"]["auc_macro"]["estimate"]
    return content["location"]["identification_rate"]["estimate"]


def _validation_found(fold: FoldFolder) -> float:
    """Share of the vertebrae of a fold's validation that it found and named: of those with a place, else with a class.

    A macro AUC does not tell: where nothing is found all vertebrae have the same probabilities, and it is 0.5.
    """
    content = fold.scores()
    rate = content["location"]["identification_rate"]["estimate"]
    if rate is not None or not content.get("classification"):
        return rate or 0.0
    identified, every = (content["classification"][group]["vertebrae"] for group in ("identified", "end_to_end"))
    return identified / max(1, every)


def score_name(plan: Plan) -> str:
    """What models are chosen by."""
    return "macro AUC, end to end" if len(plan.class_names) > 1 else "identification rate"


def _chance_of(plan: Plan) -> float:
    """That score of a model that knows nothing."""
    return CHANCE if len(plan.class_names) > 1 else 0.0
