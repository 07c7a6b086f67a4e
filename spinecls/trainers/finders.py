"""Finders that are trained already: one serves every trainer, class table and reader of the same images and positions.

What a finder becomes depends on its tasks, its part of the plan, the arrays that it learns from and the seed. All of
that together is its key; nothing that only the readers look at enters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

import spinecls
from spinecls import paths
from spinecls.dataloading.cases import TrainingCase
from spinecls.dataloading.loader import TrainingData
from spinecls.errors import ModelError
from spinecls.networks.finder import Finder
from spinecls.planning.plan import Configuration, Plan
from spinecls.tasks.checkpoint import load_checkpoint, save_checkpoint
from spinecls.tasks.open_class import OpenClassTask
from spinecls.trainers.network_training import Part

RECIPE = "one cycle, 2026-12"
"""How finders are trained, where no setting says it: to be changed with whatever makes the same settings give other
weights, so that finders of before are not taken for those of now."""

OF_READERS = (
    "name", "members", "seal", "pooling", "logit_adjustment", "class_q", "balanced_crop_share", "sealing_margin_mm",
    "region_error_mm", "estimated_memory_gb", "estimated_step_seconds",
)  # fmt: skip
"""Fields of a configuration that no finder looks at, besides those that begin with `sealed_`, `reader_` and so on."""
READER_PREFIXES = ("sealed_", "reader_", "estimated_reader_")

OF_PLAN = ("channel_names", "structures", "levels", "class_order", "ignore_label", "vertebrae_complete")


def finder_key(part: Part, plan: Plan, configuration: Configuration, data: TrainingData, seed: int) -> str | None:
    """What tells the finder of a training from any other; None where that cannot be told, as of a user's own tasks.

    Parameters
    ----------
    part : of the finder
    """
    tasks = [type(weighted.task) for weighted in part.tasks]
    if any(task.__module__.split(".")[0] != spinecls.__name__ for task in tasks):
        return None
    fields = {
        key: value
        for key, value in dataclasses.asdict(configuration).items()
        if key not in OF_READERS and not key.startswith(READER_PREFIXES)
    }
    names = [weighted.task.name for weighted in part.tasks]
    fields["task_weights"] = {name: weight for name, weight in fields["task_weights"].items() if name in names}
    classes = any(issubclass(task, OpenClassTask) for task in tasks)
    digest = hashlib.sha256()
    told = {
        "spinecls": spinecls.__version__,
        "recipe": RECIPE,
        "torch": torch.__version__,
        "device": part.device.type,
        "seed": seed,
        "tasks": [f"{task.__module__}.{task.__qualname__}" for task in tasks],
        "weights": part.weighting.main | part.weighting.shares,
        "heads": {name: head.out_channels for name, head in part.network.heads.items()},
        "classes": len(plan.class_names) if classes else None,
        "configuration": fields,
        **{name: getattr(plan, name) for name in OF_PLAN},
    }
    digest.update(json.dumps(told, sort_keys=True, default=list).encode())
    _add(digest, [[_read_of(case, classes) for case in cases] for cases in (data.cases, data.images)])
    return digest.hexdigest()[:16]


def _read_of(case: TrainingCase, classes: bool) -> dict[str, object]:
    """What tasks of ours read of a case: never the axes, and the classes of its vertebrae only to learn them."""
    told = {field.name: getattr(case, field.name) for field in dataclasses.fields(case) if field.name != "axes"}
    return told if classes else told | {"classes": ()}


def _add(digest, value: object) -> None:
    """Take any nest of dataclasses, mappings, sequences and arrays into a digest, each with its kind and size."""
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value):
        _add(digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}".encode())
        for key in value:
            digest.update(f"key {key}".encode())
            _add(digest, value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str):
        digest.update(f"sequence {len(value)}".encode())
        for item in value:
            _add(digest, item)
    else:
        digest.update(f"{type(value).__name__} {value!r}".encode())


def finders_folder(dataset: str) -> Path:
    """Folder, beside the models of a dataset, of finders that are trained already."""
    return paths.results_root() / dataset / "finders"


def finder_path(folder: Path, key: str) -> Path:
    """File of a finder in the folder of all finders of a dataset."""
    return folder / f"finder_{key}.pt"


def store_finder(path: Path, finder: Finder) -> None:
    """Keep the weights of a trained finder, without what only its training needed."""
    weights = {name: value.cpu() for name, value in finder.state_dict().items() if not name.startswith("auxiliary.")}
    save_checkpoint(path, {"weights": weights, "spinecls_version": spinecls.__version__})


def take_finder(path: Path, finder: Finder) -> None:
    """Give a finder the weights of a stored one.

    Raises
    ------
    ModelError
        When the file is damaged, or of another network.
    """
    weights = load_checkpoint(path).get("weights", {})
    missing = [name for name in finder.state_dict() if name not in weights and not name.startswith("auxiliary.")]
    try:
        finder.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path}: not a finder of this plan ({error}). Delete it; it is trained anew.") from None
    if missing:
        raise ModelError(f"{path}: lacks {missing[0]}, so it is no finder of this plan. Delete it.")
