"""Classifiers that are not shown the inside of a vertebra."""

import dataclasses

import numpy as np
import pytest

from spinecls.geometry import Geometry
from spinecls.io.images import read_image, read_label_map
from spinecls.sealing.marrow import marrow_reference
from spinecls.sealing.region import Region, region_from_mask
from spinecls.verification import controls
from spinecls.verification.check_results import Outcome
from spinecls.verification.study import Scan, Study

GRID = Geometry(
    shape=(6, 30, 30),
    spacing_mm=(4.0, 1.0, 2.0),
    origin_lps=(0.0, 0.0, 0.0),
    direction=((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
)


def scan_with(image, mask):
    index = np.argwhere(mask)
    low, high = index.min(axis=0), index.max(axis=0) + 1
    box = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    region = Region(box, tuple(map(int, low)), GRID.cropped(low, high), "mask")
    return Scan(
        identifier="case",
        patient="patient",
        image=image,
        grid=GRID,
        regions=(region,),
        marrow=np.array([[10.0, 2.0]]),
        answers=None,
        truth=(None,),
        lesions={},
    )


def box_mask():
    mask = np.zeros(GRID.shape, bool)
    mask[2:4, 10:15, 10:13] = True
    return mask


def test_shape_of_a_box_by_hand():
    features = controls.shape_features(scan_with(np.zeros((1, *GRID.shape)), box_mask()), 0)
    # 8 x 5 x 6 mm, filled, two slices of 30 mm2 each
    assert features == pytest.approx([np.log(240), 8, 5, 6, 1, 2, 30, 0, 30])


def test_surroundings_do_not_see_the_inside():
    image = np.full((1, *GRID.shape), 14.0)
    image[0][box_mask()] = 1e6
    features = controls.surroundings_features(scan_with(image, box_mask()), 0)
    # (14 - 10) / 2 everywhere, in both shells: mean, deviation, three percentiles
    assert features == pytest.approx([2, 0, 2, 2, 2] * 2)


def test_the_two_shells_are_told_apart_by_their_distance():
    mask = box_mask()
    image = np.full((1, *GRID.shape), 10.0)
    # 3 mm above the region, and 7 mm above
    image[0, 2:4, 7, 10:13] = 20.0
    image[0, 2:4, 3, 10:13] = 30.0
    features = controls.surroundings_features(scan_with(image, mask), 0).reshape(2, 5)
    assert features[0, 0] > 0
    near = scan_with(np.where(image == 30, 10.0, image), mask)
    assert controls.surroundings_features(near, 0).reshape(2, 5)[0] == pytest.approx(features[0])
    assert controls.surroundings_features(near, 0).reshape(2, 5)[1] == pytest.approx([0] * 5)
    assert features[1, 0] > 0


def test_marrow_numbers_are_those_of_the_case():
    assert controls.marrow_features(scan_with(np.zeros((1, *GRID.shape)), box_mask()), 0).tolist() == [10.0, 2.0]


@pytest.fixture
def drawn(phantom):
    """A scan with the regions of its annotated vertebrae, whatever a model finds."""
    raw = phantom / "raw/Dataset001_Phantom"
    volume = read_image([raw / "imagesTr/phantom_000_0000.nii.gz"])
    labels, grid = read_label_map(raw / "labelsTr/phantom_000.nii.gz")
    codes = [code for code in np.unique(labels) if code not in (0, 255)]
    regions = tuple(region_from_mask(labels == code, grid, 2.0) for code in codes)
    image = np.asarray(volume.array, np.float32)
    return Scan(
        identifier="phantom_000", patient="", image=image, grid=grid, regions=regions,
        marrow=marrow_reference(image, regions), answers=None, truth=(None,) * len(regions), lesions={},
    )  # fmt: skip


def known_study(scan, classes_of, patients=6):
    """One scan as several patients, its vertebrae with given classes."""
    scans = tuple(
        dataclasses.replace(scan, patient=f"p{n}", truth=classes_of(n, len(scan.regions))) for n in range(patients)
    )
    return Study(scans, (), donors=1, seed=0)


def test_a_shape_that_tells_the_class_is_warned_about(drawn):
    # The class is the place in the column, and so is the size of a region.
    told = known_study(drawn, lambda n, count: tuple(int(v < count // 2) for v in range(count)))
    result = next(r for r in controls.controls(told) if r.key == "shape_only")
    assert result.outcome is Outcome.WARNING
    assert result.numbers["auc"].low > 0.5
    assert not result.breaks_guarantee


def test_marrow_numbers_cannot_tell_vertebrae_of_one_case_apart(drawn):
    told = known_study(drawn, lambda n, count: tuple(v % 2 for v in range(count)))
    result = next(r for r in controls.controls(told) if r.key == "marrow_only")
    assert result.outcome is Outcome.REPORTED
    assert result.numbers["auc"].estimate == pytest.approx(0.5, abs=0.1)


def test_controls_need_known_classes(drawn):
    unknown = known_study(drawn, lambda n, count: (None,) * count)
    assert {result.outcome for result in controls.controls(unknown)} == {Outcome.NOT_APPLICABLE}


def test_controls_need_two_classes(drawn):
    same = known_study(drawn, lambda n, count: (1,) * count)
    assert {result.outcome for result in controls.controls(same)} == {Outcome.NOT_APPLICABLE}
