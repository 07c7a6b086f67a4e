"""The plan that a fold is trained by: the dataset's, with what the trainer, the user and the training cases say."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinecls.dataloading.readings import can_be_judged, judged_counts, known_readers
from spinecls.errors import UsageError
from spinecls.inference.folds import fold_plan
from spinecls.model_folder import FoldFolder
from spinecls.planning.familiarity import familiar_images
from spinecls.planning.plan import Configuration, Plan
from spinecls.planning.rules_override import check_used, parse_overrides
from spinecls.trainers.fold_cases import annotated_classes, fingerprints_of
from spinecls.trainers.refinement import Refinement
from spinecls.trainers.request import TrainingRequest
from spinecls.trainers.trainer import Trainer
from spinecls.trainers.training_images import training_images

FIXED_BY_PREPROCESSING = ("spacing_mm", "normalisation")
"""Fields that the preprocessed arrays were made by; another value needs `spinecls_plan_and_preprocess --set`."""


def kept_plan(fold: FoldFolder, overrides: Mapping[str, str]) -> Plan:
    """The plan of a run that is continued or validated, which keeps its own.

    Raises
    ------
    UsageError
        When other settings are asked for than it was started with.
    """
    own = fold_plan(fold)
    if overrides and dict(overrides) != {key: own.overrides.get(key) for key in overrides}:
        raise UsageError(
            f"--set: this run was started with {dict(own.overrides) or 'no settings'}. Continue without --set, or "
            "train anew without --c."
        )
    return own


def new_plan(
    request: TrainingRequest,
    trainer_class: type[Trainer],
    plan: Plan,
    preprocessed: Path,
    train: Sequence[str],
    refinement: Refinement | None = None,
) -> Plan:
    """The plan of a run that begins.

    A refinement sets `class_q` where nobody did and no readers are judged. The class counts, and what images are
    compared with, are those of the fold's training cases, so nothing of its validation cases enters.

    Parameters
    ----------
    plan : of the dataset
    train : training cases of the fold
    """
    configuration = trainer_class.configured(plan.configuration(request.configuration))
    configuration = with_overrides(configuration, request.overrides)
    check_used({request.configuration: configuration}, request.overrides)
    told = parse_overrides({**plan.overrides, **request.overrides}).get(configuration.name, {})
    readers = known_readers(preprocessed, train)
    judged = trainer_class.learns_beliefs and can_be_judged(preprocessed, train, readers)
    # How far readers err who are judged is in their masses already.
    q = None if refinement is None or judged else refinement.q
    if q is not None and "class_q" not in told and configuration.class_q == 0:
        configuration = dataclasses.replace(configuration, class_q=q)
    plan = dataclasses.replace(plan, readers=readers, readers_judged=judged)
    if judged:
        counts = judged_counts(preprocessed, train, plan, None if refinement is None else refinement.expected)
    else:
        agreed = annotated_classes(preprocessed, train).values()
        counts = Counter(name for classes in agreed for name in classes.values() if name)
    fingerprints = fingerprints_of(preprocessed, train)
    return dataclasses.replace(
        plan,
        configurations={request.configuration: configuration},
        overrides={**plan.overrides, **request.overrides},
        class_counts={name: counts.get(name, 0) for name in plan.class_names},
        familiar=None if plan.familiar is None else familiar_images(fingerprints),
        training_images=training_images(fingerprints, request.pretrained),
    )


def with_overrides(configuration: Configuration, overrides: Mapping[str, str]) -> Configuration:
    """Configuration with what the user set for this run."""
    settings = parse_overrides(overrides).get(configuration.name, {})
    networks = ("network.", "reader_network.")
    fixed = [key for key in settings if key in FIXED_BY_PREPROCESSING or key.startswith(networks)]
    if fixed:
        raise UsageError(f"--set {fixed[0]}: decided in preprocessing. Give it to spinecls_plan_and_preprocess.")
    if "task_weights" in settings:
        settings["task_weights"] = {**configuration.task_weights, **settings["task_weights"]}
    if settings.get("steps", configuration.steps) < configuration.steps:
        # Who shortens the training means all of it.
        settings = {"reader_steps": min(configuration.reader_steps, settings["steps"]), **settings}
    return dataclasses.replace(configuration, **settings)
