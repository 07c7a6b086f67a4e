"""The finder: where the vertebrae of an image are, what they are called, which voxels are theirs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from spinecls.anatomy import LEVELS
from spinecls.errors import ModelError
from spinecls.networks.unet import Backbone
from spinecls.planning.plan import NetworkPlan

HEATMAP_PRIOR_LOGIT = -4.0
"""Start of the centre head's bias: few voxels are centres (Lin et al., ICCV 2017, section 3.3)."""


BUILT_IN_HEADS = ("heatmap", "offset", "level")
"""Heads that every finder has."""


def name_fault(name: object) -> str | None:
    """What forbids that a part of a network is called so; None for a good name.

    Names are keys of weights and words of `--set`, so they are identifiers, and none that `nn.ModuleDict` has for
    itself.
    """
    if not isinstance(name, str) or not name.isidentifier():
        return f"{name!r} is no name; expected a letter or _, then letters, digits and _"
    if hasattr(nn.ModuleDict(), name):
        return f"{name!r} is taken by torch"
    return None


def head_fault(name: object, channels: object) -> str | None:
    """What forbids a further head of this name and number of channels; None for a good one."""
    if name in BUILT_IN_HEADS:
        return f"{name!r} is taken: every finder has {', '.join(BUILT_IN_HEADS)}"
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        return f"{name!r} has {channels!r} output channels, expected a whole number from 1 on"
    return name_fault(name)


class Finder(nn.Module):
    """A U-Net with heads of the open pass, which sees whole patches.

    Parameters
    ----------
    network : shape of the U-Net
    image_channels : C
    dense_heads : name -> number of output channels of further heads at full resolution (e.g. `vertebra_map`)

    Raises
    ------
    ModelError
        When a further head has a name that is taken or none (`head_fault`).
    """

    def __init__(self, network: NetworkPlan, image_channels: int, dense_heads: Mapping[str, int]) -> None:
        super().__init__()
        for name, channels in dense_heads.items():
            if fault := head_fault(name, channels):
                raise ModelError(f"Head {fault}.")
        self.backbone = Backbone(network, image_channels)
        width = network.features[0]
        self.level_stage = level_stage(network)
        self.heads = nn.ModuleDict(
            {
                "heatmap": nn.Conv3d(width, 1, 1),
                "offset": nn.Conv3d(width, 3, 1),
                "level": nn.Conv3d(network.features[self.level_stage], len(LEVELS), 1),
                **{name: nn.Conv3d(width, channels, 1) for name, channels in dense_heads.items()},
            }
        )
        nn.init.constant_(self.heads.get_parameter("heatmap.bias"), HEATMAP_PRIOR_LOGIT)
        # Parts that only training needs, by task; filled by the trainer, absent from a final checkpoint.
        self.auxiliary = nn.ModuleDict()

    def open_pass(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of all heads.

        Parameters
        ----------
        image : (B, C, S, R, A)

        Returns
        -------
        dict
            `heatmap` (B, 1, ...) logits, `offset` (B, 3, ...) in units of 10 mm along the array axes, `level`
            (B, 27, ...) logits on the coarser grid of `level_stage`, and the further dense heads.
        """
        features = self.backbone(image)
        stages = {"level": self.level_stage}
        return {name: head(features[stages.get(name, 0)]) for name, head in self.heads.items()}


def level_stage(network: NetworkPlan) -> int:
    """Decoder stage that names levels: the first whose in-plane stride is at least 4, else the deepest.

    A level is a property of a whole vertebra and its neighbours, so full resolution would only cost time.
    """
    stride = 1
    for stage, step in enumerate(network.strides):
        stride *= step[1]
        if stride >= 4:
            return stage
    return len(network.strides) - 1
