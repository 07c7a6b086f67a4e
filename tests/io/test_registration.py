"""Channels that moved between sequences are brought back; the motions are drawn, so the truth is known."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from spinecls.errors import DatasetError
from spinecls.io.images import read_image
from spinecls.io.registration import find_motion, resample_moved, transform_of
from spinecls.io.rigid_motion import RigidMotion
from spinecls.planning.volume import body_box, body_mask
from spinecls.testing.phantom import PhantomOptions, make_case, to_image

MOTIONS = {
    "forward and turned": ((3.0, -2.0, 4.0), (6.0, -7.0, 5.0)),
    "nodding": ((5.0, 0.0, 0.0), (0.0, 0.0, -9.0)),
    "still": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
}
BORDER_MM = 16.0


def motion(name, image):
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    rotation_degrees, translation_mm = MOTIONS[name]
    return RigidMotion(rotation_degrees=rotation_degrees, translation_mm=translation_mm, centre_lps=centre)


def inner(image):
    """Without the border, which a moved image lacks."""
    steps = [round(BORDER_MM / s) for s in image.GetSpacing()]
    return image[tuple(slice(n, -n) for n in steps)]


def moved_pair(name, orientation="PIR", oblique_degrees=0.0, seed=2):
    """T2, and T1 of the same phantom after it moved, both as scanned in `orientation`."""
    options = PhantomOptions(channels=("T2", "T1"), shape=(32, 112, 80), oblique_degrees=oblique_degrees)
    case = make_case(np.random.default_rng(seed), options)
    still, other = (to_image(channel, case.geometry, orientation) for channel in case.image)
    true = motion(name, still)
    moved = sitk.Resample(other, other, transform_of(true).GetInverse(), sitk.sitkLinear, 0.0)
    return inner(still), inner(moved), inner(other), true


def body_corners_lps(image):
    """World positions of the corners of the body's box."""
    array = sitk.GetArrayFromImage(image)
    spacing = image.GetSpacing()[::-1]
    start, stop = body_box(body_mask(array[None], spacing), spacing)
    corners = np.stack(np.meshgrid(*zip(start, np.subtract(stop, 1), strict=True), indexing="ij"), -1).reshape(-1, 3)
    return [image.TransformContinuousIndexToPhysicalPoint([float(n) for n in corner[::-1]]) for corner in corners]


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize(("orientation", "oblique_degrees"), [("PIR", 0.0), ("RAS", 12.0), ("LPS", -8.0)])
def test_a_known_motion_is_found_within_a_millimetre(name, orientation, oblique_degrees):
    still, moved, _, true = moved_pair(name, orientation, oblique_degrees)
    found = transform_of(find_motion(still, moved))
    for corner in body_corners_lps(still):
        apart_mm = np.subtract(found.TransformPoint(corner), transform_of(true).TransformPoint(corner))
        assert np.linalg.norm(apart_mm) < 1.0


def test_the_same_images_give_the_same_numbers():
    still, moved, _, _ = moved_pair("nodding")
    assert find_motion(still, moved) == find_motion(still, moved)


def test_a_moved_channel_is_read_as_if_it_had_not_moved(tmp_path):
    still, moved, other, true = moved_pair("forward and turned", "LPS")
    paths = [tmp_path / name for name in ("c_0000.nii.gz", "c_0001.nii.gz", "truth.nii.gz")]
    for image, path in zip((still, moved, other), paths, strict=True):
        sitk.WriteImage(image, str(path))
    truth = read_image(paths[2:]).array[0]
    as_scanned, aligned = read_image(paths[:2]), read_image(paths[:2], register=True)

    def likeness(volume):
        # Away from the border, where the moved scan shows less.
        inside = np.s_[4:-4, 6:-6, 6:-6]
        return np.corrcoef(volume.array[1][inside].ravel(), truth[inside].ravel())[0, 1]

    assert likeness(as_scanned) < 0.8
    assert likeness(aligned) > 0.95
    assert as_scanned.registration == ()
    (found,) = aligned.registration
    assert found.translation_mm == pytest.approx(true.translation_mm, abs=1.0)
    assert found.rotation_degrees == pytest.approx(true.rotation_degrees, abs=0.5)


def test_the_first_channel_stays_as_it_is(tmp_path):
    still, moved, _, _ = moved_pair("nodding")
    paths = [tmp_path / "c_0000.nii.gz", tmp_path / "c_0001.nii.gz"]
    for image, path in zip((still, moved), paths, strict=True):
        sitk.WriteImage(image, str(path))
    np.testing.assert_array_equal(read_image(paths, register=True).array[0], read_image(paths[:1]).array[0])


def test_one_channel_has_nothing_to_align(tmp_path):
    still, _, _, _ = moved_pair("still")
    sitk.WriteImage(still, str(tmp_path / "c.nii.gz"))
    assert read_image([tmp_path / "c.nii.gz"], register=True).registration == ()


def test_a_channel_that_cannot_be_aligned_stays_as_scanned_with_a_warning(tmp_path, monkeypatch):
    still, moved, _, _ = moved_pair("still")
    paths = [tmp_path / "c_0000.nii.gz", tmp_path / "c_0001.nii.gz"]
    for image, path in zip((still, moved), paths, strict=True):
        sitk.WriteImage(image, str(path))
    monkeypatch.setattr("spinecls.io.images.find_motion", lambda fixed, moving: None)
    volume = read_image(paths, register=True)
    np.testing.assert_array_equal(volume.array, read_image(paths).array)
    assert volume.registration == (None,)
    assert volume.warnings == ("c_0001.nii.gz: could not be aligned onto the first channel; left as scanned",)


def test_a_channel_of_another_region_is_still_refused(tmp_path):
    still, moved, _, _ = moved_pair("still")
    moved.SetOrigin([value + 500 for value in moved.GetOrigin()])
    paths = [tmp_path / "c_0000.nii.gz", tmp_path / "c_0001.nii.gz"]
    for image, path in zip((still, moved), paths, strict=True):
        sitk.WriteImage(image, str(path))
    with pytest.raises(DatasetError, match="covers 0%"):
        read_image(paths, register=True)


@pytest.mark.parametrize(
    ("rotation_degrees", "translation_mm", "plausible"),
    [((12, -12, 10), (0, 0, 39), True), ((12, -12, 12), (0, 0, 0), False), ((0, 0, 0), (30, 30, 0), False)],
)
def test_only_what_a_patient_on_the_table_can_do_is_plausible(rotation_degrees, translation_mm, plausible):
    made = RigidMotion(rotation_degrees=rotation_degrees, translation_mm=translation_mm, centre_lps=(0, 0, 0))
    assert made.plausible is plausible


def test_beyond_its_border_a_moved_channel_repeats_it():
    image = sitk.GetImageFromArray(np.full((4, 5, 6), 7.0, np.float32))
    shifted = RigidMotion(rotation_degrees=(0, 0, 0), translation_mm=(3.0, 0, 0), centre_lps=(0, 0, 0))
    assert sitk.GetArrayFromImage(resample_moved(image, image, shifted)).tolist() == np.full((4, 5, 6), 7.0).tolist()


def test_the_motion_says_where_a_point_of_the_first_channel_lies_in_the_other():
    # A quarter turn about z at (1, 0, 0), then 5 mm up: (2, 0, 0) goes to (1, 1, 5).
    quarter = RigidMotion(rotation_degrees=(0, 0, 90), translation_mm=(0, 0, 5), centre_lps=(1, 0, 0))
    assert transform_of(quarter).TransformPoint((2.0, 0.0, 0.0)) == pytest.approx((1.0, 1.0, 5.0))
    assert dataclasses.asdict(quarter)["rotation_degrees"] == (0, 0, 90)
