from __future__ import annotations

import itertools
import struct
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from spinecls.errors import DatasetError, ResourceError, UsageError
from spinecls.geometry import Geometry
from spinecls.io import images
from spinecls.io.images import (
    read_geometry,
    read_image,
    read_label_map,
    volume_from_array,
    volume_from_sitk,
    write_map,
)
from spinecls.io.nifti_gate import read_nifti_header

AXIS_ORDERS = [
    "".join(letters) for pairs in itertools.permutations(("RL", "IS", "PA")) for letters in itertools.product(*pairs)
]
# A rotation about all three axes by less than 45 degrees, so every axis keeps its name.
TILT = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.25).GetMatrix()


def scan(code: str, tilt=None) -> sitk.Image:
    """An image of 3 x 4 x 5 canonical voxels, all different, in any axis order."""
    image = tiny.to_image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), spacing=(0.7, 0.9, 4.4))
    if tilt is not None:
        turned = np.array(tilt).reshape(3, 3) @ np.array(image.GetDirection()).reshape(3, 3)
        image.SetDirection(turned.ravel().tolist())
    return sitk.DICOMOrient(image, code)


def marker_lps(image: sitk.Image, value: int) -> tuple[float, ...]:
    z, y, x = np.argwhere(sitk.GetArrayFromImage(image) == value)[0]
    return image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))


@pytest.mark.parametrize("tilt", [None, TILT], ids=["straight", "oblique"])
@pytest.mark.parametrize("code", AXIS_ORDERS)
def test_read_image_turns_every_axis_order_like_simpleitk(tmp_path, code, tilt):
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(scan(code, tilt), str(path))
    volume = read_image([path])
    expected = sitk.DICOMOrient(sitk.ReadImage(str(path)), "PIR")
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], sitk.GetArrayFromImage(expected))
    assert volume.geometry.shape == expected.GetSize()[::-1]
    assert volume.geometry.spacing_mm == pytest.approx(expected.GetSpacing()[::-1])
    assert volume.geometry.origin_lps == pytest.approx(expected.GetOrigin(), abs=1e-5)
    columns = np.array(expected.GetDirection()).reshape(3, 3)[:, ::-1]
    assert np.allclose(volume.geometry.direction, columns, atol=1e-6)


@pytest.mark.parametrize("tilt", [None, TILT], ids=["straight", "oblique"])
@pytest.mark.parametrize("code", AXIS_ORDERS)
def test_written_map_lies_as_its_input(tmp_path, code, tilt):
    source_path, map_path = tmp_path / "scan.nii.gz", tmp_path / "map.nii.gz"
    sitk.WriteImage(scan(code, tilt), str(source_path))
    volume = read_image([source_path])
    write_map(map_path, volume.array[0].astype(np.int16), volume.source, volume.geometry)
    before, after = sitk.ReadImage(str(source_path)), sitk.ReadImage(str(map_path))
    assert np.array_equal(sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after))
    assert after.GetOrigin() == before.GetOrigin()
    assert after.GetSpacing() == before.GetSpacing()
    assert after.GetDirection() == pytest.approx(before.GetDirection(), abs=1e-7)


def test_world_position_of_a_voxel_survives_reading_an_oblique_scan(tmp_path):
    path = tmp_path / "scan.nrrd"
    image = scan("SAL", TILT)
    sitk.WriteImage(image, str(path))
    volume = read_image([path])
    index = np.argwhere(volume.array[0] == 37)[0]
    assert volume.geometry.to_world(index) == pytest.approx(marker_lps(image, 37))


def test_canonical_array_runs_left_to_right_head_to_feet_front_to_back(tmp_path):
    sitk.WriteImage(scan("LPS"), str(tmp_path / "scan.mha"))
    geometry = read_geometry(tmp_path / "scan.mha")
    steps = geometry.to_world(np.eye(3)) - geometry.to_world(np.zeros(3))
    # LPS millimetres: to the right is -x, to the feet is -z, to the back is +y.
    assert steps == pytest.approx(np.array([[-4.4, 0, 0], [0, 0, -0.9], [0, 0.7, 0]]), abs=1e-6)


def test_read_geometry_needs_the_header_alone(tmp_path):
    path = tmp_path / "scan.nii"
    sitk.WriteImage(scan("PIR"), str(path))
    path.write_bytes(path.read_bytes()[:352])
    assert read_geometry(path).shape == (3, 4, 5)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_truncated_file_is_refused(tmp_path, ending):
    path = tmp_path / f"scan{ending}"
    noise = np.random.default_rng(0).integers(0, 1000, (5, 40, 40)).astype(np.int16)
    tiny.write(path, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(DatasetError, match=r"E302|E303"):
        read_image([path])


def test_uncompressed_truncation_says_how_much_is_there(tmp_path):
    path = tmp_path / "scan.nii"
    tiny.write(path, np.zeros((5, 40, 40), np.int16))
    path.write_bytes(path.read_bytes()[: (352 + 16000) // 4])
    with pytest.raises(DatasetError, match="only 25 % of the voxels"):
        read_image([path])


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(tmp_path, ending, value):
    array = np.ones((3, 4, 5), np.float32)
    array[1, 2, 3] = value
    tiny.write(tmp_path / f"scan{ending}", array)
    with pytest.raises(DatasetError, match=r"E501.*1 of 60 voxels are not finite"):
        read_image([tmp_path / f"scan{ending}"])


def test_scaling_in_the_header_is_applied(tmp_path):
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(scan("PIR"), str(path))
    tiny.header_field(path, "<2f", 112, 0.5, 3.0)
    assert np.array_equal(read_image([path]).array[0].ravel(), np.arange(60) * 0.5 + 3)


def test_trailing_dimensions_of_one_are_dropped(tmp_path):
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(scan("PIR"), str(path))
    tiny.header_field(path, "<6h", 40, 5, 5, 4, 3, 1, 1)
    assert read_image([path]).array.shape == (1, 3, 4, 5)


def test_four_dimensional_image_is_refused_in_other_formats(tmp_path):
    image = sitk.JoinSeries([scan("PIR"), scan("PIR")])
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    with pytest.raises(DatasetError, match=r"E402.*4-dimensional \(5 x 4 x 3 x 2\)"):
        read_image([tmp_path / "scan.mha"])


def test_single_dicom_file_asks_for_the_folder(tmp_path):
    (tmp_path / "slice.mha").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(DatasetError, match="Give the folder of the whole series"):
        read_image([tmp_path / "slice.mha"])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone\.nii\.gz: the file does not exist"):
        read_image([tmp_path / "gone.nii.gz"])


def test_no_path_is_refused():
    with pytest.raises(DatasetError, match="expected one path a channel"):
        read_image([])


def test_channel_on_a_finer_grid_is_interpolated_onto_the_first(tmp_path):
    # A ramp in world coordinates is reproduced exactly by linear interpolation on any grid.
    def ramp(shape, spacing, origin):
        image = tiny.to_image(np.zeros(shape, np.float32), spacing=spacing, origin=origin)
        for index in itertools.product(*(range(n) for n in shape[::-1])):
            x, y, z = image.TransformIndexToPhysicalPoint(index)
            image[index] = 2 * x - 3 * y + 0.5 * z + 300
        return image

    first, second = ramp((3, 6, 7), (1.0, 1.0, 4.0), (10, 20, 30)), ramp((9, 16, 18), (0.5, 0.5, 2.0), (13, 19.2, 30.7))
    sitk.WriteImage(first, str(tmp_path / "a.mha"))
    sitk.WriteImage(second, str(tmp_path / "b.mha"))
    volume = read_image([tmp_path / "a.mha", tmp_path / "b.mha"])
    assert np.allclose(volume.array[1], volume.array[0], atol=1e-3)
    (warning,) = (text for code, text in volume.notes if code == "W414")
    expected = "b.mha: has 9 x 16 x 18 voxels instead of 3 x 6 x 7, compared with the first channel; interpolated"
    assert warning.startswith(expected)


def test_channels_on_one_grid_in_other_axis_orders_are_not_interpolated(tmp_path):
    for name, code in (("a", "PIR"), ("b", "LAS")):
        sitk.WriteImage(scan(code), str(tmp_path / f"{name}.nii.gz"))
    volume = read_image([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    assert np.array_equal(volume.array[0], volume.array[1])
    assert "W414" not in {code for code, _ in volume.notes}


def test_channels_that_overlap_by_less_than_half_are_refused(tmp_path):
    noise = np.random.default_rng(0).random((3, 40, 40), np.float32)
    tiny.write(tmp_path / "a.mha", noise)
    tiny.write(tmp_path / "b.mha", noise, origin=(10, 45, 30))
    with pytest.raises(DatasetError, match=r"E414.*of the first channel, expected at least 50%"):
        read_image([tmp_path / "a.mha", tmp_path / "b.mha"])


def test_label_map_is_rounded_within_a_thousandth(tmp_path):
    tiny.write(tmp_path / "map.nii.gz", np.full((3, 4, 5), 19.9995, np.float32))
    array, geometry = read_label_map(tmp_path / "map.nii.gz")
    assert array.dtype == np.int16
    assert set(array.ravel()) == {20}
    assert geometry.shape == (3, 4, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_arrays_that_are_read_own_their_voxels(tmp_path, dtype):
    tiny.write(tmp_path / "map.nii.gz", np.arange(60).reshape(3, 4, 5).astype(dtype))
    assert read_label_map(tmp_path / "map.nii.gz")[0].base is None
    assert read_image([tmp_path / "map.nii.gz"]).array.base is None


def test_label_map_with_fractions_is_refused(tmp_path):
    tiny.write(tmp_path / "map.nii.gz", np.full((3, 4, 5), 19.4, np.float32))
    with pytest.raises(DatasetError, match=r"E601.*60 values are not whole, such as 19\.4"):
        read_label_map(tmp_path / "map.nii.gz")


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (np.array([0, 255], np.int64), sitk.sitkUInt8),
        (np.array([0, 256], np.int64), sitk.sitkUInt16),
        (np.array([0, 1], np.uint16), sitk.sitkUInt16),
        (np.array([False, True]), sitk.sitkUInt8),
        (np.array([0.0, 0.25], np.float64), sitk.sitkFloat32),
    ],
)
def test_map_is_stored_as_the_smallest_fitting_type(tmp_path, values, stored):
    volume = volume_from_sitk(scan("LPS"))
    array = np.resize(values, (3, 4, 5))
    write_map(tmp_path / "map.nii.gz", array, volume.source, volume.geometry)
    written = sitk.ReadImage(str(tmp_path / "map.nii.gz"))
    assert written.GetPixelID() == stored
    assert np.array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(written, "PIR")), array)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4, 6), np.uint8), "not on the image's grid"),
        (np.full((3, 4, 5), -1), "values -1 to -1, expected 0 to 65535"),
        (np.full((3, 4, 5), np.nan), "not finite"),
    ],
)
def test_map_that_cannot_be_stored_is_refused(tmp_path, array, words):
    volume = volume_from_sitk(scan("LPS"))
    with pytest.raises(DatasetError, match=words):
        write_map(tmp_path / "map.nii.gz", array, volume.source, volume.geometry)
    assert list(tmp_path.iterdir()) == []


def test_map_of_unknown_ending_is_refused(tmp_path):
    volume = volume_from_sitk(scan("LPS"))
    with pytest.raises(UsageError, match=r"written as \.nii\.gz"):
        write_map(tmp_path / "map.png", np.zeros((3, 4, 5), np.uint8), volume.source, volume.geometry)


def test_map_that_reads_back_differently_leaves_no_file(tmp_path, monkeypatch):
    volume = volume_from_sitk(scan("LPS"))
    write = sitk.WriteImage
    monkeypatch.setattr(images.sitk, "WriteImage", lambda image, path, **options: write(image * 0, path, **options))
    with pytest.raises(ResourceError, match="reads back differently"):
        write_map(tmp_path / "map.nii.gz", np.ones((3, 4, 5), np.uint8), volume.source, volume.geometry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_full_disk_while_writing_is_an_error_and_leaves_no_file(tmp_path):
    program = f"""
import resource, numpy as np
from spinecls.errors import ResourceError
from spinecls.geometry import Geometry
from spinecls.io.images import volume_from_array, write_map
grid = Geometry(shape=(8, 64, 64), spacing_mm=(4, 1, 1), origin_lps=(0, 0, 0), direction=((-1,0,0),(0,0,1),(0,-1,0)))
noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64)).astype(np.uint8)
volume = volume_from_array(noise, grid)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_map({str(tmp_path / "map.nii.gz")!r}, noise, volume.source, volume.geometry)
except ResourceError as error:
    print("refused:", "disk full" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "refused: True\n"
    assert list(tmp_path.iterdir()) == []


def test_written_map_holds_no_metadata_of_its_input(tmp_path):
    image = scan("LPS")
    image.SetMetaData("0010|0010", "DOE^JANE")
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    volume = read_image([tmp_path / "scan.nrrd"])
    write_map(tmp_path / "map.nrrd", np.zeros((3, 4, 5), np.uint8), volume.source, volume.geometry)
    assert b"DOE" in (tmp_path / "scan.nrrd").read_bytes()
    assert b"DOE" not in (tmp_path / "map.nrrd").read_bytes()


def test_components_of_an_image_in_memory_become_channels():
    image = sitk.Compose(scan("LPS"), scan("LPS") + 100)
    volume = volume_from_sitk(image)
    assert volume.array.shape == (2, 3, 4, 5)
    assert np.array_equal(volume.array[1], volume.array[0] + 100)
    assert np.array_equal(volume.array[0].ravel(), np.arange(60))


def test_flat_image_in_memory_is_refused():
    with pytest.raises(DatasetError, match="has 2 dimensions, expected 3"):
        volume_from_sitk(sitk.Image(4, 4, sitk.sitkUInt8))


@pytest.mark.parametrize("code", ["LPS", "SAL", "PIR", "RSA"])
def test_array_on_any_grid_becomes_the_same_volume_as_its_image(code):
    image = scan(code, TILT)
    columns = np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]
    grid = Geometry(
        shape=image.GetSize()[::-1],
        spacing_mm=image.GetSpacing()[::-1],
        origin_lps=image.GetOrigin(),
        direction=tuple(map(tuple, columns)),
    )
    volume = volume_from_array(sitk.GetArrayFromImage(image), grid)
    expected = volume_from_sitk(image)
    assert np.array_equal(volume.array, expected.array)
    assert volume.geometry == expected.geometry
    assert volume.source == expected.source


def test_array_that_does_not_fit_its_geometry_is_refused():
    grid = volume_from_sitk(scan("PIR")).geometry
    with pytest.raises(DatasetError, match="its geometry says"):
        volume_from_array(np.zeros((3, 4, 6)), grid)


def test_warnings_of_the_library_are_on_again_after_reading(tmp_path):
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    with pytest.raises(DatasetError):
        read_image([tmp_path / "gone.mha"])
    assert sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(before)


@pytest.mark.parametrize("order", ["<", ">"])
def test_header_of_nifti_2_is_read_in_both_byte_orders(tmp_path, order):
    header = bytearray(544)
    struct.pack_into(order + "i8s", header, 0, 540, b"n+2\0\r\n\x1a\n")
    struct.pack_into(order + "2h", header, 12, 4, 16)
    struct.pack_into(order + "8q", header, 16, 3, 56, 60, 6, 1, 1, 1, 1)
    struct.pack_into(order + "8d", header, 104, 1, 0.5, 0.6, 4.0, 0, 0, 0, 0)
    struct.pack_into(order + "q", header, 168, 544)
    (tmp_path / "scan.nii").write_bytes(bytes(header) + bytes(56 * 60 * 6 * 2))
    with pytest.raises(DatasetError, match=r"is NIfTI of version 2, which .* does not read.*n\.Nifti1Image"):
        read_image([tmp_path / "scan.nii"])
    found = read_nifti_header(tmp_path / "scan.nii")
    assert found.shape == (56, 60, 6)
    assert found.spacing_mm == (0.5, 0.6, 4.0)
    assert found.expected_bytes == 544 + 56 * 60 * 6 * 2
