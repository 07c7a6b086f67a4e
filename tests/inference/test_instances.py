import numpy as np

from spinecls.geometry import Geometry
from spinecls.inference.instances import vote_instances

GRID = Geometry(
    shape=(5, 60, 30),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(5.0, 6.0, 7.0),
    direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)
CENTRES = GRID.to_world([[2, 15, 15], [2, 40, 15]])


def scene():
    """Two bodies that touch, each voxel pointing at its own centre."""
    foreground = np.zeros(GRID.shape, np.float32)
    offset = np.zeros((3, *GRID.shape), np.float32)
    foreground[1:4, 3:52, 8:22] = 1
    for z, y, x in np.argwhere(foreground > 0):
        centre = (2, 15, 15) if y < 28 else (2, 40, 15)
        offset[:, z, y, x] = (np.array(centre) - (z, y, x)) * GRID.spacing_mm
    return foreground, offset


def test_touching_vertebrae_are_parted_by_where_their_voxels_point():
    instances = vote_instances(*scene(), GRID, CENTRES)
    assert set(np.unique(instances[1:4, 3:28, 8:22])) == {1}
    assert set(np.unique(instances[1:4, 28:52, 8:22])) == {2}
    assert (instances[:, 52:] == 0).all()


def test_a_far_island_that_points_at_a_vertebra_is_dropped():
    foreground, offset = scene()
    foreground[2, 57:59, 26:28] = 1
    for y in (57, 58):
        for x in (26, 27):
            offset[:, 2, y, x] = (0, 40 - y, 15 - x)
    assert (vote_instances(foreground, offset, GRID, CENTRES)[2, 57:59, 26:28] == 0).all()


def test_voxels_that_point_at_no_centre_belong_to_none():
    foreground, offset = scene()
    offset[1] += 40
    assert (vote_instances(foreground, offset, GRID, CENTRES[:1]) == 0).all()


def test_without_centres_there_are_no_instances():
    assert (vote_instances(*scene(), GRID, np.zeros((0, 3))) == 0).all()


def test_a_speck_is_no_vertebra():
    foreground, offset = scene()
    foreground[:, 28:] = 0
    foreground[2, 40, 15] = 1
    assert 2 not in vote_instances(foreground, offset, GRID, CENTRES)


def test_voxels_at_the_side_that_miss_their_centre_sideways_alone_are_kept():
    origin, direction = GRID.origin_lps, GRID.direction
    grid = Geometry(shape=(15, 60, 30), spacing_mm=(4.0, 1.0, 1.0), origin_lps=origin, direction=direction)
    foreground = np.zeros(grid.shape, np.float32)
    foreground[1:14, 8:22, 8:22] = 1
    offset = np.zeros((3, *grid.shape), np.float32)
    # Right along the spine and front-back, nothing of the up to 24 mm sideways.
    offset[1:] = np.array([15, 15])[:, None, None, None] - np.stack(np.indices(grid.shape)[1:])
    instances = vote_instances(foreground, offset, grid, grid.to_world([[7, 15, 15], [7, 40, 15]]))
    assert np.array_equal(instances == 1, foreground == 1)
