"""`spinecls_export_model`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import ModelConfiguration, ModelDataset, ModelFolder, ModelFolds, ModelPlans, ModelTrainer
from spinecls.cli.outputs import refuse_other_file, require_writable


def export_model(
    target: Annotated[Path, typer.Option("-o", help="File to write, ending with .spinecls.", show_default=False)],
    dataset: ModelDataset = None,
    configuration: ModelConfiguration = None,
    trainer: ModelTrainer = None,
    plans: ModelPlans = None,
    folds: ModelFolds = None,
    model: ModelFolder = None,
) -> None:
    """Write a trained model, with its model card, as one file that others can import without trusting you."""
    from spinecls.inference.models import ModelChoice, choose_model
    from spinecls.sharing.export import export_model as write_bundle
    from spinecls.sharing.model_card import TO_FILL

    refuse_other_file(target, ".spinecls")
    require_writable(target.parent)
    chosen = choose_model(
        ModelChoice(
            folder=model,
            dataset=dataset,
            configuration=configuration,
            trainer=trainer,
            plans=plans,
            folds=tuple(folds or ()),
        )
    )
    print(f"Model: {chosen.name}, fold {' '.join(chosen.folds)}")
    card = write_bundle(chosen, target)
    with open(target, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")
    if blanks := card.count(TO_FILL) - 1:
        print(
            f"MODEL_CARD.md in it has {blanks} places {TO_FILL}. Fill them in, put the card into {chosen.path}, and "
            "export again."
        )
