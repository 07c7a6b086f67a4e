"""A run that goes on, or is validated, is one on the data that are there now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from spinecls.errors import DatasetError, some_names
from spinecls.model_folder import FoldFolder
from spinecls.planning.current import changed_since, plan_differences, stored_inputs
from spinecls.planning.plan import Plan, load_plan

logger = logging.getLogger(__name__)


def require_same_data(
    fold: FoldFolder, plan: Plan, preprocessed: Path, train: Sequence[str], validation: Sequence[str], resume: bool
) -> None:
    """Refuse to go on with a run on other data than those it was begun with, or to validate it on what it learnt from.

    Parameters
    ----------
    fold : of the run; one that was never begun passes
    plan : plan of the dataset as it is now
    train, validation : cases of the fold as it is now
    resume : the run is to go on; else it is only to be validated, and training cases that changed are a warning

    Raises
    ------
    DatasetError
        Naming what changed since the run was begun.
    """
    told = []
    if fold.plan.exists():
        told += [f"dataset.json: {text}" for text in plan_differences(load_plan(fold.plan), plan)]
    run = fold.record() or {"cases": train}
    if both := sorted(set(run["cases"]) & set(validation)):
        told.append(f"the run learnt from cases that the fold now validates: {some_names(both)}")
    changed = changed_since(run.get("inputs", {}), stored_inputs(preprocessed))
    if resume and set(run["cases"]) != set(train):
        others = sorted(set(run["cases"]) ^ set(train))
        told.append(f"the fold now trains on other cases: {some_names(others)} came or went")
    if resume and changed:
        told.append(f"changed: {some_names(changed)}")
    elif changed:
        logger.warning("The run learnt from cases that changed since: %s.", some_names(changed))
    if told:
        listed = "\n".join(f"  {text}" for text in told)
        raise DatasetError(
            f"{fold.path}: the run was begun with other data.\n{listed}\nTrain anew without --c and --val, or put the "
            "data and folds back as they were and preprocess them again."
        )
