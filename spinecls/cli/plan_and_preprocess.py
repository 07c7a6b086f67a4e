"""`spinecls_plan_and_preprocess` and its three stages."""

from __future__ import annotations

from typing import Annotated

import typer

from spinecls.cli.common import Datasets, Device, Overrides, Plans, Processes, parse_settings
from spinecls.errors import PartialFailure, UsageError
from spinecls.paths import DEFAULT_PLANS

Configurations = Annotated[
    list[str] | None, typer.Option("-c", help="Configurations [default: all of the plan].", show_default=False)
]
NoVerify = Annotated[bool, typer.Option("--no_verify", help="Do not read the voxels to check them.")]
Verify = Annotated[
    bool, typer.Option("--verify_dataset_integrity", help="Check the whole dataset first; this is on anyway.")
]
Memory = Annotated[
    float | None, typer.Option("-gpu_memory_target", min=1, help="Memory that training may fill, GB.", show_default=False)
]
Budget = Annotated[
    float | None,
    typer.Option("--time_budget", min=1, help="Minutes of training a fold [default: 30 on the CPU, none on a GPU]."),
]
Explain = Annotated[bool, typer.Option("--explain", help="Print every number of the plan with its reason.")]


def plan_and_preprocess(
    datasets: Datasets,
    configurations: Configurations = None,
    plans: Plans = DEFAULT_PLANS,
    processes: Processes = 2,
    verify: Verify = True,
    no_verify: NoVerify = False,
    gpu_memory_target: Memory = None,
    time_budget: Budget = None,
    device: Device = None,
    settings: Overrides = None,
    explain: Explain = False,
    dry_run: Annotated[bool, typer.Option("--dry_run", help="Check and plan; say what preprocessing would take.")] = False,
) -> None:
    """Check a raw dataset, measure it, plan for it, and preprocess it. A second run redoes only what changed."""
    from spinecls.planning.pipeline import fingerprint_dataset, read_raw

    for dataset in datasets:
        raw = read_raw(dataset, verify and not no_verify, processes)
        fingerprint_dataset(raw, processes)
        made = _plan(raw, plans, gpu_memory_target, time_budget, device, settings)
        _print_plan(made, explain)
        if dry_run:
            _print_dry_run(raw, made)
        else:
            _preprocess(raw, made, configurations, processes)


def extract_fingerprint(
    datasets: Datasets, processes: Processes = 2, verify: Verify = True, no_verify: NoVerify = False
) -> None:
    """Measure a raw dataset: spacings, sizes of vertebrae, classes, intensities."""
    from spinecls.planning.pipeline import fingerprint_dataset, read_raw

    for dataset in datasets:
        fingerprint_dataset(read_raw(dataset, verify and not no_verify, processes), processes)


def plan_experiment(
    datasets: Datasets,
    plans: Plans = DEFAULT_PLANS,
    gpu_memory_target: Memory = None,
    time_budget: Budget = None,
    device: Device = None,
    settings: Overrides = None,
    explain: Explain = False,
) -> None:
    """Plan for a dataset whose fingerprint is extracted, and make the folds."""
    from spinecls.planning.pipeline import read_raw

    for dataset in datasets:
        raw = read_raw(dataset, False, 1)
        _print_plan(_plan(raw, plans, gpu_memory_target, time_budget, device, settings), explain)


def preprocess(
    datasets: Datasets,
    configurations: Configurations = None,
    plans: Plans = DEFAULT_PLANS,
    processes: Processes = 2,
) -> None:
    """Preprocess a dataset by its plan."""
    from spinecls.paths import preprocessed_folder
    from spinecls.planning.pipeline import read_raw
    from spinecls.planning.plan import load_plan

    for dataset in datasets:
        raw = read_raw(dataset, False, 1)
        made = load_plan(preprocessed_folder(raw.folder.name) / f"{plans}.json")
        _preprocess(raw, made, configurations, processes)


def _plan(raw, plans, gpu_memory_target, time_budget, device, settings):
    from spinecls.planning.pipeline import PlanRequest, plan_dataset

    request = PlanRequest(
        plans_name=plans,
        time_budget_minutes=time_budget,
        gpu_memory_target_gb=gpu_memory_target,
        device=device,
        overrides=parse_settings(settings),
    )
    return plan_dataset(raw, request, lambda: _measure_machine(device))


def _measure_machine(device):
    """Imported late: an unchanged plan needs no torch, which takes longer to import than all the rest."""
    from spinecls.networks.device import pick_device
    from spinecls.trainers.probe import machine_profile

    return machine_profile(pick_device(device))


def _preprocess(raw, made, configurations, processes) -> None:
    from spinecls.paths import preprocessed_folder
    from spinecls.planning.preprocess import preprocess_dataset

    names = list(configurations or made.configurations)
    for name in names:
        if name not in made.configurations:
            raise UsageError(f"-c {name}: not in the plan. Configurations: {', '.join(made.configurations)}.")
    folder = preprocessed_folder(raw.folder.name)
    report = preprocess_dataset(raw, made, names, folder, processes)
    print(f"Preprocessed {raw.folder.name}: {len(report.done)} cases done, {len(report.reused)} unchanged. {folder}")
    if report.failed:
        listed = "\n".join(f"  {case}: {reason}" for case, reason in report.failed)
        raise PartialFailure(f"{len(report.failed)} cases failed, the others are done:\n{listed}")


def _print_plan(made, explain: bool) -> None:
    from spinecls.planning.planner import explain as explained

    if explain:
        rows = explained(made)
        wide = max(len(key) for key, _, _ in rows)
        for key, value, reason in rows:
            print(f"{key:<{wide}}  {value}\n{'':<{wide}}    {reason}")
        return
    for configuration in made.configurations.values():
        spacing = " x ".join(f"{s:g}" for s in configuration.spacing_mm)
        patch = " x ".join(map(str, configuration.patch_size))
        minutes = configuration.steps * configuration.estimated_step_seconds / 60
        print(
            f"{configuration.name}: spacing {spacing} mm, patch {patch}, {configuration.steps} steps, "
            f"about {minutes:.0f} min a fold, {configuration.estimated_memory_gb:.1f} GB"
        )


def _print_dry_run(raw, made) -> None:
    """What preprocessing would take, from the sizes of the images."""
    from math import prod

    from spinecls.io.images import read_geometry

    voxels = sum(prod(read_geometry(case.images[0]).shape) * len(case.images) for case in raw.cases)
    gigabytes = voxels * (2 + 2 * len(made.configurations)) / 1e9
    seconds = 1 + voxels * 4e-7
    print(f"Would preprocess {len(raw.cases)} cases, about {seconds:.0f} s, at most {gigabytes:.2f} GB on disk.")
