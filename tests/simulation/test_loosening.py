"""Loosened annotation: what each form keeps of the truth, on upright and oblique grids."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from spinecls.geometry import Geometry
from spinecls.simulation import loosening

UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
TURN = np.array(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.25).GetMatrix()).reshape(3, 3)
SHAPE = (8, 60, 50)
IGNORED = 255


@pytest.fixture(params=["flipped", "oblique"])
def grid(request):
    direction = UPRIGHT @ np.diag([-1.0, -1.0, 1.0]) if request.param == "flipped" else TURN @ UPRIGHT
    return Geometry(
        shape=SHAPE, spacing_mm=(4.0, 1.0, 1.5), origin_lps=(5.0, 9.0, -3.0), direction=tuple(map(tuple, direction))
    )


@pytest.fixture
def labels():
    made = np.zeros(SHAPE, np.uint8)
    made[2:6, 5:25, 10:35] = 20
    made[2:6, 30:52, 12:38] = 21
    return made


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_tight_box_touches_the_outermost_voxel_corners(grid, labels):
    mask = labels == 20
    low, high = loosening.loose_box_lps(mask, grid, (0.0, 0.0), rng())
    index = np.argwhere(mask)
    steps = np.array(np.meshgrid(*([(-0.5, 0.5)] * 3))).reshape(3, -1).T
    corners = grid.to_world((index[:, None] + steps[None]).reshape(-1, 3))
    assert low == pytest.approx(corners.min(axis=0))
    assert high == pytest.approx(corners.max(axis=0))


def test_every_face_of_a_loose_box_lies_outside_by_its_slack(grid, labels):
    tight = loosening.loose_box_lps(labels == 20, grid, (0.0, 0.0), rng())
    for seed in range(20):
        low, high = loosening.loose_box_lps(labels == 20, grid, (2.0, 6.0), rng(seed))
        out = np.concatenate([tight[0] - low, high - tight[1]])
        assert ((out >= 2) & (out <= 6)).all()


def test_a_point_scatters_about_the_centroid_as_told(grid, labels):
    centre = grid.to_world(np.argwhere(labels == 20).mean(axis=0))
    points = np.array([loosening.loose_point_lps(labels == 20, grid, 3.0, rng(seed)) for seed in range(400)])
    assert points.mean(axis=0) == pytest.approx(centre, abs=0.5)
    assert points.std(axis=0) == pytest.approx((3, 3, 3), abs=0.4)
    assert loosening.loose_point_lps(labels == 20, grid, 0.0, rng()) == pytest.approx(centre)


def test_a_coarse_map_strays_no_farther_than_tolerance_and_wavering(grid, labels):
    limit = 3.0 + 2 * loosening.WARP_MM + max(grid.spacing_mm[1:])
    changed = 0
    for seed in range(5):
        coarse = loosening.coarse_map(labels, grid.spacing_mm, 3.0, rng(seed), IGNORED)
        assert set(np.unique(coarse)) == {0, 20, 21}
        for code in (20, 21):
            wrong = (coarse == code) != (labels == code)
            changed += wrong.sum()
            for plane, truth in zip(wrong, labels == code, strict=True):
                if plane.any():
                    spacing = grid.spacing_mm[1:]
                    inside = ndimage.distance_transform_edt(truth, sampling=spacing)
                    outside = ndimage.distance_transform_edt(~truth, sampling=spacing)
                    assert np.maximum(inside, outside)[plane].max() <= limit
    assert changed > 0


def test_a_coarse_map_keeps_unknown_voxels_and_slices_that_show_nothing(grid, labels):
    labels[:, 0] = IGNORED
    coarse = loosening.coarse_map(labels, grid.spacing_mm, 3.0, rng(), IGNORED)
    assert (coarse[:, 0] == IGNORED).all()
    assert not np.isin(coarse[:2], (20, 21)).any()


def test_scribbles_lie_in_their_label_and_are_as_long_as_told(labels):
    scribbled = loosening.scribble_map(labels, 0.02, rng(), IGNORED)
    for code in (20, 21):
        assert (labels[scribbled == code] == code).all()
        for number in range(2, 6):
            drawn = (scribbled[number] == code).sum()
            assert 1 <= drawn <= round(0.02 * (labels[number] == code).sum())
            assert ndimage.label(scribbled[number] == code, np.ones((3, 3)))[1] == 1
    assert (scribbled[~np.isin(scribbled, (20, 21))] == IGNORED).all()


@pytest.mark.parametrize("seed", range(5))
def test_one_slice_in_so_many_is_as_it_was_and_the_rest_is_unknown(labels, seed):
    sliced, kept = loosening.sliced_map(labels, 3, rng(seed), IGNORED)
    assert np.array_equal(sliced[kept], labels[kept])
    others = [n for n in range(SHAPE[0]) if n not in kept]
    assert (sliced[others] == IGNORED).all()
    assert np.diff(kept).tolist() == [3] * (len(kept) - 1)
    assert labels[kept].any()


def test_a_map_without_labels_has_no_slice_to_draw():
    sliced, kept = loosening.sliced_map(np.zeros(SHAPE, np.uint8), 3, rng(), IGNORED)
    assert kept == []
    assert (sliced == IGNORED).all()


@pytest.mark.parametrize(
    ("form", "seconds"),
    # Four slices show the label; one in three of them is two.
    [
        ("point", 2.4), ("box", 14.0), ("scribble", 43.6), ("coarse", 104.0), ("mask", 316.0), ("slices", 158.0),
        ("none", 0),
    ],
)  # fmt: skip
def test_time_to_draw_by_hand(labels, form, seconds):
    assert loosening.drawing_seconds(form, labels, 20, every=3) == pytest.approx(seconds)
