"""What random changes of intensity do; guards against patches of one or few voxels along an axis, and of one value."""

import dataclasses

import numpy as np
import pytest

from spinecls.dataloading.augmentation import (
    BiasField,
    ContrastCurve,
    InvertContrast,
    open_augmentation,
    sealed_augmentation,
)
from spinecls.planning.plan import Configuration, NetworkPlan

NETWORK = NetworkPlan(features=(4, 8), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
CONFIGURATION = Configuration(
    name="3d_fullres", spacing_mm=(4.0, 2.0, 2.0), patch_size=(8, 24, 20), sealed_spacing_mm=(4.0, 2.0, 2.0),
    sealed_size=(6, 16, 16), network=NETWORK, reader_network=NETWORK,
)  # fmt: skip


def patches(shape=(2, 1, 8, 24, 20)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_inverted_contrast_is_mirrored_about_the_mean():
    data = np.array([0.0, 1.0, 5.0], np.float32).reshape(1, 1, 1, 1, 3)
    # The mean is 2.
    assert InvertContrast(1.0)(data=data)["data"].ravel().tolist() == [4.0, 3.0, -1.0]


def test_contrast_is_not_inverted_at_share_zero():
    data = patches()
    assert np.array_equal(InvertContrast(0.0)(data=data.copy())["data"], data)


def test_equal_intensities_stay_equal_through_a_contrast_curve():
    data = np.random.default_rng(0).integers(0, 12, (1, 1, 8, 24, 20)).astype(np.float32)
    np.random.seed(0)
    curved = ContrastCurve(1.0)(data=data.copy())["data"]
    assert not np.array_equal(curved, data)
    for value in np.unique(data):
        assert np.ptp(curved[data == value]) == 0


def test_a_contrast_curve_stays_in_the_range_of_the_patch():
    data = patches()
    curved = ContrastCurve(1.0)(data=data.copy())["data"]
    assert data.min() <= curved.min()
    assert curved.max() <= data.max()


def test_half_of_the_contrast_curves_change_which_tissue_is_brighter():
    np.random.seed(0)
    ramp = np.linspace(0, 1, 8 * 24 * 20, dtype=np.float32).reshape(1, 1, 8, 24, 20)
    rising = [np.all(np.diff(ContrastCurve(1.0)(data=ramp.copy())["data"].ravel()) >= 0) for _ in range(200)]
    assert np.mean(rising) == pytest.approx(0.5, abs=0.1)


def test_a_bias_field_leaves_the_darkest_voxel_and_scales_the_others_smoothly():
    data = np.ones((1, 1, 6, 20, 20), np.float32)
    data[0, 0, 0, 0, 0] = 0.0
    np.random.seed(0)
    field = BiasField(0.35, 1.0)(data=data)["data"][0, 0]
    assert field[0, 0, 0] == 0.0
    inner = field[1:, 1:, 1:]
    # exp of three linear and three square terms of at most 0.35 each.
    assert inner.min() >= np.exp(-6 * 0.35)
    assert inner.max() <= np.exp(6 * 0.35)
    assert np.ptp(inner) > 0.05
    # A quadratic has no third differences.
    assert np.abs(np.diff(np.log(inner.astype(float)), n=3, axis=1)).max() < 1e-5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_thick_slices_repeat_within_the_slice_axis_only(share):
    configuration = dataclasses.replace(CONFIGURATION, thick_slice_share=share)
    thicken = open_augmentation(configuration).transforms[3]
    data = np.zeros((1, 1, 8, 24, 20), np.float32)
    data[0, 0, ::2] = 1.0
    np.random.seed(1)
    out = thicken(data=data.copy())["data"]
    # Slices that differed by one everywhere no longer do; each slice stays uniform.
    assert np.array_equal(out, data) == (share == 0.0)
    assert np.ptp(out, axis=(3, 4)).max() < 1e-5


def test_an_augmented_patch_keeps_shape_and_type():
    names = ("contrast_inversion_share", "contrast_curve_share", "bias_field_share", "thick_slice_share")
    shares = dict.fromkeys(names, 1.0)
    out = open_augmentation(dataclasses.replace(CONFIGURATION, **shares))(data=patches())["data"]
    assert out.shape == (2, 1, 8, 24, 20)
    assert np.isfinite(out).all()


SHARES = dict.fromkeys(
    ("contrast_inversion_share", "contrast_curve_share", "bias_field_share", "thick_slice_share"), 1.0
)


@pytest.mark.parametrize("size", [(1, 24, 20), (2, 24, 20), (3, 24, 20), (1, 2, 2), (8, 1, 20), (8, 24, 1), (1, 1, 1)])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_transform_keeps_a_patch_that_is_small_along_an_axis(size, channels):
    network = NetworkPlan(features=(4,), strides=((1, 1, 1),), kernels=((1, 3, 3),))
    configuration = dataclasses.replace(CONFIGURATION, patch_size=size, network=network, **SHARES)
    opened = open_augmentation(configuration)
    for transform in (*opened.transforms, *sealed_augmentation().transforms):
        for name in ("p_per_sample", "p_per_channel"):
            if hasattr(transform, name):
                setattr(transform, name, 1.0)
    for seed in range(20):
        np.random.seed(seed)
        out = opened(data=patches((2, channels, *size)))["data"]
        assert out.shape == (2, channels, *size)
        assert np.isfinite(out).all()
        sealed = sealed_augmentation()(sealed=patches((2, channels, *size)))["sealed"]
        assert np.isfinite(sealed).all()


@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
def test_a_patch_of_one_value_stays_finite(value):
    opened = open_augmentation(dataclasses.replace(CONFIGURATION, **SHARES))
    for seed in range(10):
        np.random.seed(seed)
        out = opened(data=np.full((1, 2, 8, 24, 20), value, np.float32))["data"]
        assert np.isfinite(out).all()


def test_the_only_slice_lies_in_the_middle_of_a_bias_field():
    np.random.seed(0)
    field = BiasField(0.35, 1.0)(data=np.array([0.0, 1.0] * 50, np.float32).reshape(1, 1, 1, 10, 10).copy())["data"]
    np.random.seed(0)
    strip = np.array([0.0, 1.0] * 50, np.float32).reshape(1, 1, 1, 10, 10).repeat(3, axis=2)
    assert np.allclose(field[0, 0, 0], BiasField(0.35, 1.0)(data=strip)["data"][0, 0, 1])
