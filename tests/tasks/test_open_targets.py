import numpy as np
import pytest

from spinecls.tasks.open_targets import heatmap_target, offset_target

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
