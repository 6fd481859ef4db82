"""The segmentation U-Net as in smp.Unet, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from medsr.networks.segmentation_unet import SegmentationUNet
from tests.networks.oracles.layers import conv
from tests.networks.oracles.registration import formulation_of
from tests.networks.oracles.resnet_unet import norm, resnet_features


def conv_norm_relu(x: torch.Tensor, layers: Any) -> torch.Tensor:
    """Apply a convolution, batch normalisation and a ReLU."""
    return F.relu(norm(conv(x, layers[0]), layers[1]))


def decoded(features: list[torch.Tensor], decoder: Any) -> torch.Tensor:
    """Repeat pixels, concatenate the skip if there is one, and convolve twice."""
    *skips, x = features
    for block in decoder.blocks:
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        if skips:
            x = torch.cat([x, skips.pop()], dim=1)
        x = conv_norm_relu(conv_norm_relu(x, block.conv1), block.conv2)
    return x


@formulation_of("SegmentationUNet")
def segmentation_unet(network: SegmentationUNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass, with the same parameters; sides that are not multiples of 32 are extended."""

    def forward(image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[2:]
        while image.shape[2] % 32:
            image = torch.cat([image, image[:, :, -1:]], dim=2)
        while image.shape[3] % 32:
            image = torch.cat([image, image[..., -1:]], dim=3)
        features = resnet_features(image, network.encoder)
        return conv(decoded(features, network.decoder), network.segmentation_head[0])[:, :, :height, :width]

    return forward
