"""EDSR as in Lim et al. 2017, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.edsr import EDSR
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.registration import formulation_of


def activate(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply ReLU, or LeakyReLU with the slope of the layer."""
    return torch.where(x > 0, x, x * layer.negative_slope) if isinstance(layer, nn.LeakyReLU) else F.relu(x)


def residual_blocks(x: torch.Tensor, blocks: Any) -> torch.Tensor:
    """Apply residual blocks: a convolution, an activation and a convolution, times a factor, plus the input."""
    for block in blocks:
        first, act, second = block.body
        x = x + block.res_scale * conv(activate(conv(x, first), act), second)
    return x


@formulation_of("EDSR")
def edsr(network: EDSR) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(shift(lr, network.sub_mean), network.head[0])
        x = first + conv(residual_blocks(first, network.body[:-1]), network.body[-1])
        return shift(conv(upsample(x, network.tail[0]), network.tail[1]), network.add_mean)

    return forward
