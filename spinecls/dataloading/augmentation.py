"""Random changes of intensity, by batchgenerators; spatial changes are in `spatial.py`."""

from __future__ import annotations

import numpy as np
from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform

from spinecls.planning.plan import Configuration


class InvertContrast(AbstractTransform):
    """Turns a patch into its negative about its mean, as TotalSpineSeg does; key `data`."""

    def __init__(self, p_per_sample: float) -> None:
        self.p_per_sample = p_per_sample

    def __call__(self, **batch):
        for patch in batch["data"]:
            if np.random.uniform() < self.p_per_sample:
                patch *= -1
                patch -= 2 * patch.mean(axis=(1, 2, 3), keepdims=True)
        return batch


class ContrastCurve(AbstractTransform):
    """Sends the intensities of a patch through a random curve, as if another sequence had been scanned; key `data`.

    The curve is piecewise linear between quantiles of the patch, its values drawn from the patch's own range. Half of
    the curves rise, so they only stretch and squeeze; the others change which tissue is the brighter one, as between
    T1, T2 and STIR. After the non-linear intensity transform of Zhou et al., Medical Image Analysis 2021 (Models
    Genesis), whose curves all rise or fall.
    """

    QUANTILES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)

    def __init__(self, p_per_sample: float) -> None:
        self.p_per_sample = p_per_sample

    def __call__(self, **batch):
        for patch in batch["data"]:
            if np.random.uniform() < self.p_per_sample:
                rises = np.random.uniform() < 0.5
                for channel in patch:
                    knots = np.quantile(channel[..., ::2, ::2], self.QUANTILES)
                    values = np.random.uniform(knots[0], knots[-1], len(knots))
                    channel[:] = np.interp(channel, knots, np.sort(values) if rises else values)
        return batch


class BiasField(AbstractTransform):
    """Multiplies a patch, counted from its darkest voxel, by a smooth field: exp of a random quadratic; key `data`.

    Parameters
    ----------
    strength : greatest absolute coefficient of each term, over coordinates that run from -1 to 1
    """

    def __init__(self, strength: float, p_per_sample: float) -> None:
        self.strength = strength
        self.p_per_sample = p_per_sample

    def __call__(self, **batch):
        for patch in batch["data"]:
            if np.random.uniform() < self.p_per_sample:
                # Of an axis of one voxel that voxel is the middle.
                ends = [float(n > 1) for n in patch.shape[1:]]
                along = (np.linspace(-end, end, n) for end, n in zip(ends, patch.shape[1:], strict=True))
                ticks = np.meshgrid(*along, indexing="ij", sparse=True)
                linear, square = np.random.uniform(-self.strength, self.strength, (2, 3))
                field = sum(a * t + b * t**2 for a, b, t in zip(linear, square, ticks, strict=True))
                darkest = patch.min(axis=(1, 2, 3), keepdims=True)
                patch[:] = (patch - darkest) * np.exp(field) + darkest
        return batch


def open_augmentation(configuration: Configuration) -> Compose:
    """Intensity changes of open patches (key `data`): MRI has no absolute scale, so they are wide."""
    # Slices alone get fewer: every few of them is kept and those between are interpolated. A patch of one slice has
    # none between, and less than one cannot be kept.
    thicker = SimulateLowResolutionTransform(
        zoom_range=(0.35, 0.75),
        order_downsample=0,
        order_upsample=1,
        ignore_axes=(1, 2),
        p_per_sample=configuration.thick_slice_share,
    )
    return Compose(
        [
            InvertContrast(configuration.contrast_inversion_share),
            ContrastCurve(configuration.contrast_curve_share),
            BiasField(0.35, configuration.bias_field_share),
            *([thicker] if configuration.patch_size[0] > 1 else []),
            GaussianNoiseTransform(noise_variance=(0, 0.05), p_per_sample=0.3),
            GaussianBlurTransform((0.4, 1.0), different_sigma_per_channel=True, p_per_sample=0.15),
            BrightnessMultiplicativeTransform((0.75, 1.3), p_per_sample=0.4),
            ContrastAugmentationTransform((0.7, 1.4), p_per_sample=0.3),
            SimulateLowResolutionTransform(zoom_range=(0.6, 1), p_per_sample=0.1, ignore_axes=(0,)),
            GammaTransform((0.7, 1.5), retain_stats=True, p_per_sample=0.4),
        ]
    )


def sealed_augmentation() -> Compose:
    """Intensity changes of sealed crops (key `sealed`): narrow, for the crop is measured against normal marrow."""
    return Compose(
        [
            BrightnessMultiplicativeTransform((0.8, 1.25), per_channel=True, data_key="sealed", p_per_sample=1.0),
            GaussianNoiseTransform(noise_variance=(0, 0.06), data_key="sealed", p_per_sample=0.6),
        ]
    )
