"""Spots that hide no vertebra."""

import numpy as np
import pytest

from spinecls.dataloading.marrow_spots import RADII_MM, STRENGTH, with_spots

SPACING_MM = np.array([4.0, 2.0, 2.0])


@pytest.fixture
def image():
    return np.random.default_rng(1).normal(size=(2, 8, 40, 30)).astype(np.float32)


@pytest.fixture
def numbers():
    vertebrae = np.zeros((8, 40, 30), np.uint8)
    vertebrae[1:7, 2:12, 5:20] = 1
    vertebrae[1:7, 16:26, 5:20] = 2
    vertebrae[1:7, 30:39, 5:20] = 4
    return vertebrae


def spotted(image, numbers, share, seed=0):
    return with_spots(image, numbers, SPACING_MM, share, np.random.default_rng(seed))


def test_every_vertebra_of_a_share_of_one_has_a_spot_and_nothing_else_does(image, numbers):
    _, changed = spotted(image, numbers, 1.0)
    assert set(np.unique(numbers[changed])) == {1, 2, 4}


def test_without_a_share_nothing_changes(image, numbers):
    out, changed = spotted(image, numbers, 0.0)
    assert np.array_equal(out, image)
    assert not changed.any()


def test_about_the_share_of_the_vertebrae_has_a_spot(image, numbers):
    counts = [len(np.unique(numbers[spotted(image, numbers, 0.3, seed)[1]])) for seed in range(200)]
    assert np.mean(counts) / 3 == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_called_changed_is_what_has_other_values(image, numbers, seed):
    out, changed = spotted(image, numbers, 1.0, seed)
    assert np.array_equal((out != image).any(axis=0), changed)


def test_a_spot_is_strongest_in_its_middle_and_of_the_told_strength(image, numbers):
    out, _ = spotted(image, numbers, 1.0)
    deviation = image.std(axis=(1, 2, 3))
    for number in (1, 2, 4):
        strongest = np.abs((out - image)[:, numbers == number]).max(axis=1) / deviation
        assert np.all((strongest >= STRENGTH[0] - 1e-4) & (strongest <= STRENGTH[1] + 1e-4))


def test_a_spot_reaches_no_farther_than_the_largest_radius_and_its_edge(image, numbers):
    for seed in range(20):
        out, changed = spotted(image, (numbers == 1).astype(np.uint8), 1.0, seed)
        change = np.abs(out - image)[0]
        middle = np.array(np.unravel_index(change.argmax(), change.shape))
        reach = np.linalg.norm((np.argwhere(changed) - middle) * SPACING_MM, axis=1)
        # The strongest voxel is one of a plateau of half the radius about the middle.
        assert reach.max() <= (1.25 + 0.75) * RADII_MM[1]


def test_spots_lie_towards_the_rim(image, numbers):
    body = (numbers == 1).astype(np.uint8)
    voxels = np.argwhere(body) * SPACING_MM
    usual = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).mean()
    distances = []
    for seed in range(100):
        out, _ = spotted(image, body, 1.0, seed)
        weight = np.abs(out - image)[0][body > 0]
        distances.append(np.linalg.norm((voxels * weight[:, None]).sum(axis=0) / weight.sum() - voxels.mean(axis=0)))
    # About the nearer of two voxels they would lie at 0.73 of the usual distance, about the farther at 0.97.
    assert np.mean(distances) > 0.9 * usual


def test_the_patch_given_stays_as_it_was(image, numbers):
    before = image.copy()
    spotted(image, numbers, 1.0)
    assert np.array_equal(image, before)
