"""A bundle into the results folder: everything is checked beside its place, then renamed, or nothing remains."""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from spinecls import files
from spinecls.errors import ModelError, PlanError, ResourceError
from spinecls.inference.folds import require_plan_of
from spinecls.inference.models import TrainedModel, load_predictor, suited_calibration
from spinecls.inference.scored import validation_score
from spinecls.model_folder import PLAN, SUMMARY, FoldFolder, ModelFolder, model_folder
from spinecls.planning.plan import save_plan
from spinecls.sharing.archive import Archive, opened
from spinecls.sharing.layout import (
    CALIBRATION,
    CARD,
    MODEL,
    WEIGHTS,
    BundleDescription,
    fold_member,
    members,
    parse_description,
    parse_fold,
    parse_object,
    parse_plan,
    parse_text,
    shared_summary,
    size_limit,
)
from spinecls.sharing.weights import read_weights
from spinecls.tasks.checkpoint import MEANING, build_model, meaning_text, model_content, save_checkpoint


def import_model(path: Path, force: bool = False) -> TrainedModel:
    """Install the model of a bundle below `$spinecls_results`, ready for prediction.

    No code of the bundle is run and no class is looked up by a name in it. Until everything was checked it lies under
    a temporary name beside its place.

    Parameters
    ----------
    force : replace a model of the same name, folds that are not in the bundle included

    Raises
    ------
    ModelError
        When the file is not a bundle as `export_model` writes them, or a model of that name is there. The results
        folder is then as it was.
    """
    with opened(path, size_limit) as archive:
        description = parse_description(archive.read(MODEL), f"{path}: {MODEL}")
        names = (description.dataset, description.trainer, description.plans, description.configuration)
        folder = model_folder(*names)
        _check_target(folder, force)
        with _staging(folder.path.parent) as staging:
            model = unpack_model(archive, description, staging)
            _put_in_place(model.path, folder.path, staging / "replaced")
    return dataclasses.replace(model, results=folder.results)


def _check_target(model: ModelFolder, force: bool) -> None:
    target = model.path
    if target.is_symlink():
        raise ModelError(f"{target}: is a symbolic link, which is not written through. Remove it first.")
    for folder in (target, target.parent):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            raise ModelError(f"{folder}: is not a folder. Move it away first.")
    if target.exists() and not force:
        raise ModelError(f"{target}: a model of this name is installed. Give --force to replace it, or move it away.")
    for fold in model.all_folds():
        try:
            if fold.lock.exists():
                with FileLock(fold.lock, timeout=0):
                    pass
        except Timeout:
            raise ResourceError(f"{fold.path} is being trained by another process. Wait for it.") from None


@contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, which goes at the end; so do the folders made for it, if they are still empty."""
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    staging = parent / f".tmp-{secrets.token_hex(8)}"
    try:
        staging.mkdir()
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in missing:
            if not any(folder.iterdir()):
                folder.rmdir()


def _put_in_place(folder: Path, target: Path, replaced: Path) -> None:
    if target.exists():
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError as error:
        if replaced.exists():
            replaced.rename(target)
        raise ModelError(f"{target}: the model could not be put there ({error.strerror}). Try again.") from None


def unpack_model(archive: Archive, description: BundleDescription, results: Path) -> TrainedModel:
    """Write the members of an archive as a model folder.

    Parameters
    ----------
    results : folder of results, in which there is no such model

    Raises
    ------
    ModelError
        At the first fault; what was written until then is the caller's to remove.
    """
    required, optional = members(description.folds)
    if missing := sorted(required - set(archive.names)):
        raise ModelError(f"{archive.path}: {missing[0]} is missing. The file is incomplete; get it again.")
    if unknown := sorted(set(archive.names) - required - optional):
        raise ModelError(f"{archive.path}: {unknown[0]} belongs to no fold that {MODEL} names.")
    names = (description.dataset, description.trainer, description.plans, description.configuration)
    model = TrainedModel(results, *names, description.folds)
    model.path.mkdir(parents=True)
    plan = parse_plan(archive.read(PLAN), description.configuration, f"{archive.path}: {PLAN}")
    save_plan(model.plan, plan)
    for fold in model.fold_folders():
        _unpack_fold(archive, description.configuration, fold)
    for name, check in ((CARD, parse_text), (CALIBRATION, parse_object)):
        if name in archive.names:
            content = archive.read(name)
            check(content, f"{archive.path}: {name}")
            files.write_bytes(model.path / name, content)
    try:
        predictor = load_predictor(model, torch.device("cpu"), augment=True, calibrated=False)
        if CALIBRATION in archive.names:
            suited_calibration(model.path / CALIBRATION, predictor.plan, predictor.checkpoints, predictor.augment)
    except (PlanError, ModelError) as error:
        raise ModelError(f"{archive.path}: {error}") from None
    return model


def _unpack_fold(archive: Archive, configuration: str, fold: FoldFolder) -> None:
    member = {name: fold_member(fold.number, name) for name in (PLAN, MODEL, WEIGHTS, SUMMARY)}
    where = {name: f"{archive.path}: {path}" for name, path in member.items()}
    plan = parse_plan(archive.read(member[PLAN]), configuration, where[PLAN])
    described = parse_fold(archive.read(member[MODEL]), where[MODEL])
    planned = plan.configuration(configuration)
    spec = described.spec
    content = {"spec": json.dumps(dataclasses.asdict(spec)), "seal": described.seal}
    require_plan_of(content, plan, planned, where[MODEL])
    fold.path.mkdir()
    save_plan(fold.plan, plan)
    received = fold.path / WEIGHTS
    archive.copy(member[WEIGHTS], received)
    model = build_model(content | {"weights": read_weights(received, spec, where[WEIGHTS])}, received)
    received.unlink()
    details = described.details() | {MEANING: meaning_text(plan, planned)}
    save_checkpoint(fold.final, model_content(model, spec, set(spec.dense_heads), **details))
    if member[SUMMARY] in archive.names:
        _unpack_summary(archive.read(member[SUMMARY]), fold, where[SUMMARY])


def _unpack_summary(data: bytes, fold: FoldFolder, where: str) -> None:
    content = parse_object(data, where)
    if content != shared_summary(content):
        raise ModelError(f"{where}: holds more than the scores that a bundle carries.")
    fold.validation.mkdir()
    files.write_json(fold.summary, content)
    try:
        score = validation_score(fold)
    except (KeyError, TypeError):
        raise ModelError(f"{where}: has no validation score, by which models are compared.") from None
    if not (score is None or isinstance(score, float | int)):
        raise ModelError(f"{where}: its validation score is {score!r}, not a number.")
