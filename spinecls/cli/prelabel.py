"""`spinecls_prelabel`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinecls.cli.common import Device, refuse_useless
from spinecls.errors import UsageError, counted

if TYPE_CHECKING:
    from spinecls.records import Case, RawDataset


def prelabel(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Number, full name or folder of a raw dataset.")],
    apply: Annotated[
        Path | None,
        typer.Option("--apply", help="Folder of corrected files, each named by its case; they count as exact."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("-m", help="Model folder [default: the finder that comes with spinecls].")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="Channel that the finder sees [default: one called T2, else the first]."),
    ] = None,
    device: Device = None,
) -> None:
    """Draft vertebra maps for the scans that have no position of a vertebra, or take corrected ones back.

    Drafts lie in labelsTr and are marked in annotationsTr.json: training learns from sure ones loosely, from others not
    at all, and nothing is scored by them. draftsTr.csv lists them, first those to look at first.
    """
    from spinecls import paths
    from spinecls.drafting.corrections import apply_corrections, told
    from spinecls.drafting.drafts import undrawn_cases

    if apply is not None:
        refuse_useless(context, ("-m", "--channel", "-device"), "--apply asks no model. Leave it out")
    raw, cases = undrawn_cases(paths.raw_dataset_folder(dataset))
    if apply is not None:
        known = {case.identifier: case for case in (*raw.cases, *raw.unlabelled)}
        print(told(apply_corrections(raw, known, apply)))
        return
    if not cases:
        raise UsageError(f"{raw.folder}: every case has the position of a vertebra, so there is nothing to draft.")
    draft(raw, cases, model, channel, device)


def draft(
    raw: RawDataset, cases: Sequence[Case], model: Path | None = None, channel: str | None = None, device=None
) -> None:
    """Draft cases of a raw dataset and say what to do with them; parameters as of the command."""
    from spinecls.drafting.drafts import TABLE, make_drafts
    from spinecls.drafting.predictors import predictors

    with predictors(raw.folder.name, model, device) as predictor_of:
        drafts = make_drafts(raw, cases, predictor_of, channel)
    sure = sum(draft.sure for draft in drafts)
    print(
        f"{counted(len(drafts), 'case')} drafted, {sure} of them sure. Look at them in the order of "
        f"{raw.folder / TABLE}; save corrected ones elsewhere as <case>.nii.gz, <case>.seg.nrrd or <case>.mrk.json, "
        f"and give them back: spinecls_prelabel {raw.folder.name} --apply FOLDER; then run "
        "spinecls_plan_and_preprocess."
    )
