"""Nothing that the image library warns of is lost, and nothing of it is printed."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from spinecls.io import image_files
from spinecls.io.dataset import check_dataset
from spinecls.io.images import read_header, read_image
from spinecls.io.library_messages import library_messages, sheared_sforms_allowed


@pytest.fixture
def odd_file(tmp_path):
    """A file about which the library is known to warn: pixdim and the columns of the sform differ."""
    path = tmp_path / "a.nii.gz"
    tiny.write(path, tiny.voxels(0))
    tiny.header_field(path, "<3f", 80, 2, 2, 8)
    return path


def test_warnings_are_collected_once_each_without_their_place_in_the_library(odd_file, capfd):
    with library_messages() as messages:
        for _ in range(2):
            sitk.ReadImage(str(odd_file))
    assert messages == [f"{odd_file} has unexpected scales in sform"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shown", [True, False])
def test_the_library_speaks_afterwards_as_before(odd_file, shown, capfd):
    sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    try:
        with pytest.raises(ValueError, match="stop"), library_messages():
            raise ValueError("stop")
        assert sitk.ProcessObject.GetGlobalWarningDisplay() == shown
        sitk.ReadImage(str(odd_file))
        assert ("unexpected scales" in capfd.readouterr().err) == shown
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(True)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_warning_of_the_library_becomes_one_of_the_image_and_of_the_check(tmp_path, ending, monkeypatch):
    @contextmanager
    def warned():
        yield ["axis 2 was guessed"]

    folder = tmp_path / "Dataset001_Tiny"
    tiny.write_good(folder)
    path = tmp_path / f"a{ending}"
    tiny.write(path, tiny.voxels(0))
    monkeypatch.setattr(image_files, "library_messages", warned)
    note = ("W419", "the image library says: axis 2 was guessed")
    assert read_header(path)[1] == (note,)
    assert read_image([path]).notes == ((note[0], f"a{ending}: {note[1]}"),)
    findings = [f.text for f in check_dataset(folder).findings if f.code == "W419" and f.case == "a1"]
    places = ("a1_0000.nii.gz", "labelsTr/a1.nii.gz", "structuresTr/a1.nii.gz")
    assert findings == [f"{place}: {note[1]}" for place in places]


@pytest.mark.parametrize("before", [None, "x"])
def test_permission_for_sheared_files_ends_with_the_file(monkeypatch, before):
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    with sheared_sforms_allowed():
        assert name in os.environ
    assert os.environ.get(name) == before
