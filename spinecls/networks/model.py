"""The network: one backbone, two passes, named heads.

*Open pass*: a whole patch; where the vertebrae are and what they are called. *Sealed pass*: one vertebra, everything
outside its region overwritten; what class it is. The class that is reported always comes from the sealed pass. (For
comparison the same pass also takes open crops, of which nothing is overwritten.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import nn

from spinecls.anatomy import LEVELS
from spinecls.errors import ModelError
from spinecls.networks.pooling import POOLINGS
from spinecls.networks.unet import Backbone
from spinecls.planning.plan import NetworkPlan

HEATMAP_PRIOR_LOGIT = -4.0
"""Start of the centre head's bias: few voxels are centres (Lin et al., ICCV 2017, section 3.3)."""


BUILT_IN_HEADS = ("heatmap", "offset", "level")
"""Heads that every network has."""


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
        return f"{name!r} is taken: every network has {', '.join(BUILT_IN_HEADS)}"
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        return f"{name!r} has {channels!r} output channels, expected a whole number from 1 on"
    return name_fault(name)


class SpineModel(nn.Module):
    """Backbone with heads of the open pass and the evidence head of the sealed pass.

    Parameters
    ----------
    network : shape of the U-Net
    image_channels : C
    num_classes : K; the evidence of class 0 is zero, so class 0 is the absence of evidence. 0 = no classification
    dense_heads : name -> number of output channels of further heads at full resolution (e.g. `vertebra_map`)
    pooling : name in `pooling.POOLINGS`
    ordinal : the classes are grades; then there is one map of evidence, the severity

    Raises
    ------
    ModelError
        When a further head has a name that is taken or none (`head_fault`).
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
        self.ordinal = ordinal and num_classes > 1
        if num_classes > 1:
            num_maps = 1 if ordinal else num_classes - 1
            self.evidence = nn.Conv3d(width, num_maps, 1)
            self.pooling = POOLINGS[pooling](num_maps, width)
        if self.ordinal:
            self.link = CumulativeLink(num_classes)
        # Parts that only training needs, by task; filled by the trainer, absent from a final checkpoint.
        self.auxiliary = nn.ModuleDict()

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

    def sealed_pass(
        self, crops: torch.Tensor, pooled: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits and evidence of sealed crops.

        Parameters
        ----------
        crops : (N, C + 1, s, r, a); the last channel is the region
        pooled : (N, s, r, a) bool, voxels whose evidence counts; by default the region

        Returns
        -------
        logits : (N, K), column 0 is zero; of grades their log-probabilities, see `CumulativeLink`
        evidence : (N, K - 1, s, r, a), of grades (N, 1, s, r, a); zero where nothing is pooled
        """
        counted = crops[:, -1] > 0.5 if pooled is None else pooled
        features, evidence = self._evidence_of(crops, counted)
        return self._logits(self.pooling(evidence, counted, features)), evidence

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


class CumulativeLink(nn.Module):
    """Log-probabilities of ordered classes from one severity s (McCullagh, J R Stat Soc B 1980).

    p_k = sigmoid(theta_(k+1) - s) - sigmoid(theta_k - s), with theta_0 = -inf, theta_K = inf and learnable thresholds
    theta_1 < ... < theta_(K-1) between. Without evidence, s = 0, all classes are equally probable at the start. Being
    log-probabilities, the outputs go into the same losses and prior shifts as any logits.
    """

    SMALLEST_GAP = 1e-3

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        even = [math.log(k / (num_classes - k)) for k in range(1, num_classes)]
        gaps = [upper - lower - self.SMALLEST_GAP for lower, upper in itertools.pairwise(even)]
        self.first = nn.Parameter(torch.tensor(even[0]))
        self.gap_logits = nn.Parameter(torch.tensor([math.log(math.expm1(gap)) for gap in gaps]))

    @property
    def gaps(self) -> torch.Tensor:
        """(K - 2,) positive distances of neighbouring thresholds."""
        return functional.softplus(self.gap_logits) + self.SMALLEST_GAP

    @property
    def thresholds(self) -> torch.Tensor:
        """(K - 1,) rising."""
        return self.first + torch.cat([torch.zeros_like(self.first)[None], self.gaps.cumsum(0)])

    def forward(self, severity: torch.Tensor) -> torch.Tensor:
        """(N, K) log-probabilities of (N,) severities."""
        distance = self.thresholds - severity.float()[:, None]
        below, above = functional.logsigmoid(distance), functional.logsigmoid(-distance)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of nearly equal numbers.
        between = below[:, 1:] + above[:, :-1] + torch.log(-torch.expm1(-self.gaps))
        return torch.cat([below[:, :1], between, above[:, -1:]], dim=1)


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
