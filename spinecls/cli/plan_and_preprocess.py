"""`spinecls_plan_and_preprocess` and its three stages.

Everything is imported late: a run that finds everything up to date needs none of the libraries that do the work,
which take longer to import than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from spinecls.cli.common import Datasets, Device, Overrides, Plans, Processes, parse_settings
from spinecls.errors import PartialFailure, UsageError, counted, nearest
from spinecls.paths import DEFAULT_PLANS

MEMORY_PRESETS_GB = {"M": 8.0, "L": 24.0, "XL": 40.0}
"""Those of nnU-Net's residual encoder planners."""


def memory_target_gb(text: str | float) -> float:
    """Gigabytes of a number or of a preset."""
    if isinstance(text, str) and text.upper() in MEMORY_PRESETS_GB:
        return MEMORY_PRESETS_GB[text.upper()]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise typer.BadParameter(f"{text!r} is neither a number of GB from 1 on nor one of M, L, XL.")
    return value


Configurations = Annotated[
    list[str] | None, typer.Option("-c", help="Configurations [default: all of the plan].", show_default=False)
]
NoVerify = Annotated[bool, typer.Option("--no_verify", help="Do not read the voxels to check them.")]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify_dataset_integrity",
        help="Read and check every file anew, also those that an earlier run found right and that look unchanged.",
    ),
]
Memory = Annotated[
    float | None,
    typer.Option(
        "-gpu_memory_target",
        parser=memory_target_gb,
        metavar="GB",
        help="Memory of the GPU that training may fill: GB, or M (8), L (24), XL (40) [default: 85 % of the GPU's].",
        show_default=False,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option("--time_budget", min=1, help="Minutes of training a fold [default: 30 on the CPU, none on a GPU]."),
]
Explain = Annotated[bool, typer.Option("--explain", help="Print every number of the plan with its reason.")]
DryRun = Annotated[bool, typer.Option("--dry_run", help="Check and plan; say what preprocessing would take.")]
Register = Annotated[
    bool, typer.Option("--register", help="Align the channels of each case rigidly, now and in prediction.")
]


def plan_and_preprocess(
    datasets: Datasets,
    configurations: Configurations = None,
    plans: Plans = DEFAULT_PLANS,
    processes: Processes = 2,
    verify: Verify = False,
    no_verify: NoVerify = False,
    gpu_memory_target: Memory = None,
    time_budget: Budget = None,
    device: Device = None,
    settings: Overrides = None,
    register: Register = False,
    explain: Explain = False,
    dry_run: DryRun = False,
) -> None:
    """Check a raw dataset, measure it, plan for it, and preprocess it. A second run redoes only what changed."""
    from spinecls.io.findings import DatasetFaults
    from spinecls.planning.stages import measure_raw, plan_raw

    _require_known(configurations)
    _require_one(verify, no_verify)
    request = _request(plans, gpu_memory_target, time_budget, device, settings, register)
    for dataset in datasets:
        try:
            raw, hashes = _checked(dataset, not no_verify, processes, verify)
        except DatasetFaults as faults:
            if dry_run or [finding.code for finding in faults.findings] != ["E719"] or not _drafted(dataset, device):
                raise
            raw, hashes = _checked(dataset, not no_verify, processes, verify)
        fingerprint = measure_raw(raw, hashes, processes)
        made = plan_raw(raw, fingerprint, request, lambda: _probe(device))
        _print_plan(made, explain)
        if dry_run:
            _print_effort(raw, made, fingerprint, hashes, configurations, processes)
        else:
            _preprocess(raw, made, hashes, configurations, processes)


def extract_fingerprint(
    datasets: Datasets, processes: Processes = 2, verify: Verify = False, no_verify: NoVerify = False
) -> None:
    """Measure a raw dataset: spacings, sizes of vertebrae, classes, intensities."""
    from spinecls.planning.stages import measure_raw

    _require_one(verify, no_verify)
    for dataset in datasets:
        raw, hashes = _checked(dataset, not no_verify, processes, verify)
        measure_raw(raw, hashes, processes)


def plan_experiment(
    datasets: Datasets,
    plans: Plans = DEFAULT_PLANS,
    gpu_memory_target: Memory = None,
    time_budget: Budget = None,
    device: Device = None,
    settings: Overrides = None,
    register: Register = False,
    explain: Explain = False,
) -> None:
    """Plan for a dataset whose fingerprint is extracted, and make the folds."""
    from spinecls.planning.current import require_current_fingerprint
    from spinecls.planning.fingerprint_types import load_fingerprint
    from spinecls.planning.stages import FINGERPRINT, folder_of, plan_raw

    request = _request(plans, gpu_memory_target, time_budget, device, settings, register)
    for dataset in datasets:
        raw, hashes = _checked(dataset, False, 1)
        fingerprint = load_fingerprint(folder_of(raw) / FINGERPRINT)
        require_current_fingerprint(raw, hashes)
        _print_plan(plan_raw(raw, fingerprint, request, lambda: _probe(device)), explain)


def preprocess(
    datasets: Datasets,
    configurations: Configurations = None,
    plans: Plans = DEFAULT_PLANS,
    processes: Processes = 2,
    register: Register = False,
) -> None:
    """Preprocess a dataset by its plan."""
    import dataclasses

    from spinecls.planning.current import require_current_plan
    from spinecls.planning.plan import load_plan, save_plan
    from spinecls.planning.stages import folder_of

    _require_known(configurations)
    for dataset in datasets:
        raw, hashes = _checked(dataset, False, 1)
        path = folder_of(raw) / f"{plans}.json"
        made = load_plan(path)
        require_current_plan(raw, made)
        if register and not made.register_channels:
            # Prediction must do what preprocessing did, and follows the plan.
            made = dataclasses.replace(made, register_channels=True)
            save_plan(path, made)
        _preprocess(raw, made, hashes, configurations, processes)


def _request(plans, gpu_memory_target, time_budget, device, settings, register):
    from spinecls.planning.rules_override import parse_overrides
    from spinecls.planning.stages import PlanRequest

    overrides = parse_settings(settings)
    # What is misspelt is told before anything is read.
    parse_overrides(overrides)
    return PlanRequest(
        plans_name=plans,
        time_budget_minutes=time_budget,
        gpu_memory_target_gb=gpu_memory_target,
        device=device,
        register_channels=register,
        overrides=overrides,
    )


def _require_one(verify: bool, no_verify: bool) -> None:
    if verify and no_verify:
        raise UsageError("--no_verify, --verify_dataset_integrity: the one undoes the other. Give one of them.")


def _require_known(configurations: Sequence[str] | None) -> None:
    """Refuse names that no plan has, before hours of work end with the same words."""
    from spinecls.planning.rules_override import CONFIGURATIONS

    for name in configurations or ():
        if name not in CONFIGURATIONS:
            raise UsageError(
                f"-c {name}: not a configuration.{nearest(name, CONFIGURATIONS)} Known: {', '.join(CONFIGURATIONS)}."
            )


def _checked(dataset: str, verify_voxels: bool, processes: int, anew: bool = False):
    """The checked dataset and the hashes of its files.

    Parameters
    ----------
    anew : forget what earlier runs know of the files, so that every one is read again
    """
    from spinecls.paths import raw_dataset_folder
    from spinecls.planning.stages import check_raw, file_hashes, forget_files

    folder = raw_dataset_folder(dataset)
    if anew:
        forget_files(folder)
    hashes = file_hashes(folder)
    return check_raw(folder, hashes, verify_voxels, processes), hashes


def _drafted(dataset: str, device: str | None) -> bool:
    """Draft the vertebrae of a dataset of which nothing tells a place; whether that was not done before."""
    from spinecls.cli.prelabel import draft
    from spinecls.drafting.drafts import TABLE, undrawn_cases
    from spinecls.paths import raw_dataset_folder

    folder = raw_dataset_folder(dataset)
    if (folder / TABLE).exists():
        return False
    print("Nothing in the dataset tells where a vertebra is, so the finder that comes with spinecls makes the start.")
    draft(*undrawn_cases(folder), device=device)
    return True


def _probe(device: str | None):
    from spinecls.networks.device import pick_device
    from spinecls.trainers.probe import machine_profile

    return machine_profile(pick_device(device))


def _preprocess(raw, made, hashes, configurations: Sequence[str] | None, processes: int) -> None:
    from spinecls.planning.outdated import update_preprocessed
    from spinecls.planning.stages import folder_of

    folder = folder_of(raw)
    chosen = _chosen(made, configurations)
    report = update_preprocessed(raw, made, chosen, folder, hashes=hashes, num_processes=processes)
    done = counted(len(report.done), "case")
    print(f"Preprocessed {raw.folder.name}: {done} done, {len(report.reused)} unchanged. {folder}")
    if report.failed:
        listed = "\n".join(f"  {case}: {reason}" for case, reason in report.failed)
        raise PartialFailure(f"{counted(len(report.failed), 'case')} failed, the others are done:\n{listed}")


def _chosen(made, configurations: Sequence[str] | None) -> list[str]:
    names = list(configurations or made.configurations)
    for name in names:
        if name not in made.configurations:
            raise UsageError(f"-c {name}: not in the plan. Configurations: {', '.join(made.configurations)}.")
    return names


def _print_plan(made, explain: bool) -> None:
    from spinecls.cli.plan_text import explained_text, overview_text

    print(explained_text(made) if explain else overview_text(made))


def _print_effort(raw, made, fingerprint, hashes, configurations: Sequence[str] | None, processes: int) -> None:
    from spinecls.cli.plan_text import effort_text
    from spinecls.planning.effort import preprocessing_effort
    from spinecls.planning.outdated import outdated_jobs
    from spinecls.planning.stages import folder_of

    jobs = outdated_jobs(raw, made, _chosen(made, configurations), folder_of(raw), hashes)
    print(effort_text(preprocessing_effort(jobs, fingerprint, processes), len(raw.all_cases), folder_of(raw)))
