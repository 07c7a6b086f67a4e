import itertools

import numpy as np
import pytest
import torch

from spinecls.inference.sliding_window import open_maps, tile_starts, tile_weight, values_at


class Echo(torch.nn.Module):
    """Stands for a network: what it gives is a known function of each voxel, so tiling must not show."""

    def open_pass(self, image):
        offset = torch.cat([image, 2 * image, 3 * image], dim=1)
        coarse = torch.nn.functional.avg_pool3d(image, (2, 4, 4))
        return {"heatmap": image, "offset": offset, "level": torch.cat([coarse, -coarse], dim=1)}


class LeftRight(torch.nn.Module):
    """An ideal network: its offset always points to the right, in the frame of what it sees."""

    def open_pass(self, image):
        ramp = torch.arange(image.shape[2]).view(1, 1, -1, 1, 1).expand_as(image).float()
        zero = torch.zeros_like(image)
        return {"heatmap": image, "offset": torch.cat([4.0 - ramp, zero, zero], dim=1)}


CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(4, 16, 16), (5, 21, 33), (9, 40, 18), (3, 10, 9)])
def test_tiles_leave_no_trace_where_the_network_is_the_same_everywhere(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    maps = open_maps([Echo()], image, (4, 16, 16), (2, 4, 4), CPU, mirror=False)
    assert maps["heatmap"][0] == pytest.approx(1 / (1 + np.exp(-image[0])), abs=1e-5)
    assert maps["offset"][2] == pytest.approx(3 * image[0], abs=1e-4)
    coarse = [-(-max(n, t) // s) for n, t, s in zip(shape, (4, 16, 16), (2, 4, 4), strict=True)]
    assert maps["level"].shape == (2, *coarse)


def test_folds_are_averaged():
    class Twice(Echo):
        def open_pass(self, image):
            return super().open_pass(2 * image)

    image = np.ones((1, 4, 16, 16), np.float32)
    maps = open_maps([Echo(), Twice()], image, (4, 16, 16), (2, 4, 4), CPU, mirror=False)
    assert maps["offset"][0] == pytest.approx(1.5)


def test_a_mirrored_view_is_turned_back_and_its_vectors_too():
    image = np.zeros((1, 9, 16, 16), np.float32)
    maps = open_maps([LeftRight()], image, (9, 16, 16), (1, 4, 4), CPU, mirror=True)
    expected = np.broadcast_to((4.0 - np.arange(9.0))[:, None, None], (9, 16, 16))
    assert maps["offset"][0] == pytest.approx(expected, abs=1e-5)


def test_tiles_cover_everything_at_allowed_places():
    starts = tile_starts(100, 32, 8)
    assert starts[0] == 0
    assert all(s % 8 == 0 for s in starts)
    assert all(b - a <= 24 for a, b in itertools.pairwise(starts))


def test_the_middle_of_a_tile_counts_most():
    weight = tile_weight((4, 16, 16))
    assert weight[1:3, 7:9, 7:9].min() == weight.max()
    assert weight.min() > 0


def test_values_of_a_coarse_map_are_read_at_the_centre_of_its_voxels():
    coarse = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    index = np.array([[2.5, 5.5, 9.5]])  # middle of coarse voxel (1, 1, 2) for strides (2, 4, 4)
    assert values_at(coarse, index, (2, 4, 4))[0] == pytest.approx(coarse[:, 1, 1, 2])


def test_no_detections_give_no_values():
    assert values_at(np.zeros((27, 2, 2, 2), np.float32), np.zeros((0, 3)), (1, 4, 4)).shape == (0, 27)
