import numpy as np
import pytest

from spinecls.dataloading.cases import unknown_zone
from spinecls.dataloading.targets import binary_map, centres_in_patch, heatmap_target, offset_target

SPACING = (4.0, 1.0, 1.0)


def test_heat_is_one_at_a_centre_and_falls_by_millimetres():
    heat = heatmap_target((9, 40, 40), np.array([[4.0, 20.0, 20.0]]), SPACING, sigma_mm=4.0)
    assert heat[4, 20, 20] == pytest.approx(1)
    assert heat[5, 20, 20] == pytest.approx(np.exp(-0.5))
    assert heat[4, 24, 20] == pytest.approx(np.exp(-0.5))


def test_two_centres_keep_their_own_peaks():
    heat = heatmap_target((9, 60, 40), np.array([[4.0, 10, 20], [4.0, 45, 20]]), SPACING, 5.0)
    assert heat[4, 10, 20] == pytest.approx(1)
    assert heat[4, 45, 20] == pytest.approx(1)
    assert heat.max() <= 1


def test_a_centre_far_outside_leaves_no_heat():
    assert heatmap_target((9, 40, 40), np.array([[4.0, 300.0, 20.0]]), SPACING, 5.0).max() == 0


def test_offsets_point_from_the_voxels_of_a_vertebra_to_its_centre_in_ten_millimetres():
    vertebra_map = np.zeros((9, 40, 40), np.uint8)
    vertebra_map[4, 15, 22] = 2
    centres = np.array([[4.0, 5.0, 5.0], [5.0, 20.0, 20.0]])
    offset, known = offset_target((9, 40, 40), centres, SPACING, vertebra_map)
    assert offset[:, 4, 15, 22] == pytest.approx([0.4, 0.5, -0.2])
    assert known.sum() == 1


def test_a_case_without_a_map_is_unknown_everywhere():
    assert (binary_map(None, (2, 3, 4)) == 255).all()


def test_centres_near_the_patch_border_are_not_named():
    centres = np.array([[0.0, 5, 5], [4.0, 0.5, 5], [4.0, 20, 39.5], [8.4, 20, 20]])
    assert centres_in_patch(centres, (9, 40, 40)).tolist() == [0, 3]


def test_only_the_column_above_and_below_the_annotated_span_is_unknown():
    centres = np.array([[5.0, 60.0, 30.0], [5.0, 90.0, 30.0], [5.0, 120.0, 30.0]])
    extents = np.array([[24.0, 26.0, 30.0]] * 3)
    zone = unknown_zone((11, 180, 80), centres, np.array(SPACING), extents)
    assert zone[5, 30, 30]            # above the first
    assert zone[5, 150, 30]           # below the last
    assert not zone[5, 60:121, :].any()  # the annotated span
    assert not zone[5, 40, 75]        # beside the column
    assert not zone[0, 40, 30]        # slices beside it


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
