"""The open pass over a whole image: overlapping tiles, averaged with weights that fall towards a tile's border."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as functional

from spinecls.networks.model import SpineModel

Activations = dict[str, Callable[[torch.Tensor], torch.Tensor]]

OPEN_ACTIVATIONS: Activations = {
    "heatmap": torch.sigmoid,
    "offset": lambda offset: offset,
    "level": lambda logits: functional.log_softmax(logits, dim=1),
    "vertebra_map": lambda logits: torch.softmax(logits, dim=1)[:, 1:],
}
"""What is averaged over tiles, views and folds: probabilities of maps, log-probabilities of levels, vectors."""


def tile_starts(length: int, tile: int, multiple: int, overlap: float = 0.5) -> list[int]:
    """First voxels of tiles that cover `length`, multiples of `multiple`; `length` is at least `tile` and padded so."""
    if length <= tile:
        return [0]
    num_tiles = int(np.ceil((length - tile) / (tile * (1 - overlap)))) + 1
    starts = np.linspace(0, length - tile, num_tiles)
    return sorted({round(float(s) / multiple) * multiple for s in starts})


def tile_weight(size: Sequence[int]) -> torch.Tensor:
    """(S, R, A) Gaussian weight of a tile, an eighth of its size wide, never below a thousandth (nnU-Net's choice)."""
    profiles = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / max(n / 8, 1e-6)) ** 2) for n in size]
    weight = profiles[0][:, None, None] * profiles[1][None, :, None] * profiles[2][None, None, :]
    return weight.clamp_min(1e-3)


def _padded_to(image: torch.Tensor, tile: Sequence[int], multiple: Sequence[int]) -> torch.Tensor:
    """Image padded with zeros behind, to at least a tile and to multiples of `multiple`."""
    target = [max(t, -(-n // m) * m) for n, t, m in zip(image.shape[-3:], tile, multiple, strict=True)]
    pads = [t - n for t, n in zip(target, image.shape[-3:], strict=True)]
    return functional.pad(image, (0, pads[2], 0, pads[1], 0, pads[0]))


def _views(mirror: bool) -> Iterator[bool]:
    yield False
    if mirror:
        yield True


@torch.inference_mode()
def open_maps(
    models: Sequence[SpineModel],
    image: np.ndarray,
    tile: tuple[int, int, int],
    multiple: tuple[int, int, int],
    device: torch.device,
    mirror: bool,
) -> dict[str, np.ndarray]:
    """Mean outputs of the open pass over tiles, folds and (with `mirror`) the right-left mirrored view.

    Parameters
    ----------
    image : (C, S, R, A) float32, preprocessed
    tile, multiple : size of a tile and the step its position is bound to

    Returns
    -------
    dict
        Name -> (channels, S, R, A) float32; `level` on its own coarser grid, which covers the same field of view
        padded behind to multiples of `multiple`.
    """
    whole = torch.from_numpy(image)[None].to(device)
    padded = _padded_to(whole, tile, multiple)
    shape = padded.shape[-3:]
    sums: dict[str, torch.Tensor] = {}
    weights: dict[str, torch.Tensor] = {}
    starts = [tile_starts(n, t, m) for n, t, m in zip(shape, tile, multiple, strict=True)]
    for corner in np.array(np.meshgrid(*starts, indexing="ij")).reshape(3, -1).T:
        box = (slice(int(a), int(a) + t) for a, t in zip(corner, tile, strict=True))
        patch = padded[(slice(None), slice(None), *box)]
        for name, value in _mean_outputs(models, patch, mirror).items():
            stride = [t // n for t, n in zip(tile, value.shape[-3:], strict=True)]
            if name not in sums:
                coarse = [n // s for n, s in zip(shape, stride, strict=True)]
                sums[name] = torch.zeros((value.shape[1], *coarse))
                weights[name] = torch.zeros(coarse)
            weight = tile_weight(value.shape[-3:])
            place = tuple(
                slice(int(a) // s, int(a) // s + n) for a, s, n in zip(corner, stride, value.shape[-3:], strict=True)
            )
            sums[name][(slice(None), *place)] += value[0].float().cpu() * weight
            weights[name][place] += weight
    result = {name: (total / weights[name]).numpy() for name, total in sums.items()}
    return {
        name: value if name == "level" else value[(slice(None), *(slice(0, n) for n in image.shape[1:]))]
        for name, value in result.items()
    }


def _mean_outputs(models: Sequence[SpineModel], patch: torch.Tensor, mirror: bool) -> dict[str, torch.Tensor]:
    """Outputs of one tile, averaged over folds and views; a mirrored view is turned back."""
    total: dict[str, torch.Tensor] = {}
    count = 0
    for flipped in _views(mirror):
        view = patch.flip(2) if flipped else patch
        for model in models:
            count += 1
            for name, raw in model.open_pass(view).items():
                if name not in OPEN_ACTIVATIONS:
                    continue
                value = OPEN_ACTIVATIONS[name](raw.float())
                if flipped:
                    value = value.flip(2)
                    if name == "offset":
                        # The component along the mirrored axis points the other way.
                        value[:, 0] = -value[:, 0]
                total[name] = total.get(name, 0) + value
    return {name: value / count for name, value in total.items()}


def values_at(level_map: np.ndarray, index: np.ndarray, stride: Sequence[float] | np.ndarray) -> np.ndarray:
    """(N, L) linear interpolation of a coarse (L, s, r, a) map at continuous indices of the full-resolution grid."""
    if len(index) == 0:
        return np.zeros((0, len(level_map)), np.float32)
    shape = np.asarray(level_map.shape[1:])
    position = (np.asarray(index, float) + 0.5) / np.asarray(stride, float)
    unit = torch.from_numpy((2 * position / shape - 1).astype(np.float32))
    grid = unit.flip(1).view(1, -1, 1, 1, 3)
    sampled = functional.grid_sample(
        torch.from_numpy(level_map)[None].float(), grid, padding_mode="border", align_corners=False
    )
    return sampled[0, :, :, 0, 0].T.numpy()
