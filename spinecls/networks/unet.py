"""The U-Net: nnU-Net's own network library, so its weights can be loaded, with the features of every stage."""

from __future__ import annotations

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from spinecls.planning.plan import NetworkPlan

_CLASSES = {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}


class Backbone(nn.Module):
    """U-Net that gives the decoder's features instead of a segmentation."""

    def __init__(self, plan: NetworkPlan, input_channels: int) -> None:
        super().__init__()
        num_stages = len(plan.features)
        blocks = "n_conv_per_stage" if plan.backbone == "PlainConvUNet" else "n_blocks_per_stage"
        self.unet = _CLASSES[plan.backbone](
            input_channels=input_channels,
            n_stages=num_stages,
            features_per_stage=list(plan.features),
            conv_op=nn.Conv3d,
            kernel_sizes=[list(k) for k in plan.kernels],
            strides=[list(s) for s in plan.strides],
            num_classes=1,
            n_conv_per_stage_decoder=[plan.convs_per_stage] * (num_stages - 1),
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            **{blocks: [plan.convs_per_stage] * num_stages},
        )
        # The segmentation layers of the library are replaced by our heads.
        self.unet.decoder.seg_layers = nn.ModuleList()
        self.features = tuple(plan.features)

    def bottleneck(self, image: torch.Tensor) -> torch.Tensor:
        """Features of the deepest stage alone, without the decoder; the input is that of `forward`."""
        return self.unet.encoder(image)[-1]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features by stage, [0] at full resolution, [-1] the bottleneck.

        Parameters
        ----------
        image : (B, input channels, S, R, A), edges multiples of the plan's divisor
        """
        skips = self.unet.encoder(image)
        decoder = self.unet.decoder
        features = [skips[-1]]
        for step, (upsample, stage) in enumerate(zip(decoder.transpconvs, decoder.stages, strict=True)):
            rising = upsample(features[-1])
            features.append(stage(torch.cat((rising, skips[-(step + 2)]), dim=1)))
        return features[::-1]
