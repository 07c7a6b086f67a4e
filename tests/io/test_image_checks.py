"""Images that could be no scan: refused or told alike from a file, in memory, and in the check of a dataset."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny_dataset as tiny

from spinecls.geometry import Geometry
from spinecls.io.dataset import check_dataset
from spinecls.io.findings import CodedFault
from spinecls.io.image_checks import intensity_notes
from spinecls.io.images import read_image, volume_from_array, volume_from_sitk

# Array axes of the tiny scans: to the right, to the feet, to the back, as the columns say in LPS.
GEOMETRY = Geometry(
    shape=tiny.SHAPE, spacing_mm=(4.0, 1.0, 1.0), origin_lps=(10.0, 20.0, 30.0),
    direction=((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)  # fmt: skip


def from_file(array, tmp_path):
    tiny.write(tmp_path / "a.nii.gz", array)
    return read_image([tmp_path / "a.nii.gz"])


def from_sitk(array, tmp_path):
    return volume_from_sitk(tiny.to_image(array))


def from_array(array, tmp_path):
    return volume_from_array(array, GEOMETRY if array.shape == GEOMETRY.shape else shaped(array.shape))


def shaped(shape) -> Geometry:
    return dataclasses.replace(GEOMETRY, shape=tuple(shape))


def from_dataset(array, tmp_path):
    """The gate, whose errors are raised here as the others raise theirs."""
    folder = tmp_path / "Dataset001_Tiny"
    tiny.write_good(folder)
    tiny.write(folder / "imagesTr/a1_0000.nii.gz", array)
    findings = [f for f in check_dataset(folder).findings if f.text.startswith("a1_0000.nii.gz: ")]
    errors = [f for f in findings if f.is_error]
    if errors:
        raise CodedFault(errors[0].code, "a1", errors[0].text)

    class Told:
        notes = tuple((f.code, f.text) for f in findings)

    return Told


WAYS = [from_file, from_sitk, from_array, from_dataset]
X = tiny.voxels(0)


def with_values(index, value, array=X):
    array = array.copy()
    array[index] = value
    return array


def only(index):
    array = np.zeros_like(X)
    array[index] = X[index]
    return array


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize(
    ("array", "code", "words"),
    [
        (X * 0, "E502", "has the value 0 everywhere"),
        (X * 0 - 5, "E502", "has the value -5 everywhere"),
        (X[:1], "E402", "a single slice (1 x 60 x 56 voxels, one left-right)"),
        (X[:, :1], "E402", "one head-feet"),
        # Of 20160 voxels 20 are 0.1 %.
        (only(np.s_[3, 30, 10:28]), "E503", "empty but for 18 of 20160 voxels"),
        (np.minimum(X, 400), "E508", "of the voxels have the largest value 400"),
        (with_values(np.s_[1::2], 0), "E509", "is empty in 2 of 5 slices left-right"),
        (with_values(np.s_[:, ::2], 7), "E509", "is empty in 29 of 59 slices head-feet"),
        (with_values(np.s_[:, :, 1::3], 0), "E509", "slices front-back"),
        ((X > 500).astype(np.int16), "E510", "hardly a value but 0, 1: a mask"),
        (np.where(X > 500, 255, -1).astype(np.int16), "E510", "hardly a value but -1, 255: a mask"),
    ],
)
def test_image_of_nothing_is_refused_however_it_comes(tmp_path, way, array, code, words):
    with pytest.raises(CodedFault) as caught:
        way(array, tmp_path)
    assert caught.value.code == code
    assert words in caught.value.detail


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize(
    ("array", "code", "words"),
    [
        (with_values(np.s_[:, 2:], 0), "W503", "97% of the voxels are zero"),
        (X - 1024, "W504", "computed tomography?"),
        (with_values((3, 3, 3), 1e30, X.astype(np.float32)), "W507", "has a value of 1e+30"),
        (np.minimum(X, 900), "W508", "have the largest value 900"),
        (with_values(np.s_[2], 0), "W509", "is empty in 1 of 6 slices left-right"),
        ((X // 250).astype(np.int16), "W510", "hardly a value but 0, 1, 2, 3: a map of labels?"),
        (X[:4], "W408", "has 4 sagittal slices"),
    ],
)
def test_image_that_is_odd_is_read_and_told_however_it_comes(tmp_path, way, array, code, words):
    assert words in dict(way(array, tmp_path).notes)[code]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__)
@pytest.mark.parametrize(
    "array",
    [
        X,
        # Padding at the ends and empty columns in the air beside the body are no lost slices.
        with_values(np.s_[[0, -1]], 0),
        with_values(np.s_[:, :, -3], 0, np.where(np.arange(tiny.SHAPE[2]) > 50, X // 50, X).astype(np.int16)),
    ],
    ids=["noise", "padded", "empty column of air"],
)
def test_image_that_could_be_a_scan_has_no_note(tmp_path, way, array):
    assert way(array, tmp_path).notes == ()


@pytest.mark.parametrize("way", [from_sitk, from_file], ids=lambda w: w.__name__)
def test_note_names_the_channel(tmp_path, way):
    ((_, text),) = way(X - 1024, tmp_path).notes
    assert text.startswith("a.nii.gz: " if way is from_file else "channel 0: ")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"spacing_mm": (4.0, 0.0, 1.0)}, "E404", "1 x 0 x 4 mm"),
        ({"spacing_mm": (4.0, 1.0, float("nan"))}, "E404", "nan x 1 x 4 mm"),
        ({"direction": ((-2, 0, 0), (0, 0, 1), (0, -1, 0))}, "E405", "lengths 1 x 1 x 2"),
        ({"direction": ((-1, 0, 0), (0, 0, 1), (0, -1, float("inf")))}, "E405", "expected 1"),
        ({"origin_lps": (float("nan"), 0, 0)}, "E405", "finite origin"),
        # Voxels (56, 60) apart by 0.1 radian: the turn to right angles takes half of it, 0.05 * 60 = 3 voxels.
        ({"direction": ((-1, 0, 0), (0, 0.0998334, 1), (0, -0.9950042, 0))}, "E405", "sheared by 5.7 degrees"),
    ],
)
def test_geometry_in_memory_that_cannot_be_is_refused(change, code, words):
    with pytest.raises(CodedFault) as caught:
        volume_from_array(X, dataclasses.replace(GEOMETRY, **change))
    assert caught.value.code == code
    assert words in caught.value.detail


def test_sheared_image_in_memory_is_refused():
    image = tiny.to_image(X, direction=(0, 0, -1, 1, 0.1, 0, 0, -0.995, 0))
    with pytest.raises(CodedFault, match=r"E405.*sheared by"):
        volume_from_sitk(image)


@pytest.mark.parametrize(("axis", "name"), [(0, "left-right"), (1, "head-feet"), (2, "front-back")])
def test_an_image_that_varies_along_one_axis_is_no_scan(axis, name):
    shape = (20, 30, 40)
    ramp = np.linspace(1, 100, shape[axis], dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    notes = intensity_notes(np.broadcast_to(ramp, shape).copy())
    assert ("E509", f"has one value in each of its {shape[axis]} slices {name}: no scan. Export it again.") in notes
