import math

import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.geometry import Geometry
from spinecls.planning.fingerprint_case import (
    fingerprint_case,
    lesion_sizes_mm,
    own_extent_mm,
    pitches_mm,
    single_class,
)
from spinecls.records import AnnotationForm, AnnotationForms, Case, ClassReading, DatasetDescription, VertebraAnnotation

DESCRIPTION = DatasetDescription(
    name="D",
    channel_names=("T2",),
    class_names=("normal", "lesion"),
    file_ending=".nii.gz",
    levels={"L1": 20, "L2": 21, "L3": 22},
    structures={"disc": 1, "lesion": 2},
    lesion_structures={"lesion": "lesion"},
)
SHAPE, SPACING = (10, 60, 50), (4.0, 1.0, 2.0)


def _oblique(angle_degrees=20.0):
    """Canonical axes turned about the left-right axis of the patient."""
    a = math.radians(angle_degrees)
    # Columns: slice (left in LPS is +x, so right to left is its reverse), feet, back.
    direction = ((-1.0, 0.0, 0.0), (0.0, -math.sin(a), math.cos(a)), (0.0, -math.cos(a), -math.sin(a)))
    return Geometry(shape=SHAPE, spacing_mm=SPACING, origin_lps=(30.0, -40.0, 12.0), direction=direction)


def _labels():
    labels = np.zeros(SHAPE, np.int16)
    labels[2:8, 5:15, 10:22] = 20
    labels[2:8, 20:31, 10:22] = 21
    labels[2:8, 50:60, 10:22] = 22
    return labels


def _case(**other):
    annotations = tuple(VertebraAnnotation(level=level, in_map=True) for level in ("L3", "L1", "L2"))
    return Case(identifier="c", patient="p", images=(), vertebrae=annotations, **other)


def _image():
    image = np.full((1, *SHAPE), 10.0, np.float32)
    image[:, :, :, 5:45] = 100.0
    return image


def _fingerprint(geometry=None, **other):
    return fingerprint_case(_case(**other), DESCRIPTION, _image(), geometry or _oblique(), _labels())


def test_extents_are_those_of_the_voxels():
    by_level = {v.level: v for v in _fingerprint().vertebrae}
    assert by_level["L1"].extent_mm == (24.0, 10.0, 24.0)
    assert by_level["L2"].extent_mm == (24.0, 11.0, 24.0)


def test_vertebrae_run_from_head_to_feet():
    assert [v.level for v in _fingerprint().vertebrae] == ["L1", "L2", "L3"]


def test_the_centre_of_an_oblique_vertebra_is_where_simpleitk_says():
    geometry = _oblique()
    image = sitk.Image([int(n) for n in SHAPE[::-1]], sitk.sitkInt16)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(np.asarray(geometry.direction)[:, ::-1].ravel().tolist())
    expected = image.TransformContinuousIndexToPhysicalPoint((15.5, 9.5, 4.5))
    assert _fingerprint(geometry).vertebrae[0].centre_lps == pytest.approx(expected)


def test_the_pitch_is_the_distance_of_the_centres():
    # L1 rows 5-14, middle 9.5; L2 rows 20-30, middle 25.
    first, second, last = _fingerprint().vertebrae
    assert first.pitch_mm == pytest.approx(15.5)
    assert second.pitch_mm == pytest.approx(29.5)
    assert last.pitch_mm is None


def test_a_vertebra_at_the_lowest_row_is_truncated():
    assert [v.truncated for v in _fingerprint().vertebrae] == [False, False, True]


def test_a_vertebra_in_the_outermost_slice_is_not_truncated():
    labels = _labels()
    labels[:, 5:15, 10:22] = 20
    found = fingerprint_case(_case(), DESCRIPTION, _image(), _oblique(), labels)
    assert not found.vertebrae[0].truncated


def test_a_tilted_vertebra_is_measured_along_its_own_axes():
    geometry = Geometry(
        shape=(40, 80, 80),
        spacing_mm=(1.0, 1.0, 1.0),
        origin_lps=(0, 0, 0),
        direction=((-1, 0, 0), (0, 0, 1), (0, -1, 0)),
    )
    tilt = math.radians(25)
    along = np.array([0.0, math.sin(tilt), -math.cos(tilt)])
    index = np.argwhere(np.ones(geometry.shape, bool))
    offset = geometry.to_world(index) - geometry.to_world((19.5, 39.5, 39.5))
    across = np.cross(along, np.array([1.0, 0, 0]))
    inside = (np.abs(offset[:, 0]) <= 15) & (np.abs(offset @ along) <= 10) & (np.abs(offset @ across) <= 17)
    own = own_extent_mm(index[inside], geometry, along)
    assert own == pytest.approx((30, 20, 34), abs=1.2)
    assert np.ptp(index[inside], axis=0)[1] > 28


def test_the_variant_t13_counts_only_where_it_is():
    chain = {"T12": np.zeros(3), "L1": np.array([0.0, 0.0, -30.0])}
    assert pitches_mm(chain) == {"T12": 30.0}
    chain["T13"] = np.array([0.0, 0.0, -12.0])
    assert pitches_mm(chain) == pytest.approx({"T12": 12.0, "T13": 18.0})


def test_levels_that_are_no_neighbours_have_no_pitch():
    assert pitches_mm({"L1": np.zeros(3), "L3": np.ones(3)}) == {}


def test_a_box_gives_extents_in_canonical_order():
    case = Case(
        identifier="c",
        patient="p",
        images=(),
        vertebrae=(VertebraAnnotation(level="L1", box_lps=((-20.0, -50.0, -60.0), (26.0, -15.0, -33.0))),),
    )
    found = fingerprint_case(case, DESCRIPTION, _image(), _oblique(0.0))
    # x is left-right, z head-feet, y front-back.
    assert found.vertebrae[0].extent_mm == (46.0, 27.0, 35.0)
    assert found.vertebrae[0].centre_lps == (3.0, -32.5, -46.5)
    assert found.annotation_forms["vertebrae"] == "box"


def test_the_size_of_a_lesion_is_its_narrowest_measure():
    structures = np.zeros(SHAPE, np.int16)
    structures[3:5, 10:16, 10:12] = 2
    structures[7, 40, 30:33] = 2
    structures[0:2, 0:9, 0:9] = 1
    sizes = lesion_sizes_mm(structures, DESCRIPTION, SPACING)
    # 24 voxels of 8 mm3: a ball of 192 mm3 has 7.16 mm; the box 6 x 4 mm in plane. 3 voxels, 24 mm3: 3.58 mm; 1 x 6 mm.
    assert sizes == pytest.approx((4.0, 1.0))


def test_a_compact_lesion_is_as_large_as_its_ball():
    structures = np.zeros((5, 30, 30), np.int16)
    structures[2, 5:15, 5:15] = 2
    assert lesion_sizes_mm(structures, DESCRIPTION, (1.0, 1.0, 1.0)) == pytest.approx(((600 / math.pi) ** (1 / 3),))


def test_the_body_box_holds_every_annotated_vertebra():
    image = np.full((1, *SHAPE), 10.0, np.float32)
    image[:, :, :20, 25:45] = 100.0
    labels = _labels()
    found = fingerprint_case(_case(), DESCRIPTION, image, _oblique(), labels)
    annotated = np.argwhere(labels > 0)
    assert np.all(found.body_start <= annotated.min(axis=0))
    assert np.all(found.body_stop > annotated.max(axis=0))


def test_intensities_are_those_inside_the_body():
    assert _fingerprint().channels[0].p50 == 100.0
    assert _fingerprint().channels[0].mad == 0.0


def test_declared_forms_replace_what_is_guessed():
    found = _fingerprint(annotation_form=AnnotationForms(vertebrae=AnnotationForm(form="coarse", tolerance_mm=2)))
    assert found.annotation_forms == {"vertebrae": "coarse", "structures": "none"}


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ((), ""),
        ((ClassReading(classes=("normal",)),), "normal"),
        ((ClassReading(classes=("normal", "lesion")),), ""),
        ((ClassReading(classes=("normal",)), ClassReading(classes=("lesion",))), ""),
        (
            (ClassReading(classes=("normal",), confidence=0.5), ClassReading(classes=("lesion",), confidence=0.9)),
            "lesion",
        ),
    ],
)
def test_the_class_is_that_of_most_confidence(readings, expected):
    assert single_class(VertebraAnnotation(level="L1", readings=readings)) == expected


@pytest.mark.parametrize("form", ["scribble", "slices"])
def test_a_map_that_is_drawn_in_part_tells_no_size(form):
    found = _fingerprint(annotation_form=AnnotationForms(vertebrae=AnnotationForm(form=form)))
    assert [v.extent_mm for v in found.vertebrae] == [None] * 3
    assert all(v.centre_lps is not None for v in found.vertebrae)


def test_a_loose_box_tells_the_size_without_its_slack():
    box = ((0.0, 0.0, 0.0), (40.0, 30.0, 20.0))
    case = Case(
        identifier="c", patient="p", images=(), vertebrae=(VertebraAnnotation(level="L1", box_lps=box),),
        annotation_form=AnnotationForms(vertebrae=AnnotationForm(form="box", slack_mm=2.0)),
    )  # fmt: skip
    found = fingerprint_case(case, DESCRIPTION, _image(), _oblique())
    assert found.vertebrae[0].extent_mm == (36.0, 16.0, 26.0)
