"""The reader: what class one vertebra is, from a crop that shows nothing else.

The class that is reported always comes from here. Everything outside the region of the vertebra is overwritten before.
(For comparison the same network also takes open crops, of which nothing is overwritten.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from spinecls.errors import ModelError
from spinecls.networks.finder import head_fault
from spinecls.networks.grades import CumulativeLink
from spinecls.networks.pooling import POOLINGS
from spinecls.networks.unet import Backbone
from spinecls.planning.plan import NetworkPlan


@dataclass(frozen=True)
class SealedOutputs:
    """What the sealed pass says of N crops, E = K - 1 evidence maps, or one of grades.

    Attributes
    ----------
    logits : (N, K)
    evidence : (N, E, s, r, a)
    pooled : (N, E) pooled evidence: the logits of the classes but the first, or the severity
    contributions : (N, E, s, r, a) what each voxel adds to `pooled`; what is left over `networks.pooling` documents
    speaks : (N, E, s, r, a) logit of the class against the first, of grades of any grade but the first, that each
        voxel would have as a region of its own
    """

    logits: torch.Tensor
    evidence: torch.Tensor
    pooled: torch.Tensor
    contributions: torch.Tensor
    speaks: torch.Tensor


class Reader(nn.Module):
    """A U-Net whose evidence, voxel by voxel, is pooled into the class of the vertebra that a crop shows.

    Parameters
    ----------
    network : shape of the U-Net
    image_channels : C
    num_classes : K of at least 2; the evidence of class 0 is zero, so class 0 is the absence of evidence
    dense_heads : name -> number of output channels of further heads, for training
    pooling : name in `pooling.POOLINGS`
    ordinal : the classes are grades; then there is one map of evidence, the severity
    """

    def __init__(
        self,
        network: NetworkPlan,
        image_channels: int,
        num_classes: int,
        dense_heads: Mapping[str, int],
        pooling: str = "lse",
        ordinal: bool = False,
    ) -> None:
        super().__init__()
        for name, channels in dense_heads.items():
            if fault := head_fault(name, channels):
                raise ModelError(f"Head {fault}.")
        width = network.features[0]
        num_maps = 1 if ordinal else num_classes - 1
        self.ordinal = ordinal
        # The last input channel is the region.
        self.backbone = Backbone(network, image_channels + 1)
        self.evidence = nn.Conv3d(width, num_maps, 1)
        self.pooling = POOLINGS[pooling](num_maps, width)
        if ordinal:
            self.link = CumulativeLink(num_classes)
        self.heads = nn.ModuleDict({name: nn.Conv3d(width, channels, 1) for name, channels in dense_heads.items()})
        # Parts that only training needs, by task; filled by the trainer, absent from a final checkpoint.
        self.auxiliary = nn.ModuleDict()

    def sealed_pass(self, crops: torch.Tensor, pooled: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits and evidence of sealed crops.

        Parameters
        ----------
        crops : (N, C + 1, s, r, a), see `sealing.crop.sealed_crop`; the last channel is the region
        pooled : (N, s, r, a) bool, voxels whose evidence counts; by default the region

        Returns
        -------
        logits : (N, K), column 0 is zero; of grades their log-probabilities, see `CumulativeLink`
        evidence : (N, K - 1, s, r, a), of grades (N, 1, s, r, a); zero where nothing is pooled
        """
        logits, evidence, _ = self.taught_pass(crops, pooled)
        return logits, evidence

    def taught_pass(
        self, crops: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """The sealed pass with the outputs of the further heads; parameters as for `sealed_pass`."""
        counted = crops[:, -1] > 0 if pooled is None else pooled
        features, evidence = self._evidence_of(crops, counted)
        logits = self._logits(self.pooling(evidence, counted, features))
        return logits, evidence, {name: head(features) for name, head in self.heads.items()}

    def explained_pass(self, crops: torch.Tensor, pooled: torch.Tensor) -> SealedOutputs:
        """The sealed pass with what each voxel adds to each pooled number; parameters as for `sealed_pass`."""
        features, evidence = self._evidence_of(crops, pooled)
        numbers = self.pooling(evidence, pooled, features)
        contributions = self.pooling.contributions(evidence, pooled, features)
        speaks = self._against_first(self.pooling.alone(evidence)) * pooled[:, None]
        return SealedOutputs(self._logits(numbers), evidence, numbers, contributions, speaks)

    def _evidence_of(self, crops: torch.Tensor, counted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(crops)[0]
        return features, self.evidence(features).float() * counted[:, None]

    def _against_first(self, numbers: torch.Tensor) -> torch.Tensor:
        """Logits of each class against the first, of grades of any but the first, from pooled numbers of any shape."""
        return numbers - self.link.first if self.ordinal else numbers

    def _logits(self, numbers: torch.Tensor) -> torch.Tensor:
        if self.ordinal:
            return self.link(numbers[:, 0])
        return torch.cat([torch.zeros_like(numbers[:, :1]), numbers], dim=1)
