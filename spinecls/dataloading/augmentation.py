"""Random changes of intensity, by batchgenerators; spatial changes are in `spatial.py`."""

from __future__ import annotations

from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform


def open_augmentation() -> Compose:
    """Intensity changes of open patches (key `data`): MRI has no absolute scale, so they are wide."""
    return Compose(
        [
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
