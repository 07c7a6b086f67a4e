"""`spinecls_audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinecls.cli.common import refuse_useless
from spinecls.cli.outputs import refuse_other_file, require_writable
from spinecls.errors import counted


def audit(
    context: typer.Context,
    dataset: Annotated[str, typer.Option("-d", help="Dataset: number, name or path.")],
    trainer: Annotated[str | None, typer.Option("-tr", help="Trainer, where several are trained.")] = None,
    configuration: Annotated[str | None, typer.Option("-c", help="Configuration, where several are trained.")] = None,
    plans: Annotated[str | None, typer.Option("-p", help="Plans, where several are trained.")] = None,
    folds: Annotated[list[str] | None, typer.Option("-f", help="Folds [default: every finished one].")] = None,
    output: Annotated[Path, typer.Option("-o", help="Table to work through.")] = Path("audit.csv"),
    apply: Annotated[
        Path | None, typer.Option("--apply", help="Reviewed table: take its column 'corrected' into the dataset.")
    ] = None,
) -> None:
    """List the labels that models contradict which never saw them, and those that readers dispute.

    Each vertebra is judged by the fold that validated it. Fill the column 'corrected' and give the table back with
    --apply; vertebraeTr.csv is rewritten and the earlier one kept beside it.
    """
    if apply is not None:
        refuse_useless(context, ("-tr", "-c", "-p", "-f", "-o"), "--apply asks no model. Leave it out")
        _apply(dataset, apply)
        return
    refuse_other_file(output, ".csv")
    require_writable(output.parent)
    from spinecls import files, paths
    from spinecls.errors import DatasetError, UsageError
    from spinecls.evaluation import label_audit as auditing
    from spinecls.inference.models import ModelChoice, choose_model
    from spinecls.io.dataset import load_dataset
    from spinecls.io.predictions import is_case_json

    raw = load_dataset(paths.raw_dataset_folder(dataset), verify_voxels=False)
    if len(raw.description.class_names) < 2:
        raise UsageError(f"{raw.description.name}: has no classes, so there are no labels to audit.")
    name = paths.dataset_name(dataset)
    chosen = tuple(folds or ())
    model = choose_model(
        ModelChoice(dataset=name, configuration=configuration, trainer=trainer, plans=plans, folds=chosen)
    )
    model.fold_plans()
    folders = [fold.validation for fold in model.fold_folders()]
    validated = [folder for folder in folders if any(map(is_case_json, folder.glob("*.json")))]
    if not validated:
        raise DatasetError(
            f"{model.path}: no fold has predictions of its validation cases. Run spinecls_train {name} "
            f"{model.configuration} 0 1 2 3 4 -tr {model.trainer} first."
        )
    predictions, misnamed = auditing.held_out_predictions(validated)
    vertebrae = auditing.read_vertebrae(raw, predictions, misnamed)
    rows, noise = auditing.audit(vertebrae, raw.description.class_names)
    files.write_csv(output, list(auditing.HEADER), rows)
    print(
        f"{len(predictions)} of {counted(len(raw.cases), 'case')} predicted out of fold, read vertebrae in them: "
        f"{len(vertebrae)}; listed in {output}: {len(rows)}."
    )
    print(
        f"The models contradict about {noise.rate:.0%} of the labels with confidence; some of that is their own error. "
        + (f"If most is the labels', train with --set class_q={noise.q:g}." if noise.q else "The plain loss suits.")
    )


def _apply(dataset: str, table: Path) -> None:
    from spinecls import files, paths
    from spinecls.evaluation import label_audit as auditing
    from spinecls.io.dataset import load_dataset
    from spinecls.io.table_rewriting import rewrite_table

    folder = paths.raw_dataset_folder(dataset)
    raw = load_dataset(folder, verify_voxels=False)
    wanted = auditing.corrections(table, raw.description.class_names)
    if not wanted:
        print(f"Nothing to correct: the column {auditing.CORRECTED!r} of {table} is empty.")
        return
    path = folder / "vertebraeTr.csv"
    before = files.read_csv(path)
    kept = rewrite_table(path, list(before[0]), auditing.corrected_rows(before, wanted), "audit")
    earlier = f"; the earlier table is {kept.name}" if kept else ""
    print(
        f"{counted(len(wanted), 'vertebra', 'vertebrae')} corrected in {path}{earlier}. Run "
        "spinecls_plan_and_preprocess again."
    )
