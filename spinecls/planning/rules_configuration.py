"""One configuration on a given grid: the rules in the order in which they depend on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from spinecls.errors import PlanError
from spinecls.planning import rules_grid, rules_training
from spinecls.planning.fingerprint_types import Fingerprint
from spinecls.planning.memory import training_gflop, training_memory_gb
from spinecls.planning.plan import Configuration, NetworkPlan
from spinecls.planning.rules_override import with_network
from spinecls.planning.topology import MINIMUM_BOTTLENECK, Topology, build_topology, features_per_stage, round_up
from spinecls.records import DatasetDescription
from spinecls.types import SpacingMm, Triple

CPU_PATCH_VOXELS = 200_000
"""Open voxels of a step on the CPU, so that a step stays near a second."""

DATASET_SHARE = 0.05
"""Largest share of the dataset's voxels in one batch, as in Isensee et al., Nature Methods 2021."""

MAXIMUM_STAGES = 7

TIGHT_BOTTLENECK = (2, 3, 3)
"""Least voxels of a tight sealed crop at the bottleneck."""


@dataclass(frozen=True, kw_only=True)
class MachineProfile:
    """What trains.

    Attributes
    ----------
    device : "cpu" or "cuda"
    gflop_per_second : measured throughput of training, 10^9 operations a second
    step_overhead_seconds : time of a step that does not grow with the network
    """

    device: str
    memory_gb: float
    cores: int = 1
    gflop_per_second: float = 50.0
    step_overhead_seconds: float = 0.05


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """What every rule may look at; `budget_minutes` None = no limit, `memory_gb` what training may fill."""

    fingerprint: Fingerprint
    description: DatasetDescription
    machine: MachineProfile
    budget_minutes: float | None
    memory_gb: float

    @property
    def channels(self) -> int:
        """Of an image; a reader is told the region as one more."""
        return len(self.description.channel_names)

    @property
    def classifies(self) -> bool:
        """Whether there are classes, and so readers."""
        return len(self.description.class_names) >= 2

    @property
    def finder_minutes(self) -> float | None:
        """Time for the finder."""
        return None if self.budget_minutes is None else self._finder_share * self.budget_minutes

    @property
    def reader_minutes(self) -> float | None:
        """Time for the readers, what the finder leaves of the budget."""
        return None if self.budget_minutes is None else self.budget_minutes - self._finder_share * self.budget_minutes

    @property
    def _finder_share(self) -> float:
        return rules_training.FINDER_SHARE if self.classifies else 1.0

    @property
    def on_cpu(self) -> bool:
        return self.machine.device == "cpu"


@dataclass
class Choices:
    """Values and reasons of one configuration; what the user set replaces the rule's value."""

    settings: Mapping[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def decide(self, name: str, value: Any, reason: str) -> Any:
        """Record the value of a field and return it."""
        if name in self.settings:
            value, reason = self.settings[name], f"set by --set; the rule says {plain_text(value)}: {reason}"
        self.values[name], self.reasons[name] = value, reason
        return value


def plain_text(value: Any) -> str:
    """A value of a plan as a person writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(f"({plain_text(item)})" if isinstance(item, tuple) else plain_text(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def configure(
    inputs: PlanInputs, settings: Mapping[str, Any], name: str, grid_mm: SpacingMm, grid_reason: str
) -> tuple[Configuration, Choices]:
    """Configuration called `name` whose finder works on the grid `grid_mm`, and how it came about.

    Raises
    ------
    PlanError
        When no useful patch fits into the limits.
    """
    choices = Choices(settings)
    choices.decide("spacing_mm", grid_mm, grid_reason)
    crops = rules_grid.reader_spacing(inputs.fingerprint, inputs.on_cpu, inputs.budget_minutes)
    choices.decide("sealed_spacing_mm", *crops)
    choices.decide("sealing_margin_mm", *rules_training.sealing_margin_mm(inputs.fingerprint))
    choices.decide(
        "region_error_mm", 0.8, "about how far the outlines of a trained finder are off, where it knows the scanner."
    )
    finder, reader = _finder(inputs, choices, name == "2d"), _reader(inputs, choices)
    _sealed_batch(inputs, choices, reader)
    _patch_and_batch(inputs, choices, finder, name)
    _targets_and_augmentation(inputs, choices)
    values = choices.values
    half = not inputs.on_cpu
    finder_step = finder, values["patch_size"], values["batch_size"], inputs.channels
    reader_step = reader, values["sealed_size"], values["sealed_batch_size"], inputs.channels + 1
    finder_seconds = _step_seconds(inputs, choices, "estimated_step_seconds", training_gflop(*finder_step))
    reader_seconds = _step_seconds(inputs, choices, "estimated_reader_step_seconds", training_gflop(*reader_step))
    reader_gb = training_memory_gb(*reader_step, half) if inputs.classifies else 0.0
    memory = max(training_memory_gb(*finder_step, half), reader_gb)
    over = " Warning: more than that; expect training to stop for want of memory." if memory > inputs.memory_gb else ""
    choices.reasons["estimated_memory_gb"] = f"of {inputs.memory_gb:.1f} GB that training may fill.{over}"
    _steps(inputs, choices, finder_seconds, reader_seconds)
    configuration = Configuration(
        name=name,
        network=finder,
        reader_network=reader,
        estimated_memory_gb=round(memory, 3),
        estimated_step_seconds=round(finder_seconds, 4),
        estimated_reader_step_seconds=round(reader_seconds, 4),
        **choices.values,
    )
    return configuration, choices


def _step_seconds(inputs: PlanInputs, choices: Choices, name: str, gflop: float) -> float:
    """Time of a step of so many operations; `name` is the field that tells it."""
    machine = inputs.machine
    choices.reasons[name] = (
        f"{gflop:.1f} GFLOP at {machine.gflop_per_second:g} a second, and {machine.step_overhead_seconds:g} s."
    )
    return gflop / machine.gflop_per_second + machine.step_overhead_seconds


def _steps(inputs: PlanInputs, choices: Choices, finder_seconds: float, reader_seconds: float) -> None:
    """Steps of finder and readers, and how many readers, within the time budget."""
    patients, device = len(inputs.fingerprint.patients), inputs.machine.device
    ruled, reason = rules_training.training_steps(patients, device, finder_seconds, inputs.finder_minutes)
    steps = choices.decide("steps", ruled, reason)
    members, reader_steps, said = rules_training.reader_steps(
        patients, reader_seconds, inputs.reader_minutes, choices.settings.get("members")
    )
    if not inputs.classifies:
        members, said = 0, "no classes, so there are no readers."
    choices.decide("members", members, said)
    if steps < ruled:
        reader_steps, said = min(steps, reader_steps), f"no more than those of the finder, which were set; {said}"
    choices.decide("reader_steps", reader_steps, said)


def _finder(inputs: PlanInputs, choices: Choices, flat: bool) -> NetworkPlan:
    """Topology and widths of the finder."""
    spacing = choices.values["spacing_mm"]
    least, most = rules_grid.patch_bounds(inputs.fingerprint, spacing, flat)
    # Patches grow to all slices first.
    size = choices.settings.get("patch_size", (most[0], *least[1:]))
    topology = build_topology(
        spacing, size, flat, fixed="patch_size" in choices.settings, max_stages=_stages(choices, "network")
    )
    return _network(inputs, choices, "network", topology, size, spacing)


def _reader(inputs: PlanInputs, choices: Choices) -> NetworkPlan:
    """Topology and widths of the readers; also decides the size of their crops."""
    spacing, margin_mm = choices.values["sealed_spacing_mm"], choices.values["sealing_margin_mm"]
    room, room_reason = rules_grid.sealed_extent_mm(inputs.fingerprint, margin_mm, tight=inputs.on_cpu)
    sealed = choices.settings.get("sealed_size") or tuple(
        # On a CPU half a voxel at the rim of the largest vertebrae is worth less than the voxels that it would cost.
        math.ceil(r / s - (0.5 if inputs.on_cpu else 1e-9))
        for r, s in zip(room, spacing, strict=True)
    )
    topology = build_topology(
        spacing,
        sealed,
        fixed="sealed_size" in choices.settings,
        max_stages=_stages(choices, "reader_network"),
        minimum=TIGHT_BOTTLENECK if inputs.on_cpu else MINIMUM_BOTTLENECK,
    )
    network = _network(inputs, choices, "reader_network", topology, sealed, spacing)
    size = round_up(sealed, topology.divisor)
    reason = f"{room_reason}, rounded up to multiples of {plain_text(topology.divisor)} voxels."
    choices.decide("sealed_size", size, reason)
    return network


def _stages(choices: Choices, name: str) -> int:
    return len(choices.settings.get(f"{name}.features", ())) or MAXIMUM_STAGES


def _network(
    inputs: PlanInputs, choices: Choices, name: str, topology: Topology, size: Triple, spacing: SpacingMm
) -> NetworkPlan:
    """Network of a topology; `size` is what limits its depth."""
    if len(topology.strides) < 2:
        raise PlanError(
            f"{name}: neither in-plane axis can be halved with an input of {size} voxels; expected edges that are even "
            "and at least 8. Change the size or use a finer grid."
        )
    (base, cap), width_reason = rules_training.feature_widths(inputs.machine.device, len(inputs.fingerprint.patients))
    features = features_per_stage(base, cap, len(topology.strides))
    network = with_network(
        NetworkPlan(features=features, strides=topology.strides, kernels=topology.kernels), choices.settings, name
    )
    choices.reasons[f"{name}.strides"] = _topology_reason(inputs, topology, spacing, network.convs_per_stage)
    ruled = "" if network.features == features else f"set by --set; the rule says {plain_text(features)}: "
    choices.reasons[f"{name}.features"] = ruled + width_reason
    return network


def _topology_reason(inputs: PlanInputs, topology: Topology, spacing: SpacingMm, convs_per_stage: int) -> str:
    field_mm = [n * s for n, s in zip(topology.receptive_field(convs_per_stage), spacing, strict=True)]
    extent, _ = rules_grid.vertebra_extent_mm(inputs.fingerprint, 99)
    pools = [int(math.log2(d)) for d in topology.divisor]
    text = (
        f"{len(topology.strides)} stages: the axes are halved {plain_text(tuple(pools))} times, as often as its "
        "size allows; an axis waits until its voxels are less than twice the finest. A voxel of the bottleneck sees "
        f"{field_mm[1]:.0f} x {field_mm[2]:.0f} mm in plane, a large vertebra has {extent[1]:.0f} x {extent[2]:.0f} mm"
    )
    short = field_mm[1] < extent[1] or field_mm[2] < extent[2]
    return text + (". Warning: less than a vertebra." if short else ".")


def _sealed_batch(inputs: PlanInputs, choices: Choices, network: NetworkPlan) -> None:
    _, candidates = rules_training.batch_candidates(inputs.machine.device, flat=False)
    size, half = choices.values["sealed_size"], not inputs.on_cpu

    def needed(batch: int) -> float:
        return training_memory_gb(network, size, batch, inputs.channels + 1, half)

    fitting = [batch for batch in candidates if needed(batch) <= inputs.memory_gb] or [1]
    choices.decide(
        "sealed_batch_size", fitting[0], f"largest up to {candidates[0]} that fits: {needed(fitting[0]):.2f} GB."
    )


def _patch_and_batch(inputs: PlanInputs, choices: Choices, network: NetworkPlan, name: str) -> None:
    flat = name == "2d"
    spacing = choices.values["spacing_mm"]
    candidates, _ = rules_training.batch_candidates(inputs.machine.device, flat)
    least, most = rules_grid.patch_bounds(inputs.fingerprint, spacing, flat)
    dataset_voxels = len(inputs.fingerprint.cases) * math.prod(
        mm / s for mm, s in zip(inputs.fingerprint.median_body_mm, spacing, strict=True)
    )

    def fits(size: Triple, batch: int) -> bool:
        if inputs.on_cpu and batch * math.prod(size) > CPU_PATCH_VOXELS:
            return False
        return training_memory_gb(network, size, batch, inputs.channels, not inputs.on_cpu) <= inputs.memory_gb

    # Patches are grown for a modest batch; what memory is left over goes to a larger one.
    wanted = choices.settings.get("batch_size", 1 if inputs.on_cpu else 12 if flat else 2)
    patch = None
    for batch in dict.fromkeys((wanted, 1)):
        patch = patch or rules_grid.grow_patch(least, most, network.divisor, partial(fits, batch=batch))
    limit = f"{inputs.memory_gb:.2f} GB" + (f" and {CPU_PATCH_VOXELS} voxels" if inputs.on_cpu else "")
    if "patch_size" not in choices.settings:
        rules_grid.require_patch(patch, name, spacing, least, limit)
    patch = choices.decide(
        "patch_size",
        patch or round_up(least, network.divisor),
        f"at least {plain_text(least)} voxels (three vertebrae head to feet), grown up to the median body "
        f"{plain_text(most)} within {limit}; multiples of {plain_text(network.divisor)}.",
    )
    share = max(1 if inputs.on_cpu else 2, int(DATASET_SHARE * dataset_voxels / math.prod(patch)))
    fitting = [batch for batch in candidates if fits(patch, batch) and batch <= share] or [1]
    choices.decide(
        "batch_size",
        fitting[0],
        f"largest up to {candidates[0]} within {limit} that holds at most {DATASET_SHARE:.0%} of the dataset's voxels.",
    )


def _targets_and_augmentation(inputs: PlanInputs, choices: Choices) -> None:
    fingerprint = inputs.fingerprint
    choices.decide("normalisation", *rules_training.normalisation(inputs.description))
    choices.decide("heatmap_sigma_mm", *rules_training.heatmap_sigma_mm(fingerprint, choices.values["spacing_mm"][0]))
    (open_axes, sealed_axes), reason = rules_training.mirror_axes(inputs.description.class_names)
    choices.decide("mirror_axes", open_axes, reason)
    choices.decide("sealed_mirror_axes", sealed_axes, reason)
    choices.decide("rotation_degrees", 15.0, "in plane; more would turn a spine further than patients lie.")
    choices.decide("sealed_rotation_degrees", 20.0, "in plane; also covers the tilt of the vertebrae along the spine.")
    choices.decide("scale_range", (0.85, 1.18), "about the spread of body sizes among adults.")
    choices.decide("contrast_inversion_share", *rules_training.contrast_inversion_share(inputs.description))
    choices.decide("contrast_curve_share", *rules_training.contrast_curve_share(inputs.description))
    choices.decide("bias_field_share", 0.3, "surface coils shine on what lies near them, the skin of the back first.")
    thicker = rules_training.thick_slice_share(fingerprint, choices.values["patch_size"][0])
    choices.decide("thick_slice_share", *thicker)
    choices.decide("short_view_share", *rules_training.short_view_share(fingerprint))
    (tau, share), reason = rules_training.logit_adjustment(fingerprint.class_counts)
    choices.decide("logit_adjustment", tau, reason)
    choices.decide("balanced_crop_share", share, reason)
    choices.decide("class_q", 0.0, "cross entropy: classes are taken as read until an audit says that many are wrong.")
    choices.decide("seal", "S2", "everything outside a vertebra is overwritten; two marrow numbers of the case enter.")
    choices.decide("pooling", "lse", "a soft maximum: a lesion of half a percent of the vertebra still decides.")
    choices.decide("reconstruction", "denoise", "of trainers with an autoencoder: noise and cut-outs are undone.")
    reason = "auxiliary tasks get the share of the gradient that their definition says, measured once."
    choices.decide("task_weighting", "gradient_norm", reason)
    choices.decide("task_weights", {}, "as the trainer and its tasks say.")
    for name in ("learning_rate", "reader_learning_rate"):
        choices.decide(name, 2e-3, "AdamW, up and down in one cycle: short trainings get most from it.")
