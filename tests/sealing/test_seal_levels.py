"""What each sealing level lets through, on flipped and oblique grids."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from spinecls.geometry import Geometry
from spinecls.sealing.crop import evidence_to_native, shown_voxels, smoothing_sigma, snapped_centre, vertebra_crop
from spinecls.sealing.marrow import own_reference
from spinecls.sealing.region import Region, region_from_mask
from spinecls.sealing.sealing_levels import GUARANTEED, SEALS

TURN = np.array(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.25).GetMatrix()).reshape(3, 3)
STRAIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
DIRECTIONS = {"canonical": STRAIGHT, "flipped": STRAIGHT @ np.diag([-1.0, -1.0, 1.0]), "oblique": TURN @ STRAIGHT}
SHAPE = (10, 70, 60)
MARROW = np.array([[100.0, 20.0], [50.0, 5.0]])
SIZE, SPACING = (8, 32, 32), (4.0, 2.0, 2.0)


@pytest.fixture(params=DIRECTIONS, ids=str)
def grid(request):
    return Geometry(
        shape=SHAPE,
        spacing_mm=(4.0, 1.0, 1.0),
        origin_lps=(30.0, -20.0, 80.0),
        direction=tuple(map(tuple, DIRECTIONS[request.param])),
    )


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(100, 20, (2, *SHAPE)).astype(np.float32)


@pytest.fixture
def region(grid):
    mask = np.zeros(SHAPE, bool)
    mask[2:8, 20:40, 20:42] = True
    return region_from_mask(mask, grid, 3.0)


def inside_of(region):
    whole = np.zeros(SHAPE, bool)
    whole[region.slices] = region.mask
    return whole


def crop_of(seal, image, grid, region, marrow=MARROW, spacing_mm=SPACING, **more):
    return vertebra_crop(seal, image, grid, region, marrow, SIZE, spacing_mm, **more)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))


def swapped_outside(image, region, seed):
    donor = np.random.default_rng(seed).normal(400, 200, image.shape).astype(np.float32)
    return np.where(inside_of(region)[None], image, donor)


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("seal", GUARANTEED)
def test_a_sealed_crop_is_bit_identical_whatever_lies_outside(seal, image, grid, region, seed):
    other = swapped_outside(image, region, seed)
    turned = {"affine": np.array([[1.0, 0, 0], [0, 0.9, -0.3], [0, 0.3, 0.9]])}
    for more in ({}, turned):
        before = crop_of(seal, image, grid, region, **more)
        assert same(before, crop_of(seal, other, grid, region, **more))


@pytest.mark.parametrize("seal", ["S0", "S1"])
def test_an_open_crop_changes_with_what_lies_outside(seal, image, grid, region):
    before, after = crop_of(seal, image, grid, region), crop_of(seal, swapped_outside(image, region, 1), grid, region)
    beyond = (before.image[-1] == 0) & before.shown
    assert (before.image[:2, beyond] != after.image[:2, beyond]).all()


def test_s3_is_bit_identical_when_the_marrow_of_all_other_vertebrae_changes(image, grid, region):
    brighter = swapped_outside(image, region, 2)
    other_marrow = MARROW * 3 + 7
    before = crop_of("S3", image, grid, region)
    assert same(before, crop_of("S3", brighter, grid, region, other_marrow))
    assert not same(crop_of("S2", image, grid, region), crop_of("S2", brighter, grid, region, other_marrow))


def test_s3_does_not_see_a_gain_of_the_scanner(image, grid, region):
    # Median and deviation grow with the gain, so the quotient stays; float32 rounds.
    before, after = crop_of("S3", image, grid, region).image, crop_of("S3", image * 2 + 30, grid, region).image
    assert after.numpy() == pytest.approx(before.numpy(), abs=1e-4)


def test_own_reference_is_the_median_and_scaled_deviation_of_the_region(grid):
    mask = np.zeros(SHAPE, bool)
    mask[4, 30, 10:15] = True
    values = np.full((1, *SHAPE), 1000.0)
    values[0, 4, 30, 10:15] = [10, 12, 13, 17, 90]  # median 13, distances 3 1 0 4 77, their median 3
    found = own_reference(values, Region(mask, (0, 0, 0), grid, "mask"))
    assert found[0] == pytest.approx([13.0, 3 * 1.4826])


@pytest.mark.parametrize("seal", SEALS)
def test_only_s0_pools_outside_the_region(seal, image, grid, region):
    crop = crop_of(seal, image, grid, region)
    assert torch.equal(crop.pooled, crop.shown if seal == "S0" else crop.image[-1] > 0)
    assert (crop.pooled & (crop.image[-1] == 0)).any().item() == (seal == "S0")


@pytest.mark.parametrize("seal", SEALS)
def test_the_region_channel_is_the_same_at_every_level(seal, image, grid, region):
    assert torch.equal(crop_of(seal, image, grid, region).image[-1], crop_of("S2", image, grid, region).image[-1])


@pytest.mark.parametrize("seal", SEALS)
def test_nothing_is_in_the_channels_where_nothing_is_shown(seal, image, grid):
    mask = np.zeros(SHAPE, bool)
    mask[0:3, 0:15, 40:60] = True
    crop = crop_of(seal, image, grid, region_from_mask(mask, grid, 3.0))
    assert not crop.shown.all()
    assert (crop.image[:2, ~crop.shown] == 0).all()
    assert (crop.image[:2, crop.shown] != 0).all()


@pytest.mark.parametrize("spacing_mm", [(4.0, 1.0, 1.0), (4.0, 2.0, 3.0)])
def test_an_open_crop_is_what_simpleitk_resamples_of_the_smoothed_image(image, grid, region, spacing_mm):
    found = crop_of("S0", image, grid, region, spacing_mm=spacing_mm)
    normal = np.clip((image[0] - MARROW[0, 0]) / MARROW[0, 1], -8, 12)
    sigma = smoothing_sigma(grid.spacing_mm, spacing_mm)
    smooth = ndimage.gaussian_filter(normal, sigma, truncate=3, mode="nearest") if max(sigma) else normal
    source = sitk.GetImageFromArray(smooth)
    source.SetSpacing(grid.spacing_mm[::-1])
    source.SetOrigin(grid.origin_lps)
    source.SetDirection(np.asarray(grid.direction)[:, ::-1].ravel().tolist())
    step = np.asarray(grid.direction) * np.asarray(spacing_mm)
    first = snapped_centre(region, SIZE, spacing_mm) - step @ ((np.asarray(SIZE) - 1) / 2)
    expected = sitk.GetArrayFromImage(
        sitk.Resample(
            source,
            SIZE[::-1],
            sitk.Transform(),
            sitk.sitkLinear,
            first.tolist(),
            spacing_mm[::-1],
            source.GetDirection(),
            0.0,
            sitk.sitkFloat32,
        )
    )
    inner = torch.from_numpy(ndimage.binary_erosion(found.shown.numpy()))
    assert inner.sum() > 2000
    assert found.image[0][inner].numpy() == pytest.approx(expected[inner.numpy()], abs=2e-4)


def test_voxels_beyond_the_crop_and_its_smoothing_do_not_matter(image, grid, region):
    size = (6, 16, 16)
    near = shown_voxels(grid, region, size, SPACING)
    crops = []
    for beyond in (8, 1):  # voxels; the kernel of the smoothing reaches 3 x 0.87
        far = np.ones(SHAPE, bool)
        far[tuple(slice(max(0, s.start - beyond), s.stop + beyond) for s in near.slices)] = False
        changed = np.where(far, np.float32(1e4), image)
        crops.append(vertebra_crop("S0", changed, grid, region, MARROW, size, SPACING))
        assert far.sum() > 5000
    untouched = vertebra_crop("S0", image, grid, region, MARROW, size, SPACING)
    assert same(untouched, crops[0])
    assert not same(untouched, crops[1])


def test_shown_voxels_are_those_whose_centre_lies_in_the_crop(grid, region):
    shown = shown_voxels(grid, region, SIZE, SPACING)
    index = np.argwhere(np.ones(SHAPE, bool))
    offset = (grid.to_world(index) - snapped_centre(region, SIZE, SPACING)) @ np.asarray(grid.direction)
    expected = np.all(np.abs(offset) <= np.asarray(SIZE) / 2 * SPACING + 1e-6, axis=1).reshape(SHAPE)
    found = np.zeros(SHAPE, bool)
    found[shown.slices] = shown.mask
    assert np.array_equal(found, expected)
    assert shown.geometry.to_world((0, 0, 0)) == pytest.approx(grid.to_world(shown.start))


def test_evidence_outside_the_region_returns_to_where_it_came_from(grid, region):
    spot = np.full((2, *SHAPE), 100.0, np.float32)
    spot[0, 5, 48:52, 28:32] = 400.0
    crop = crop_of("S0", spot, grid, region)
    shown = shown_voxels(grid, region, SIZE, SPACING)
    native = evidence_to_native(crop.image[0].numpy(), shown, SPACING, snapped_centre(region, SIZE, SPACING))
    peak = np.array(np.unravel_index(native.argmax(), native.shape)) + shown.start
    assert peak[0] == 5
    assert 47 <= peak[1] <= 52
    assert 27 <= peak[2] <= 32
    assert not inside_of(region)[tuple(peak)]
