"""ConvNetSR with ConvNeXt blocks as in Liu et al. 2022, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from medsr.networks.convnet import ConvNetSR, ConvNeXtBlock
from tests.networks.oracles.layers import conv, upsample
from tests.networks.oracles.rdn import flat
from tests.networks.oracles.registration import formulation_of


def convnext_block(x: torch.Tensor, block: ConvNeXtBlock) -> torch.Tensor:
    """Apply a depthwise convolution, then a norm and two linear layers over channels, times gamma, plus the input."""
    depthwise = F.conv2d if x.ndim == 4 else F.conv3d
    y = depthwise(x, block.dwconv.weight, block.dwconv.bias, padding=3, groups=x.shape[1])
    y = torch.movedim(y, 1, -1)
    centred = y - y.mean(-1, keepdim=True)
    y = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-6)
    y = y * block.norm.weight + block.norm.bias
    y = F.linear(y, block.pwconv1.weight, block.pwconv1.bias)
    y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
    y = F.linear(y, block.pwconv2.weight, block.pwconv2.bias)
    return x + torch.movedim(block.gamma * y, -1, 1)


@formulation_of("ConvNetSR")
def convnet(network: ConvNetSR) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(lr, network.head[0])
        x = first
        for block in network.body:
            x = convnext_block(x, block)
        return upsample(x + first, flat(network.tail))

    return forward
