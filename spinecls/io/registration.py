"""Rigid alignment of a channel onto the first channel of the same examination."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from spinecls.io.rigid_motion import RigidMotion
from spinecls.types import triple

PASSES_MM = (8.0, 4.0, 2.0)
"""Voxel edges of the passes, coarse to fine; axes whose voxels are longer stay as they are."""

_BINS = 32
_ITERATIONS = 100
_USUAL_PERCENT = (0.5, 99.5)
"""Percentiles between which intensities are binned; a few bright voxels would else leave most bins empty."""


def find_motion(fixed: sitk.Image, moving: sitk.Image) -> RigidMotion | None:
    """Motion that maximises the mutual information of two images.

    Mattes et al., IEEE Trans Med Imaging 2003, from coarse to fine. The search starts at the scanner's own coordinates,
    which hold for a patient who did not move. Every voxel of a pass is used, so the same images give the same
    numbers on every machine.

    Parameters
    ----------
    fixed, moving : the first channel and another channel of one examination

    Returns
    -------
    None where the search failed: it left what is plausible, or found nothing better than no motion.
    """
    fixed, moving = _usual_range(fixed), _usual_range(moving)
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    transform, unmoved = (sitk.Euler3DTransform(centre, 0.0, 0.0, 0.0) for _ in range(2))
    for voxel_mm in PASSES_MM:
        pair = _coarser(fixed, voxel_mm), _coarser(moving, voxel_mm)
        method = _mutual_information(transform)
        # Steps in millimetres, by the scales below: half a voxel at first, a two-hundredth at the end.
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=voxel_mm / 2, minStep=voxel_mm / 200, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            method.Execute(*pair)
        except RuntimeError:
            # The library's way to say that too few voxels of one image meet the other.
            return None
    motion = RigidMotion(
        rotation_degrees=triple(math.degrees(angle) for angle in transform.GetParameters()[:3]),
        translation_mm=triple(transform.GetParameters()[3:]),
        centre_lps=centre,
    )
    # The metric is the negative mutual information.
    better = method.GetMetricValue() <= _mutual_information(unmoved).MetricEvaluate(*pair)
    return motion if motion.plausible and better else None


def transform_of(motion: RigidMotion) -> sitk.Euler3DTransform:
    """A motion as the image library applies it."""
    return sitk.Euler3DTransform(
        motion.centre_lps, *np.radians(motion.rotation_degrees).tolist(), motion.translation_mm
    )


def resample_moved(moving: sitk.Image, fixed: sitk.Image, motion: RigidMotion) -> sitk.Image:
    """The other channel on the grid of the first, every point where the first shows it; beyond it, its border."""
    moving = sitk.Cast(moving, sitk.sitkFloat32)
    return sitk.Resample(
        moving, fixed, transform_of(motion), sitk.sitkLinear, 0.0, sitk.sitkFloat32, useNearestNeighborExtrapolator=True
    )


def _mutual_information(transform: sitk.Euler3DTransform) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    # One unit of work: sums over several would differ in the last digit from run to run.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(sitk.ImageRegistrationMethod.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    # In place: the search moves `transform` itself.
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _usual_range(image: sitk.Image) -> sitk.Image:
    image = sitk.Cast(image, sitk.sitkFloat32)
    low, high = np.percentile(sitk.GetArrayViewFromImage(image), _USUAL_PERCENT)
    return sitk.Clamp(image, lowerBound=float(low), upperBound=float(high))


def _coarser(image: sitk.Image, voxel_mm: float) -> sitk.Image:
    """Image with about this voxel edge along the axes that are finer, smoothed as much as that needs."""
    spacing_mm = image.GetSpacing()
    steps = [max(1, round(voxel_mm / spacing)) for spacing in spacing_mm]
    sigmas_mm = [step * spacing / 2 if step > 1 else 0.0 for step, spacing in zip(steps, spacing_mm, strict=True)]
    smooth = sitk.DiscreteGaussian(image, [sigma**2 for sigma in sigmas_mm], maximumKernelWidth=64)
    return sitk.Shrink(smooth, steps)
