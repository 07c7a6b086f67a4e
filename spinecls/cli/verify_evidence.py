"""`spinecls_verify_evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import LARGEST_SEED, Device
from spinecls.cli.outputs import refuse_other_folder, require_writable
from spinecls.errors import CheckFailed, UsageError

FOLDER = "verify_evidence"


def verify_evidence(
    model: Annotated[Path, typer.Option("-m", help="Model folder.", show_default=False)],
    source: Annotated[Path | None, typer.Option("-i", help="Folder of images, or one image.")] = None,
    dataset: Annotated[
        str | None, typer.Option("-d", help="Raw dataset instead: number, name or path; its annotations are used.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", help=f"Results folder [default: MODEL/{FOLDER}].")] = None,
    folds: Annotated[list[str] | None, typer.Option("-f", help="Folds [default: every finished one].")] = None,
    device: Device = None,
    donors: Annotated[int, typer.Option("--donors", min=1, help="Replacements of each vertebra's outside.")] = 8,
    vertebrae: Annotated[int, typer.Option("--vertebrae", min=1, help="Vertebrae examined, at most.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of all random choices.")] = 0,
    attribution: Annotated[
        bool, typer.Option("--attribution/--no_attribution", help="Integrated gradients; needs captum.")
    ] = True,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Does the class of each vertebra come from its own voxels?

    Leaves with exit code 7 when a sealed model breaks its promise.
    """
    from spinecls.inference.models import ModelChoice, choose_model, load_predictor
    from spinecls.networks.device import pick_device
    from spinecls.paths import raw_dataset_folder
    from spinecls.verification import cohort, report, suite

    examined = source if dataset is None else dataset if source is None else None
    if examined is None:
        given = "neither" if source is None else "both"
        raise UsageError(f"Give images by -i, or a raw dataset by -d, and not both. Got {given}.")
    refuse_other_folder(output or model / FOLDER)
    require_writable(output or model / FOLDER)
    chosen = choose_model(ModelChoice(folder=model, folds=tuple(folds or ())))
    instrument = suite.instrument_of(load_predictor(chosen, pick_device(device), augment=False, calibrated=False))
    plan = instrument.predictor.plan
    if isinstance(examined, Path):
        cases = cohort.images_cohort(examined, plan)
    else:
        cases = cohort.dataset_cohort(raw_dataset_folder(examined), plan, chosen)
    study = cohort.build_study(instrument, cases, vertebrae, donors, seed)
    results = suite.run_checks(instrument, study, attribution)
    verdict = suite.verdict(instrument, results)
    content = report.content(cohort.model_identity(chosen, instrument), cases.note, study, results, verdict)
    target = output or model / FOLDER
    report.write_report(target, content, results)
    print((target / report.JSON_NAME).read_text() if json_output else report.report_text(content, results))
    if verdict.broken:
        raise CheckFailed(f"{model}: the class of a vertebra does not come from its own voxels alone; see {target}.")
