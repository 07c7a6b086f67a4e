"""Centres from heatmaps."""

import time

import numpy as np
import pytest

from spinecls.errors import ModelError
from spinecls.inference.peaks import MOST_CENTRES, find_centres

SPACING_MM = (4.0, 1.0, 1.0)
SHAPE = (12, 90, 60)


def gaussian(centres_index, shape=SHAPE, spacing_mm=SPACING_MM, sigma_mm=6.0, heights=None):
    """Maximum of ideal Gaussians at continuous indices."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    heights = heights or [1.0] * len(centres_index)
    layers = [
        height * np.exp(-(((grid - centre) * spacing_mm) ** 2).sum(axis=-1) / (2 * sigma_mm**2))
        for centre, height in zip(centres_index, heights, strict=True)
    ]
    return np.max(layers, axis=0).astype(np.float32)


def offsets_to(centre_index, shape=SHAPE, spacing_mm=SPACING_MM):
    """Exact vectors from every voxel to one centre, mm."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    spacing = np.array(spacing_mm)[:, None, None, None]
    return ((np.array(centre_index)[:, None, None, None] - grid) * spacing).astype(np.float32)


def test_ideal_gaussian_on_thick_slices_is_found_exactly():
    for centre in np.random.default_rng(0).uniform((2, 10, 10), (9, 80, 50), (30, 3)):
        found = find_centres(gaussian([centre]), None, SPACING_MM, threshold=0.3, min_distance_mm=12)
        assert found.index.shape == (1, 3)
        np.testing.assert_allclose(found.index[0], centre, atol=2e-3)


def test_gaussian_midway_between_slices_is_found_exactly():
    found = find_centres(gaussian([(5.5, 40.0, 30.25)]), None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [(5.5, 40.0, 30.25)], atol=2e-3)


@pytest.mark.parametrize("centre", [(0.3, 40.2, 30.1), (5.1, -0.4, 59.3), (11.4, 89.2, 0.2)])
def test_gaussian_at_the_border_is_found_exactly(centre):
    found = find_centres(gaussian([centre]), None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [centre], atol=2e-3)


def test_gaussian_centred_outside_the_image_stays_within_half_a_voxel_of_it():
    found = find_centres(gaussian([(5.0, -3.0, 30.0)]), None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [(5.0, -0.5, 30.0)], atol=2e-3)


def test_image_of_two_slices_is_refined_in_plane_only():
    heat = gaussian([(0.3, 40.3, 30.4)], (2, 90, 60))
    found = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [(0.0, 40.3, 30.4)], atol=2e-3)


def test_score_is_the_heat_and_the_hottest_comes_first():
    heat = gaussian([(5, 20, 30), (5, 60, 30)], heights=[0.6, 0.9])
    found = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.score, [0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.index, [(5, 60, 30), (5, 20, 30)], atol=2e-3)


def test_heat_below_the_threshold_is_no_centre():
    heat = gaussian([(5, 20, 30), (5, 60, 30)], heights=[0.29, 0.9])
    found = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    assert found.score.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(("apart", "expected"), [((2, 0, 0), 1), ((4, 0, 0), 2), ((0, 11, 0), 1), ((0, 13, 0), 2)])
def test_least_distance_is_measured_in_millimetres(apart, expected):
    # 2 slices = 8 mm, 4 slices = 16 mm, 11 and 13 rows = 11 and 13 mm, against 12 mm.
    first = np.array((3, 30, 30))
    heat = gaussian([first, first + apart], sigma_mm=2.0, heights=[1.0, 0.8])
    found = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    assert len(found.score) == expected


def test_of_the_noise_of_an_untrained_network_only_the_hottest_centres_are_looked_at():
    heat = np.random.default_rng(0).uniform(0.3, 0.9, (8, 60, 60)).astype(np.float32)
    found = find_centres(heat, None, (4.0, 4.0, 4.0), threshold=0.3, min_distance_mm=12)
    assert len(found.score) == MOST_CENTRES
    assert found.score[0] == heat.max()
    assert (np.diff(found.score) <= 0).all()


def test_flat_top_is_one_centre_at_its_middle():
    heat = np.minimum(gaussian([(5, 40, 30)]), np.float32(0.8))
    found = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=1)
    np.testing.assert_allclose(found.index, [(5, 40, 30)], atol=2e-3)


def test_single_hot_voxel_is_its_own_centre():
    heat = np.zeros(SHAPE, np.float32)
    heat[5, 40, 30] = 1
    found = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [(5, 40, 30)], atol=1e-9)


def test_cold_map_has_no_centres():
    cold = np.zeros(SHAPE, np.float32)
    found = find_centres(cold, offsets_to((5, 40, 30)), SPACING_MM, threshold=0.3, min_distance_mm=12)
    assert found.index.shape == (0, 3)
    assert found.score.shape == (0,)


def test_offsets_correct_a_displaced_peak():
    # Heat 2 mm below the place that all offsets agree on.
    found = find_centres(
        gaussian([(5.2, 42.4, 30.1)]), offsets_to((5.2, 40.4, 30.1)), SPACING_MM, threshold=0.3, min_distance_mm=12
    )
    np.testing.assert_allclose(found.index, [(5.2, 40.4, 30.1)], atol=2e-3)


def test_voxels_that_point_to_a_neighbour_have_no_vote():
    centre, neighbour = (5.0, 40.0, 30.0), (5.0, 66.0, 30.0)
    offset_mm = offsets_to(centre)
    offset_mm[:, :, 44:] = offsets_to(neighbour)[:, :, 44:]
    found = find_centres(gaussian([centre]), offset_mm, SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [centre], atol=2e-3)


def test_two_peaks_that_point_at_one_place_are_one_centre():
    heat = gaussian([(5, 36, 30), (5, 44, 30)], sigma_mm=2.0, heights=[1.0, 0.9])
    apart = find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=7.9)
    joined = find_centres(heat, offsets_to((5, 39, 30)), SPACING_MM, threshold=0.3, min_distance_mm=7.9)
    assert len(apart.score) == 2
    np.testing.assert_allclose(joined.index, [(5, 39, 30)], atol=1e-2)


def test_votes_at_the_border_stay_exact():
    centre = (0.0, 1.2, 58.7)
    found = find_centres(gaussian([centre]), offsets_to(centre), SPACING_MM, threshold=0.3, min_distance_mm=12)
    np.testing.assert_allclose(found.index, [centre], atol=2e-3)


def test_heat_that_is_not_a_number_is_an_error():
    heat = gaussian([(5, 40, 30)])
    heat[0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="heatmap"):
        find_centres(heat, None, SPACING_MM, threshold=0.3, min_distance_mm=12)


def test_offset_that_is_not_a_number_is_an_error():
    offset_mm = offsets_to((5, 40, 30))
    offset_mm[0, 5, 41, 30] = np.nan
    with pytest.raises(ModelError, match="offsets"):
        find_centres(gaussian([(5, 40, 30)]), offset_mm, SPACING_MM, threshold=0.3, min_distance_mm=12)


def test_offsets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="offsets"):
        find_centres(gaussian([(5, 40, 30)]), np.zeros((2, *SHAPE)), SPACING_MM, threshold=0.3, min_distance_mm=12)


def test_column_of_a_whole_scan_takes_less_than_a_second():
    shape = (20, 380, 380)
    heat = np.zeros(shape, np.float32)
    part = gaussian([(6, 20, 20)], (12, 40, 40))
    for row in range(10, 340, 33):
        heat[4:16, row : row + 40, 150:190] = np.maximum(heat[4:16, row : row + 40, 150:190], part)
    heat += np.random.default_rng(0).uniform(0, 0.01, shape).astype(np.float32)
    offset_mm = np.zeros((3, *shape), np.float32)
    start = time.process_time()
    found = find_centres(heat, offset_mm, SPACING_MM, threshold=0.3, min_distance_mm=14)
    # About 0.1 s; the bound leaves room for a busy machine.
    assert time.process_time() - start < 1.0
    assert len(found.score) == 10
