import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from spinecls.errors import PlanError
from spinecls.geometry import Geometry
from spinecls.planning.resample import resample_image, resample_labels, resample_probabilities

SAGITTAL = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
FLIPPED = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
OBLIQUE = tuple(map(tuple, Rotation.from_euler("xyz", [12, -20, 7], degrees=True).as_matrix() @ np.array(SAGITTAL)))


def grid(shape, spacing_mm, direction=SAGITTAL, origin_lps=(5.0, -30.0, 12.0)):
    return Geometry(shape=shape, spacing_mm=spacing_mm, origin_lps=origin_lps, direction=direction)


def in_itk(volume, geometry):
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(np.asarray(geometry.direction)[:, ::-1].ravel())
    return image


def by_itk(volume, source, target):
    reference = in_itk(np.zeros(target.shape, np.float32), target)
    moved = sitk.Resample(in_itk(volume, source), reference, sitk.Transform(), sitk.sitkLinear, np.nan)
    return sitk.GetArrayFromImage(moved)


@pytest.mark.parametrize("direction", [SAGITTAL, FLIPPED, OBLIQUE])
@pytest.mark.parametrize("spacing_mm", [(4.0, 0.7, 0.6), (2.5, 1.0, 1.0), (3.0, 0.9, 1.0)])
def test_without_coarsening_the_image_is_linear_interpolation_as_by_simpleitk(direction, spacing_mm):
    source = grid((6, 14, 11), (4.0, 1.0, 1.0), direction)
    target = source.resampled(spacing_mm)
    volume = np.random.default_rng(0).random(source.shape).astype(np.float32)
    expected = by_itk(volume, source, target)
    inside = ~np.isnan(expected)
    assert inside.sum() > 500
    np.testing.assert_allclose(resample_image(volume[None], source, target)[0][inside], expected[inside], atol=2e-5)


def test_a_grid_moved_by_part_of_a_voxel_is_interpolated_as_by_simpleitk():
    source = grid((5, 12, 12), (4.0, 1.0, 1.0), OBLIQUE)
    target = grid((3, 6, 5), (4.0, 1.0, 1.0), OBLIQUE, tuple(source.to_world([1.25, 2.5, 3.125])))
    volume = np.random.default_rng(1).random(source.shape).astype(np.float32)
    moved = resample_image(volume[None], source, target)[0]
    np.testing.assert_allclose(moved, by_itk(volume, source, target), atol=2e-5)


def test_the_same_grid_changes_nothing():
    source = grid((3, 5, 7), (4.0, 1.0, 1.0), OBLIQUE)
    image = np.random.default_rng(2).random((2, *source.shape)).astype(np.float32)
    np.testing.assert_array_equal(resample_image(image, source, source), image)


def test_cropping_takes_the_voxels_unchanged():
    source = grid((5, 9, 9), (4.0, 1.0, 1.0), FLIPPED)
    volume = np.random.default_rng(3).random(source.shape).astype(np.float32)
    moved = resample_image(volume[None], source, source.cropped((1, 2, 3), (4, 8, 9)))[0]
    np.testing.assert_allclose(moved, volume[1:4, 2:8, 3:9], atol=1e-6)


def test_coarsening_by_two_weighs_one_three_three_one():
    source = grid((1, 1, 8), (4.0, 1.0, 1.0))
    target = source.resampled((4.0, 1.0, 2.0))
    volume = np.zeros(source.shape, np.float32)
    volume[0, 0, 3] = 8.0
    np.testing.assert_allclose(resample_image(volume[None], source, target)[0, 0, 0], [0, 3, 1, 0], atol=1e-6)


def test_coarsening_does_not_alias_a_checkerboard():
    source = grid((2, 40, 40), (4.0, 1.0, 1.0))
    board = np.indices(source.shape).sum(axis=0) % 2
    coarse = resample_image(board[None], source, source.resampled((4.0, 2.0, 2.0)))[0]
    np.testing.assert_allclose(coarse[:, 1:-1, 1:-1], 0.5, atol=1e-6)


def test_slices_are_never_overshot():
    source = grid((8, 4, 4), (4.0, 1.0, 1.0))
    step = np.zeros(source.shape, np.float32)
    step[4:] = 1.0
    fine = resample_image(step[None], source, source.resampled((1.0, 1.0, 1.0)))
    assert (fine.min(), fine.max()) == (0.0, 1.0)


def test_an_image_repeats_its_border_outside_the_grid():
    source = grid((1, 1, 3), (4.0, 1.0, 1.0))
    target = grid((1, 1, 7), (4.0, 1.0, 1.0), origin_lps=tuple(source.to_world([0, 0, -2])))
    row = resample_image(np.array([[[[1.0, 2.0, 3.0]]]]), source, target)[0, 0, 0]
    np.testing.assert_allclose(row, [1, 1, 1, 2, 3, 3, 3])


def test_probabilities_are_zero_outside_the_grid():
    source = grid((1, 1, 3), (4.0, 1.0, 1.0))
    target = grid((1, 1, 7), (4.0, 1.0, 1.0), origin_lps=tuple(source.to_world([0, 0, -2])))
    row = resample_probabilities(np.ones((1, 1, 1, 3)), source, target)[0, 0, 0]
    np.testing.assert_allclose(row, [0, 0, 1, 1, 1, 0, 0])


def test_grids_with_other_axes_are_refused():
    source, target = grid((2, 3, 3), (4.0, 1.0, 1.0)), grid((2, 3, 3), (4.0, 1.0, 1.0), OBLIQUE)
    with pytest.raises(PlanError, match="axes differ"):
        resample_image(np.zeros((1, 2, 3, 3)), source, target)


def ellipsoids(geometry):
    """Label map of three ellipsoids, 20 = (26, 22, 30) mm thick."""
    world_mm = np.indices(geometry.shape).reshape(3, -1).T * geometry.spacing_mm
    labels = np.zeros(geometry.shape, np.uint8)
    for code, middle in ((20, 20.0), (21, 48.0), (26, 78.0)):
        inside = (((world_mm - [40.0, middle, 40.0]) / [13.0, 11.0, 15.0]) ** 2).sum(axis=1) <= 1
        labels.ravel()[inside] = code
    return labels


@pytest.mark.parametrize("direction", [SAGITTAL, FLIPPED])
@pytest.mark.parametrize("spacing_mm", [(4.0, 2.0, 2.0), (4.0, 1.5, 1.5), (2.0, 1.0, 1.0), (4.0, 0.6, 0.6)])
def test_the_volume_of_a_label_is_kept_within_three_per_cent(direction, spacing_mm):
    source = grid((20, 100, 80), (4.0, 1.0, 1.0), direction)
    labels = ellipsoids(source)
    target = source.resampled(spacing_mm)
    moved = resample_labels(labels, source, target)
    for code in (20, 21, 26):
        before = (labels == code).sum() * np.prod(source.spacing_mm)
        assert (moved == code).sum() * np.prod(target.spacing_mm) == pytest.approx(before, rel=0.03)


def test_the_label_with_the_largest_interpolated_indicator_wins():
    source = grid((8, 30, 26), (4.0, 1.0, 1.0), OBLIQUE)
    rng = np.random.default_rng(4)
    labels = np.kron(rng.integers(0, 4, (4, 10, 13)), np.ones((2, 3, 2), int)).astype(np.uint8)
    target = grid((9, 33, 30), (2.9, 0.77, 0.71), OBLIQUE, tuple(source.to_world([0.31, 1.37, 1.41])))
    shares = np.stack([by_itk((labels == code).astype(np.float32), source, target) for code in range(4)])
    clear = np.diff(np.sort(shares, axis=0)[-2:], axis=0)[0] > 0.01
    assert clear.sum() > 4000
    np.testing.assert_array_equal(resample_labels(labels, source, target)[clear], shares.argmax(axis=0)[clear])


def test_label_maps_are_background_outside_their_grid():
    source = grid((2, 4, 4), (4.0, 1.0, 1.0))
    target = grid((2, 8, 4), (4.0, 1.0, 1.0), origin_lps=tuple(source.to_world([0, -2, 0])))
    moved = resample_labels(np.full(source.shape, 7, np.uint8), source, target)
    np.testing.assert_array_equal(moved[0, :, 0], [0, 0, 7, 7, 7, 7, 0, 0])


def test_a_label_far_from_the_new_grid_vanishes_without_error():
    source = grid((2, 30, 4), (4.0, 1.0, 1.0))
    labels = np.zeros(source.shape, np.uint8)
    labels[:, 25:] = 3
    assert not resample_labels(labels, source, source.cropped((0, 0, 0), (2, 10, 4))).any()
