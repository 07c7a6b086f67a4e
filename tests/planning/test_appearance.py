"""What a scan looks like in numbers, on images whose numbers are known."""

import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.io.images import read_image
from spinecls.planning.appearance import appearance
from spinecls.testing.phantom import PhantomOptions, make_case, to_image

SPACING_MM = (4.0, 2.0, 2.0)
EVERYWHERE = np.ones((6, 60, 50), bool)


def numbers(volume, spacing_mm=SPACING_MM, body=EVERYWHERE):
    return appearance(volume[None].astype(np.float32), spacing_mm, body)[0]


def uniform():
    return np.random.default_rng(0).uniform(0, 1, EVERYWHERE.shape)


def stripe():
    """One bright upright stripe, as wide as the canal, before slightly noisy tissue."""
    volume = np.random.default_rng(1).normal(100, 1, EVERYWHERE.shape)
    volume[:, :, 20:27] += 50
    return volume


def ramp(axis):
    return np.broadcast_to(np.moveaxis(np.arange(60.0)[:, None, None], 0, axis), (60, 60, 60))[:6, :, :50]


def test_the_brightness_of_uniform_voxels_is_that_of_the_uniform_distribution():
    found = numbers(uniform())
    assert found["asymmetry"] == pytest.approx(0, abs=0.02)
    assert found["evenness"] == pytest.approx(0.5 / 0.9, abs=0.01)
    assert found["bright_tail"] == pytest.approx(0.04 / 0.9, abs=0.005)


def test_few_bright_voxels_among_dark_ones_are_an_excess_of_dark_tissue():
    # For e^-x: p5 = 0.051, p50 = 0.693, p95 = 2.996.
    found = numbers(np.random.default_rng(0).exponential(1, EVERYWHERE.shape))
    assert found["asymmetry"] == pytest.approx((2.996 + 0.051 - 2 * 0.693) / (2.996 - 0.051), abs=0.02)


def test_noise_on_a_ramp_is_found_as_a_share_of_the_spread():
    # The ramp runs from 0 to 590 in steps of 10; p95 - p5 is 0.9 of it.
    noisy = 10 * ramp(1) + np.random.default_rng(2).normal(0, 20, EVERYWHERE.shape)
    assert numbers(noisy)["noise"] == pytest.approx(20 / 540, rel=0.05)


def test_an_edge_is_no_noise():
    volume = 10 * ramp(1) + np.where(np.arange(50) < 25, 0, 300)
    assert numbers(volume)["noise"] == pytest.approx(0, abs=1e-6)


def test_a_ramp_is_smooth_along_both_axes():
    found = numbers(ramp(1) + 3 * ramp(2))
    assert found["fineness_head_feet"] == pytest.approx(0.5)
    assert found["fineness_front_back"] == pytest.approx(0.5)


def test_independent_voxels_are_as_fine_as_can_be():
    found = numbers(uniform())
    assert found["fineness_head_feet"] == pytest.approx(1, abs=0.02)
    assert found["fineness_front_back"] == pytest.approx(1, abs=0.02)


def test_blur_along_one_axis_lowers_the_fineness_of_that_axis_alone():
    volume = uniform()
    blurred = (volume + np.roll(volume, 1, axis=2) + np.roll(volume, 2, axis=2)) / 3
    found = numbers(blurred)
    # Differences of next and second-next neighbours of a mean of three: variances 2/9 and 4/9.
    assert found["fineness_front_back"] == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert found["fineness_head_feet"] == pytest.approx(1, abs=0.03)


def test_the_share_of_voxels_at_the_greatest_brightness_is_counted():
    assert numbers(np.minimum(uniform(), 0.9))["saturated"] == pytest.approx(0.1, abs=0.01)


def test_a_bright_stripe_counts_up_and_a_dark_one_down():
    assert numbers(stripe())["stripes"] > 0.2
    assert numbers(-stripe())["stripes"] == pytest.approx(-numbers(stripe())["stripes"], abs=1e-4)


def test_detail_is_the_same_whichever_way_round_the_contrast_is():
    assert numbers(-stripe())["detail"] == pytest.approx(numbers(stripe())["detail"], rel=1e-4)


def test_no_number_depends_on_the_unit_of_the_intensities():
    assert numbers(3 * stripe() + 7) == pytest.approx(numbers(stripe()), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("orientation", ["PIR", "RAS", "LPS", "AIL", "SRP", "ILA"])
def test_the_order_in_which_a_scan_is_stored_does_not_matter(tmp_path, orientation):
    case = make_case(np.random.default_rng(0), PhantomOptions(shape=(8, 64, 48)))
    path = tmp_path / "scan_0000.nii.gz"
    sitk.WriteImage(to_image(case.image[0], case.geometry, orientation), str(path))
    volume = read_image([path])
    found = appearance(volume.array, volume.geometry.spacing_mm)
    assert found[0] == pytest.approx(appearance(case.image, case.geometry.spacing_mm)[0])


def test_an_array_turned_round_gives_the_same_numbers():
    volume = stripe()
    assert numbers(volume[::-1, ::-1, ::-1]) == pytest.approx(numbers(volume), rel=1e-4)


def test_each_channel_has_numbers_of_its_own_and_a_constant_one_none():
    image = np.stack([stripe(), np.full(EVERYWHERE.shape, 5.0)]).astype(np.float32)
    first, second = appearance(image, SPACING_MM, EVERYWHERE)
    assert first == numbers(stripe())
    assert second == {}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 3, 3), (1, 3, 200), (200, 3, 3), (2, 30, 3), (1, 12, 12)])
def test_a_tiny_image_is_measured_or_has_no_numbers(shape):
    image = np.random.default_rng(0).uniform(0, 1, (1, *shape)).astype(np.float32)
    (found,) = appearance(image, SPACING_MM)
    assert np.isfinite(list(found.values())).all()


@pytest.mark.filterwarnings("error")
def test_an_image_of_one_value_has_no_numbers():
    assert appearance(np.zeros((1, 5, 40, 40), np.float32), SPACING_MM) == ({},)


def test_only_the_middle_slices_are_looked_at():
    volume = np.concatenate([stripe()] * 3)
    noisy = volume.copy()
    noisy[:5] += np.random.default_rng(3).normal(0, 50, noisy[:5].shape)
    body = np.ones(volume.shape, bool)
    assert numbers(noisy, body=body) == numbers(volume, body=body)
