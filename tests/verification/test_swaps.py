"""Images and regions that are altered on the native grid."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region
from spinecls.verification import swaps

ANGLE = np.deg2rad(20)
OBLIQUE = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)], [0, np.sin(ANGLE), np.cos(ANGLE)]])
FLIPPED = np.diag([-1.0, 1.0, -1.0])


def grid_of(direction=OBLIQUE, shape=(5, 12, 10), spacing_mm=(4.0, 1.5, 1.0)):
    return Geometry(
        shape=shape, spacing_mm=spacing_mm, origin_lps=(7.0, -30.0, 12.0), direction=tuple(map(tuple, direction))
    )


def box_region(grid, low, high):
    mask = np.zeros(grid.shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return swaps.region_of(mask, grid, "mask")


def random_image(shape=(5, 12, 10), seed=0, channels=1):
    return np.random.default_rng(seed).normal(100, 20, (channels, *shape)).astype(np.float32)


def test_intensities_are_scaled_from_one_marrow_to_the_other():
    image = np.array([[[[100.0, 120.0]]]])
    matched = swaps.intensity_matched(image, np.array([[100.0, 10.0]]), np.array([[50.0, 5.0]]))
    assert matched.ravel() == pytest.approx([50.0, 60.0])


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, -3, 11), (-7, 40, 1)])
def test_a_donor_is_moved_tiled_and_cut_as_a_loop_over_voxels_does(shift):
    donor = random_image((3, 5, 4))
    placed = swaps.placed(donor, (4, 4, 6), shift)
    for index in np.ndindex(4, 4, 6):
        source = tuple((i - s) % n for i, s, n in zip(index, shift, (3, 5, 4), strict=True))
        assert placed[(0, *index)] == donor[(0, *source)]


def test_only_the_region_is_kept_of_the_image():
    grid = grid_of()
    region = box_region(grid, (1, 2, 3), (3, 6, 7))
    region.mask[0, 0, 0] = False
    image, outside = random_image(seed=1, channels=2), random_image(seed=2, channels=2)
    changed = swaps.with_outside(image, region, outside)
    inside = swaps.whole_mask(region, grid)
    assert np.array_equal(changed[:, inside], image[:, inside])
    assert np.array_equal(changed[:, ~inside], outside[:, ~inside])


def test_a_planted_lesion_is_bright_in_the_neighbour_and_leaves_the_region_alone():
    grid = grid_of()
    region, neighbour = box_region(grid, (1, 0, 2), (4, 6, 8)), box_region(grid, (1, 5, 2), (4, 11, 8))
    image = random_image()
    changed = swaps.with_blob(image, grid, neighbour, region, np.array([[100.0, 10.0]]))
    altered = (changed != image)[0]
    assert altered.any()
    assert not (altered & swaps.whole_mask(region, grid)).any()
    assert not (altered & ~swaps.whole_mask(neighbour, grid)).any()
    assert np.unique(changed[0][altered]) == pytest.approx([160.0])


def test_there_is_no_lesion_where_the_neighbour_lies_inside_the_region():
    grid = grid_of()
    region, neighbour = box_region(grid, (0, 0, 0), (5, 12, 10)), box_region(grid, (1, 5, 2), (4, 11, 8))
    assert swaps.with_blob(random_image(), grid, neighbour, region, np.array([[100.0, 10.0]])) is None


def test_content_of_a_region_of_the_same_form_arrives_voxel_by_voxel():
    grid, marrow = grid_of(), np.array([[100.0, 10.0]])
    region, other = box_region(grid, (0, 1, 1), (3, 5, 6)), box_region(grid, (2, 6, 4), (5, 10, 9))
    image, donor = random_image(seed=1), random_image(seed=2)
    changed = swaps.with_content(image, region, marrow, donor, other, marrow)
    assert changed[0][region.slices] == pytest.approx(donor[0][other.slices], rel=1e-6)
    outside = ~swaps.whole_mask(region, grid)
    assert np.array_equal(changed[0][outside], image[0][outside])


def test_nothing_of_the_donors_surroundings_comes_along():
    grid, marrow = grid_of(), np.array([[100.0, 10.0]])
    region, other = box_region(grid, (0, 1, 1), (3, 9, 8)), box_region(grid, (2, 6, 4), (5, 10, 9))
    other.mask[:, 0, :2] = False
    donor = np.where(swaps.whole_mask(other, grid), 100.0, 1e6)[None].astype(np.float32)
    changed = swaps.with_content(random_image(), region, marrow, donor, other, marrow)
    assert changed[0][region.slices][region.mask] == pytest.approx(100.0)


def test_slices_are_carried_over_whole():
    grid, marrow = grid_of(), np.array([[0.0, 1.0]])
    region, other = box_region(grid, (0, 1, 1), (4, 5, 6)), box_region(grid, (0, 1, 1), (3, 5, 6))
    donor = np.arange(5.0)[None, :, None, None] * np.ones((1, *grid.shape))
    changed = swaps.with_content(np.zeros((1, *grid.shape)), region, marrow, donor, other, marrow)
    assert set(np.unique(changed[0][region.slices])) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("direction", [OBLIQUE, FLIPPED], ids=["oblique", "flipped"])
@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (1, 1), (2, 2)])
def test_a_region_moves_by_whole_voxels_nearest_to_two_millimetres_and_at_least_one(direction, axis, steps):
    grid = grid_of(direction)
    region = box_region(grid, (1, 4, 4), (3, 7, 7))
    moved = swaps.moved_region(region, grid, axis, 2.0)
    expected = region.centre_lps + direction[:, axis] * steps * grid.spacing_mm[axis]
    assert moved.centre_lps == pytest.approx(expected)
    assert moved.mask.sum() == region.mask.sum()


def with_outline(region):
    """The region with an outline that holds all but a rim of one voxel in plane."""
    outline = np.zeros_like(region.mask)
    outline[:, 1:-1, 1:-1] = region.mask[:, 1:-1, 1:-1]
    return dataclasses.replace(region, outline=outline)


def test_the_outline_moves_with_the_region():
    grid = grid_of()
    region = with_outline(box_region(grid, (1, 4, 4), (3, 7, 7)))
    moved = swaps.moved_region(region, grid, 2, 2.0)
    assert moved.outline.tolist() == region.outline.tolist()


def test_the_outline_grows_as_the_region_does():
    grid = grid_of(spacing_mm=(4.0, 1.0, 1.0))
    grown = swaps.grown_region(with_outline(box_region(grid, (1, 4, 4), (2, 7, 7))), grid, 1.0)
    assert grown.outline[0].astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_a_region_that_leaves_the_image_is_none():
    grid = grid_of()
    assert swaps.moved_region(box_region(grid, (4, 0, 0), (5, 2, 2)), grid, 0, 4.0) is None


@pytest.mark.parametrize("distance_mm", [2.0, -1.0])
def test_growth_and_shrinkage_agree_with_distances_between_all_voxels_of_a_slice(distance_mm):
    grid = grid_of()
    region = box_region(grid, (1, 4, 3), (3, 9, 8))
    region.mask[0, :2, :2] = False
    before = swaps.whole_mask(region, grid)
    after = swaps.whole_mask(swaps.grown_region(region, grid, distance_mm), grid)
    plane_mm = np.asarray(grid.spacing_mm[1:])
    for index in np.ndindex(grid.shape):
        wanted = ~before[index[0]] if distance_mm < 0 else before[index[0]]
        others = np.argwhere(wanted)
        distance = np.linalg.norm((others - index[1:]) * plane_mm, axis=1).min() if len(others) else np.inf
        expected = before[index] and distance > -distance_mm if distance_mm < 0 else distance <= distance_mm
        if distance_mm > 0 or before[index]:
            assert after[index] == expected, index


def test_a_region_grows_by_a_voxel_at_least():
    grid = grid_of(spacing_mm=(4.0, 2.0, 3.0))
    grown = swaps.grown_region(box_region(grid, (1, 4, 3), (2, 5, 4)), grid, 1.5)
    assert grown.mask[0].tolist() == [[True], [True], [True]]


def test_nothing_is_left_of_a_region_thinner_than_the_shrinkage():
    grid = grid_of()
    assert swaps.grown_region(box_region(grid, (1, 4, 3), (2, 5, 4)), grid, -1.5) is None


@pytest.mark.parametrize("direction", [OBLIQUE, FLIPPED], ids=["oblique", "flipped"])
def test_a_region_from_a_mask_lies_where_simpleitk_says(direction):
    grid = grid_of(direction)
    region = box_region(grid, (2, 3, 4), (4, 8, 9))
    image = sitk.Image(grid.shape[::-1], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_lps)
    image.SetDirection(np.asarray(direction)[:, ::-1].ravel().tolist())
    corner = image.TransformIndexToPhysicalPoint((4, 3, 2))
    assert region.geometry.to_world(np.zeros(3)) == pytest.approx(corner)
    assert isinstance(region, Region)
