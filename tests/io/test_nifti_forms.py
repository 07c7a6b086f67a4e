"""Headers that programs read differently, so that a result would lie elsewhere than its image in some viewer.

Expected positions are worked out from the standard by hand: x and y of the header (RAS) change their sign in LPS.
"""

from __future__ import annotations

import gzip
import re
import struct
import subprocess
import sys

import nifti_by_hand as hand
import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.io.findings import CodedFault
from spinecls.io.images import read_header, read_image, read_label_map, write_map

MOVED = tuple(np.add(hand.ORIGIN_RAS, 50))
CORNER = np.array(hand.SIZE) - 1
NAN = float("nan")


def corner_ras(sform) -> np.ndarray:
    return sform[:, :3] @ CORNER + sform[:, 3]


def place_of_corner(path) -> np.ndarray:
    """World position (LPS) at which the voxel stored last is read."""
    volume = read_image([path])
    (index,) = np.argwhere(volume.array[0] == np.prod(hand.SIZE))
    return volume.geometry.to_world(index)


def sheared(amount: float) -> np.ndarray:
    """The second axis leans towards the first by `amount` mm a mm."""
    rotation = hand.ROTATION.copy()
    rotation[:, 1] += amount * rotation[:, 0]
    return hand.rows(rotation=rotation)


def refusal(path) -> CodedFault:
    with pytest.raises(CodedFault) as caught:
        read_image([path])
    return caught.value


def notes(path) -> dict[str, str]:
    return dict(read_header(path)[1])


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (1, 0), (0, 1), (0, 4), (4, 0), (3, 2), (5, 5)])
def test_forms_that_agree_are_read_alike_under_every_code(tmp_path, codes):
    path = hand.write(tmp_path / "a.nii.gz", qform_code=codes[0], sform_code=codes[1])
    assert place_of_corner(path) == pytest.approx(corner_ras(hand.rows()) * (-1, -1, 1), abs=1e-3)
    assert notes(path) == {}


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1)])
@pytest.mark.parametrize("mirrored", [1, -1])
def test_forms_apart_are_refused_with_both_places_to_choose(tmp_path, codes, mirrored):
    rotation = hand.ROTATION * (1, 1, mirrored)
    path = hand.write(
        tmp_path / "a.nii.gz",
        qform_code=codes[0],
        sform_code=codes[1],
        qfac=mirrored,
        sform=hand.rows(rotation=rotation, origin=MOVED),
    )
    fault = refusal(path)
    assert fault.code == "E415"
    # 50 mm along each axis.
    assert f"qform (code {codes[0]}) and sform (code {codes[1]}) place a voxel up to 86.6 mm apart" in fault.detail
    # The image library takes the sform of a scanner, else the qform.
    by_library = "by the sform, older programs by the qform" if codes[1] == 1 else "show it by the qform, FSLeyes"
    assert by_library in fault.detail
    origins = []
    content = path.read_bytes()
    for line in re.findall(r'python -c "(.*?)"', fault.detail):
        path.write_bytes(content)
        subprocess.run([sys.executable, "-c", line], check=True)
        assert notes(path) == {}
        origins.append(np.round(place_of_corner(path), 2).tolist())
    places = [corner_ras(hand.rows(rotation=rotation, origin=o)) * (-1, -1, 1) for o in (hand.ORIGIN_RAS, MOVED)]
    assert sorted(origins) == sorted(np.round(places, 2).tolist())


@pytest.mark.parametrize(("shift_mm", "said"), [(0.05, False), (0.4, True)])
def test_forms_apart_by_less_than_half_a_voxel_are_read_and_told_beyond_rounding(tmp_path, shift_mm, said):
    # Along the second axis, whose voxels have an edge of 1 mm.
    origin = hand.ORIGIN_RAS + shift_mm * hand.ROTATION[:, 1]
    path = hand.write(tmp_path / "a.nii.gz", sform_code=2, sform=hand.rows(origin=origin))
    assert place_of_corner(path) == pytest.approx(corner_ras(hand.rows()) * (-1, -1, 1), abs=1e-3)
    assert ("the qform is taken" in notes(path).get("W415", "")) == said


def test_half_turn_that_a_quaternion_cannot_tell_exactly_is_rounding(tmp_path):
    # Half a turn about z and 0.6 milliradians more: in the qform as float32 the surplus is lost.
    turn = np.pi + 6e-4
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    edges = (0.3, 0.3, 4.0)
    path = hand.write(
        tmp_path / "a.nii.gz",
        dims=(3, 1024, 1024, 16),
        quaternion=(0, 0, 1),
        edges_mm=edges,
        sform=hand.rows(rotation=rotation, edges_mm=edges),
    )
    assert notes(path) == {}


@pytest.mark.parametrize("qform_code", [0, 1])
def test_voxel_edges_told_twice_and_differently_are_refused(tmp_path, qform_code):
    path = hand.write(tmp_path / "a.nii.gz", qform_code=qform_code, edges_mm=(1, 1, 1))
    fault = refusal(path)
    assert fault.code == "E417"
    assert "pixdim says voxels of 1 x 1 x 1 mm, the columns of the sform 1.5 x 1 x 4 mm" in fault.detail
    by_sform = re.findall(r'python -c "(.*?)"', fault.detail)[1]
    subprocess.run([sys.executable, "-c", by_sform], check=True)
    assert place_of_corner(path) == pytest.approx(corner_ras(hand.rows()) * (-1, -1, 1), abs=1e-3)


def test_voxel_edges_that_differ_by_rounding_pass(tmp_path):
    assert notes(hand.write(tmp_path / "a.nii.gz", edges_mm=(1.501, 1.0, 4.0))) == {}


@pytest.mark.parametrize(("unit", "name"), [(1, "metre"), (3, "micrometre")])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_other_units_than_millimetres_are_refused(tmp_path, unit, name, codes):
    path = hand.write(tmp_path / "a.nii.gz", unit=unit, qform_code=codes[0], sform_code=codes[1])
    fault = refusal(path)
    assert fault.code == "E418"
    assert f"gives its lengths in {name}" in fault.detail
    as_written = re.findall(r'python -c "(.*?)"', fault.detail)[1]
    subprocess.run([sys.executable, "-c", as_written], check=True)
    assert sorted(read_header(path)[0].spacing_mm) == pytest.approx(sorted(hand.EDGES_MM), abs=1e-6)


@pytest.mark.parametrize("unit", [0, 2, 10])
def test_unknown_unit_is_the_millimetre(tmp_path, unit):
    path = hand.write(tmp_path / "a.nii.gz", unit=unit)
    assert read_header(path)[0].spacing_mm == pytest.approx(hand.EDGES_MM)
    assert notes(path) == {}


@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (0, 2)])
@pytest.mark.parametrize("amount", [1e-4, 1e-3, 1e-2])
def test_axes_bent_by_rounding_are_read_within_half_a_voxel(tmp_path, codes, amount):
    path = hand.write(tmp_path / "a.nii.gz", qform_code=codes[0], sform_code=codes[1], sform=sheared(amount))
    off_mm = np.abs(place_of_corner(path) - corner_ras(sheared(amount)) * (-1, -1, 1)).max()
    assert off_mm <= 0.5 * min(hand.EDGES_MM)


def test_bent_axes_in_another_order_lie_at_the_nearest_right_angles(tmp_path):
    # The image library itself turns such axes by far.
    permuted = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    permuted[:, 1] += 0.01 * permuted[:, 0]
    sform = hand.rows(rotation=permuted)
    path = hand.write(tmp_path / "a.nii.gz", qform_code=0, sform=sform)
    assert np.abs(place_of_corner(path) - corner_ras(sform) * (-1, -1, 1)).max() < 0.1


def test_result_of_an_image_with_bent_axes_lies_on_it(tmp_path):
    path = hand.write(tmp_path / "a.nii.gz", qform_code=0, sform=sheared(0.02))
    volume = read_image([path])
    assert "The nearest right angles are taken" in volume.warnings[0]
    write_map(tmp_path / "map.nii.gz", (volume.array[0] == 720).astype(np.uint8), volume.source, volume.geometry)
    array, grid = read_label_map(tmp_path / "map.nii.gz")
    (index,) = np.argwhere(array)
    assert np.abs(grid.to_world(index) - corner_ras(sheared(0.02)) * (-1, -1, 1)).max() < 0.5


def test_sheared_axes_are_refused_with_how_much_and_the_line_that_resamples(tmp_path):
    path = hand.write(tmp_path / "a.nii.gz", sform=sheared(0.2))
    fault = refusal(path)
    assert fault.code == "E405"
    # The cosine between the axes is 0.2 / |(0.2, 1)|, an angle of 11.3 degrees.
    assert "sheared by 11 degrees" in fault.detail
    assert "resample_to_output(n.load(" in fault.detail


def test_forms_of_a_written_map_agree(tmp_path):
    volume = read_image([hand.write(tmp_path / "a.nii.gz", qform_code=0, sform_code=2)])
    write_map(tmp_path / "map.nii.gz", volume.array[0].astype(np.int16), volume.source, volume.geometry)
    header = gzip.decompress((tmp_path / "map.nii.gz").read_bytes())
    qform_code, sform_code = struct.unpack_from("<2h", header, 252)
    assert qform_code > 0
    assert sform_code > 0
    assert header[123] & 7 == 2
    sform = np.array(struct.unpack_from("<12f", header, 280)).reshape(3, 4)
    assert sform == pytest.approx(hand.rows(), abs=1e-5)
    b, c, d, *offset = struct.unpack_from("<6f", header, 256)
    assert (b, c, d) == pytest.approx(hand.QUATERNION, abs=1e-6)
    assert offset == pytest.approx(hand.ORIGIN_RAS, abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"qform_code": 0, "sform_code": 0}, "W407", "neither sform nor qform"),
        ({"scaling": (NAN, 0)}, "W420", "scl_slope is nan"),
        ({"scaling": (1, float("inf"))}, "W420", "scl_inter inf"),
    ],
)
def test_field_that_says_nothing_usable_is_told(tmp_path, fields, code, words):
    assert words in notes(hand.write(tmp_path / "a.nii.gz", **fields))[code]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"sform_code": 7}, "E420", "sform_code is 7, expected 0 to 5"),
        ({"qform_code": -1}, "E420", "qform_code is -1"),
        ({"quaternion": (0.9, 0.9, 0.1)}, "E420", "squares sum to 1"),
        ({"quaternion": (NAN, 0, 0)}, "E420", "(nan, 0, 0)"),
        ({"offset": (NAN, 0, 0)}, "E420", "quaternion"),
        ({"qfac": -2.0, "sform_code": 0}, "E420", "pixdim[0] is -2"),
        ({"sform": hand.rows() * NAN}, "E405", "not finite"),
        ({"sform": hand.rows(rotation=np.ones((3, 3)))}, "E405", "two columns along one line"),
        ({"edges_mm": (1.5, 0.0, 4.0)}, "E404", "numbers above 0. Its sform says 1.5 x 1 x 4 mm."),
        ({"edges_mm": (1.5, 0.0, 4.0), "sform_code": 0}, "E404", "above 0. Convert it again from DICOM."),
        ({"edges_mm": (-1.5, 1.0, 4.0), "sform": hand.rows()}, "E404", "n.Nifti1Image(p.array(i.dataobj), i.affine)"),
        ({"intent": 1005}, "E420", "says that voxels are tensors"),
        ({"dims": (2, 12, 10, 6)}, "E402", "dim[0] says 2 dimensions, dim[3] 6 slices"),
    ],
)
def test_field_that_programs_read_differently_is_refused(tmp_path, fields, code, words):
    fault = refusal(hand.write(tmp_path / "a.nii.gz", **fields))
    assert fault.code == code
    assert words in fault.detail


@pytest.mark.parametrize("qfac", [0.0, 1.0, 3.0])
def test_any_handedness_but_below_zero_means_right_handed(tmp_path, qfac):
    path = hand.write(tmp_path / "a.nii.gz", qfac=qfac, sform_code=0)
    assert place_of_corner(path) == pytest.approx(corner_ras(hand.rows()) * (-1, -1, 1), abs=1e-3)


def test_mirrored_sform_is_read_as_it_stands(tmp_path):
    sform = hand.rows(rotation=hand.ROTATION * (1, 1, -1))
    path = hand.write(tmp_path / "a.nii.gz", qform_code=0, sform=sform)
    assert place_of_corner(path) == pytest.approx(corner_ras(sform) * (-1, -1, 1), abs=1e-3)


def test_volumes_that_the_header_does_not_count_are_told(tmp_path):
    path = hand.write(tmp_path / "a.nii.gz", np.stack([hand.voxels()] * 2, axis=-1), dims=(3, *hand.SIZE, 2))
    assert "holds the bytes of 2 volumes" in dict(read_image([path]).notes)["W426"]


@pytest.mark.parametrize(
    ("array", "datatype", "code", "words"),
    [
        (np.ones((*hand.SIZE, 2)), 4, "E402", "4-dimensional (12 x 10 x 6 x 2), 2 volumes"),
        (np.ones((*hand.SIZE, 1, 3)), 2, "E403", "a colour image (3 values a voxel)"),
        (np.ones((*hand.SIZE, 1, 3)), 4, "E403", "a field of vectors (3 values a voxel)"),
    ],
)
def test_more_than_one_number_a_voxel_is_called_what_it_is(tmp_path, array, datatype, code, words):
    fault = refusal(hand.write(tmp_path / "a.nii.gz", array, datatype=datatype))
    assert fault.code == code
    assert words in fault.detail


def test_first_of_several_volumes_can_be_kept_by_the_line_in_the_message(tmp_path):
    path = hand.write(tmp_path / "a.nii.gz", np.stack([hand.voxels(), 2 * hand.voxels()], axis=-1))
    (line,) = re.findall(r'python -c "(.*?)"', refusal(path).detail)
    subprocess.run([sys.executable, "-c", line], check=True)
    assert sorted(read_image([path]).array.ravel()) == sorted(hand.voxels().ravel())


def test_first_colour_can_be_kept_by_the_line_in_the_message(tmp_path):
    path = tmp_path / "a.nii.gz"
    colours = np.random.default_rng(0).integers(0, 255, (6, 10, 12, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    (line,) = re.findall(r'python -c "(.*?)"', refusal(path).detail)
    subprocess.run([sys.executable, "-c", line], check=True)
    assert sorted(read_image([path]).array.ravel()) == sorted(colours[..., 0].ravel())


@pytest.mark.parametrize("name", ["a.Nii.gz", "a.nii.GZ", "a.NII.gz", "a.Nii"])
def test_ending_in_mixed_case_is_refused_with_the_name_to_use(tmp_path, name):
    fault = refusal(hand.write(tmp_path / name))
    assert fault.code == "E308"
    assert f"Rename it to {name.lower()}." in fault.detail
