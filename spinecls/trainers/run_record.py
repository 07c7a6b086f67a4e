"""run.json: what a fold was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from spinecls import __version__, files
from spinecls.dataloading.loader import TrainingData
from spinecls.errors import UsageError
from spinecls.tasks.pretrained import Taken
from spinecls.trainers.fold import Fold
from spinecls.trainers.trainer import Trainer


def write_record(
    fold: Fold,
    trainer: Trainer,
    data: TrainingData,
    *,
    unlabelled: Sequence[str],
    start: Mapping[str, str] | None,
    refined: Mapping[str, Any] | None,
    finder_trained_before: bool,
) -> None:
    """Write the record of a run that is about to train.

    Parameters
    ----------
    unlabelled : scans without annotation that it learns from
    start, refined : from `start_of` and `refined_by`
    finder_trained_before : whether it begins with the finder of an earlier training
    """
    files.write_json(
        fold.folder.run,
        {
            "trainer": fold.trainer_class.__name__,
            "spinecls_version": __version__,
            "torch_version": torch.__version__,
            "device": str(fold.request.device),
            "seed": fold.request.seed,
            "cases": list(fold.train),
            "inputs": fold.inputs(fold.train),
            "vertebrae": len(data.sealed),
            "seal": fold.configuration.seal,
            "tasks": [t.task.name for t in trainer.tasks],
            "task_weighting": fold.configuration.task_weighting,
            "parts": {part.name: part.steps for part in trainer.parts},
            "main_weights": {name: w for part in trainer.parts for name, w in part.weighting.main.items()},
            "auxiliary_shares": {name: w for part in trainer.parts for name, w in part.weighting.shares.items()},
            "unlabelled": list(unlabelled),
            "placed_by_surroundings": list(data.moved),
            "pretrained": start,
            "finder": None if trainer.finder_path is None else trainer.finder_path.name,
            "finder_trained_before": finder_trained_before,
            "refined": refined,
            "overrides": dict(fold.plan.overrides),
        },
    )


def start_of(fold: Fold, taken: Taken | None) -> dict[str, str] | None:
    """What the run started with; a run that goes on keeps what it said."""
    if taken is not None:
        return {"file": str(fold.request.pretrained), "taken": taken.sentence}
    return fold.folder.record().get("pretrained") if fold.request.resume else None


def refined_by(fold: Fold) -> dict[str, Any] | None:
    """What the labels of a run were refined by.

    Raises
    ------
    UsageError
        When a run that goes on was started with other labels.
    """
    if fold.refinement is None:
        return None
    said = fold.refinement.described()
    earlier = fold.folder.record() if fold.request.resume else {}
    if earlier and (before := earlier.get("refined")) != said:
        raise UsageError(
            f"{fold.folder.path}: the run was refined by {before}, but the first round now gives {said}. Put the first "
            "round back as it was, or train anew without --c."
        )
    return said
