"""Which trainer is taken when the user names none: the one that the annotation is suited to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from spinecls import paths
from spinecls.errors import UsageError, counted
from spinecls.model_folder import model_folders
from spinecls.planning.fingerprint_types import load_fingerprint
from spinecls.planning.stages import FINGERPRINT
from spinecls.trainers.refinement import REFINED
from spinecls.trainers.registered import TRAINERS

logger = logging.getLogger(__name__)

WITH_MAPS, WITHOUT_MAPS = "AuxSegTrainer", "BaselineTrainer"

DRAWN = ("mask", "slices", "scribble", "coarse", "probability", "draft")
"""Forms of the annotation of vertebrae that are maps, from which shapes are learnt."""

LEAST_SHARE = 0.1
"""Of the cases with places that must have maps: of fewer no shape is learnt that others could be cut out by."""


def suited_trainer(preprocessed: Path) -> tuple[str, str]:
    """Name of the trainer for a dataset, of all its cases so that every fold gets the same, and the reason."""
    forms = [case.annotation_forms["vertebrae"] for case in load_fingerprint(preprocessed / FINGERPRINT).cases.values()]
    placed = sum(form != "none" for form in forms)
    drawn = sum(form in DRAWN for form in forms)
    if not drawn:
        return WITHOUT_MAPS, "no case has a vertebra map"
    which = f"of {counted(placed, 'case')} with places of vertebrae {drawn} {'has' if drawn == 1 else 'have'} a map"
    if drawn >= LEAST_SHARE * placed:
        return WITH_MAPS, which
    return WITHOUT_MAPS, f"{which}, too few to learn shapes from"


def _trainer_of_runs(dataset: str, configuration: str, plans: str, folds: Sequence[str], refined: bool) -> str | None:
    """Name of the trainer that began the folds which are to go on or to be validated; None when nothing was begun.

    Raises
    ------
    UsageError
        When several trainers did, or one that only a file or module can give.
    """
    begun = set()
    for model in model_folders(paths.results_root() / dataset):
        if (model.plans, model.configuration, model.trainer.endswith(REFINED)) == (plans, configuration, refined):
            begun |= {str(record["trainer"]) for fold in folds if (record := model.fold(fold).record())}
    if len(begun) > 1:
        raise UsageError(f"Several trainers began this: {', '.join(sorted(begun))}. Say by -tr which is meant.")
    name = next(iter(begun), None)
    if name is not None and name not in TRAINERS.names():
        raise UsageError(f"{name} began this, which is your own. Give it again by -tr file.py:{name}.")
    return name


def default_trainer(
    dataset: str, configuration: str, plans: str, folds: Sequence[str], begun: bool, refined: bool = False
) -> str:
    """Name of the trainer where the user gave none; it is logged with the reason.

    Parameters
    ----------
    dataset : full name
    begun : whether runs are to go on or to be validated, whose trainer it then is
    refined : whether those are second rounds
    """
    if begun and (name := _trainer_of_runs(dataset, configuration, plans, folds, refined)) is not None:
        logger.info("-tr not given: %s, which began this training.", name)
        return name
    name, reason = suited_trainer(paths.preprocessed_folder(dataset))
    logger.info("-tr not given: %s, because %s.", name, reason)
    return name
