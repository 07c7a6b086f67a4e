"""The seal: nothing outside the region changes anything, and what is inside arrives."""

import dataclasses

import numpy as np
import pytest
import torch

from spinecls.geometry import Geometry
from spinecls.sealing.crop import (
    MARGIN,
    evidence_to_native,
    sealed_crop,
    shares_to_native,
    smoothing_sigma,
    snapped_centre,
)
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import region_from_ellipsoid, region_from_mask

FLIPPED = Geometry(
    shape=(10, 70, 60),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(30.0, -20.0, 80.0),
    direction=((-0.96, 0.0, 0.28), (0.28, 0.0, 0.96), (0.0, -1.0, 0.0)),
)
MARROW = np.array([[100.0, 20.0]])
SIZE, SPACING = (8, 32, 32), (4.0, 2.0, 2.0)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(100, 20, (1, *FLIPPED.shape)).astype(np.float32)


@pytest.fixture
def region():
    mask = np.zeros(FLIPPED.shape, bool)
    mask[2:8, 20:45, 15:45] = True
    return region_from_mask(mask, FLIPPED, 3.0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing", [(4.0, 2.0, 2.0), (4.0, 1.0, 1.0), (2.0, 0.7, 1.3)])
def test_crop_is_bit_identical_when_everything_outside_the_region_is_replaced(image, region, seed, spacing):
    whole = np.zeros(FLIPPED.shape, bool)
    whole[region.slices] = region.mask
    donor = np.random.default_rng(seed + 1).normal(500, 300, image.shape).astype(np.float32)
    swapped = np.where(whole[None], image, donor)
    assert not np.array_equal(swapped, image)
    before = sealed_crop(image, region, MARROW, SIZE, spacing)
    after = sealed_crop(swapped, region, MARROW, SIZE, spacing)
    assert torch.equal(before, after)


def test_crop_changes_when_one_voxel_inside_changes(image, region):
    changed = image.copy()
    changed[0, 5, 30, 30] += 100
    assert not torch.equal(
        sealed_crop(image, region, MARROW, SIZE, SPACING), sealed_crop(changed, region, MARROW, SIZE, SPACING)
    )


def test_not_a_number_outside_the_region_stays_outside(image, region):
    poisoned = image.copy()
    whole = np.zeros(FLIPPED.shape, bool)
    whole[region.slices] = region.mask
    poisoned[0][~whole] = np.nan
    assert torch.isfinite(sealed_crop(poisoned, region, MARROW, SIZE, SPACING)).all()


def test_values_inside_are_counted_in_deviations_of_the_marrow(region):
    flat = np.full((1, *FLIPPED.shape), 140.0, np.float32)
    crop = sealed_crop(flat, region, MARROW, SIZE, SPACING)
    assert crop[0][crop[1] > 0].numpy() == pytest.approx(2.0, abs=1e-5)
    assert (crop[0][crop[1] == 0] == 0).all()


def test_a_bright_spot_arrives_where_it_lies(region):
    spot = np.full((1, *FLIPPED.shape), 100.0, np.float32)
    spot[0, 6, 24:28, 38:42] = 300.0
    crop = sealed_crop(spot, region, MARROW, SIZE, SPACING)[0].numpy()
    found = np.array(np.unravel_index(crop.argmax(), crop.shape))
    world = FLIPPED.to_world((6, 25.5, 39.5))
    offset = (world - region.centre_lps) @ np.asarray(FLIPPED.direction)
    expected = offset / np.asarray(SPACING) + (np.asarray(SIZE) - 1) / 2
    assert np.abs(found - expected).max() <= 1.0


def test_evidence_returns_to_the_voxels_it_came_from(region):
    spot = np.full((1, *FLIPPED.shape), 100.0, np.float32)
    spot[0, 6, 24:28, 38:42] = 300.0
    crop = sealed_crop(spot, region, MARROW, SIZE, SPACING)[0].numpy()
    native = evidence_to_native(crop, region, SPACING)
    peak = np.array(np.unravel_index(native.argmax(), native.shape)) + region.start
    assert peak[0] == 6
    assert 23 <= peak[1] <= 28
    assert 37 <= peak[2] <= 42
    assert (native[~region.mask] == 0).all()


def test_shares_on_the_native_grid_add_up_to_those_on_the_sealed_grid(region):
    shares = np.random.default_rng(0).normal(size=(2, *SIZE))
    native = shares_to_native(shares, region, SPACING)
    assert native.sum(axis=(1, 2, 3)) == pytest.approx(shares.sum(axis=(1, 2, 3)))
    assert (native[:, ~region.mask] == 0).all()


def test_a_share_goes_to_the_native_voxels_around_its_place(region):
    shares = np.zeros((1, *SIZE))
    middle = tuple(n // 2 for n in SIZE)
    shares[0][middle] = 1.0
    native = shares_to_native(shares, region, SPACING)[0]
    world = region.geometry.to_world(np.argwhere(native > 0))
    offset = (world - region.centre_lps) @ np.asarray(FLIPPED.direction)
    expected = (np.array(middle) - (np.asarray(SIZE) - 1) / 2) * SPACING
    # Half a slice of tolerance: the sealed grid starts on a slice of the image.
    assert np.abs(offset - expected).max(axis=0) == pytest.approx((0, 0, 0), abs=max(SPACING) + 1e-6)
    assert native.sum() == pytest.approx(1.0)


def test_a_share_that_reaches_no_voxel_of_the_region_goes_to_the_nearest(region):
    shares = np.zeros((1, *SIZE))
    shares[0, 0, 0, 0] = 2.0
    native = shares_to_native(shares, region, SPACING)[0]
    assert native.sum() == pytest.approx(2.0)
    assert np.count_nonzero(native) == 1


def test_no_smoothing_where_the_grid_is_not_made_coarser():
    assert smoothing_sigma((4.0, 1.0, 1.0), (4.0, 2.0, 0.5)) == pytest.approx((0.0, 0.5 * 3**0.5, 0.0))


def test_a_region_one_slice_thick_is_sampled(image):
    mask = np.zeros(FLIPPED.shape, bool)
    mask[4, 20:45, 15:45] = True
    crop = sealed_crop(image, region_from_mask(mask, FLIPPED, 0.0), MARROW, SIZE, SPACING)
    assert crop[1].sum() > 0


def test_marrow_reference_is_the_median_and_leaves_the_deviating_vertebra_out():
    image = np.full((1, *FLIPPED.shape), 100.0)
    image[0, :, ::2] += 20  # values 100 and 120: median 110, deviation 10
    image[0, 4:6, 50:60, 20:40] = 900
    masks = [np.zeros(FLIPPED.shape, bool) for _ in range(5)]
    for i, mask in enumerate(masks[:4]):
        mask[4:6, 10 * i : 10 * i + 8, 20:40] = True
    masks[4][4:6, 50:60, 20:40] = True
    regions = [region_from_mask(m, FLIPPED, 0.0) for m in masks]
    assert marrow_reference(image, regions)[0] == pytest.approx([110.0, 14.826])


def test_ellipsoid_regions_are_sealed_as_well(image):
    centre = FLIPPED.to_world((5, 35, 30))
    down = FLIPPED.to_world((5, 36, 30.3)) - centre
    region = region_from_ellipsoid(FLIPPED, centre, down, np.array([30.0, 24.0, 28.0]))
    whole = np.zeros(FLIPPED.shape, bool)
    whole[region.slices] = region.mask
    swapped = np.where(whole[None], image, np.float32(7))
    assert torch.equal(
        sealed_crop(image, region, MARROW, SIZE, SPACING), sealed_crop(swapped, region, MARROW, SIZE, SPACING)
    )


@pytest.mark.parametrize("slices", [1, 2, 5, 8])
@pytest.mark.parametrize("grid_slices", [8, 9])
def test_a_spot_on_one_slice_keeps_its_contrast(slices, grid_slices):
    mask = np.zeros(FLIPPED.shape, bool)
    mask[1 : 1 + slices, 20:45, 15:45] = True
    region = region_from_mask(mask, FLIPPED, 0.0)
    spot = np.full((1, *FLIPPED.shape), 100.0, np.float32)
    spot[0, 1, 24:36, 22:38] = 200.0
    crop = sealed_crop(spot, region, MARROW, (grid_slices, 32, 32), (4.0, 1.0, 1.0))
    assert crop[0].max().item() == pytest.approx(5.0, abs=1e-3)
    assert (crop[1].sum(dim=(1, 2)) > 0).sum().item() == min(slices, grid_slices)


def test_the_last_channel_tells_outline_margin_and_outside(image, region):
    found = sealed_crop(image, region, MARROW, (8, 40, 40), FLIPPED.spacing_mm)[-1].numpy()
    assert MARGIN == 0.5
    assert set(np.unique(found)) == {0.0, 0.5, 1.0}
    # At the spacing of the image a voxel of the crop lies half a voxel beside one of the image, so corners may go.
    assert (found == 1).sum() == pytest.approx(6 * 25 * 30, rel=0.07)
    assert (found > 0).sum() == pytest.approx(region.mask.sum(), rel=0.07)


@pytest.mark.parametrize("spacing", [(4.0, 2.0, 2.0), (2.0, 0.7, 1.3)])
def test_the_outline_of_a_crop_is_where_a_region_without_margin_would_be(image, region, spacing):
    size = (16, 64, 64)
    found = sealed_crop(image, region, MARROW, size, spacing)[-1]
    bare = dataclasses.replace(region, mask=region.outline, outline=None)
    centre = snapped_centre(region, size, spacing)
    within = sealed_crop(image, bare, MARROW, size, spacing, centre_lps=centre)[-1] > 0
    assert torch.equal(found == 1, within)
    whole = dataclasses.replace(region, outline=None)
    assert torch.equal(found > 0, sealed_crop(image, whole, MARROW, size, spacing)[-1] > 0)
    assert (found == MARGIN).any()


def test_the_region_channel_does_not_depend_on_the_image(image, region):
    other = np.random.default_rng(5).normal(500, 300, image.shape).astype(np.float32)
    crops = [sealed_crop(values, region, MARROW, SIZE, SPACING) for values in (image, other)]
    assert torch.equal(crops[0][-1], crops[1][-1])


def test_of_an_ellipsoid_nothing_is_told_but_the_region(image):
    centre = FLIPPED.to_world((5, 35, 30))
    down = FLIPPED.to_world((5, 36, 30)) - centre
    ellipsoid = region_from_ellipsoid(FLIPPED, centre, down, np.array([30.0, 24.0, 28.0]))
    assert ellipsoid.outline is None
    assert set(np.unique(sealed_crop(image, ellipsoid, MARROW, SIZE, SPACING)[-1])) == {0.0, 1.0}
