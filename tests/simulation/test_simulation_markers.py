import numpy as np
import pytest
from scipy import ndimage
from simulation_scans import COLUMNS, SHAPE, SPACING_MM, body_map, diseased, geometry, rows, scan, simulated

from spinecls.simulation.image_markers import corner_weights
from spinecls.testing.phantom_images import axes_lps

BODIES = body_map() > 0
NEAR = ndimage.binary_dilation(BODIES, np.ones((1, 3, 3)))


def test_distractors_touch_no_body_and_change_something():
    plain, spotted = simulated(seed=1), simulated(seed=1, distractors=1.0)
    moved = plain.image[0] != spotted.image[0]
    assert len(rows(spotted, "distractor")) >= 2
    assert moved.any()
    assert not (moved & NEAR).any()


def test_distractors_do_not_depend_on_the_classes():
    healthy, ill = (simulated(prevalence=p, distractors=1.0, seed=2) for p in (0.01, 0.99))
    assert set(diseased(healthy).values()) == {False}
    assert set(diseased(ill).values()) == {True}
    np.testing.assert_array_equal(healthy.image[0][~BODIES], ill.image[0][~BODIES])
    assert (healthy.image[0][~BODIES] != scan()[0][~BODIES]).any()


def test_distractors_are_as_frequent_as_asked_for():
    count = sum(len(rows(simulated(case=f"c{n}", distractors=0.3), "distractor")) for n in range(60))
    assert count / 180 == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 180))


@pytest.mark.parametrize("shortcuts", [("m1",), ("m2",), ("m3",), ("m1", "m2", "m3")])
def test_lesions_are_the_same_whatever_the_correlation_of_the_markers(shortcuts):
    plain = simulated(case="x", seed=4)
    for correlation in (0.0, 0.5, 1.0):
        marked = simulated(case="x", seed=4, shortcuts=shortcuts, shortcut_correlation=correlation)
        assert marked.classes == plain.classes
        np.testing.assert_array_equal(marked.image[0][BODIES], plain.image[0][BODIES])
        np.testing.assert_array_equal(marked.outlines, plain.outlines)
        assert rows(marked, "lesion") == rows(plain, "lesion")


@pytest.mark.parametrize("marker", ["m1", "m2"])
def test_markers_stand_beside_all_diseased_vertebrae_or_beside_all_normal_ones(marker):
    for number in range(5):
        for correlation in (1.0, 0.0):
            case = simulated(case=f"c{number}", shortcuts=(marker,), shortcut_correlation=correlation)
            marked = {insert.level for insert in rows(case, "marker")}
            assert marked == {level for level, ill in diseased(case).items() if ill == (correlation == 1.0)}


@pytest.mark.parametrize("marker", ["m1", "m2"])
def test_the_rate_of_a_marker_is_its_correlation_in_diseased_and_the_rest_in_normal_vertebrae(marker):
    rate = {True: [], False: []}
    for number in range(60):
        case = simulated(case=f"c{number}", shortcuts=(marker,), shortcut_correlation=0.8, prevalence=0.5)
        marked = {insert.level for insert in rows(case, "marker")}
        for level, ill in diseased(case).items():
            rate[ill].append(level in marked)
    for ill, expected in ((True, 0.8), (False, 0.2)):
        assert np.mean(rate[ill]) == pytest.approx(expected, abs=4 * np.sqrt(0.16 / len(rate[ill])))


def test_the_blob_is_4_mm_wide_and_lies_8_to_15_mm_behind_the_body():
    case = simulated(prevalence=0.99, shortcuts=("m1",), shortcut_correlation=1.0)
    blobs = rows(case, "marker")
    assert len(blobs) == 3
    for blob in blobs:
        column = geometry().to_index(blob.centre_lps)[2]
        assert 8 - 1 <= column - (COLUMNS[1] - 0.5) <= 15 + 1
        assert np.sqrt(4 * blob.area_mm2 / np.pi) == pytest.approx(4, abs=0.8)


def test_the_band_lies_in_front_of_the_body_and_is_about_as_high():
    case = simulated(prevalence=0.99, shortcuts=("m2",), shortcut_correlation=1.0)
    for band in rows(case, "marker"):
        column = geometry().to_index(band.centre_lps)[2]
        assert 4 <= COLUMNS[0] - 0.5 - column <= 10
        assert 60 <= band.area_mm2 <= 120  # 4 mm wide, 0.9 of 26 mm high


def test_a_marker_has_the_contrast_asked_for():
    case = simulated(prevalence=0.99, shortcuts=("m2",), shortcut_correlation=1.0, shortcut_contrast=5.0)
    bands = rows(case, "marker")
    assert bands
    assert all(band.contrast == pytest.approx(5, rel=0.02) for band in bands)


def test_markers_change_no_voxel_of_a_body():
    plain = simulated(prevalence=0.99, seed=6)
    marked = simulated(prevalence=0.99, seed=6, shortcuts=("m1", "m2", "m3"), shortcut_correlation=1.0)
    moved = plain.image[0] != marked.image[0]
    assert moved.sum() > 100
    assert not (moved & BODIES).any()


def test_a_marker_keeps_its_place_from_one_correlation_to_another():
    places = {}
    for correlation in (0.5, 1.0):
        for number in range(8):
            case = simulated(case=f"c{number}", shortcuts=("m1",), shortcut_correlation=correlation)
            for insert in rows(case, "marker"):
                places.setdefault((number, insert.level), []).append(insert.centre_lps)
    both = [found for found in places.values() if len(found) == 2]
    assert len(both) > 2
    assert all(one == other for one, other in both)


def test_markers_of_a_turned_patient_are_turned():
    turn = axes_lps("LPS", 25.0)
    options = {"shortcuts": ("m1", "m2"), "shortcut_correlation": 1.0, "prevalence": 0.9, "distractors": 1.0}
    straight, oblique = simulated(**options), simulated(grid=geometry(turn), **options)
    assert len(straight.inserts) > 6
    for one, other in zip(straight.inserts, oblique.inserts, strict=True):
        np.testing.assert_allclose(turn @ one.centre_lps, other.centre_lps, atol=0.3)


def test_the_corners_come_nearest_first():
    # 130 rows, 110 columns: the place is 30 mm from the first row and 19 mm from the last column.
    weights = corner_weights(SHAPE, SPACING_MM, np.array([5, 30, 90]))
    assert [[w[0, 0], w[0, -1], w[-1, 0], w[-1, -1]] for w in weights] == [
        [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]  # fmt: skip


def test_an_empty_corner_is_not_the_one_that_is_blurred():
    image = scan()
    image[0, :, :30] = 0
    image[0, :, 104:, :22:2] = 200  # stripes in one corner below
    ill = float(any(diseased(simulated(image=image)).values()))
    case = simulated(image=image, shortcuts=("m3",), shortcut_correlation=ill)
    moved = (case.image[0] != simulated(image=image).image[0]).any(axis=0)
    assert moved.any()
    assert not moved[:60].any()
    assert not moved[:, 30:].any()


def test_the_blurred_corner_is_smoother_and_the_rest_is_not_touched():
    case = simulated(shortcuts=("m3",), shortcut_correlation=float(any(diseased(simulated()).values())))
    plain = simulated()
    moved = (case.image[0] != plain.image[0]).any(axis=0)
    assert len(rows(case, "marker")) == 1
    rows_moved, columns_moved = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
    assert np.ptp(rows_moved) < 0.2 * SHAPE[1]
    assert np.ptp(columns_moved) < 0.2 * SHAPE[2]
    corner = np.ix_(range(SHAPE[0]), rows_moved[3:-3], columns_moved[3:-3])
    assert case.image[0][corner].std() < 0.7 * plain.image[0][corner].std()


def test_the_gain_multiplies_the_whole_image_by_a_tenth_more():
    ill = float(any(diseased(simulated()).values()))
    case, plain = simulated(shortcuts=("m5",), shortcut_correlation=ill), simulated()
    below = plain.image < 150  # above, the range of the image clips
    ratio = case.image[below].mean(dtype=float) / plain.image[below].mean(dtype=float)
    assert ratio == pytest.approx(1.1, abs=0.002)


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_the_vertebra_below_carries_m4_by_the_state_of_the_one_above_and_says_so(correlation):
    seen = set()
    for number in range(12):
        case = simulated(case=f"c{number}", shortcuts=("m4",), shortcut_correlation=correlation)
        ill = diseased(case)
        assert ill["L2"] == (ill["L1"] if correlation == 1.0 else not ill["L1"])
        assert [i.marker for i in rows(case, "lesion") if i.level == "L2"] == (["m4"] if ill["L2"] else [])
        seen.add(ill["L1"])
    assert seen == {True, False}


def test_vertebrae_that_carry_no_m4_are_the_same_whatever_its_correlation():
    one, other = (simulated(case="c5", shortcuts=("m4",), shortcut_correlation=rho) for rho in (0.0, 1.0))
    plain = simulated(case="c5")
    assert one.classes["L2"] != other.classes["L2"]
    for code in (20, 22):
        body = body_map() == code
        np.testing.assert_array_equal(one.image[0][body], other.image[0][body])
        np.testing.assert_array_equal(one.image[0][body], plain.image[0][body])
