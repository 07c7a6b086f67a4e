"""Folds of a trained model: that they mean the same, and that each checkpoint is of the plan beside it.

Two files say what a fold means: its checkpoint and the `plan.json` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinecls.errors import ModelError, SpineclsError
from spinecls.model_folder import PLAN, FoldFolder, ModelFolder
from spinecls.planning.meaning import Meaning, class_meaning, differences, flat, meaning, require_same, said
from spinecls.planning.plan import Configuration, Plan, load_plan
from spinecls.tasks.checkpoint import EARLIER_SEAL, LEARNED_FROM, MEANING, learned_from, load_checkpoint, read_spec

if TYPE_CHECKING:
    from spinecls.inference.models import TrainedModel


def agreed_plans(model: ModelFolder, folds: Sequence[str]) -> dict[str, Plan]:
    """Plan of each of some folds, once it is sure that all mean the same.

    Raises
    ------
    ModelError
        Naming two folds that do not, and how they differ.
    """
    plans = {fold: fold_plan(model.fold(fold)) for fold in folds}
    meanings = {fold: _fold_meaning(plan, model.configuration) for fold, plan in plans.items()}
    named = {f"fold {fold}": fold_meaning for fold, fold_meaning in meanings.items()}
    require_same(named, model.name, f"Choose folds that agree by -f ({_groups(meanings)}), or train the others anew.")
    return plans


def fold_plan(fold: FoldFolder) -> Plan:
    """Plan that a fold was trained by; no other can stand in for one that is gone, which raises `ModelError`."""
    if not fold.plan.is_file():
        raise ModelError(
            f"{fold.path}: has no {PLAN}, which says what the fold was trained by. Put it back, remove the fold, or "
            "train it anew."
        )
    return load_plan(fold.plan)


def _fold_meaning(plan: Plan, configuration: str) -> dict[str, Any]:
    """Meaning of a fold, and the patch that the folds of a model are run with together."""
    planned = plan.configuration(configuration)
    return {**meaning(plan, planned), "patch_size": list(planned.patch_size)}


def _groups(meanings: Mapping[str, Meaning]) -> str:
    """Folds that agree with each other, as a user gives them: `0 1 or 2`."""
    groups: list[list[str]] = []
    for fold, fold_meaning in meanings.items():
        same = next((group for group in groups if meanings[group[0]] == fold_meaning), None)
        if same is None:
            groups.append([fold])
        else:
            same.append(fold)
    return " or ".join(" ".join(group) for group in groups)


def require_same_classes(models: Sequence[TrainedModel], remedy: str) -> Plan:
    """Refuse models whose class probabilities do not mean the same; returns a plan, whose classes are those of all.

    Raises
    ------
    ModelError
        Naming two models, or two folds of one, and how they differ.
    """
    plans = {model.path.name: next(iter(model.fold_plans().values())) for model in models}
    require_same({name: class_meaning(plan) for name, plan in plans.items()}, models[0].dataset, remedy)
    return next(iter(plans.values()))


def unlike_folds(model: ModelFolder, fold: str, plan: Plan) -> dict[str, list[str]]:
    """Other folds of a model, trained or begun, that do not mean what `fold` means by its `plan`, and how.

    A plan that cannot be read, or lacks the configuration, is told where it is used.
    """
    own, unlike = _fold_meaning(plan, model.configuration), {}
    for other in model.all_folds():
        try:
            theirs = _fold_meaning(fold_plan(other), model.configuration)
        except SpineclsError:
            continue
        if other.number != fold and (told := differences(own, theirs, f"fold {fold}", f"fold {other.number}")):
            unlike[other.number] = told
    return unlike


def own_checkpoint(fold: FoldFolder, plan: Plan, configuration: str) -> dict[str, Any]:
    """Content of the final checkpoint of a fold, once it is sure that it was trained by the fold's plan.

    Raises
    ------
    ModelError
        As `require_plan_of`, or when the file cannot be read.
    """
    content = load_checkpoint(fold.final)
    require_plan_of(content, plan, plan.configuration(configuration), fold.final)
    return content


def require_plan_of(content: dict[str, Any], plan: Plan, configuration: Configuration, where: Path | str) -> None:
    """Refuse a checkpoint that was trained by another plan than the one beside it; prediction goes by both.

    Checkpoints of earlier versions only tell their network and sealing level.

    Raises
    ------
    ModelError
        Saying what differs, with both values.
    """
    spec = read_spec(content, where)
    trained = flat({"network": spec.network, "reader_network": spec.reader}) | {
        # Where nothing was learnt of classes there are no readers, whatever the plan says.
        "members": spec.members or configuration.members,
        "pooling": spec.pooling,
        "class_order": spec.ordinal,
        "seal": content.get("seal", EARLIER_SEAL),
        "number of classes": spec.num_classes,
        "number of channels": spec.image_channels,
    }
    planned = meaning(plan, configuration) | {
        "number of classes": len(plan.class_names),
        "number of channels": len(plan.channel_names),
    }
    if MEANING in content:
        trained = _recorded(content[MEANING], where) | trained
        if LEARNED_FROM in trained:
            planned |= learned_from(plan)
    else:
        planned = {part: value for part, value in planned.items() if part in trained}
    if told := differences(trained, planned, "the checkpoint", f"the {PLAN} beside it"):
        raise ModelError(
            f"{where}: was trained by another plan than the one beside it; they differ in {said(told)}. Put back the "
            "plan, or the checkpoint, that belongs there, or train anew."
        )


def _recorded(text: Any, where: Path | str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (TypeError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ModelError(f"{where}: what it says of the meaning of its outputs is not readable. Train anew.")
    return content
