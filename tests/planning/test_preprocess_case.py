from pathlib import Path

import numpy as np
import pytest

from spinecls.anatomy import LEVEL_CODES
from spinecls.geometry import Geometry
from spinecls.planning.preprocess_case import combine_readers, prepare_case, smallest_exact
from spinecls.records import Case, ClassReading, VertebraAnnotation

SHAPE = (6, 40, 60)
GRID = Geometry(
    shape=SHAPE,
    spacing_mm=(4.0, 2.0, 2.0),
    origin_lps=(10.0, 50.0, 90.0),
    direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


def image():
    volume = np.zeros((1, *SHAPE), np.float32)
    volume[..., 10:30] = 100 + np.random.default_rng(0).integers(0, 9, (*SHAPE[:2], 20))
    return volume


def prepare(vertebrae=(), vertebra_map=None, structures=None):
    case = Case(identifier="c", patient="p", images=(Path("c.nii"),), vertebrae=tuple(vertebrae))
    native, _ = prepare_case(
        case,
        image(),
        GRID,
        vertebra_map=vertebra_map,
        structures=structures,
        levels=LEVEL_CODES,
        configurations=(),
    )
    return native


def map_with(**boxes):
    labels = np.zeros(SHAPE, np.uint8)
    for level, box in boxes.items():
        labels[box] = LEVEL_CODES[level]
    return labels


def columns_kept(native):
    """First column and one past the last column of the image that the crop kept."""
    first = GRID.to_index(native.native_geometry.origin_lps)[2]
    return round(float(first)), round(float(first)) + native.native.shape[3]


def test_without_annotation_the_crop_follows_the_body():
    # The body ends at columns 10 and 30; its mask reaches 4 mm and the margin 8 mm, so six columns, beyond.
    assert columns_kept(prepare()) == (4, 36)


def test_the_crop_keeps_vertebrae_of_the_map_outside_the_body():
    assert columns_kept(prepare(vertebra_map=map_with(L1=np.s_[2:4, 5:9, 50:58]))) == (4, 58)


def test_the_ignore_label_does_not_widen_the_crop():
    labels = np.full(SHAPE, 255, np.uint8)
    assert columns_kept(prepare(vertebra_map=labels)) == (4, 36)


def test_the_crop_keeps_thirty_millimetres_around_an_annotated_point():
    point = VertebraAnnotation(level="L1", centre_lps=tuple(GRID.to_world([3, 20, 40])))
    assert columns_kept(prepare([point])) == (4, 56)


def test_the_crop_keeps_an_annotated_box():
    corners = (tuple(GRID.to_world([2, 12, 35])), tuple(GRID.to_world([4, 18, 45])))
    box = VertebraAnnotation(level="L1", box_lps=(tuple(np.min(corners, axis=0)), tuple(np.max(corners, axis=0))))
    assert columns_kept(prepare([box])) == (4, 46)


def test_the_centre_is_the_centroid_of_the_map_even_where_the_table_has_a_point():
    point = VertebraAnnotation(level="L1", centre_lps=(0.0, 0.0, 0.0))
    native = prepare([point], map_with(L1=np.s_[2:4, 10:14, 20:25]))
    np.testing.assert_allclose(native.vertebrae[0].centre_lps, GRID.to_world([2.5, 11.5, 22]))


def test_without_map_the_centre_is_the_point_of_the_table():
    point = VertebraAnnotation(level="L1", centre_lps=(1.0, 2.0, 3.0))
    assert prepare([point]).vertebrae[0].centre_lps == (1.0, 2.0, 3.0)


def test_a_vertebra_with_only_a_box_has_its_middle_as_centre():
    box = VertebraAnnotation(level="L1", box_lps=((0.0, -20.0, 10.0), (8.0, 10.0, 40.0)))
    assert prepare([box]).vertebrae[0].centre_lps == (4.0, -5.0, 25.0)


def test_a_vertebra_without_any_position_has_no_centre():
    reading = ClassReading(classes=("normal", "fat"), confidence=0.5, reader="r")
    row = VertebraAnnotation(level="L1", readings=(reading,))
    (vertebra,) = prepare([row]).vertebrae
    assert (vertebra.centre_lps, vertebra.box_lps, vertebra.truncated) == (None, None, False)
    assert vertebra.readings == row.readings


def test_vertebrae_run_from_head_to_feet_and_include_those_only_in_the_map():
    labels = map_with(L1=np.s_[2:4, 12:16, 20:25], T12=np.s_[2:4, 5:9, 20:25])
    native = prepare([VertebraAnnotation(level="L1", in_map=True)], labels)
    assert [v.level for v in native.vertebrae] == ["T12", "L1"]


@pytest.mark.parametrize(
    ("box", "truncated"),
    [
        (np.s_[2:4, 0:5, 20:25], True),
        (np.s_[2:4, 35:40, 20:25], True),
        (np.s_[2:4, 10:15, 0:5], True),
        (np.s_[2:4, 10:15, 55:60], True),
        (np.s_[0:6, 10:15, 20:25], False),
        (np.s_[2:4, 1:39, 1:59], False),
    ],
)
def test_a_vertebra_that_touches_the_first_or_last_row_or_column_is_truncated(box, truncated):
    assert prepare(vertebra_map=map_with(L1=box)).vertebrae[0].truncated is truncated


def test_a_vertebra_cut_only_by_the_crop_is_not_truncated():
    native = prepare(vertebra_map=map_with(L1=np.s_[2:4, 10:15, 50:56]))
    assert columns_kept(native)[1] == 56
    assert native.vertebrae[0].truncated is False


def test_the_majority_of_readers_decides_a_voxel():
    maps = [np.array(row, np.uint8) for row in ([1, 1, 2, 0], [2, 1, 3, 0], [2, 0, 3, 4])]
    assert combine_readers(maps).tolist() == [2, 1, 3, 0]


def test_on_a_tie_the_first_reader_decides():
    assert combine_readers([np.array([1, 0, 5]), np.array([2, 3, 5])]).tolist() == [1, 0, 5]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], np.uint8),
        ([-1, 300], np.int16),
        ([0, 40000], np.uint16),
        ([0, 70000], np.float32),
        ([0, 0.5], np.float32),
    ],
)
def test_intensities_are_kept_in_the_smallest_type_that_holds_them(values, kind):
    stored = smallest_exact(np.array(values, np.float32))
    assert stored.dtype == kind
    np.testing.assert_array_equal(stored, np.array(values, np.float32))
