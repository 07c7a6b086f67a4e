"""Weights of another training as a start: our own checkpoints, and nnU-Net's, whose network library is ours too."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spinecls.errors import ModelError
from spinecls.networks.model import FINDER, SpineModel
from spinecls.tasks.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)

BACKBONE = "backbone.unet."
READERS = "readers."
NNUNET_KEY = "network_weights"
COMPILED = "_orig_mod."
"""Prefix that torch.compile puts before the names of nnU-Net's weights."""


@dataclass(frozen=True)
class Taken:
    """What became of the tensors of a network.

    Attributes
    ----------
    matched : names of those that were taken as they are
    widened : first convolutions of other input channels, of which those that both have were taken
    left : name -> why it keeps its random start
    """

    matched: tuple[str, ...]
    widened: tuple[str, ...]
    left: Mapping[str, str]

    @property
    def sentence(self) -> str:
        """For the log."""
        total = len(self.matched) + len(self.widened) + len(self.left)
        text = f"{len(self.matched)} of {total} tensors taken"
        if self.widened:
            text += f", of {len(self.widened)} more the input channels that both have ({self.widened[0]})"
        if self.left:
            listed = "; ".join(f"{name}: {why}" for name, why in list(self.left.items())[:5])
            more = f"; and {len(self.left) - 5} more" if len(self.left) > 5 else ""
            text += f". Not taken: {listed}{more}"
        return text + "."


def take_pretrained(model: SpineModel, path: Path) -> Taken:
    """Start a network with the weights of a checkpoint, as far as names and shapes agree.

    Parameters
    ----------
    path : `checkpoint_final.pt`, `checkpoint_latest.pt` or `checkpoint_pretrained.pt` of spinecls, or
        `checkpoint_final.pth` of nnU-Net v2, whose U-Net becomes the backbone of finder and readers

    Raises
    ------
    ModelError
        When the file is none of these, asks for more than tensors and numbers, or no tensor of it fits.
    """
    with _plain_numpy():
        content = load_checkpoint(path)
    given = _named_as_ours(content, path, model)
    own = model.state_dict()
    matched, widened, left = [], [], {}
    for name, tensor in own.items():
        if ".auxiliary." in name:
            continue
        other = given.get(name)
        if not isinstance(other, torch.Tensor):
            left[name] = "not in the file"
        elif other.shape == tensor.shape:
            tensor.copy_(other)
            matched.append(name)
        elif _differs_in_channels(tensor, other):
            # The region is a reader's last input channel; nnU-Net's network and a finder have none.
            own_region = int(name.startswith(READERS))
            region = own_region if NNUNET_KEY not in content else 0
            shared = min(tensor.shape[1] - own_region, other.shape[1] - region)
            tensor[:, :shared].copy_(other[:, :shared])
            if region:
                tensor[:, -1].copy_(other[:, -1])
            widened.append(name)
        else:
            left[name] = f"shape {tuple(other.shape)} there, {tuple(tensor.shape)} here"
    if not matched and not widened:
        raise ModelError(f"{path}: none of its tensors fits this network. {Taken((), (), left).sentence}")
    taken = Taken(tuple(matched), tuple(widened), left)
    logger.info("%s: %s", path, taken.sentence)
    return taken


def _named_as_ours(content: Mapping, path: Path, model: SpineModel) -> dict[str, torch.Tensor]:
    if isinstance(content.get("weights"), Mapping):
        return dict(content["weights"])
    if isinstance(content.get(NNUNET_KEY), Mapping):
        starts = [FINDER, *(f"{READERS}{number}" for number in range(len(model.readers)))]
        network = {name.removeprefix(COMPILED): value for name, value in content[NNUNET_KEY].items()}
        return {f"{start}.{BACKBONE}{name}": value for start in starts for name, value in network.items()}
    raise ModelError(
        f"{path}: neither a spinecls checkpoint (key 'weights') nor one of nnU-Net v2 (key '{NNUNET_KEY}'); it has "
        f"{', '.join(map(str, list(content)[:6])) or 'nothing'}."
    )


def _differs_in_channels(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether `other` is the same convolution of another number of input channels."""
    if other.ndim != 5 or tensor.ndim != 5 or min(other.shape[1], tensor.shape[1]) < 1:
        return False
    # Only the first convolution sees the image; deeper ones have at least as many inputs as the network is wide.
    few = max(other.shape[1], tensor.shape[1]) < tensor.shape[0]
    return few and other.shape[0] == tensor.shape[0] and other.shape[2:] == tensor.shape[2:]


@contextlib.contextmanager
def _plain_numpy() -> Iterator[None]:
    """Let plain numpy numbers through, which nnU-Net keeps its training curves as; they run no code."""
    from numpy._core.multiarray import scalar

    # numpy before version 2 called the module differently, and files still do.
    kinds: list[Callable | tuple[Callable, str]] = [np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar")]
    kinds += [type(np.dtype(number)) for number in (np.float64, np.float32, np.int64)]
    with torch.serialization.safe_globals(kinds):
        yield
