from types import SimpleNamespace

import numpy as np
import pytest

from spinecls.anatomy import LEVELS
from spinecls.dataloading.beyond import distance_to_sacrum_mm, implied_neighbours, unknown_zone
from spinecls.planning.plan import LevelStatistics

SPACING = (4.0, 1.0, 1.0)
PLAN = SimpleNamespace(level_statistics={"L2": LevelStatistics(count=3, extent_mm=(16.0, 14.0, 14.0), pitch_mm=24.0)})


@pytest.mark.parametrize(("level", "expected"), [("S1", 0.0), ("L5", 25.2), ("L4", 42.0), ("L2", 24 + 3 * 16.8 + 8.4)])
def test_below_the_last_vertebra_there_is_room_down_to_the_end_of_s1(level, expected):
    # Pitch 24 mm of L2; a disc more than the height of 14 mm, 16.8 mm, of levels never seen.
    assert distance_to_sacrum_mm(PLAN, level) == pytest.approx(expected)


def test_the_neighbours_of_an_annotated_span_have_names_though_nobody_drew_them():
    # L4 and L5 in line, 20 mm apart along the rows: S1 comes 16.8 mm below L5 and L3 as far above L4.
    centres = np.array([[3.0, 30.0, 20.0], [3.0, 50.0, 20.0]])
    places, ranks = implied_neighbours(PLAN, ["L4", "L5"], centres, np.array([4.0, 1.0, 1.0]))
    assert [LEVELS[rank] for rank in ranks] == ["L3", "S1"]
    np.testing.assert_allclose(places, [[3, 13.2, 20], [3, 66.8, 20]])


def test_the_bend_of_the_column_goes_on_to_the_implied_neighbour():
    # Steps (20, 0), then (20, 5) along rows and columns; the next goes on by (20, 10), to S1 by (20, 15), scaled to the
    # pitch of 16.8 mm.
    centres = np.array([[3.0, 5.0, 20.0], [3.0, 25.0, 20.0], [3.0, 45.0, 25.0]])
    for levels, below, step in ((["L1", "L2", "L3"], "L4", 10), (["L3", "L4", "L5"], "S1", 15)):
        places, ranks = implied_neighbours(PLAN, levels, centres, np.array([4.0, 1.0, 1.0]))
        assert LEVELS[ranks[-1]] == below
        along = 16.8 / np.hypot(20, step)
        np.testing.assert_allclose(places[-1], [3, 45 + 20 * along, 25 + step * along])


def test_only_the_column_above_and_below_the_annotated_span_is_unknown():
    centres = np.array([[5.0, 60.0, 30.0], [5.0, 90.0, 30.0], [5.0, 120.0, 30.0]])
    extents = np.array([[24.0, 26.0, 30.0]] * 3)
    zone = unknown_zone((11, 180, 80), centres, np.array(SPACING), extents)
    assert zone[5, 30, 30]  # above the first
    assert zone[5, 150, 30]  # below the last
    assert not zone[5, 60:121, :].any()  # the annotated span
    assert not zone[5, 40, 75]  # beside the column
    assert not zone[0, 40, 30]  # slices beside it


def test_the_unknown_zone_follows_the_direction_of_the_column():
    centres = np.array([[5.0, 60.0, 20.0], [5.0, 90.0, 35.0], [5.0, 120.0, 50.0]])
    zone = unknown_zone((11, 200, 110), centres, np.array(SPACING), np.array([[40.0, 26.0, 30.0]] * 3))
    assert zone[5, 160, 70]
    assert not zone[5, 160, 20]


def test_the_zone_below_goes_to_where_the_next_vertebra_is():
    centres = np.array([[5.0, 60.0, 50.0], [5.0, 90.0, 50.0], [5.0, 120.0, 50.0]])
    extents = np.array([[40.0, 26.0, 30.0]] * 3)
    bent = unknown_zone((11, 200, 110), centres, np.array(SPACING), extents, 50.0, np.array([5.0, 145.0, 70.0]))
    assert bent[5, 150, 75]
    # 35 rows below and 20 columns in front: within the straight beam, not within the bent one.
    assert unknown_zone((11, 200, 110), centres, np.array(SPACING), extents, 50.0)[5, 155, 30]
    assert not bent[5, 155, 30]


def test_everything_is_unknown_where_nothing_is_annotated():
    assert unknown_zone((2, 3, 4), np.zeros((0, 3)), np.array(SPACING), np.zeros((0, 3))).all()
