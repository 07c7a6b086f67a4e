"""Shape of a U-Net: which axis is pooled when, and with which kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinecls.types import SpacingMm, Triple, triple

MINIMUM_BOTTLENECK = (2, 4, 4)
"""Smallest edges at the deepest stage (slice, head-feet, front-back); instance norm and context need a few voxels."""

SLICES_ADDED = 1.25
"""Most that rounding up to multiples of the divisor may add to the slices, which scans rarely have more of."""

ANISOTROPY_LIMIT = 2.0
"""An axis takes part in kernels and pooling once its voxels are less than this factor longer than the finest."""


@dataclass(frozen=True)
class Topology:
    """Strides and kernels, one entry a stage from full resolution to the bottleneck."""

    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def divisor(self) -> Triple:
        """Product of the strides."""
        return triple(math.prod(stride[axis] for stride in self.strides) for axis in range(3))

    def receptive_field(self, convs_per_stage: int = 2) -> Triple:
        """Voxels (slice, head-feet, front-back) of the input that one voxel of the bottleneck sees."""
        field = [1, 1, 1]
        step = [1, 1, 1]
        for stride, kernel in zip(self.strides, self.kernels, strict=True):
            for conv in range(convs_per_stage):
                for axis in range(3):
                    field[axis] += (kernel[axis] - 1) * step[axis]
                    # The first convolution of a stage carries the stride.
                    step[axis] *= stride[axis] if conv == 0 else 1
        return triple(field)


def build_topology(
    spacing_mm: SpacingMm,
    size: Triple,
    flat: bool = False,
    fixed: bool = False,
    max_stages: int = 7,
    minimum: Triple = MINIMUM_BOTTLENECK,
) -> Topology:
    """Deepest network that the size of its input allows.

    An axis is pooled while it is within a factor 2 of the finest and its size, rounded up to the new divisor, keeps
    `minimum` voxels. Rounding up enlarges an in-plane edge by at most a third, or a half at a minimum of 3 (an edge e
    is pooled p times only if e > 3 * 2^p, or 2 * 2^p). Kernels are 1 on an axis until the factor 2 is reached, after
    Isensee et al., Nature Methods 2021.

    Parameters
    ----------
    spacing_mm, size : slice, head-feet, front-back; the size need not be a multiple of anything yet
    flat : two-dimensional network, the slice axis is never pooled nor mixed
    fixed : whether the size must stay exactly as it is
    max_stages : depth limit
    minimum : least voxels at the bottleneck
    """
    total = [1, 1, 1]
    current = [float(s) for s in spacing_mm]
    mixed = [not flat, True, True]
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = [triple(3 if near else 1 for near in _near(current, mixed))]
    while len(strides) < max_stages:
        near = _near(current, mixed)
        pooled = [near[axis] and _allows(size, fixed, minimum, axis, 2 * total[axis]) for axis in range(3)]
        if not (pooled[1] or pooled[2]):
            break
        strides.append(triple(2 if p else 1 for p in pooled))
        total = [t * s for t, s in zip(total, strides[-1], strict=True)]
        current = [c * s for c, s in zip(current, strides[-1], strict=True)]
        # An axis that was mixed once stays so, also when the others are pooled beyond it.
        near = _near(current, mixed)
        kernels.append(triple(3 if n or k == 3 else 1 for n, k in zip(near, kernels[-1], strict=True)))
    return Topology(tuple(strides), tuple(kernels))


def _near(spacing: list[float], mixed: list[bool]) -> list[bool]:
    finest = min(s for s, m in zip(spacing, mixed, strict=True) if m)
    return [m and s < ANISOTROPY_LIMIT * finest - 1e-6 for s, m in zip(spacing, mixed, strict=True)]


def _allows(size: Triple, fixed: bool, minimum: Triple, axis: int, divisor: int) -> bool:
    edge = size[axis]
    if fixed and edge % divisor:
        return False
    rounded = math.ceil(edge / divisor)
    if axis == 0 and rounded * divisor > SLICES_ADDED * edge:
        return False
    return rounded >= minimum[axis]


def round_up(size: tuple[float, float, float], divisor: Triple) -> Triple:
    """Smallest multiples of `divisor` that hold `size`."""
    return triple(max(1, math.ceil(n / d - 1e-9)) * d for n, d in zip(size, divisor, strict=True))


def features_per_stage(base: int, cap: int, num_stages: int) -> tuple[int, ...]:
    """Features doubling from stage to stage up to a cap."""
    return tuple(min(cap, base * 2**stage) for stage in range(num_stages))
