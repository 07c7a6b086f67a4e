"""A trained model into one file."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from spinecls import __version__, files
from spinecls.calibration.record import CALIBRATION
from spinecls.errors import ModelError, UsageError
from spinecls.inference.models import TrainedModel, load_predictor
from spinecls.inference.predictor import Predictor
from spinecls.model_folder import PLAN, SUMMARY, FoldFolder
from spinecls.planning.plan import Plan, load_plan
from spinecls.sharing.archive import opened, write_archive
from spinecls.sharing.install import unpack_model
from spinecls.sharing.layout import (
    CARD,
    MODEL,
    SUFFIX,
    WEIGHTS,
    BundleDescription,
    FoldDescription,
    fold_member,
    parse_description,
    parse_text,
    shared_plan,
    shared_summary,
    size_limit,
    to_json,
)
from spinecls.sharing.model_card import card_of, weights_line
from spinecls.sharing.weights import weights_to_bytes
from spinecls.tasks.checkpoint import build_model, load_checkpoint, read_spec


def export_model(model: TrainedModel, path: Path) -> str:
    """Write the chosen folds of a model as a bundle; the same model gives the same bytes.

    Neither the names of cases, patients, sites and readers go into it, nor paths of this computer.

    Returns
    -------
    str
        The text of the model card in it.

    Raises
    ------
    UsageError
        When the file's name has another ending, so that no other kind of file is overwritten by mistake.
    ModelError
        When the model could not be predicted with, its folder has no name that other computers take, or its
        MODEL_CARD.md is about other weights.
    """
    if path.suffix != SUFFIX or path.is_dir():
        raise UsageError(f"-o {path}: expected the name of a file that ends with {SUFFIX}.")
    model = dataclasses.replace(model, folds=tuple(sorted(set(model.folds))))
    description = BundleDescription(
        dataset=model.dataset,
        trainer=model.trainer,
        plans=model.plans,
        configuration=model.configuration,
        folds=model.folds,
        spinecls_version=__version__,
    )
    description.check(model.path)
    # As prediction does: what cannot be predicted with is not exported, a calibration of other weights stays here.
    predictor = load_predictor(model, torch.device("cpu"), augment=True)
    card = _card(model, predictor)
    with files.atomic_path(path) as temporary:
        write_archive(temporary, _members(model, description, card, predictor.calibration is not None))
        _read_back(temporary)
    return card


def _card(model: TrainedModel, predictor: Predictor) -> str:
    """The card that lies in the model folder, filled in by somebody, or one made now."""
    path = model.path / CARD
    hashes = predictor.checkpoints
    if not path.exists():
        return card_of(model, hashes, predictor.calibration)
    card = parse_text(path.read_bytes(), str(path))
    if weights_line(hashes) not in card.splitlines():
        raise ModelError(
            f"{path}: is about other weights, because it lacks the line {weights_line(hashes)!r}. Remove it, and a new "
            "one is made; or export the folds that it is about (-f)."
        )
    return card


def _members(
    model: TrainedModel, description: BundleDescription, card: str, calibrated: bool
) -> Iterator[tuple[str, bytes]]:
    yield CARD, card.encode()
    if calibrated:
        yield CALIBRATION, (model.path / CALIBRATION).read_bytes()
    for fold in model.folds:
        for name, content in sorted(_fold_members(model.fold(fold)).items()):
            yield fold_member(fold, name), content
    yield MODEL, to_json(dataclasses.asdict(description))
    # Not that of the model folder, which is of the fold that was begun last.
    yield PLAN, _plan_bytes(load_plan(model.fold(model.folds[0]).plan))


def _fold_members(fold: FoldFolder) -> dict[str, bytes]:
    path = fold.final
    content = load_checkpoint(path)
    known = {f.name: content[f.name] for f in dataclasses.fields(FoldDescription) if f.name in content}
    description = FoldDescription(**{**known, "spec": read_spec(content, path)})
    members = {
        MODEL: to_json(dataclasses.asdict(description)),
        WEIGHTS: weights_to_bytes(build_model(content, path)),
        PLAN: _plan_bytes(load_plan(fold.plan)),
    }
    if fold.scored:
        members[SUMMARY] = to_json(shared_summary(fold.scores()))
    return members


def _plan_bytes(plan: Plan) -> bytes:
    return to_json(dataclasses.asdict(shared_plan(plan)))


def _read_back(path: Path) -> None:
    """Do with the bundle what its receiver will do, so that no file is handed out which cannot be imported."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as folder, opened(path, size_limit) as archive:
        unpack_model(archive, parse_description(archive.read(MODEL), MODEL), Path(folder))
