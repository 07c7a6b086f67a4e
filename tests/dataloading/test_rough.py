"""Outlines drawn wrong on purpose: how far they go, and what of the vertebra they may miss."""

import numpy as np
import pytest

from spinecls.dataloading.rough import (
    ADDED_SLICE_SHARE,
    FEWEST_SLICES,
    LOST_SLICE_SHARE,
    largest_growth_mm,
    rough_distance,
    smooth_field,
)
from spinecls.sealing.region import mask_distance

SPACING = (4.0, 1.0, 1.5)


def distance_of(slices=6, spacing_mm=SPACING):
    """A body of 24 x 27 mm in the middle slices of a box with an empty slice at each end."""
    mask = np.zeros((slices + 2, 44, 36), bool)
    mask[1:-1, 10:34, 9:27] = True
    return mask_distance(mask, spacing_mm)


def rough_ones(distance, error_mm=0.8, count=200, spacing_mm=SPACING):
    return [rough_distance(distance, spacing_mm, error_mm, np.random.default_rng(seed)) for seed in range(count)]


def slices_of(distance):
    return np.flatnonzero((distance <= 0).any(axis=(1, 2))).tolist()


def test_without_an_error_the_outline_is_as_it_is():
    distance = distance_of()
    assert rough_distance(distance, SPACING, 0.0, np.random.default_rng(0)) is distance


def test_the_largest_growth_by_hand():
    # Grown by 2.25 times the error all round, and the border wavers by twice the error at most.
    assert largest_growth_mm(0.8) == pytest.approx(4.25 * 0.8)


@pytest.mark.parametrize("error_mm", [0.3, 0.8, 2.0])
def test_no_outline_reaches_beyond_the_largest_growth(error_mm):
    distance = distance_of()
    reached = [distance[(rough <= 0) & np.isfinite(distance)].max() for rough in rough_ones(distance, error_mm)]
    assert max(reached) <= largest_growth_mm(error_mm)
    assert max(reached) > largest_growth_mm(error_mm) / 2


def test_no_outline_shrinks_by_more_than_it_may():
    # 1.5 times the error all round, and twice the error where it wavers.
    distance = distance_of()
    for rough in rough_ones(distance, 0.8):
        held = np.isfinite(rough) & np.isfinite(distance)
        assert (rough[held] - distance[held]).max() <= 3.5 * 0.8 + 1e-5


def test_an_outermost_slice_is_lost_or_the_one_beside_it_added_as_often_as_said():
    distance = distance_of()
    whole = slices_of(distance)
    found = [slices_of(rough) for rough in rough_ones(distance, count=600)]
    lost = [rest for rest in found if rest in (whole[1:], whole[:-1])]
    added = [more for more in found if more in ([0, *whole], [*whole, 7])]
    assert all(slices == whole for slices in found if slices not in lost + added)
    assert whole[1:] in lost
    assert whole[:-1] in lost
    assert [0, *whole] in added
    assert [*whole, 7] in added
    # Three deviations of a share of 600 draws; now and then nothing is left of an added slice.
    assert len(lost) / 600 == pytest.approx(LOST_SLICE_SHARE, abs=0.056)
    assert len(added) / 600 == pytest.approx(ADDED_SLICE_SHARE, abs=0.056)


def test_what_is_drawn_in_an_added_slice_lies_within_the_outermost_one():
    distance = distance_of()
    for rough in rough_ones(distance):
        for beside, outermost in ((0, 1), (7, 6)):
            assert np.all(rough[outermost][rough[beside] <= 0] <= 0)


def test_no_slice_is_added_beyond_the_box():
    distance = distance_of()[1:-1]
    assert all(set(slices_of(rough)) <= set(slices_of(distance)) for rough in rough_ones(distance))


@pytest.mark.parametrize("slices", range(1, 6))
def test_of_a_vertebra_of_few_slices_none_is_lost(slices):
    distance = distance_of(slices)
    some_lost = any(not set(slices_of(distance)) <= set(slices_of(rough)) for rough in rough_ones(distance))
    assert some_lost == (slices >= FEWEST_SLICES)


def test_an_outline_that_would_hold_nothing_is_the_true_one():
    mask = np.zeros((3, 20, 20), bool)
    mask[1, 10, 10] = True
    distance = mask_distance(mask, SPACING)
    found = rough_ones(distance, error_mm=3.0)
    assert any(rough is distance for rough in found)
    assert all((rough <= 0).any() for rough in found)


@pytest.mark.parametrize(("shape", "spacing_mm"), [((12, 60, 60), (4.0, 1.0, 1.0)), ((40, 40, 40), (1.0, 1.3, 0.7))])
def test_the_field_has_a_variance_of_one(shape, spacing_mm):
    fields = np.stack([smooth_field(shape, spacing_mm, np.random.default_rng(seed)) for seed in range(400)])
    assert fields.mean() == pytest.approx(0.0, abs=0.05)
    # Over all voxels and draws; knots have more, the middle between them less.
    assert fields.var() == pytest.approx(1.0, abs=0.1)


def test_the_field_is_smooth_over_ten_millimetres():
    field = smooth_field((3, 100, 100), (4.0, 1.0, 1.0), np.random.default_rng(0))
    neighbours = [np.corrcoef(field[1, :-step].ravel(), field[1, step:].ravel())[0, 1] for step in (1, 30)]
    assert neighbours[0] > 0.95
    assert abs(neighbours[1]) < 0.35


def test_a_voxel_counts_by_its_index_so_a_turned_or_flipped_grid_is_drawn_alike():
    # Nothing of a grid enters but its spacing: the same voxels seen from elsewhere are drawn the same.
    distance = distance_of()
    flipped = mask_distance((distance <= 0)[::-1, :, ::-1], SPACING)
    assert np.array_equal(flipped, distance[::-1, :, ::-1])
    one, two = (rough_distance(d, SPACING, 0.8, np.random.default_rng(4)) for d in (distance, flipped))
    finite = np.isfinite(one) & np.isfinite(two)
    assert np.allclose(distance[finite] - one[finite], flipped[finite] - two[finite], atol=1e-5)


def test_a_finer_grid_is_drawn_as_rough_in_millimetres():
    coarse = distance_of()
    mask = np.repeat(np.repeat(coarse <= 0, 2, axis=1), 2, axis=2)
    fine_mm = (4.0, 0.5, 0.75)
    fine = mask_distance(mask, fine_mm)
    sizes_mm3 = [
        np.mean([(rough <= 0).sum() for rough in rough_ones(distance, spacing_mm=spacing_mm)]) * np.prod(spacing_mm)
        for distance, spacing_mm in ((coarse, SPACING), (fine, fine_mm))
    ]
    assert sizes_mm3[1] / sizes_mm3[0] == pytest.approx(1.0, abs=0.06)
