import numpy as np
import pytest

from spinecls.dataloading.spatial import PatchSampler, random_affine

SPACING = np.array([4.0, 1.0, 1.5])


def blob(shape, centre):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    squared = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING, strict=True))
    return np.exp(-squared / (2 * 6.0**2)).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_a_point_moves_with_the_image_under_rotation_zoom_and_mirroring(seed):
    rng = np.random.default_rng(seed)
    centre = np.array([9.0, 42.0, 31.0]) + rng.uniform(-1, 1, 3)
    matrix = random_affine(rng, 20.0, (0.85, 1.18), (0, 1, 2))
    sampler = PatchSampler((16, 64, 48), SPACING, centre + rng.uniform(-2, 2, 3), matrix)
    patch = sampler.image(blob((20, 90, 70), centre)[None])[0].astype(float)
    weights = patch**2 / (patch**2).sum()
    found = [
        float((np.arange(n) * weights.sum(axis=tuple(a for a in range(3) if a != axis))).sum())
        for axis, n in enumerate(patch.shape)
    ]
    assert found == pytest.approx(sampler.points(centre[None])[0], abs=0.15)


def test_the_identity_copies_the_volume():
    volume = np.random.default_rng(0).normal(size=(1, 6, 10, 8)).astype(np.float32)
    sampler = PatchSampler((6, 10, 8), SPACING, (2.5, 4.5, 3.5), np.eye(3))
    assert sampler.image(volume) == pytest.approx(volume, abs=1e-5)


def test_rotation_is_true_in_millimetres_and_keeps_the_slice():
    matrix = random_affine(np.random.default_rng(1), 20.0, (1.0, 1.0), ())
    assert matrix.T @ matrix == pytest.approx(np.eye(3))
    assert matrix[0].tolist() == [1, 0, 0]


def test_head_and_feet_never_change_places_without_being_asked():
    for seed in range(50):
        assert random_affine(np.random.default_rng(seed), 20.0, (0.8, 1.2), (0,))[1, 1] > 0


def test_labels_take_the_nearest_voxel_and_a_value_outside():
    volume = np.zeros((4, 8, 8), np.uint8)
    volume[1, 2, 3] = 7
    sampler = PatchSampler((4, 8, 8), SPACING, (1.5, 3.5, 3.5), np.eye(3))
    assert np.array_equal(sampler.labels(volume, 9), volume)
    far = PatchSampler((4, 8, 8), SPACING, (1.5, 40.0, 3.5), np.eye(3))
    assert (far.labels(volume, 9) == 9).all()


def test_a_patch_of_another_voxel_size_shows_the_same_place():
    centre = np.array([9.0, 42.0, 31.0])
    sampler = PatchSampler((10, 30, 30), (4.0, 2.0, 2.0), centre, np.eye(3), volume_spacing_mm=SPACING)
    patch = sampler.image(blob((20, 90, 70), centre + np.array([0, 6.0, 0]))[None])[0]
    peak = np.unravel_index(patch.argmax(), patch.shape)
    assert abs(peak[1] - (14.5 + 6.0 * 1.0 / 2.0)) <= 0.5


@pytest.mark.parametrize("seed", range(6))
def test_vectors_turn_mirror_and_stretch_as_points_do(seed):
    rng = np.random.default_rng(seed)
    sampler = PatchSampler((16, 64, 48), SPACING, (8, 30, 20), random_affine(rng, 20.0, (0.85, 1.18), (0, 1, 2)))
    start, step_mm = np.array([3.0, 20.0, 10.0]), np.array([4.0, -7.0, 5.0])
    ends = sampler.points(np.stack([start, start + step_mm / SPACING]))
    assert sampler.vectors(step_mm) == pytest.approx((ends[1] - ends[0]) * SPACING)


def test_the_same_map_is_sampled_once_and_cannot_be_changed():
    volume = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    sampler = PatchSampler((4, 8, 8), SPACING, (1.5, 3.5, 3.5), np.eye(3))
    assert sampler.labels(volume, 9) is sampler.labels(volume, 9)
    with pytest.raises(ValueError, match="read-only"):
        sampler.labels(volume, 9)[0, 0, 0] = 1


def test_maps_that_follow_each_other_in_memory_are_not_taken_for_one():
    sampler = PatchSampler((4, 8, 8), SPACING, (1.5, 3.5, 3.5), np.eye(3))
    assert all((sampler.labels(np.full((4, 8, 8), number, np.uint8), 0) == number).all() for number in range(40))
