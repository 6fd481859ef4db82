"""SRResNet as in Ledig et al. 2017, its variant of Zhu 2022, and MSRResNet, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.srresnet import MSRResNet, SRResNet
from tests.networks.oracles.edsr import residual_blocks
from tests.networks.oracles.layers import batch_norm, conv, shift, shuffle
from tests.networks.oracles.registration import formulation_of


def prelu(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Multiply negative values by the one slope of the layer."""
    return torch.where(x > 0, x, x * layer.weight)


@formulation_of("SRResNet")
def srresnet(network: SRResNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    ledig = len(network.head) == 2
    closing = network.body[-2:] if ledig else network.body[-1:]
    upsampler, last = network.tail

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(shift(lr, network.sub_mean), network.head[0])
        first = prelu(first, network.head[1]) if ledig else first
        x = first
        for block in network.body[: -len(closing)]:
            conv1, norm1, act, conv2, norm2 = block.body
            x = x + batch_norm(conv(prelu(batch_norm(conv(x, conv1), norm1), act), conv2), norm2)
        x = conv(x, closing[0])
        x = first + (batch_norm(x, closing[1]) if ledig else x)
        for i in range(0, len(upsampler), 3):
            x = shuffle(conv(x, upsampler[i]), upsampler[i + 1].scale)
            after = upsampler[i + 2]
            x = prelu(x, after) if isinstance(after, nn.PReLU) else batch_norm(x, after)
        return shift(conv(x, last), network.add_mean)

    return forward


@formulation_of("MSRResNet")
def msrresnet(network: MSRResNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    mode = "bilinear" if network.spec.spatial_dims == 2 else "trilinear"

    def leaky(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, 0.1 * x)

    def forward(lr: torch.Tensor) -> torch.Tensor:
        x = residual_blocks(leaky(conv(lr, network.conv_first)), network.body)
        for i in range(0, len(network.upsample), 3):
            x = leaky(shuffle(conv(x, network.upsample[i]), network.upsample[i + 1].scale))
        x = conv(leaky(conv(x, network.conv_hr)), network.conv_last)
        size = x.shape[2:]
        return x + F.interpolate(lr[:, : x.shape[1]], size, mode=mode, align_corners=False)

    return forward
