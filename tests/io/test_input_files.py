"""Guards against inputs that vanish without a word, and against one bad case that costs a folder."""

import os
import unicodedata

import pytest

from spinecls.errors import DatasetError
from spinecls.io.input_files import find_inputs

DICOM = b"\0" * 128 + b"DICM"


def touch(folder, *names):
    folder.mkdir(exist_ok=True, parents=True)
    for name in names:
        (folder / name).write_bytes(DICOM if name.endswith((".dcm", ".IMA")) or name.startswith("IM") else b"")
    return folder


def names(found):
    return [(case.identifier, [path.name for path in case.images]) for case in found.cases]


def test_channels_of_a_case_come_in_order(tmp_path):
    folder = touch(tmp_path / "in", "b_0001.nii.gz", "b_0000.nii.gz", "a_0001.mha", "a_0000.mha")
    found = find_inputs(folder, 2)
    assert names(found) == [("a", ["a_0000.mha", "a_0001.mha"]), ("b", ["b_0000.nii.gz", "b_0001.nii.gz"])]
    assert (found.failed, found.skipped, found.hidden) == ({}, {}, 0)


def test_with_one_channel_the_suffix_may_be_missing(tmp_path):
    assert names(find_inputs(touch(tmp_path / "in", "scan.nrrd"), 1)) == [("scan", ["scan.nrrd"])]


def test_numbers_of_scans_are_no_channels(tmp_path):
    found = find_inputs(touch(tmp_path / "in", "scan_1234.nii.gz", "scan_5678.nii.gz", "p_0007.nii"), 1)
    assert [case for case, _ in names(found)] == ["p_0007", "scan_1234", "scan_5678"]


@pytest.mark.parametrize(("file", "case"), [("scan_0000.nii.gz", "scan"), ("scan_1234.nii.gz", "scan_1234")])
def test_a_single_file_is_one_case(file, case, tmp_path):
    touch(tmp_path / "in", file)
    assert names(find_inputs(tmp_path / "in" / file, 1)) == [(case, [file])]


BAD_CASES = {
    "no first channel": (2, ["b_0001.nii"], "has the channels _0001; the model needs _0000, _0001"),
    "no channel number": (2, ["b.nii"], "b.nii has no channel number; the model needs _0000, _0001"),
    "year for a channel": (2, ["b_2024.nii"], "b_2024.nii has no channel number; the model needs _0000, _0001"),
    "a channel too many": (1, ["b_0000.nii", "b_0001.nii"], "has the channels _0000, _0001; the model needs _0000; if "
                           "these are different scans, add _0000 to each name"),
    "with and without suffix": (1, ["b.nii", "b_0000.nii"], "b.nii and b_0000.nii are the same channel. Keep one."),
    "two endings": (1, ["b.nii", "b.nii.gz"], "b.nii and b.nii.gz are the same channel. Keep one."),
    "reserved": (1, ["Model.nii"], "'Model' is the name of a file that the folder of results has itself. Rename the "
                 "image."),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_CASES)
def test_a_bad_case_costs_itself_and_is_named(fault, tmp_path):
    channels, bad, reason = BAD_CASES[fault]
    good = ["a_0000.nii", "a_0001.nii"][:channels]
    found = find_inputs(touch(tmp_path / "in", *good, *bad), channels)
    assert [case for case, _ in names(found)] == ["a"]
    assert list(found.failed.values()) == [reason]


NOTHING_TO_READ = {
    "link to nothing": (lambda p: os.symlink("gone.nii.gz", p), "a link to gone.nii.gz, which is not there"),
    "link to itself": (lambda p: os.symlink(p.name, p), "which is not there"),
    "pipe": (os.mkfifo, "a pipe or a device, no file"),
}


@pytest.mark.parametrize("kind", NOTHING_TO_READ)
def test_what_holds_nothing_costs_itself_and_is_not_waited_for(kind, tmp_path):
    make, reason = NOTHING_TO_READ[kind]
    folder = touch(tmp_path / "in", "a.nii.gz")
    make(folder / "x.nii.gz")
    make(folder / "other.xyz")
    found = find_inputs(folder, 1)
    assert names(found) == [("a", ["a.nii.gz"])]
    assert reason in found.failed["x"]
    assert reason.split(" which")[0].split("gone")[0] in found.skipped["other.xyz"]
    with pytest.raises(DatasetError, match=reason):
        find_inputs(folder / "x.nii.gz", 1)


def test_a_name_that_is_no_text_costs_itself_for_the_image_library_would_end_the_program(tmp_path):
    folder = touch(tmp_path / "in", "a.nii.gz", os.fsdecode(b"M\xfcller.nii.gz"))
    found = find_inputs(folder, 1)
    assert names(found) == [("a", ["a.nii.gz"])]
    ((name, reason),) = found.failed.items()
    assert name == "M\ufffdller"
    assert "is not UTF-8 text, as names from other systems may be; rename it" in reason


def test_when_no_case_has_its_channels_nothing_is_predicted(tmp_path):
    with pytest.raises(DatasetError, match="a: has the channels _0000; the model needs _0000, _0001"):
        find_inputs(touch(tmp_path / "in", "a_0000.nii"), 2)


SKIPPED = {
    "x.hdr": "half of an Analyze or NIfTI pair",
    "x.img": "half of an Analyze or NIfTI pair",
    "x.mgz": "of FreeSurfer",
    "x.MGH": "of FreeSurfer",
    "x.dcm": "a single DICOM file; put the files of its series into a folder",
    "IM0001": "a single DICOM file; put the files of its series into a folder",
    "x.nii.gz.part": "unfinished",
    "x.nii.gz.crdownload": "unfinished",
    "x.seg.nrrd": "a segmentation of 3D Slicer",
    "x.zip": "packed",
    "x.png": "a picture",
    "notes.txt": "no image",
    "x.xyz": "of a format that is not read; read are .nii.gz",
    "without": "of a format that is not read; read are .nii.gz",
}


@pytest.mark.parametrize("name", SKIPPED)
def test_a_file_that_is_no_image_is_named_with_the_reason(name, tmp_path):
    found = find_inputs(touch(tmp_path / "in", "a.nii.gz", name), 1)
    assert names(found) == [("a", ["a.nii.gz"])]
    assert found.skipped[name].startswith(SKIPPED[name])
    (line,) = found.skipped_lines
    assert line.startswith(f"Skipped: {name}: {SKIPPED[name]}")


SUB_FOLDERS = {
    "of images": (["x.nii.gz"], "a folder with 1 image in it; give it by -i"),
    "of deeper series": (["series/IM1"], "a folder, DICOM series lie deeper in it"),
    "of texts": (["x.txt"], "a folder without images"),
    "of nothing": ([], "a folder without images"),
}


@pytest.mark.parametrize("kind", SUB_FOLDERS)
def test_a_sub_folder_that_is_no_case_is_named_with_the_reason(kind, tmp_path):
    files, reason = SUB_FOLDERS[kind]
    folder = touch(tmp_path / "in", "a.nii.gz")
    touch(folder / "sub")
    for name in files:
        path = folder / "sub" / name
        touch(path.parent, path.name)
    found = find_inputs(folder, 1)
    assert found.skipped["sub"].startswith(reason)


def test_the_folder_of_results_is_passed_over(tmp_path):
    folder = touch(tmp_path / "in", "a.nii.gz")
    touch(folder / "out", "a.nii.gz")
    assert find_inputs(folder, 1, folder / "out").skipped == {}


def test_hidden_files_are_counted(tmp_path):
    found = find_inputs(touch(tmp_path / "in", "a.nii.gz", "._a.nii.gz", ".DS_Store", "Thumbs.db", "DICOMDIR"), 1)
    assert names(found) == [("a", ["a.nii.gz"])]
    assert found.skipped_lines == ["Skipped: 4 hidden files."]


def test_the_voxels_beside_a_header_are_part_of_it(tmp_path):
    folder = touch(tmp_path / "in", "a.raw", "b.raw")
    (folder / "a.mhd").write_text("NDims = 3\nElementDataFile = a.raw\n")
    (folder / "c.nhdr").write_text("NRRD0004\ndata file: b.raw\n")
    found = find_inputs(folder, 1)
    assert [case for case, _ in names(found)] == ["a", "c"]
    assert found.skipped == {}


def test_many_files_of_one_reason_take_one_line(tmp_path):
    folder = touch(tmp_path / "in", "a.nii.gz", *(f"IM{number:04d}" for number in range(30)))
    (line,) = find_inputs(folder, 1).skipped_lines
    assert "IM0019 and 10 more: a single DICOM file" in line


@pytest.mark.parametrize("folder", ["p1", "p1_0000"])
def test_a_folder_of_dicom_files_is_a_case(folder, tmp_path):
    touch(tmp_path / "in" / folder, "IM1", "IM2")
    touch(tmp_path / "in", "a.nii.gz")
    assert names(find_inputs(tmp_path / "in", 1)) == [("a", ["a.nii.gz"]), ("p1", [folder])]


def test_of_several_channels_a_folder_of_dicom_files_needs_its_number(tmp_path):
    touch(tmp_path / "in/p1", "IM1")
    touch(tmp_path / "in", "a_0000.nii", "a_0001.nii")
    assert find_inputs(tmp_path / "in", 2).failed == {"p1": "p1 has no channel number; the model needs _0000, _0001"}


def test_a_dicom_series_itself_is_one_case(tmp_path):
    folder = touch(tmp_path / "p1", "IM1", "IM2", "notes.txt")
    found = find_inputs(folder, 1)
    assert names(found) == [("p1", ["p1"])]
    assert list(found.skipped) == ["notes.txt"]


def test_of_several_channels_a_dicom_series_alone_is_refused_with_the_layout(tmp_path):
    with pytest.raises(DatasetError, match=r"needs 2 channels.*as p1_0000/, p1_0001/, and give that folder by -i"):
        find_inputs(touch(tmp_path / "p1", "IM1"), 2)


def test_a_tree_of_dicom_series_is_refused_with_their_folders(tmp_path):
    touch(tmp_path / "tree/p1/s1", "IM1")
    with pytest.raises(DatasetError, match=r"DICOM series lie deeper in it \(.*tree/p1/s1\); give each by -i"):
        find_inputs(tmp_path / "tree", 1)


def test_a_single_dicom_file_is_refused_with_its_folder(tmp_path):
    folder = touch(tmp_path / "p1", "IM1")
    with pytest.raises(DatasetError, match=rf"a single DICOM file. Give the folder of its series: -i {folder}"):
        find_inputs(folder / "IM1", 1)


@pytest.mark.parametrize("name", ["x.mgz", "x.hdr", "x.seg.nrrd", "x.nii.gz.part", "x.txt"])
def test_a_single_file_that_is_no_image_is_refused_with_the_reason(name, tmp_path):
    touch(tmp_path / "in", name)
    with pytest.raises(DatasetError, match=f"{name}: not an image but {SKIPPED.get(name, '')[:20]}"):
        find_inputs(tmp_path / "in" / name, 1)


def test_images_in_sub_folders_are_pointed_at(tmp_path):
    touch(tmp_path / "in/more", "a.nii.gz")
    with pytest.raises(DatasetError, match=r"no image in it[^\n]*\n  Skipped: more: a folder with 1 image in it"):
        find_inputs(tmp_path / "in", 1)


def test_one_name_in_two_spellings_of_an_accent_are_two_cases(tmp_path):
    spellings = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    found = find_inputs(touch(tmp_path / "in", *(f"{name}.nii" for name in spellings)), 1)
    assert {case for case, _ in names(found)} == set(spellings)
