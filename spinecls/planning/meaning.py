"""What the outputs of a trained fold mean, and the one comparison that every command makes before it joins outputs.

A number of one fold and a number of another may be averaged, or stand in one table, only when both say the same thing:
the classes in the same order, the same codes, grids, units of intensity and voxels seen. A plan says all of it; a
trained fold keeps the plan that it was trained by, and its checkpoint keeps the meaning as well, so a plan that was
made anew, edited or put beside other weights is noticed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from spinecls.anatomy import LEVEL_CODES
from spinecls.errors import ModelError, SpineclsError
from spinecls.planning.plan import Configuration, Plan

Meaning = Mapping[str, Any]
"""Name of a part -> its value in plain types; parts of a mapping each by itself, as `levels.L1`."""

CLASSES = ("class_names", "class_order")
"""What the class probabilities of two models must have in common, however differently they come to them."""

OF_PLAN = (
    *CLASSES, "channel_names", "structures", "lesion_structures", "ignore_label", "vertebrae_complete",
    "register_channels",
)  # fmt: skip
OF_CONFIGURATION = (
    "spacing_mm", "sealed_spacing_mm", "sealed_size", "network", "reader_network",
    "members", "normalisation", "heatmap_sigma_mm",
    "sealing_margin_mm", "seal", "pooling", "logit_adjustment", "balanced_crop_share", "mirror_axes",
    "sealed_mirror_axes",
)  # fmt: skip

MOST_TOLD = 5
"""Differences that a message names; more tell no more."""


def class_meaning(plan: Plan) -> dict[str, Any]:
    """Meaning of the class probabilities alone, which models of different grids and networks may share."""
    return flat({name: getattr(plan, name) for name in CLASSES})


def meaning(plan: Plan, configuration: Configuration) -> dict[str, Any]:
    """Meaning of all outputs of a fold that was trained by `plan` and its `configuration`.

    Left out is what may differ from fold to fold: counts of classes, readers, typical sizes, and how it was trained.
    """
    return flat(
        {name: getattr(plan, name) for name in OF_PLAN}
        | {"levels": {**LEVEL_CODES, **plan.levels}}
        | {name: getattr(configuration, name) for name in OF_CONFIGURATION}
    )


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Parts by their whole names, in plain types as JSON has them, so that what was read equals what was written."""
    parts: dict[str, Any] = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        parts |= flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return json.loads(json.dumps(parts))


def differences(first: Meaning, second: Meaning, first_name: str, second_name: str) -> list[str]:
    """Every part that differs, with both values, in words; empty when there is none."""
    parts = [*first, *(part for part in second if part not in first)]
    return [
        f"{part}: {_words(first, part)} in {first_name}, {_words(second, part)} in {second_name}"
        for part in parts
        if part not in first or part not in second or first[part] != second[part]
    ]


def _words(of: Meaning, part: str) -> str:
    if part not in of:
        return "nothing"
    value = of[part]
    if isinstance(value, list):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value)


def require_same(
    meanings: Mapping[str, Meaning], where: str, remedy: str, error: type[SpineclsError] = ModelError
) -> None:
    """Refuse to join what does not mean the same.

    Parameters
    ----------
    meanings : what is to be joined, by a name that the user knows it by ("fold 0")
    where : what they are parts of, the start of the message
    remedy : whole sentences that say what to do

    Raises
    ------
    error
        Naming the first two that differ and how, with both values.
    """
    (first_name, first), *others = meanings.items()
    for name, other in others:
        if told := differences(first, other, first_name, name):
            raise error(
                f"{where}: {first_name} and {name} do not mean the same, so they cannot be joined. They differ in "
                f"{said(told)}. {remedy}"
            )


def said(told: Sequence[str]) -> str:
    """The first few differences as one text."""
    more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    return "; ".join(told[:MOST_TOLD]) + more
