import numpy as np
import pytest

from spinecls.errors import PlanError
from spinecls.geometry import Geometry
from spinecls.planning.plan import Configuration, NetworkPlan
from spinecls.planning.volume import (
    body_box,
    body_mask,
    intensity_reference,
    normalise,
    preprocess_volume,
)

SAGITTAL = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def geometry(shape, spacing_mm=(4.0, 1.0, 1.0)):
    return Geometry(shape=shape, spacing_mm=spacing_mm, origin_lps=(0.0, 0.0, 0.0), direction=SAGITTAL)


def configuration(spacing_mm=(4.0, 2.0, 2.0), normalisation=("robust_zscore",)):
    network = NetworkPlan(features=(8, 16), strides=((1, 1, 1), (1, 2, 2)), kernels=((1, 3, 3), (3, 3, 3)))
    return Configuration(
        name="3d_fullres",
        spacing_mm=spacing_mm,
        patch_size=(8, 32, 32),
        sealed_spacing_mm=spacing_mm,
        sealed_size=(8, 16, 16),
        network=network,
        reader_network=network,
        normalisation=normalisation,
    )


def scan(air=0.0, noise=3.0, shape=(10, 120, 100)):
    """Body from column 40 to 79 in air, with texture and a table-like bright line behind it."""
    rng = np.random.default_rng(0)
    image = np.full(shape, air, np.float32)
    image[:, :, 40:80] = air + 100
    image[:, 30:50, 50:60] = air + 20
    image[:, 10:20, 95:97] = air + 150
    return np.abs(image + rng.normal(0, noise, shape)).astype(np.float32)[None]


@pytest.mark.parametrize("air", [0.0, 40.0, 90.0])
def test_the_body_is_found_to_four_millimetres_whatever_value_the_air_has(air):
    mask = body_mask(scan(air), (4.0, 1.0, 1.0))
    assert mask[:, :30, 40:80].all()
    assert not mask[..., :36].any()
    assert not mask[..., 84:].any()


def test_only_the_largest_part_is_body():
    assert not body_mask(scan(), (4.0, 1.0, 1.0))[:, 10:20, 95:].any()


def test_a_constant_image_is_all_body():
    assert body_mask(np.full((1, 4, 9, 9), 7.0), (4.0, 1.0, 1.0)).all()


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_the_body_does_not_depend_on_the_intensity_scale(scale):
    image = scan()
    np.testing.assert_array_equal(body_mask(image * np.float32(scale), (4, 1, 1)), body_mask(image, (4, 1, 1)))


def test_the_box_holds_the_body_and_eight_millimetres_around_it():
    mask = np.zeros((20, 50, 60), bool)
    mask[5:15, 20:30, 10:40] = True
    assert body_box(mask, (4.0, 2.0, 1.0)) == ((3, 16, 2), (17, 34, 48))


def test_the_box_never_cuts_what_must_be_kept():
    mask = np.zeros((20, 50, 60), bool)
    mask[5:15, 20:30, 10:40] = True
    assert body_box(mask, (4.0, 2.0, 1.0), ((0, 40, 30), (3, 45, 60))) == ((0, 16, 2), (17, 45, 60))


def test_the_reference_is_median_and_scaled_mad_inside_the_body():
    image = np.array([1.0, 2.0, 3.0, 4.0, 100.0, -50.0]).reshape(1, 1, 1, 6)
    mask = np.array([True] * 5 + [False]).reshape(1, 1, 6)
    assert intensity_reference(image, mask, ["robust_zscore"]) == ((3.0, pytest.approx(1.4826)),)


def test_each_channel_has_its_own_scheme():
    image = np.stack([np.arange(8.0), np.arange(8.0)]).reshape(2, 2, 2, 2)
    normal = normalise(image, ((3.5, 2.0), (0.0, 1.0)), ("robust_zscore", "none"))
    np.testing.assert_allclose(normal[0].ravel(), (np.arange(8) - 3.5) / 2)
    np.testing.assert_array_equal(normal[1], image[1])


def test_normalised_intensities_stay_in_the_kept_range():
    normal = normalise(np.array([-1e6, 0.0, 1e6]).reshape(1, 1, 1, 3), ((0.0, 1.0),), ("robust_zscore",))
    np.testing.assert_array_equal(normal.ravel(), [-5, 0, 8])


def test_an_image_with_too_few_channels_is_refused():
    with pytest.raises(PlanError, match=r"the plan has 2 channels .* the image has 1"):
        preprocess_volume(scan(), geometry((10, 120, 100)), configuration(normalisation=("none", "none")))


def test_preprocessing_does_not_depend_on_gain_and_offset():
    grid = geometry((10, 120, 100))
    first = preprocess_volume(scan(), grid, configuration())
    second = preprocess_volume(scan() * 37 + 500, grid, configuration())
    assert first.crop_box == second.crop_box
    np.testing.assert_allclose(first.image, second.image, atol=1e-3)


def test_a_world_point_keeps_its_place_on_the_new_grid():
    image, grid = np.zeros((1, 10, 120, 100), np.float32), geometry((10, 120, 100))
    image[:, :, :, 40:80] = 1.0
    image[0, 5, 60:62, 70:72] = 50.0
    opened = preprocess_volume(image, grid, configuration(normalisation=("none",)))
    brightest = np.unravel_index(opened.image[0].argmax(), opened.geometry.shape)
    distance_mm = opened.geometry.to_world(brightest) - grid.to_world([5, 60.5, 70.5])
    assert np.abs(distance_mm).max() <= 1.0


def test_the_new_grid_covers_the_crop_to_half_a_voxel():
    opened = preprocess_volume(scan(), geometry((10, 120, 100)), configuration((3.0, 1.7, 2.3)))
    start, stop = (np.array(corner) for corner in opened.crop_box)
    wanted_mm = (stop - start) * [4.0, 1.0, 1.0]
    assert np.all(np.abs(np.array(opened.geometry.shape) * [3.0, 1.7, 2.3] - wanted_mm) <= np.array([3, 1.7, 2.3]) / 2)
