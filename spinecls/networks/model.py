"""The network: one backbone, two passes, named heads.

*Open pass*: a whole patch; where the vertebrae are and what they are called. *Sealed pass*: one vertebra, everything
outside its region overwritten; what class it is. The class that is reported always comes from the sealed pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from spinecls.anatomy import LEVELS
from spinecls.networks.pooling import LogSumExpPooling
from spinecls.networks.unet import Backbone
from spinecls.planning.plan import NetworkPlan

HEATMAP_PRIOR_LOGIT = -4.0
"""Start of the centre head's bias: few voxels are centres (Lin et al., ICCV 2017, section 3.3)."""


class SpineModel(nn.Module):
    """Backbone with heads of the open pass and the evidence head of the sealed pass.

    Parameters
    ----------
    network : shape of the U-Net
    image_channels : C
    num_classes : K; the evidence of class 0 is zero, so class 0 is the absence of evidence. 0 = no classification
    dense_heads : name -> number of output channels of further heads at full resolution (e.g. `vertebra_map`)
    """

    def __init__(
        self, network: NetworkPlan, image_channels: int, num_classes: int, dense_heads: Mapping[str, int]
    ) -> None:
        super().__init__()
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
        nn.init.constant_(self.heads["heatmap"].bias, HEATMAP_PRIOR_LOGIT)
        self.num_classes = num_classes
        if num_classes > 1:
            self.evidence = nn.Conv3d(width, num_classes - 1, 1)
            self.pooling = LogSumExpPooling(num_classes - 1)

    def open_pass(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of all open heads.

        Parameters
        ----------
        image : (B, C, S, R, A)

        Returns
        -------
        dict
            `heatmap` (B, 1, ...) logits, `offset` (B, 3, ...) in units of 10 mm along the array axes, `level`
            (B, 27, ...) logits on the coarser grid of `level_stage`, and the further dense heads.
        """
        features = self.backbone(torch.cat([image, torch.ones_like(image[:, :1])], dim=1))
        stages = {"level": self.level_stage}
        return {name: head(features[stages.get(name, 0)]) for name, head in self.heads.items()}

    def sealed_pass(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits and evidence of sealed crops.

        Parameters
        ----------
        crops : (N, C + 1, s, r, a); the last channel is the region

        Returns
        -------
        logits : (N, K), column 0 is zero
        evidence : (N, K - 1, s, r, a), zero outside the region
        """
        region = crops[:, -1] > 0.5
        evidence = self.evidence(self.backbone(crops)[0]).float() * region[:, None]
        pooled = self.pooling(evidence, region)
        return torch.cat([torch.zeros_like(pooled[:, :1]), pooled], dim=1), evidence


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
