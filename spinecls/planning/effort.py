"""What preprocessing takes: time and space, by constants measured on sagittal lumbar MRI on one core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spinecls.planning.fingerprint_types import CaseFingerprint, Fingerprint
from spinecls.planning.outdated import Job
from spinecls.planning.plan import Configuration

STARTUP_SECONDS = 1.5
"""Import of the image libraries, in the main process or side by side in the workers."""

CASE_SECONDS = 0.03
VOXEL_SECONDS = 2.5e-8
"""A voxel and channel of the image as it lies in its file: read, decompress, check, find the body, store."""

GRID_VOXEL_SECONDS = 8.5e-8
"""A voxel and channel on the grid of a configuration: normalise, resample with its maps, compress, store."""

NATIVE_BYTES = 0.75
"""Of a voxel and channel of an 8-bit image with its maps, compressed; one of more bits takes twice that."""

GRID_BYTES = 1.5
"""Of a voxel and channel in half precision with its maps, compressed."""


@dataclass(frozen=True)
class Effort:
    """Cases to be made, wall time and disk space (10^9 bytes)."""

    cases: int
    seconds: float
    gigabytes: float


def preprocessing_effort(jobs: Sequence[Job], fingerprint: Fingerprint, num_processes: int) -> Effort:
    """Estimate for the cases that are out of date.

    Scans without annotation are preprocessed and not measured; each is taken for the middle one of those that are.
    """
    measured = sorted(fingerprint.cases.values(), key=lambda case: math.prod(case.shape))
    seconds = size_bytes = 0.0
    for job in jobs:
        case = fingerprint.cases.get(job.case.identifier, measured[len(measured) // 2])
        channels = len(case.channels)
        body = math.prod(stop - start for start, stop in zip(case.body_start, case.body_stop, strict=True))
        grids = sum(_grid_voxels(case, configuration) for configuration in job.configurations)
        seconds += CASE_SECONDS + channels * (VOXEL_SECONDS * math.prod(case.shape) + GRID_VOXEL_SECONDS * grids)
        depth = sum(1 if channel.p995 <= 255 else 2 for channel in case.channels)
        size_bytes += NATIVE_BYTES * depth * body * job.native + GRID_BYTES * channels * grids
    workers = max(1, min(num_processes, len(jobs)))
    return Effort(len(jobs), (STARTUP_SECONDS if jobs else 0.0) + seconds / workers, size_bytes / 1e9)


def _grid_voxels(case: CaseFingerprint, configuration: Configuration) -> float:
    return math.prod(mm / spacing for mm, spacing in zip(case.body_mm, configuration.spacing_mm, strict=True))
