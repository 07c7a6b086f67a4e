"""Files that cannot be used: the message says what they are and holds the line that mends them, which is run here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from spinecls.io.code_guess import code_hint
from spinecls.io.dataset import check_dataset
from spinecls.io.findings import CodedFault
from spinecls.io.images import read_image
from spinecls.io.remedies import foreign_format

IMAGE, MAP = "imagesTr/a1_0000.nii.gz", "labelsTr/a1.nii.gz"
V = tiny.vertebra_map()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "Dataset001_Tiny"
    tiny.write_good(path)
    return path


def told(folder, code) -> str:
    return next(f.text for f in check_dataset(folder).findings if f.code == code)


def run_line(text: str, number: int, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", re.findall(r'python -c "(.*?)"', text)[number]], check=True, cwd=folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_0000.hdr", "half of a .hdr/.img pair"),
        ("a_0000.img", "s.ReadImage('a_0000.hdr'), 'a_0000.nii.gz'"),
        ("a_0000.mgz", "mri_convert a_0000.mgz a_0000.nii.gz"),
        ("a_0000.mnc", "mnc2nii a_0000.mnc a_0000.nii"),
        ("a_0000.dcm", "Give the folder of the whole series (in a dataset it is named <case>_0000)"),
        ("a_0000.IMA", "Give the folder of the whole series"),
        ("a_0000.PAR", "dcm2niix"),
        ("a_0000.png", "flat picture, not a volume. Export the scan as DICOM"),
        ("a_0000.JPG", "flat picture"),
        ("a_0000.npy", "not where they lie in the patient"),
        ("a_0000.zip", "Unpack it"),
        ("a_0000.tar.gz", "Unpack it"),
        ("a_0000.nii.gz.part", "unfinished download"),
    ],
)
def test_file_of_another_format_is_named_with_what_to_do(folder, name, words):
    path = folder / "imagesTr" / name
    path.write_bytes(b"\0" * 1000)
    assert words in told(folder, "E306")
    with pytest.raises(CodedFault) as caught:
        read_image([path])
    assert caught.value.code == "E306"
    assert words in caught.value.detail


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "a.nrrd", "a.mha", "a", "a.txt"])
def test_name_of_no_known_other_format_says_nothing(name):
    assert foreign_format(Path(name)) is None


def test_pair_can_be_written_as_one_file_by_the_line_in_the_message(folder):
    image = sitk.ReadImage(str(folder / IMAGE))
    sitk.WriteImage(image, str(folder / "imagesTr/b_0000.img"))
    run_line(told(folder, "E306"), 0, folder / "imagesTr")
    expected = read_image([folder / IMAGE])
    found = read_image([folder / "imagesTr/b_0000.nii.gz"])
    assert np.array_equal(found.array, expected.array)
    assert found.geometry == expected.geometry


@pytest.mark.parametrize("inside", ["scan.nii.gz", None])
def test_folder_with_the_name_of_an_image_is_told(tmp_path, inside):
    path = tmp_path / "a.nii.gz"
    path.mkdir()
    if inside:
        tiny.write(path / inside, tiny.voxels(0))
    with pytest.raises(CodedFault) as caught:
        read_image([path])
    assert caught.value.code == "E301"
    assert ("Give the image in it, scan.nii.gz." if inside else "Give the image itself.") in caught.value.detail


def test_map_that_lost_its_place_takes_that_of_its_image(folder):
    tiny.write(folder / MAP, V, origin=(60, 70, -20))
    text = told(folder, "E412")
    assert "If it was drawn on this image, only its header is wrong" in text
    run_line(text, 0, folder)
    assert check_dataset(folder).findings == ()


def test_map_on_a_finer_grid_is_resampled_by_the_line_in_the_message(folder):
    image = sitk.ReadImage(str(folder / MAP))
    fine = sitk.Expand(image, (2, 2, 1), sitk.sitkNearestNeighbor)
    sitk.WriteImage(fine, str(folder / MAP))
    text = told(folder, "E410")
    assert "only its header" not in text
    run_line(text, 0, folder)
    assert check_dataset(folder).findings == ()


def test_map_that_lost_its_orientation_takes_the_header_of_its_image(folder):
    # Codes of qform and sform.
    tiny.header_field(folder / MAP, "<2h", 252, 0, 0)
    text = told(folder, "E410")
    assert "If it was drawn on this image, only its header is wrong" in text
    run_line(text, 0, folder)
    assert check_dataset(folder).findings == ()


def test_map_in_another_axis_order_is_never_given_the_header_of_its_image(folder):
    image = sitk.DICOMOrient(sitk.ReadImage(str(folder / MAP)), "LPS")
    image.SetOrigin(np.add(image.GetOrigin(), 30).tolist())
    sitk.WriteImage(image, str(folder / MAP))
    assert "only its header" not in told(folder, "E412")


@pytest.mark.parametrize("shift_mm", [0.0, 1e-6, 0.05, 0.09])
def test_map_off_by_rounding_is_no_finding(folder, shift_mm):
    tiny.write(folder / MAP, V, origin=(10, 20 + shift_mm, 30))
    assert check_dataset(folder).findings == ()


@pytest.mark.parametrize("shift_mm", [0.2, 0.45])
def test_map_off_by_less_than_half_a_voxel_is_taken_with_a_warning(folder, shift_mm):
    tiny.write(folder / MAP, V, origin=(10, 20 + shift_mm, 30))
    report = check_dataset(folder)
    assert [finding.code for finding in report.findings] == ["W425"]
    assert f"is shifted by {shift_mm:.2f} mm" in report.findings[0].text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v + 1000 * (v > 0), "known ones + 1000"),
        (lambda v: v + 300 * (v > 0), "known ones + 300"),
        (lambda v: v * 100, "Divided by 100"),
        (lambda v: v * 10, "Divided by 10 "),
        (lambda v: np.maximum(v - 3, 0), "known ones - 3"),
    ],
)
def test_codes_off_by_a_constant_are_told_with_the_line_that_mends_them(folder, change, words):
    tiny.write(folder / MAP, change(V.astype(np.int16)))
    text = told(folder, "E603")
    assert words in text
    run_line(text, 0, folder)
    assert check_dataset(folder).findings == ()


@pytest.mark.parametrize(
    ("present", "words"),
    [
        ([20, 21, 22], ""),
        ([], ""),
        ([20, 21, 99], ""),
        ([51, 52], ""),
        ([1, 2, 3], "known ones - 19, if they are counted from the head"),
        ([1021, 1022], "known ones + 1000"),
        ([120, 121, 122], "(By the codes of TPTBox they would be discs.)"),
        ([21, 22, 23], "known ones + 1:"),
    ],
)
def test_codes_are_explained_only_where_one_constant_does(present, words):
    hint = code_hint(Path("a.nii.gz"), present, {20, 21, 22})
    assert words in hint
    assert bool(hint) == bool(words)
