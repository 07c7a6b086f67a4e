import numpy as np
import pytest

from spinecls.geometry import Geometry
from spinecls.sealing.region import Region, mask_distance, region_from_ellipsoid, region_from_mask, vertebra_axes

GRID = Geometry(
    shape=(9, 60, 50), spacing_mm=(4.0, 1.0, 1.0), origin_lps=(10.0, -20.0, 30.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


def box_mask(low, high, shape=GRID.shape):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_region_holds_the_mask_and_grows_by_the_margin_in_plane_only():
    mask = box_mask((3, 20, 10), (6, 40, 30))
    region = region_from_mask(mask, GRID, margin_mm=3.0)
    whole = np.zeros(GRID.shape, bool)
    whole[region.slices] = region.mask
    assert whole[mask].all()
    assert np.flatnonzero(whole.any(axis=(1, 2))).tolist() == [3, 4, 5]
    assert np.flatnonzero(whole.any(axis=(0, 2))).tolist() == list(range(17, 43))


def test_a_dent_in_the_mask_lies_inside_the_region():
    mask = box_mask((4, 20, 10), (5, 40, 30))
    mask[4, 28:33, 10:22] = False
    region = region_from_mask(mask, GRID, margin_mm=0.0)
    whole = np.zeros(GRID.shape, bool)
    whole[region.slices] = region.mask
    assert whole[4, 30, 12]


def test_distance_is_infinite_in_slices_without_the_mask():
    distance = mask_distance(box_mask((3, 20, 10), (4, 22, 12)), GRID.spacing_mm)
    assert np.isinf(distance[2]).all()
    assert distance[3, 21, 15] == pytest.approx(4.0)


def test_a_mask_of_one_voxel_a_slice_is_a_region_too():
    region = region_from_mask(box_mask((3, 20, 10), (4, 21, 11)), GRID, margin_mm=2.0)
    assert region.mask.sum() == 13  # the disc of radius 2 on a unit grid


def test_ellipsoid_has_nineteen_twentieths_of_the_extent():
    centre = GRID.to_world((4, 30, 25))
    down = GRID.to_world((4, 31, 25)) - centre
    region = region_from_ellipsoid(GRID, centre, down, np.array([16.1, 20.1, 12.1]) / 0.95)
    index = np.argwhere(region.mask) + region.start
    assert np.ptp(index[:, 0]) == 4   # 16 mm / 4 mm
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


def test_region_at_the_upper_end_touches_the_border():
    assert region_from_mask(box_mask((3, 0, 10), (6, 9, 30)), GRID, 0.0).touches_border(GRID.shape)
    assert not region_from_mask(box_mask((3, 9, 10), (6, 20, 30)), GRID, 0.0).touches_border(GRID.shape)


def test_region_is_a_box_of_its_grid():
    region = region_from_mask(box_mask((3, 20, 10), (6, 40, 30)), GRID, margin_mm=3.0)
    assert isinstance(region, Region)
    assert region.geometry.shape == region.mask.shape
    assert region.geometry.to_world((0, 0, 0)) == pytest.approx(GRID.to_world(region.start))
