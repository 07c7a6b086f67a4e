"""What the user sets by `--set key=value`: names, types and bounds are checked before anything is planned."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from spinecls.errors import UsageError, nearest
from spinecls.plain import from_plain
from spinecls.planning.plan import CHOICES, Configuration, NetworkPlan

CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres")

_NETWORK_FIELDS = ("backbone", "features", "convs_per_stage")
_NETWORKS = ("network", "reader_network")
_DERIVED = (
    "name",
    *_NETWORKS,
    "task_weights",
    "estimated_memory_gb",
    "estimated_step_seconds",
    "estimated_reader_step_seconds",
)

BOUNDS: Mapping[str, tuple[float, float]] = {
    "spacing_mm": (0.05, 20),
    "sealed_spacing_mm": (0.05, 20),
    "patch_size": (1, 4096),
    "sealed_size": (1, 1024),
    "batch_size": (1, 1024),
    "sealed_batch_size": (1, 1024),
    "heatmap_sigma_mm": (0.5, 50),
    "sealing_margin_mm": (0, 20),
    "region_error_mm": (0, 5),
    "members": (1, 20),
    "mirror_axes": (0, 2),
    "sealed_mirror_axes": (0, 2),
    "rotation_degrees": (0, 180),
    "sealed_rotation_degrees": (0, 180),
    "scale_range": (0.2, 5),
    "contrast_inversion_share": (0, 1),
    "contrast_curve_share": (0, 1),
    "bias_field_share": (0, 1),
    "thick_slice_share": (0, 1),
    "short_view_share": (0, 1),
    "steps": (1, 10_000_000),
    "learning_rate": (1e-8, 1),
    "reader_steps": (1, 10_000_000),
    "reader_learning_rate": (1e-8, 1),
    "logit_adjustment": (0, 5),
    "balanced_crop_share": (0, 1),
    **{f"{name}.features": (1, 4096) for name in _NETWORKS},
    **{f"{name}.convs_per_stage": (1, 10) for name in _NETWORKS},
}

TASK_WEIGHT = "task_weights."
TASK_WEIGHT_BOUNDS = (0.0, 100.0)

Settings = dict[str, dict[str, Any]]
"""Values by configuration and field."""


def parse_overrides(overrides: Mapping[str, str]) -> Settings:
    """Typed and checked values of `configurations.<name>.<field>` or, for all configurations, `<field>`.

    Lists are written `4,2,2`, `4x2x2` or `[4, 2, 2]`. `task_weights.<task>` collects under `task_weights`.

    Raises
    ------
    UsageError
        For an unknown key, naming the nearest one, and for a value of the wrong type or out of bounds.
    """
    hints = _settable()
    settings: Settings = {name: {} for name in CONFIGURATIONS}
    # The short form first, so that the long form, which says more, wins whatever their order.
    for key in sorted(overrides, key=lambda k: k.startswith("configurations.")):
        names, field_name = _target(key, hints)
        field_name, _, task = field_name.partition(TASK_WEIGHT)
        if task:
            for name in names:
                settings[name].setdefault("task_weights", {})[task] = _task_weight(key, overrides[key])
            continue
        value = _typed(key, overrides[key], hints[field_name])
        _check_bounds(key, field_name, value)
        if field_name == "patch_size":
            names = _of_patch(key, names, value)
        for name in names:
            settings[name][field_name] = value
    return settings


def _settable() -> dict[str, Any]:
    fields = {n: hint for n, hint in typing.get_type_hints(Configuration).items() if n not in _DERIVED}
    network = typing.get_type_hints(NetworkPlan)
    return fields | {f"{of}.{name}": network[name] for of in _NETWORKS for name in _NETWORK_FIELDS}


def _target(key: str, hints: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    names: tuple[str, ...] = CONFIGURATIONS
    field_name = key
    if key.startswith("configurations."):
        _, name, field_name = (*key.split(".", 2), "")[:3]
        if name not in CONFIGURATIONS:
            raise UsageError(f"--set {key}: no configuration {name!r}. {_nearest(name, CONFIGURATIONS)}")
        names = (name,)
    if field_name.startswith(TASK_WEIGHT) and field_name != TASK_WEIGHT:
        return names, field_name
    if field_name not in hints:
        raise UsageError(f"--set {key}: no key {field_name!r} can be set. {_nearest(field_name, tuple(hints))}")
    return names, field_name


def _task_weight(key: str, text: str) -> float:
    value = _number(text)
    low, high = TASK_WEIGHT_BOUNDS
    if isinstance(value, str) or not low <= value <= high:
        raise UsageError(f"--set {key}={text}: expected a number from {low:g} to {high:g}; 0 leaves the task out.")
    return float(value)


def _of_patch(key: str, names: tuple[str, ...], patch: tuple[int, int, int]) -> tuple[str, ...]:
    """A patch of one slice is meant for 2d, any other for the rest."""
    fitting = tuple(name for name in names if (name == "2d") == (patch[0] == 1))
    if not fitting:
        expected = "1 slice" if "2d" in names else "more than 1 slice"
        raise UsageError(f"--set {key}: {patch} has {patch[0]} slice(s); {names[0]} needs {expected}.")
    return fitting


def _nearest(name: str, known: tuple[str, ...]) -> str:
    return f"{nearest(name, known, 0.4)} Known: {', '.join(known)}.".lstrip()


def _typed(key: str, text: str, hint: Any) -> Any:
    if typing.get_origin(hint) is not tuple:
        plain = text if hint is str else _number(text)
    elif text.strip().startswith("["):
        try:
            plain = json.loads(text)
        except ValueError:
            raise UsageError(f"--set {key}={text}: not a list. Write it as 4,2,2.") from None
    else:
        item = typing.get_args(hint)[0]
        parts = [part.strip() for part in text.replace("x", ",").split(",")] if item is not str else text.split(",")
        plain = [part if item is str else _number(part) for part in parts if part]
    return from_plain(hint, plain, f"--set {key}", UsageError)


def _number(text: str) -> Any:
    """Number written in `text`; the text itself when it is none, which the type check then refuses."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check_bounds(key: str, field_name: str, value: Any) -> None:
    if field_name == "scale_range" and value[0] > value[1]:
        raise UsageError(f"--set {key}: the first value, {value[0]:g}, must not exceed the second, {value[1]:g}.")
    if field_name == "normalisation" and (wrong := [v for v in value if v not in ("robust_zscore", "none")]):
        raise UsageError(f"--set {key}: {wrong[0]!r} is not known. Known: robust_zscore, none.")
    if field_name in CHOICES and value not in CHOICES[field_name]:
        raise UsageError(f"--set {key}: {value!r} is not known. {_nearest(value, CHOICES[field_name])}")
    if field_name not in BOUNDS:
        return
    low, high = BOUNDS[field_name]
    for item in value if isinstance(value, tuple) else (value,):
        # Written so that not-a-number is refused too.
        if not low <= item <= high:
            raise UsageError(f"--set {key}: {item:g} is out of bounds; expected {low:g} to {high:g}.")


def check_used(configurations: Mapping[str, Configuration], overrides: Mapping[str, str]) -> None:
    """Refuse a setting for a configuration that this dataset does not get."""
    for key in overrides:
        if not key.startswith("configurations."):
            continue
        name = key.split(".")[1]
        if name not in configurations:
            raise UsageError(
                f"--set {key}: this dataset has no configuration {name}. It has: {', '.join(configurations)}."
            )


def with_network(network: NetworkPlan, settings: Mapping[str, Any], name: str) -> NetworkPlan:
    """The network called `name` in a configuration, with the settings of its own fields."""
    start = f"{name}."
    chosen = {key.removeprefix(start): value for key, value in settings.items() if key.startswith(start)}
    features = chosen.get("features", network.features)
    if len(features) != len(network.strides):
        raise UsageError(
            f"--set {name}.features: {len(features)} stages; the size of its input allows {len(network.strides)} here. "
            f"Give as many, or set one configuration alone by configurations.<name>.{name}.features."
        )
    return dataclasses.replace(network, **chosen)
