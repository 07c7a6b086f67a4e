"""The curve of the spine."""

import os
from pathlib import Path

import numpy as np
import pytest
from SimpleITK import LabelShapeStatisticsImageFilter, ReadImage

from spinecls.curve import SMOOTHNESS_MM3, _smooth, drop_outliers, fit_spine_curve, tangents_lps

DATA = Path(os.environ.get("SPINECLS_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
FOOTWARD = [0.0, 0.0, -1.0]


def lordosis(count=9, pitch_mm=32.0, radius_mm=160.0):
    """Centres on a circle in the sagittal plane, head to feet, bulging to the front."""
    angle = (np.arange(count) - (count - 1) / 2) * pitch_mm / radius_mm
    return np.column_stack([np.zeros(count), radius_mm * (1 - np.cos(angle)), -radius_mm * np.sin(angle)])


def scoliosis(count=17, pitch_mm=27.0, lateral_mm=40.0):
    """S-shaped centres, each bow `lateral_mm` to its side."""
    down = np.arange(count) * pitch_mm
    return np.column_stack([lateral_mm * np.sin(2 * np.pi * down / down[-1]), np.zeros(count), -down])


def shuffled(centres, seed=3):
    rows = np.random.default_rng(seed).permutation(len(centres))
    return centres[rows], np.argsort(rows)


def test_straight_column_has_footward_tangents():
    centres = np.column_stack([np.full(6, 3.0), np.full(6, -7.0), -30.0 * np.arange(6)])
    np.testing.assert_allclose(tangents_lps(centres), np.tile(FOOTWARD, (6, 1)), atol=1e-4)


def test_tilted_column_has_its_own_direction():
    direction = np.array([0.2, -0.5, -0.8]) / np.linalg.norm([0.2, -0.5, -0.8])
    centres = 30.0 * np.arange(5)[:, None] * direction
    np.testing.assert_allclose(tangents_lps(centres), np.tile(direction, (5, 1)), atol=1e-4)


def test_tangents_of_a_circular_lordosis_follow_the_circle():
    centres = lordosis()
    angle = (np.arange(9) - 4) * 32 / 160
    expected = np.column_stack([np.zeros(9), np.sin(angle), -np.cos(angle)])
    degrees = np.degrees(np.arccos(np.clip((tangents_lps(centres) * expected).sum(axis=1), -1, 1)))
    assert degrees[1:-1].max() < 6
    # The ends straighten, as nothing beyond them bends the curve.
    assert degrees.max() < 16


def test_tangents_come_in_the_order_of_the_centres():
    centres, _ = shuffled(lordosis())
    head_first = np.argsort(-centres[:, 2])
    np.testing.assert_allclose(tangents_lps(centres)[head_first], tangents_lps(lordosis()), atol=1e-9)


def test_tangent_of_one_row_is_that_row_of_all():
    curve = fit_spine_curve(lordosis())
    np.testing.assert_array_equal(curve.tangent(2), curve.tangents_lps[2])


def test_order_runs_from_head_to_feet():
    centres, expected = shuffled(scoliosis())
    np.testing.assert_array_equal(fit_spine_curve(centres).order, expected)


def test_order_follows_a_tilted_column_rather_than_height():
    # Column tilted by 45 degrees; the fourth centre moved 9 mm across it comes to lie higher than the third.
    along = np.array([0, -1, -1]) / np.sqrt(2)
    across = np.array([0, -1, 1]) / np.sqrt(2)
    centres = np.array([0, 25, 50, 58, 83, 108])[:, None] * along
    centres[3] += 9 * across
    assert centres[3, 2] > centres[2, 2]
    np.testing.assert_array_equal(fit_spine_curve(centres).order, np.arange(6))


def test_distance_is_measured_from_the_curve_without_the_centre():
    # A straight column refitted without its displaced middle is straight again, 20 mm away.
    centres = np.column_stack([np.zeros(7), np.zeros(7), -30.0 * np.arange(7)])
    centres[3, 1] = -20
    curve = fit_spine_curve(centres)
    assert curve.outliers_mm[3] == pytest.approx(20, abs=0.01)


def test_distance_by_leverage_equals_fitting_again_without_the_centre():
    centres = lordosis(8) + np.random.default_rng(1).normal(0, 3, (8, 3))
    curve = fit_spine_curve(centres)
    # Without an inner centre the knots stay; only the fit changes.
    for i in range(1, 7):
        others = np.delete(centres, i, axis=0)
        spline, _ = _smooth(-others[:, 2], others[:, :2], SMOOTHNESS_MM3)
        off = np.append(centres[i, :2] - spline(-centres[i, 2]), 0)
        tangent = curve.tangent(i)
        assert curve.outliers_mm[i] == pytest.approx(np.linalg.norm(np.cross(off, tangent)), rel=1e-6)


def test_scoliosis_is_no_outlier():
    assert len(drop_outliers(scoliosis(), np.ones(17))) == 17


def test_lordosis_is_no_outlier():
    assert len(drop_outliers(lordosis(), np.ones(9))) == 9


@pytest.mark.parametrize("row", range(1, 8))
def test_detection_20_mm_in_front_of_the_column_is_dropped(row):
    centres = lordosis()
    extra = (centres[row - 1] + centres[row]) / 2 + [0, -20, 0]
    scores = np.append(np.full(9, 0.8), 0.7)
    np.testing.assert_array_equal(drop_outliers(np.vstack([centres, extra]), scores), np.arange(9))


def test_two_detections_off_the_column_are_both_dropped():
    centres = scoliosis()
    extra = [centres[4] + [25, -5, 10], centres[12] + [0, -30, -10]]
    np.testing.assert_array_equal(drop_outliers(np.vstack([centres, extra]), np.ones(19)), np.arange(17))


def test_of_two_that_contradict_each_other_the_less_certain_is_dropped():
    # Nothing but the score says which of the two last ones continues the column.
    centres = np.column_stack([np.zeros(6), np.zeros(6), -30.0 * np.arange(6)])
    centres[4:, 1] = 30, -30
    for scores, gone in (([1, 1, 1, 1, 0.4, 0.9], 4), ([1, 1, 1, 1, 0.9, 0.4], 5)):
        assert gone not in drop_outliers(centres, np.array(scores))


def test_kept_rows_come_from_head_to_feet():
    centres, expected = shuffled(lordosis())
    np.testing.assert_array_equal(drop_outliers(centres, np.ones(9)), expected)


def test_limit_decides_what_is_dropped():
    centres = np.column_stack([np.zeros(9), np.zeros(9), -30.0 * np.arange(9)])
    centres[4, 1] = -14
    assert len(drop_outliers(centres, np.ones(9), limit_mm=40)) == 9
    assert 4 not in drop_outliers(centres, np.ones(9), limit_mm=5)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_centres_all_stay_and_have_unit_tangents(count):
    centres = np.array([[0, 0, 0], [30, -40, -30], [0, 0, -60.0]])[:count]
    np.testing.assert_array_equal(drop_outliers(centres, np.ones(count)), np.arange(count))
    tangents = tangents_lps(centres)
    assert tangents.shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), 1)


def test_single_centre_points_to_the_feet():
    np.testing.assert_allclose(tangents_lps([[5, 6, 7]]), [FOOTWARD], atol=1e-9)


def test_two_centres_point_from_one_to_the_other():
    np.testing.assert_allclose(tangents_lps([[0, 0, 0], [0, -18, -24]]), [[0, -0.6, -0.8]] * 2, atol=1e-4)


def test_centres_at_one_height_have_footward_tangents():
    np.testing.assert_allclose(tangents_lps([[0, 0, 0], [10, 0, 0]]), [FOOTWARD] * 2, atol=1e-6)


def test_no_outlined_vertebra_of_real_spines_is_dropped():
    maps = sorted((DATA / "Dataset001_LumbarSpA" / "labelsTr").glob("VB[12]*.nii.gz"))[:12]
    if not maps:
        pytest.skip(f"no real label maps in {DATA}; set SPINECLS_TEST_DATA")
    for path in maps:
        shapes = LabelShapeStatisticsImageFilter()
        shapes.Execute(ReadImage(str(path)))
        centres = np.array([shapes.GetCentroid(label) for label in shapes.GetLabels()])
        assert len(drop_outliers(centres, np.ones(len(centres)))) == len(centres), path.name


def test_tangents_turn_with_an_oblique_scan():
    from spinecls.curve import image_tangents_lps, tangents_lps
    from spinecls.geometry import Geometry

    angle = 0.3
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    straight = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    centres = np.array([[0.0, 5 * np.sin(z / 40), -z] for z in range(0, 200, 30)])
    values = {"shape": (9, 200, 100), "spacing_mm": (4.0, 1.0, 1.0), "origin_lps": (0.0, 0.0, 0.0)}
    upright = Geometry(**values, direction=tuple(map(tuple, straight)))
    oblique = Geometry(**values, direction=tuple(map(tuple, turn @ straight)))
    expected = tangents_lps(centres)
    assert np.allclose(image_tangents_lps(centres, upright), expected, atol=1e-6)
    assert np.allclose(image_tangents_lps(centres @ turn.T, oblique), expected @ turn.T, atol=1e-6)
