from types import SimpleNamespace

import numpy as np
import pytest

from spinecls.dataloading.body_shapes import FILL_OF_BODY, body_distance, extents_by_pitch_mm, likely_bodies
from spinecls.geometry import Geometry
from spinecls.planning.plan import LevelStatistics

UNKNOWN = 255
GRID = Geometry(
    shape=(11, 80, 60),
    spacing_mm=(4.0, 1.0, 1.0),
    origin_lps=(0.0, 0.0, 0.0),
    direction=((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)
CENTRES = np.array([GRID.to_world((5, 20, 30)), GRID.to_world((5, 55, 30))])
AXES = np.array([GRID.direction] * 2)
EXTENTS = np.array([[36.0, 20.0, 30.0], [36.0, 20.0, 30.0]])


def test_a_body_reaches_to_the_ends_of_its_usual_size():
    # A millimetre more, for whether a voxel right on the surface is inside is a matter of rounding.
    numbers = likely_bodies(GRID, None, CENTRES, AXES, EXTENTS + [0, 1, 1], UNKNOWN, partly=False)
    assert np.flatnonzero(numbers[:, 20, 30] == 1).tolist() == list(range(1, 10))  # 36 mm of 4 mm slices
    assert np.flatnonzero(numbers[5, :, 30] == 1).tolist() == list(range(10, 31))
    assert np.flatnonzero(numbers[5, 20] == 1).tolist() == list(range(15, 46))


def test_where_bodies_overlap_a_voxel_belongs_to_the_nearer_centre():
    numbers = likely_bodies(GRID, None, CENTRES, AXES, EXTENTS * [1, 3, 1], UNKNOWN, partly=False)
    assert numbers[5, 36, 30] == 1
    assert numbers[5, 39, 30] == 2


def test_drawn_background_is_in_no_body():
    drawn = np.zeros(GRID.shape, np.uint8)
    drawn[5, 18:23, 28:33] = 1
    numbers = likely_bodies(GRID, drawn, CENTRES, AXES, EXTENTS, UNKNOWN, partly=True)
    assert np.array_equal(numbers, drawn)


def test_of_a_vertebra_drawn_whole_there_is_no_more_where_nothing_is_known():
    drawn = np.full(GRID.shape, UNKNOWN, np.uint8)
    drawn[5, 18:23, 28:33] = 1
    whole, partly = (likely_bodies(GRID, drawn, CENTRES, AXES, EXTENTS, UNKNOWN, partly=p) for p in (False, True))
    assert (whole == 1).sum() == 25
    assert (partly == 1).sum() > 25


def test_without_centres_only_what_is_drawn_counts():
    drawn = np.full(GRID.shape, UNKNOWN, np.uint8)
    assert not likely_bodies(GRID, drawn, np.zeros((0, 3)), AXES[:0], np.zeros((0, 3)), UNKNOWN, partly=False).any()


def distance(points_mm, extent_mm=(40.0, 28.0, 34.0)):
    """Of points left-right, along the spine and front-back of the centre; the grid is turned against these axes."""
    axes = np.array([[0.0, 0.0, 1.0], [0.6, 0.8, 0.0], [0.8, -0.6, 0.0]]).T
    found = []
    for point in points_mm:
        origin = tuple(axes @ np.array(point, float) + 5)
        voxel = Geometry(shape=(1, 1, 1), spacing_mm=(1.0, 1.0, 1.0), origin_lps=origin, direction=GRID.direction)
        found.append(body_distance(voxel, np.full(3, 5.0), axes, np.array(extent_mm)).item())
    return found


# A body is 1.12 times as wide, against its other sizes, as its box: 1.12^(2/3) = 1.0785 and 1.12^(-1/3) = 0.9629 of it.
WIDE, NARROW = 1.0785, 0.9629


def test_a_body_ends_at_half_its_size_along_each_axis():
    ends = [(20 * WIDE, 0, 0), (0, -14 * NARROW, 0), (0, 0, 17 * NARROW)]
    assert distance(ends) == pytest.approx([1, 1, 1], abs=1e-3)


def test_a_body_twice_as_large_has_twice_the_distance():
    assert distance([(20, 14, 17)])[0] == pytest.approx(2 * distance([(10, 7, 8.5)])[0])


def test_end_plates_are_flat_and_seen_from_above_corners_are_round():
    # (0.5^2.2 + 0.5^2.2)^(1 / 2.2), against which 0.98 along the spine hardly adds.
    assert distance([(10 * WIDE, 13.72 * NARROW, 8.5 * NARROW)])[0] == pytest.approx(0.98, abs=0.005)
    # (2 * 0.8^2.2)^(1 / 2.2) = 0.8 * 2^(1 / 2.2)
    assert distance([(16 * WIDE, 0, 13.6 * NARROW)])[0] == pytest.approx(0.8 * 2 ** (1 / 2.2), abs=1e-3)


def test_a_body_has_the_share_of_its_box_in_volume_that_is_told():
    grid = Geometry(
        shape=(132, 132, 132), spacing_mm=(1 / 60,) * 3, origin_lps=(-1.1 + 1 / 120,) * 3,
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )  # fmt: skip
    inside = body_distance(grid, np.zeros(3), np.eye(3), np.full(3, 2.0)) <= 1
    assert inside.sum() / 120**3 == pytest.approx(FILL_OF_BODY, abs=0.003)


PLAN = SimpleNamespace(
    level_statistics={
        "L1": LevelStatistics(count=9, extent_mm=(40.0, 26.0, 32.0), pitch_mm=34.0),
        "L2": LevelStatistics(count=9, extent_mm=(42.0, 27.0, 33.0), pitch_mm=36.0),
        "L3": LevelStatistics(count=9, extent_mm=(44.0, 28.0, 34.0)),
    }
)  # fmt: skip


def test_bodies_of_a_spine_of_longer_pitch_are_larger():
    centres = [(0.0, 0.0, 0.0), (0.0, 0.0, -44.0), (0.0, 0.0, -84.0)]
    # 84 mm where 34 + 36 are usual
    expected = np.array([[40, 26, 32], [42, 27, 33], [44, 28, 34]]) * 1.2**0.7
    assert extents_by_pitch_mm(PLAN, ["L1", "L2", "L3"], centres) == pytest.approx(expected)


def test_in_a_spine_without_a_thirteenth_rib_the_twelfth_thoracic_is_next_to_the_first_lumbar():
    statistics = {"T12": LevelStatistics(count=9, extent_mm=(38.0, 24.0, 30.0), pitch_mm=30.0)}
    found = extents_by_pitch_mm(SimpleNamespace(level_statistics=statistics), ["T12", "L1"], [(0, 0, 0), (0, 0, -33)])
    assert found[0] == pytest.approx(np.array([38, 24, 30]) * 1.1**0.7)


@pytest.mark.parametrize(("pitch_mm", "ratio"), [(0.0, 0.75), (340.0, 1.35)])
def test_a_wrong_centre_makes_no_monstrous_body(pitch_mm, ratio):
    found = extents_by_pitch_mm(PLAN, ["L1", "L2"], [(0, 0, 0), (0, 0, -pitch_mm)])
    assert found[0] == pytest.approx(np.array([40, 26, 32]) * ratio**0.7)


@pytest.mark.parametrize("levels", [["L1", "L3"], ["L2"], ["L3", "L4"]])
def test_without_neighbours_of_known_pitch_bodies_have_the_usual_size(levels):
    centres = [(0.0, 0.0, -50.0 * i) for i in range(len(levels))]
    usual = {"L1": (40, 26, 32), "L2": (42, 27, 33)}
    assert extents_by_pitch_mm(PLAN, levels, centres) == pytest.approx(
        np.array([usual.get(level, (44, 28, 34)) for level in levels])
    )


def test_a_scan_without_centres_has_no_sizes():
    assert extents_by_pitch_mm(PLAN, [], np.zeros((0, 3))).shape == (0, 3)
