"""From a fingerprint to a plan: pure, one rule a decision, each with its reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from spinecls import __version__
from spinecls.anatomy import LEVEL_CODES
from spinecls.errors import PlanError, UsageError
from spinecls.paths import DEFAULT_PLANS
from spinecls.planning import rules_grid, rules_training
from spinecls.planning.familiarity import familiar_images, familiarity_reason
from spinecls.planning.fingerprint_types import Fingerprint
from spinecls.planning.plan import Configuration, Plan
from spinecls.planning.rules_configuration import Choices, MachineProfile, PlanInputs, configure, plain_text
from spinecls.planning.rules_override import Settings, check_used, parse_overrides
from spinecls.records import DatasetDescription

CPU_STEPS_WANTED = 3000
"""Steps below which a CPU plan takes a coarser grid.

On lumbar MRI the classes of sealed crops were told apart after 300 steps at 2 mm in plane, and not yet after 600,
each twice as long, at 1.5 mm.
"""
FEW_SLICES = 5
LOWRES_COVERAGE = 0.25
MEMORY_SHARE = 0.85
"""Share of the machine's memory that training may fill when no target is given."""


def plan(
    fingerprint: Fingerprint,
    description: DatasetDescription,
    machine: MachineProfile,
    time_budget_minutes: float | None = None,
    gpu_memory_target_gb: float | None = None,
    overrides: Mapping[str, str] | None = None,
    plans_name: str = DEFAULT_PLANS,
    register_channels: bool = False,
) -> Plan:
    """Plan of a dataset for a machine.

    Parameters
    ----------
    time_budget_minutes : training time of a fold; default 30 on the CPU, none on a GPU
    gpu_memory_target_gb : memory that training may fill; default 85 % of the machine's
    overrides : values set by the user, see `rules_override.parse_overrides`; what depends on them follows
    register_channels : whether the user asked for the channels of a case to be aligned

    Raises
    ------
    PlanError
        When no useful patch fits, or the dataset has no case.
    UsageError
        When an override cannot be used.
    """
    overrides = dict(overrides or {})
    settings = parse_overrides(overrides)
    inputs = _inputs(fingerprint, description, machine, time_budget_minutes, gpu_memory_target_gb)
    configurations, reasons = _configurations(inputs, settings)
    check_used(configurations, overrides)
    levels = dict(description.levels) or dict(LEVEL_CODES)
    statistics, reasons["level_statistics"] = rules_training.level_statistics(fingerprint, levels)
    reasons["class_counts"] = rules_training.class_reason(fingerprint)
    reasons["register_channels"] = rules_training.registration_reason(len(description.channel_names), register_channels)
    familiar = familiar_images(list(fingerprint.cases.values()))
    reasons["familiar"] = familiarity_reason(familiar)
    return Plan(
        plans_name=plans_name,
        dataset_name=description.name or fingerprint.dataset_name,
        channel_names=description.channel_names,
        class_names=description.class_names,
        class_order=description.class_order,
        class_counts=fingerprint.class_counts,
        levels=levels,
        structures=description.structures,
        lesion_structures=description.lesion_structures,
        vertebrae_complete=description.vertebrae_complete,
        ignore_label=description.ignore_label,
        level_statistics=statistics,
        configurations=configurations,
        register_channels=register_channels,
        familiar=familiar,
        reasons=reasons,
        overrides=overrides,
        spinecls_version=__version__,
    )


def explain(plan: Plan) -> list[tuple[str, str, str]]:
    """Rows (key, value, reason) of everything that was decided, in the order of the plan."""
    rows = []
    for key, reason in plan.reasons.items():
        name, _, rest = key.partition(".")
        if rest and name not in plan.configurations:
            # Reasons outlive a configuration that was taken out of the file by hand.
            continue
        if not rest:
            value = getattr(plan, key)
            # Of what is itself a record only the name is shown.
            named = isinstance(value, Mapping) and any(dataclasses.is_dataclass(item) for item in value.values())
            rows.append((key, ", ".join(value) if named else plain_text(value), reason))
            continue
        value = plan.configurations[name]
        for part in rest.split("."):
            value = getattr(value, part)
        rows.append((key, plain_text(value), reason))
    return rows


def _inputs(
    fingerprint: Fingerprint,
    description: DatasetDescription,
    machine: MachineProfile,
    time_budget_minutes: float | None,
    gpu_memory_target_gb: float | None,
) -> PlanInputs:
    if not fingerprint.cases:
        raise PlanError(f"{fingerprint.dataset_name}: no case to plan for. Add images and annotations, then run again.")
    for label, value in (("--time_budget", time_budget_minutes), ("-gpu_memory_target", gpu_memory_target_gb)):
        if value is not None and not value > 0:
            raise UsageError(f"{label}: {value:g} is not above 0.")
    if time_budget_minutes is None and machine.device == "cpu":
        time_budget_minutes = rules_training.DEFAULT_CPU_MINUTES
    target = gpu_memory_target_gb if machine.device != "cpu" else None
    return PlanInputs(
        fingerprint=fingerprint,
        description=description,
        machine=machine,
        budget_minutes=time_budget_minutes,
        memory_gb=target or MEMORY_SHARE * machine.memory_gb,
    )


def _configurations(inputs: PlanInputs, settings: Settings) -> tuple[dict[str, Configuration], dict[str, str]]:
    """All configurations that suit the data, with the reasons of their values."""
    slices = inputs.fingerprint.median_slices
    made = {}
    if slices > FEW_SLICES:
        made["3d_fullres"] = _search(inputs, settings["3d_fullres"], "3d_fullres")
        full = made["3d_fullres"][0]
        cover = _coverage(inputs, full)
        said = f"3d_fullres: median {slices:g} slices, more than {FEW_SLICES}. "
        if cover < LOWRES_COVERAGE:
            lowres = _lowres(inputs, settings["3d_lowres"], full)
            if lowres:
                made["3d_lowres"] = lowres
            said += (
                f"Its patch covers {cover:.0%} of the median body, less than {LOWRES_COVERAGE:.0%}, so a coarse view "
            )
            said += "is added as 3d_lowres." if lowres else "is wanted, but none at most half as large fits."
        else:
            said += f"Its patch covers {cover:.0%} of the median body, so no 3d_lowres."
    else:
        said = f"2d only: median {slices:g} slices, no more than {FEW_SLICES}."
    made = {"2d": _search(inputs, settings["2d"], "2d"), **made}
    reasons = {"configurations": said}
    for name, (_, choices) in made.items():
        reasons |= {f"{name}.{key}": reason for key, reason in choices.reasons.items()}
    return {name: configuration for name, (configuration, _) in made.items()}, reasons


def _search(inputs: PlanInputs, settings: Mapping[str, Any], name: str) -> tuple[Configuration, Choices]:
    """Configuration on the finest grid of the ladder that the budget allows."""
    spacing, reason = rules_grid.target_spacing(inputs.fingerprint)
    limit = rules_grid.coarsest_in_plane_mm(inputs.fingerprint)
    ladder = [(factor, rules_grid.coarsened(spacing, factor, limit)) for factor in rules_grid.COARSENING]
    ladder = [entry for i, entry in enumerate(ladder) if i == 0 or entry[1] != ladder[i - 1][1]]
    if "spacing_mm" in settings:
        ladder = ladder[:1]
    refused: list[str] = []
    for position, (factor, grid) in enumerate(ladder):
        last = position == len(ladder) - 1
        said = reason if not refused else f"{reason[:-1]}; coarsened: {'; '.join(refused)}."
        try:
            configured = configure(inputs, settings, name, grid, said)
        except PlanError:
            if last:
                raise
            refused.append(f"x{factor:g} leaves no room for a patch of three vertebrae")
            continue
        steps = _affordable_steps(inputs, configured[0])
        if last or inputs.machine.device != "cpu" or steps >= CPU_STEPS_WANTED:
            return configured
        refused.append(f"x{factor:g} allows {steps:.0f} steps, fewer than {CPU_STEPS_WANTED}")
    raise PlanError(f"{name}: the ladder of grids is empty.")


def _affordable_steps(inputs: PlanInputs, configuration: Configuration) -> float:
    """Steps of the finder, whose grid it is, within its part of the time budget."""
    if inputs.finder_minutes is None:
        return math.inf
    return rules_training.USABLE_TIME * inputs.finder_minutes * 60 / configuration.estimated_step_seconds


def _coverage(inputs: PlanInputs, configuration: Configuration) -> float:
    """Share of the median body's volume that one open patch sees."""
    seen = 1.0
    body_mm = inputs.fingerprint.median_body_mm
    for n, s, mm in zip(configuration.patch_size, configuration.spacing_mm, body_mm, strict=True):
        seen *= min(1.0, n * s / mm)
    return seen


def _lowres(
    inputs: PlanInputs, settings: Mapping[str, Any], full: Configuration
) -> tuple[Configuration, Choices] | None:
    """Coarser grid, in steps of a tenth, until a patch covers a quarter of the body; None when that is no gain."""
    factor = 1.0
    while factor < 4:
        factor *= 1.1
        spacing = rules_grid.coarsened(full.spacing_mm, factor)
        reason = f"3d_fullres coarsened {factor:.2f} times in plane: a patch covers {LOWRES_COVERAGE:.0%} of the body."
        configured = configure(inputs, settings, "3d_lowres", spacing, reason)
        if "spacing_mm" in settings:
            return configured
        if _coverage(inputs, configured[0]) >= LOWRES_COVERAGE:
            smaller = math.prod(configured[0].spacing_mm) / math.prod(full.spacing_mm)
            # Less than half the voxels saved is the same view twice.
            if smaller >= 2:
                return configured
    return None
