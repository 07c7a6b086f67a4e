"""Autoencoding: the image from the bottleneck alone, so that the encoder learns what spines look like.

Sources: supervised autoencoders, Le, Patterson and White, NeurIPS 2018; denoising, Vincent et al., JMLR 2010; masked
patches, He et al., CVPR 2022.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import nn

from spinecls.dataloading.batch import ImageBatch, SealedBatch
from spinecls.dataloading.cases import SealedSource
from spinecls.dataloading.sealed_crops import CropSampler
from spinecls.networks.finder import Finder
from spinecls.networks.reader import Reader
from spinecls.planning.plan import NetworkPlan
from spinecls.tasks.task import ImageTask, OwnOutputs, OwnPassTask
from spinecls.types import SpacingMm, triple

LARGEST_NOISE = 0.3
"""Greatest standard deviation of the noise, in units of the normalised image."""

CUT_OUTS = 10
CUT_OUT_MM = (8.0, 24.0)

MASKED_SHARE = 0.65
MASKED_CUBE_MM = 16.0


@dataclass(frozen=True)
class Reconstruction:
    """Result of the pass: what came out, what it should be, and where it counts, all (B, C, S, R, A)."""

    image: torch.Tensor
    target: torch.Tensor
    counts: torch.Tensor


class BottleneckDecoder(nn.Module):
    """From the bottleneck back to the image, without skips: a skip would let the input through unlearnt.

    One transposed convolution and one convolution a stage, half as wide as the network's own decoder.
    """

    def __init__(self, network: NetworkPlan, image_channels: int) -> None:
        super().__init__()
        widths = [max(8, features // 2) for features in network.features]
        blocks: list[nn.Module] = []
        width = network.features[-1]
        for stage in range(len(network.features) - 1, 0, -1):
            stride, kernel, below = network.strides[stage], network.kernels[stage - 1], widths[stage - 1]
            blocks += [
                nn.ConvTranspose3d(width, below, stride, stride),
                nn.Conv3d(below, below, kernel, padding=triple(k // 2 for k in kernel)),
                nn.InstanceNorm3d(below, affine=True),
                nn.LeakyReLU(inplace=True),
            ]
            width = below
        self.blocks = nn.Sequential(*blocks, nn.Conv3d(width, image_channels, 1))

    def forward(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """(B, C, S, R, A) image of the (B, F, ...) features of the deepest stage."""
        return self.blocks(bottleneck)


class ReconstructionTask(ImageTask[Reconstruction]):
    """Mean absolute error of the image that the encoder's bottleneck gives back.

    The input is spoilt as `configuration.reconstruction` says, and the image before that is wanted: `denoise` adds
    noise and cuts boxes out, `masked` hides two thirds of the image in cubes and counts only there, `plain` leaves it.
    """

    name = "reconstruction"
    predicts = False
    share = 0.1

    def module(self) -> nn.Module:
        return BottleneckDecoder(self.configuration.network, len(self.plan.channel_names))

    def run(self, network: Finder, batch: ImageBatch, generator: torch.Generator) -> Reconstruction:
        image = batch.images
        spoilt, counts = spoil(image, self.configuration.reconstruction, self.configuration.spacing_mm, generator)
        made = network.auxiliary[self.name](network.backbone.bottleneck(spoilt))
        return Reconstruction(made, image, counts)

    def loss(self, outputs: OwnOutputs[Reconstruction], batch: ImageBatch) -> torch.Tensor:
        return _reconstruction_loss(outputs.own)


class SealedReconstructionTask(OwnPassTask[Reader, SealedSource, CropSampler, SealedBatch, Reconstruction]):
    """The same of sealed crops, by a reader; nothing counts but the vertebra, and the region is told."""

    name = "sealed_reconstruction"
    sealed = True
    predicts = False
    share = 0.1

    def module(self) -> nn.Module:
        return BottleneckDecoder(self.configuration.reader_network, len(self.plan.channel_names))

    def run(self, network: Reader, batch: SealedBatch, generator: torch.Generator) -> Reconstruction:
        image, region = batch.crops[:, :-1], batch.crops[:, -1:]
        how, spacing_mm = self.configuration.reconstruction, self.configuration.sealed_spacing_mm
        spoilt, counts = spoil(image, how, spacing_mm, generator)
        inside = region > 0
        bottleneck = network.backbone.bottleneck(torch.cat([spoilt * inside, region], dim=1))
        return Reconstruction(network.auxiliary[self.name](bottleneck), image, counts * inside)

    def loss(self, outputs: OwnOutputs[Reconstruction], batch: SealedBatch) -> torch.Tensor:
        return _reconstruction_loss(outputs.own)


def _reconstruction_loss(made: Reconstruction) -> torch.Tensor:
    """Mean absolute error where it counts."""
    error = (made.image.float() - made.target).abs()
    return (error * made.counts).sum() / (made.counts.sum() * error.shape[1]).clamp_min(1.0)


def spoil(
    image: torch.Tensor, how: str, spacing_mm: SpacingMm, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input of an autoencoder, and where its error counts (B, 1, S, R, A).

    Parameters
    ----------
    image : (B, C, S, R, A)
    how : `denoise`, `masked` or `plain`
    generator : on the CPU, so that a step is the same on every device
    """
    counts = torch.ones_like(image[:, :1])
    if how == "plain":
        return image, counts
    if how == "masked":
        hidden = _hidden_cubes(image, spacing_mm, generator)
        return image.masked_fill(hidden, 0.0), hidden.float()
    deviation = LARGEST_NOISE * torch.rand(len(image), generator=generator).view(-1, 1, 1, 1, 1)
    spoilt = image + (deviation * torch.randn(image.shape, generator=generator)).to(image.device)
    for row, _ in itertools.product(range(len(image)), range(CUT_OUTS)):
        low, high = CUT_OUT_MM
        edges = (low + (high - low) * torch.rand(3, generator=generator)) / torch.tensor(spacing_mm)
        box = [slice(None)]
        for edge, length in zip(edges.round().int().clamp_min(1).tolist(), image.shape[2:], strict=True):
            start = int(torch.randint(max(1, length - edge + 1), (1,), generator=generator))
            box.append(slice(start, start + edge))
        spoilt[row][tuple(box)] = 0.0
    return spoilt, counts


def _hidden_cubes(image: torch.Tensor, spacing_mm, generator: torch.Generator) -> torch.Tensor:
    """(B, 1, S, R, A) bool, cubes of `MASKED_CUBE_MM` hidden at random."""
    edges = [max(1, round(MASKED_CUBE_MM / s)) for s in spacing_mm]
    cubes = [-(-n // e) for n, e in zip(image.shape[2:], edges, strict=True)]
    hidden = torch.rand((len(image), 1, *cubes), generator=generator) < MASKED_SHARE
    whole = functional.interpolate(hidden.float(), scale_factor=[float(e) for e in edges], mode="nearest")
    return (whole[:, :, : image.shape[2], : image.shape[3], : image.shape[4]] > 0.5).to(image.device)
