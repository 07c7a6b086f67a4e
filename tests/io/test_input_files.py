import pytest

from spinecls.errors import DatasetError
from spinecls.io.input_files import find_inputs


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def names(found):
    return [(case.identifier, [path.name for path in case.images]) for case in found]


def test_channels_of_a_case_come_in_order(tmp_path):
    folder = touch(tmp_path / "in", "b_0001.nii.gz", "b_0000.nii.gz", "a_0001.mha", "a_0000.mha")
    good, faulty = find_inputs(folder, 2)
    assert names(good) == [("a", ["a_0000.mha", "a_0001.mha"]), ("b", ["b_0000.nii.gz", "b_0001.nii.gz"])]
    assert faulty == []


def test_with_one_channel_the_suffix_may_be_missing(tmp_path):
    assert names(find_inputs(touch(tmp_path / "in", "scan.nrrd"), 1)[0]) == [("scan", ["scan.nrrd"])]


def test_a_single_file_is_one_case(tmp_path):
    touch(tmp_path / "in", "scan_0000.nii.gz")
    good, faulty = find_inputs(tmp_path / "in/scan_0000.nii.gz", 1)
    assert names(good) == [("scan", ["scan_0000.nii.gz"])]
    assert faulty == []


def test_a_case_without_its_channel_is_reported_and_the_others_stay(tmp_path):
    good, faulty = find_inputs(touch(tmp_path / "in", "a_0000.nii", "a_0001.nii", "b_0001.nii"), 2)
    assert names(good) == [("a", ["a_0000.nii", "a_0001.nii"])]
    assert faulty == [("b", "has the channels _0001; the model needs _0000, _0001")]


def test_when_no_case_has_its_channels_nothing_is_predicted(tmp_path):
    with pytest.raises(DatasetError, match="a has the channels _0000; the model needs _0000, _0001"):
        find_inputs(touch(tmp_path / "in", "a_0000.nii"), 2)


def test_two_files_for_one_channel_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="same channel of a"):
        find_inputs(touch(tmp_path / "in", "a_0000.nii", "a.nii.gz"), 1)


def test_hidden_and_other_files_are_no_images(tmp_path):
    folder = touch(tmp_path / "in", "a.nii.gz", "._a.nii.gz", "notes.txt")
    assert names(find_inputs(folder, 1)[0]) == [("a", ["a.nii.gz"])]


def test_images_in_sub_folders_are_pointed_at(tmp_path):
    touch(tmp_path / "in")
    touch(tmp_path / "in/more", "a.nii.gz")
    with pytest.raises(DatasetError, match="1 images lie in sub-folders"):
        find_inputs(tmp_path / "in", 1)
