"""What the loader asks of the tasks that it makes batches for: it knows their targets by name, and none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from spinecls.dataloading.spatial import PatchSampler

Target = Mapping[str, Any]
"""What one task wants of one patch or crop: name -> array, as far as the task has no `batched` of its own."""


class OwnsTarget(Protocol):
    """The part of `tasks.task.Task` that is run while batches are made."""

    name: str

    def target(self, case, sampler: PatchSampler) -> Target | None: ...

    def empty(self) -> Target: ...

    def batched(self, rows: Sequence[Target]) -> Mapping[str, Any]: ...


def targets_of(tasks: Iterable[OwnsTarget], case, sampler: PatchSampler) -> dict[str, Target]:
    """By task what it wants of a patch or crop; where it knows nothing of the case, its `empty`."""
    targets = {task.name: (task, task.target(case, sampler)) for task in tasks}
    return {name: task.empty() if target is None else target for name, (task, target) in targets.items()}


def batched_targets(tasks: Iterable[OwnsTarget], rows: Sequence[Mapping[str, Target]]) -> dict[str, Mapping[str, Any]]:
    """By task its targets of a batch.

    Parameters
    ----------
    rows : `targets_of` every patch or crop
    """
    return {task.name: task.batched([row[task.name] for row in rows]) for task in tasks}


def stacked(rows: Sequence[Target]) -> dict[str, torch.Tensor]:
    """Arrays of equal shape as tensors with a first axis of rows: floats float32, whole numbers int64, and bool."""
    return {name: _tensor(np.stack([row[name] for row in rows])) for name in rows[0]}


def _tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32, copy=False))
    return torch.from_numpy(array if array.dtype.kind == "b" else array.astype(np.int64))
