import numpy as np

from spinecls.dataloading.bodies import likely_bodies
from spinecls.geometry import Geometry

UNKNOWN = 255
GRID = Geometry(
    shape=(11, 80, 60), spacing_mm=(4.0, 1.0, 1.0), origin_lps=(0.0, 0.0, 0.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)
CENTRES = np.array([GRID.to_world((5, 20, 30)), GRID.to_world((5, 55, 30))])
EXTENTS = np.array([[36.0, 20.0, 30.0], [36.0, 20.0, 30.0]])


def test_a_body_reaches_to_the_ends_of_its_usual_size():
    numbers = likely_bodies(GRID, None, CENTRES, EXTENTS, UNKNOWN, partly=False)
    assert np.flatnonzero(numbers[:, 20, 30] == 1).tolist() == list(range(1, 10))  # 36 mm of 4 mm slices
    assert np.flatnonzero(numbers[5, :, 30] == 1).tolist() == list(range(10, 31))
    assert np.flatnonzero(numbers[5, 20] == 1).tolist() == list(range(15, 46))


def test_where_bodies_overlap_a_voxel_belongs_to_the_nearer_centre():
    numbers = likely_bodies(GRID, None, CENTRES, EXTENTS * [1, 3, 1], UNKNOWN, partly=False)
    assert numbers[5, 36, 30] == 1
    assert numbers[5, 39, 30] == 2


def test_drawn_background_is_in_no_body():
    drawn = np.zeros(GRID.shape, np.uint8)
    drawn[5, 18:23, 28:33] = 1
    numbers = likely_bodies(GRID, drawn, CENTRES, EXTENTS, UNKNOWN, partly=True)
    assert np.array_equal(numbers, drawn)


def test_of_a_vertebra_drawn_whole_there_is_no_more_where_nothing_is_known():
    drawn = np.full(GRID.shape, UNKNOWN, np.uint8)
    drawn[5, 18:23, 28:33] = 1
    whole, partly = (likely_bodies(GRID, drawn, CENTRES, EXTENTS, UNKNOWN, partly=p) for p in (False, True))
    assert (whole == 1).sum() == 25
    assert (partly == 1).sum() > 25


def test_without_centres_only_what_is_drawn_counts():
    drawn = np.full(GRID.shape, UNKNOWN, np.uint8)
    assert not likely_bodies(GRID, drawn, np.zeros((0, 3)), np.zeros((0, 3)), UNKNOWN, partly=False).any()
