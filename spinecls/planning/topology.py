"""Shape of the U-Net: which axis is pooled when, and with which kernels.

One trunk sees the open patch and the sealed crops, so both sizes must suit it; the sealed crop is the smaller one and
limits the depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinecls.planning.plan import SpacingMm, Triple

MINIMUM_BOTTLENECK = (2, 4, 4)
"""Smallest edges at the deepest stage (slice, head-feet, front-back); instance norm and context need a few voxels."""

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
        return tuple(math.prod(stride[axis] for stride in self.strides) for axis in range(3))

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
        return tuple(field)


def build_topology(
    spacing_mm: SpacingMm,
    patch_size: Triple,
    sealed_size: Triple,
    flat: bool = False,
    fixed: tuple[bool, bool] = (False, False),
    max_stages: int = 7,
    sealed_minimum: Triple = MINIMUM_BOTTLENECK,
) -> Topology:
    """Deepest network that both sizes allow.

    An axis is pooled while it is within a factor 2 of the finest and both sizes, rounded up to the new divisor, keep
    `MINIMUM_BOTTLENECK` voxels, the sealed size `sealed_minimum`. Rounding up enlarges an in-plane edge by at most a
    third, or a half at a minimum of 3 (an edge e is pooled p times only if e > 3 * 2^p, or 2 * 2^p). Kernels are 1 on
    an axis until the factor 2 is reached, after Isensee et al., Nature Methods 2021.

    Parameters
    ----------
    spacing_mm, patch_size, sealed_size : slice, head-feet, front-back; sizes need not be multiples of anything yet
    flat : two-dimensional network, the slice axis is never pooled nor mixed
    fixed : whether the patch and the sealed size must stay exactly as they are
    max_stages : depth limit
    sealed_minimum : least voxels of a sealed crop at the bottleneck
    """
    total = [1, 1, 1]
    current = [float(s) for s in spacing_mm]
    sizes = ((patch_size, fixed[0], MINIMUM_BOTTLENECK), (sealed_size, fixed[1], sealed_minimum))
    mixed = [not flat, True, True]
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = [tuple(3 if near else 1 for near in _near(current, mixed))]
    while len(strides) < max_stages:
        near = _near(current, mixed)
        pooled = [near[axis] and all(_allows(*size, axis, 2 * total[axis]) for size in sizes) for axis in range(3)]
        if not (pooled[1] or pooled[2]):
            break
        strides.append(tuple(2 if p else 1 for p in pooled))
        total = [t * s for t, s in zip(total, strides[-1], strict=True)]
        current = [c * s for c, s in zip(current, strides[-1], strict=True)]
        # An axis that was mixed once stays so, also when the others are pooled beyond it.
        near = _near(current, mixed)
        kernels.append(tuple(3 if n or k == 3 else 1 for n, k in zip(near, kernels[-1], strict=True)))
    return Topology(tuple(strides), tuple(kernels))


def _near(spacing: list[float], mixed: list[bool]) -> list[bool]:
    finest = min(s for s, m in zip(spacing, mixed, strict=True) if m)
    return [m and s < ANISOTROPY_LIMIT * finest - 1e-6 for s, m in zip(spacing, mixed, strict=True)]


def _allows(size: Triple, fixed: bool, minimum: Triple, axis: int, divisor: int) -> bool:
    edge = size[axis]
    if fixed and edge % divisor:
        return False
    return math.ceil(edge / divisor) >= minimum[axis]


def round_up(size: tuple[float, float, float], divisor: Triple) -> Triple:
    """Smallest multiples of `divisor` that hold `size`."""
    return tuple(max(1, math.ceil(n / d - 1e-9)) * d for n, d in zip(size, divisor, strict=True))


def features_per_stage(base: int, cap: int, num_stages: int) -> tuple[int, ...]:
    """Features doubling from stage to stage up to a cap."""
    return tuple(min(cap, base * 2**stage) for stage in range(num_stages))
