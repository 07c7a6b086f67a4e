import numpy as np
import pytest

from spinecls.beliefs.bags import bag_map, exists_bag, size_bag


def region(*rows):
    mask = np.zeros((1, 4, 4), bool)
    mask[0, list(rows)] = True
    return mask


def test_overlapping_regions_keep_their_own_voxels():
    first, second = region(0, 1), region(1, 2)
    made = bag_map([size_bag(first, [1], 0.2, 0.8), size_bag(second, [1], 0.0, 0.0)], (1, 4, 4), 2)
    assert np.array_equal(made.members[:, 0][made.codes], first)
    assert np.array_equal(made.members[:, 1][made.codes], second)


def test_bounds_and_sizes_are_kept():
    made = bag_map([size_bag(region(0, 1), [1], 0.2, 0.8), size_bag(region(3), [1], 0.0, 0.0)], (1, 4, 4), 2)
    assert made.low.tolist() == pytest.approx([0.2, 0.0])
    assert made.high.tolist() == pytest.approx([0.8, 0.0])
    assert made.voxels.tolist() == [8, 4]


def test_existing_is_thirty_cubic_millimetres_of_the_region():
    assert exists_bag(region(0, 1), [1], voxel_mm3=15.0).low == pytest.approx(30 / 120)


def test_a_region_smaller_than_a_lesion_is_full_of_it():
    assert exists_bag(region(0), [1], voxel_mm3=1.0).low == 1.0


def test_without_bags_no_voxel_is_in_one():
    made = bag_map([], (1, 4, 4), 2)
    assert not made.codes.any()
    assert made.members.shape == (1, 0)
