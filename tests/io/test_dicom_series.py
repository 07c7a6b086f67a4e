from __future__ import annotations

import locale

import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.errors import DatasetError
from spinecls.io.images import read_geometry, read_header, read_image

ROWS, COLUMNS, SLICES = 8, 10, 6
# Sagittal: a row runs to the back (+y), a column to the feet (-z); their cross product runs to the right (-x).
SAGITTAL = "0\\1\\0\\0\\0\\-1"


def array() -> np.ndarray:
    return np.arange(SLICES * ROWS * COLUMNS, dtype=np.int16).reshape(SLICES, ROWS, COLUMNS)


def write_slice(path, pixels, x_mm, orientation=SAGITTAL, series="1.2.3", y_mm=-50.0, keys=(), spacing=(0.7, 0.9, 4.4)):
    image = sitk.GetImageFromArray(pixels[None])
    image.SetSpacing(spacing)
    values = {
        "0020|0032": f"{x_mm}\\{y_mm}\\100",
        "0020|0037": orientation,
        "0020|000e": series,
        "0020|000d": "1.2",
        "0008|0060": "MR",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
        "0008|0018": f"{series}.{abs(hash(path.name)) % 10**6}",
        **dict(keys),
    }
    for key, value in values.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    # Writing DICOM sets the locale of the whole process to C, which other tests would feel.
    before = locale.setlocale(locale.LC_ALL)
    writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "a1_0000"
    folder.mkdir()
    # The names run from right to left, against the canonical order.
    for number in range(SLICES):
        write_slice(folder / f"IM{SLICES - number}.dcm", array()[number], 20 - 4.4 * number)
    return folder


def test_series_is_one_volume_from_left_to_right(series):
    volume = read_image([series])
    assert np.array_equal(volume.array[0], array())
    assert volume.geometry.shape == (SLICES, ROWS, COLUMNS)
    assert volume.geometry.spacing_mm == pytest.approx((4.4, 0.9, 0.7))
    # Voxel (1, 2, 3): 4.4 mm to the right (-x), 1.8 mm to the feet (-z), 2.1 mm to the back (+y).
    assert volume.geometry.to_world((1, 2, 3)) == pytest.approx((20 - 4.4, -50 + 2.1, 100 - 1.8))


def test_geometry_of_a_series_is_that_of_its_volume(series):
    assert read_geometry(series) == read_image([series]).geometry


def test_missing_slice_is_told_with_its_neighbours(series):
    (series / "IM4.dcm").unlink()
    with pytest.raises(DatasetError, match=r"E903.*gap of 8\.80 mm between IM5\.dcm and IM3\.dcm, elsewhere 4\.40"):
        read_image([series])


def test_repeated_slice_is_refused(series):
    write_slice(series / "IM9.dcm", array()[0], 20)
    with pytest.raises(DatasetError, match=r"E904.*same position"):
        read_image([series])


def test_uneven_slices_are_refused(series):
    write_slice(series / "IM4.dcm", array()[2], 20 - 8.8 + 0.3)
    with pytest.raises(DatasetError, match="E905"):
        read_image([series])


def test_jitter_below_one_percent_passes(series):
    write_slice(series / "IM4.dcm", array()[2], 20 - 8.8 + 0.02)
    assert read_image([series]).geometry.spacing_mm[0] == pytest.approx(4.4)


def test_slices_shifted_sideways_are_refused(series):
    write_slice(series / "IM4.dcm", array()[2], 20 - 8.8, y_mm=-48.0)
    with pytest.raises(DatasetError, match=r"E905.*sideways"):
        read_image([series])


def test_localiser_in_the_series_is_refused(series):
    write_slice(series / "IM0.dcm", array()[0], 0, orientation="1\\0\\0\\0\\1\\0")
    with pytest.raises(DatasetError, match=r"E906.*localiser"):
        read_image([series])


def test_two_series_are_refused_without_their_identifiers(series):
    write_slice(series / "other.dcm", array()[0], 99, series="9.8.7")
    with pytest.raises(DatasetError, match=r"E902.*2 series \(6, 1 files\)") as fault:
        read_image([series])
    assert "9.8.7" not in str(fault.value)


def test_unreadable_slice_is_refused_not_dropped(series):
    content = (series / "IM4.dcm").read_bytes()
    (series / "IM4.dcm").write_bytes(content[: len(content) // 3])
    with pytest.raises(DatasetError, match=r"E90[79].*IM4\.dcm"):
        read_image([series])


def test_slice_without_pixels_at_its_end_is_refused(series):
    content = (series / "IM4.dcm").read_bytes()
    (series / "IM4.dcm").write_bytes(content[:-40])
    with pytest.raises(DatasetError, match=r"E907.*IM4\.dcm"):
        read_image([series])


def test_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="E901"):
        read_image([tmp_path])


def test_single_slice_is_refused(tmp_path):
    write_slice(tmp_path / "IM1.dcm", array()[0], 0)
    with pytest.raises(DatasetError, match=r"E402.*single slice"):
        read_image([tmp_path])


def test_slice_without_position_is_refused(series):
    # The tag of the position becomes one that means nothing.
    content = (series / "IM4.dcm").read_bytes()
    assert content.count(b"\x20\x00\x32\x00") == 1
    (series / "IM4.dcm").write_bytes(content.replace(b"\x20\x00\x32\x00", b"\x20\x00\x31\x00"))
    with pytest.raises(DatasetError, match=r"E909.*IM4\.dcm: has no slice position"):
        read_image([series])


def test_several_frames_in_one_file_are_refused(tmp_path):
    image = sitk.GetImageFromArray(array().astype(np.uint8))
    sitk.WriteImage(image, str(tmp_path / "all.dcm"))
    with pytest.raises(DatasetError, match=r"E908.*6 frames"):
        read_image([tmp_path])


def notes(folder) -> dict[str, str]:
    return dict(read_header(folder)[1])


@pytest.mark.parametrize(("told_mm", "said"), [(4.4, False), (4.41, False), (5.0, True)])
def test_positions_win_over_the_told_slice_distance_and_a_difference_is_said(tmp_path, told_mm, said):
    for number in range(SLICES):
        write_slice(tmp_path / f"IM{number}.dcm", array()[number], 20 - 4.4 * number, spacing=(0.7, 0.9, told_mm))
    assert read_image([tmp_path]).geometry.spacing_mm[0] == pytest.approx(4.4)
    expected = "SpacingBetweenSlices says 5 mm, the positions of the slices 4.400 mm; the positions are taken"
    assert notes(tmp_path) == ({"W424": expected} if said else {})


def test_warning_about_a_series_reaches_its_volume(tmp_path):
    for number in range(SLICES):
        write_slice(tmp_path / f"IM{number}.dcm", array()[number], 20 - 4.4 * number, spacing=(0.7, 0.9, 5))
    assert "SpacingBetweenSlices" in dict(read_image([tmp_path]).notes)["W424"]


def test_rows_and_columns_that_are_not_at_right_angles_are_refused(tmp_path):
    for number in range(SLICES):
        path = tmp_path / f"IM{number}.dcm"
        write_slice(path, array()[number], 20 - 4.4 * number)
        path.write_bytes(path.read_bytes().replace(b"0\\1\\0\\0\\0\\-1", b"0\\1\\0\\0\\1\\-1"))
    with pytest.raises(DatasetError, match=r"E405.*rows and columns are not at right angles"):
        read_image([tmp_path])


def test_pixels_of_different_sizes_are_refused(tmp_path):
    for number in range(SLICES):
        spacing = (0.7, 0.9, 4.4) if number else (0.7, 1.0, 4.4)
        write_slice(tmp_path / f"IM{number}.dcm", array()[number], 20 - 4.4 * number, spacing=spacing)
    with pytest.raises(DatasetError, match=r"E906.*has pixels of"):
        read_image([tmp_path])
