import numpy as np
import pytest

from spinecls.geometry import Geometry
from spinecls.sealing.region import (
    Region,
    mask_distance,
    positions_along,
    region_from_ellipsoid,
    region_from_mask,
    vertebra_axes,
    with_corners,
)

GRID = Geometry(
    shape=(9, 60, 50),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(10.0, -20.0, 30.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


def box_mask(low, high, shape=GRID.shape):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def in_region(mask, grid, margin_mm):
    region = region_from_mask(mask, grid, margin_mm)
    whole = np.zeros(grid.shape, bool)
    whole[region.slices] = region.mask
    return whole


def test_region_holds_the_mask_and_grows_by_the_margin_in_plane_only():
    mask = box_mask((3, 20, 10), (6, 40, 30))
    whole = in_region(mask, GRID, 3.0)
    assert whole[mask].all()
    assert np.flatnonzero(whole.any(axis=(1, 2))).tolist() == [3, 4, 5]
    assert np.flatnonzero(whole.any(axis=(0, 2))).tolist() == list(range(17, 43))


def test_a_dent_in_the_mask_lies_inside_the_region():
    mask = box_mask((4, 20, 10), (5, 40, 30))
    mask[4, 28:33, 10:22] = False
    assert in_region(mask, GRID, 0.0)[4, 30, 12]


def test_distance_is_infinite_in_slices_without_the_mask():
    distance = mask_distance(box_mask((3, 20, 10), (4, 22, 12)), GRID.spacing_mm)
    assert np.isinf(distance[2]).all()
    assert distance[3, 21, 15] == pytest.approx(4.0)


def test_distance_is_that_to_the_border_and_negative_inside_by_hand():
    # Six rows of 3 mm and seven columns of 1 mm in a slice; a border voxel is at 0, and the next one out a step away.
    mask = np.zeros((1, 8, 11), bool)
    mask[0, 1:7, 2:9] = True
    distance = mask_distance(mask, (4.0, 3.0, 1.0))[0]
    assert distance[3, :].tolist() == [2, 1, 0, -1, -2, -3, -2, -1, 0, 1, 2]
    # Along the rows the way out is 3 mm a voxel, so the columns decide but for the first and the last row.
    assert distance[:, 5].tolist() == [3, -2, -3, -3, -3, -3, -2, 3]
    assert distance[0, 1] == pytest.approx(np.hypot(3, 1))


def test_no_voxel_of_the_hull_is_beyond_its_border_and_none_outside_within():
    rng = np.random.default_rng(0)
    mask = np.zeros((1, 30, 30), bool)
    mask[0, rng.integers(5, 25, 12), rng.integers(5, 25, 12)] = True
    for spacing_mm in ((4.0, 1.0, 1.0), (4.0, 0.7, 1.3), (4.0, 2.5, 0.6)):
        distance = mask_distance(mask, spacing_mm)
        assert (distance[mask] <= 0).all()
        assert distance[distance > 0].min() >= min(spacing_mm[1:])


def test_the_image_ends_where_the_vertebra_does():
    # What lies beyond the grid is outside, so a voxel at its end is at the border.
    distance = mask_distance(np.ones((1, 5, 5), bool), (4.0, 1.0, 1.0))[0]
    assert distance[2].tolist() == [0, -1, -2, -1, 0]


def test_the_outline_of_a_region_is_the_hull_of_its_mask():
    mask = box_mask((3, 20, 10), (6, 40, 30))
    region = region_from_mask(mask, GRID, margin_mm=3.0)
    whole = np.zeros(GRID.shape, bool)
    whole[region.slices] = region.outline
    assert np.array_equal(whole, mask)
    assert region.mask.sum() > region.outline.sum()


def test_a_mask_of_one_voxel_a_slice_is_a_region_too():
    region = region_from_mask(box_mask((3, 20, 10), (4, 21, 11)), GRID, margin_mm=2.0)
    assert region.mask.sum() == 13  # the disc of radius 2 on a unit grid


def test_ellipsoid_has_nineteen_twentieths_of_the_extent():
    centre = GRID.to_world((4, 30, 25))
    down = GRID.to_world((4, 31, 25)) - centre
    region = region_from_ellipsoid(GRID, centre, down, np.array([16.1, 20.1, 12.1]) / 0.95)
    index = np.argwhere(region.mask) + region.start
    assert np.ptp(index[:, 0]) == 4  # 16 mm / 4 mm
    assert np.ptp(index[:, 1]) == 20
    assert np.ptp(index[:, 2]) == 12


def test_ellipsoid_outside_the_grid_is_none():
    assert region_from_ellipsoid(GRID, np.array([900.0, 0, 0]), np.array([0, 0, -1.0]), np.array([30.0] * 3)) is None


@pytest.mark.parametrize("tangent", [(0, 0, -1), (0.2, 0.4, -1), (0.0, -0.6, -0.8)])
def test_axes_of_a_tilted_vertebra_are_orthonormal_and_follow_the_spine(tangent):
    axes = vertebra_axes(GRID, np.array(tangent, float))
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-9)
    assert axes[:, 1] == pytest.approx(np.array(tangent) / np.linalg.norm(tangent))


def test_centre_of_a_region_is_the_middle_of_its_box_in_the_world():
    region = region_from_mask(box_mask((3, 20, 10), (6, 40, 30)), GRID, margin_mm=0.0)
    assert region.centre_lps == pytest.approx(GRID.to_world((4, 29.5, 19.5)))


def test_region_is_a_box_of_its_grid():
    region = region_from_mask(box_mask((3, 20, 10), (6, 40, 30)), GRID, margin_mm=3.0)
    assert isinstance(region, Region)
    assert region.geometry.shape == region.mask.shape
    assert region.geometry.to_world((0, 0, 0)) == pytest.approx(GRID.to_world(region.start))


FLIPPED = Geometry(
    shape=GRID.shape,
    spacing_mm=GRID.spacing_mm,
    origin_lps=(10.0, 20.0, -30.0),
    direction=((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
)
OBLIQUE = Geometry(
    shape=GRID.shape,
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(10.0, -20.0, 30.0),
    direction=((0.96, 0.0, 0.28), (-0.28, 0.0, 0.96), (0.0, -1.0, 0.0)),
)


def tilted_block(grid, degrees):
    """A block of 24 mm along a tangent in the plane and 32 mm across, its voxels along and across, and the tangent."""
    middle = grid.to_world((4, 30, 25))
    turn = np.radians(degrees)
    tangent = grid.to_world((4, 30 + np.cos(turn), 25 + np.sin(turn))) - middle
    _, along, across = positions_along(grid, middle, vertebra_axes(grid, tangent))
    block = (np.abs(along) <= 12) & (np.abs(across) <= 16)
    block[:3] = block[6:] = False
    return block, along, across, tangent


@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("grid", [GRID, FLIPPED, OBLIQUE], ids=["straight", "flipped", "oblique"])
def test_a_corner_that_was_cut_off_is_given_back(grid, degrees):
    block, along, across, tangent = tilted_block(grid, degrees)
    cut = block & (along + across < 18)
    lost = block & ~cut
    whole = with_corners(cut, grid, tangent)
    assert whole[cut].all()
    assert not whole[~block].any()
    held = [in_region(mask, grid, 2.0)[lost].mean() for mask in (whole, cut)]
    assert held[0] > 0.9
    assert held[1] < 0.6


def test_a_whole_block_stays_as_it_is():
    block, _, _, tangent = tilted_block(GRID, 25)
    assert np.array_equal(with_corners(block, GRID, tangent), block)


def test_a_mask_that_is_no_body_gets_no_corners():
    mask = box_mask((4, 10, 10), (5, 40, 18)) | box_mask((4, 32, 10), (5, 40, 40))
    assert np.array_equal(with_corners(mask, GRID, np.array([0.0, 0.0, -1.0])), mask)


def test_each_slice_has_corners_of_its_own():
    block, _, across, tangent = tilted_block(GRID, 0)
    narrow = block.copy()
    narrow[5] &= np.abs(across[5]) <= 8
    assert np.array_equal(with_corners(narrow, GRID, tangent), narrow)


@pytest.mark.parametrize("voxels", [[(4, 20, 10)], [(4, 20, 10), (4, 20, 11)], [(4, 0, 0), (4, 1, 0), (4, 0, 1)]])
def test_a_few_voxels_at_any_place_are_kept(voxels):
    mask = np.zeros(GRID.shape, bool)
    mask[tuple(np.transpose(voxels))] = True
    whole = with_corners(mask, GRID, np.array([0.0, 0.0, -1.0]))
    assert whole[mask].all()
    assert whole.sum() <= mask.sum() + 1
