"""RCAN as in Zhang et al. 2018, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from medsr.networks.rcan import RCAN
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.registration import formulation_of


def residual_group(x: torch.Tensor, group: Any) -> torch.Tensor:
    """Apply attention blocks and a convolution under a short skip connection."""
    y = x
    for block in group.body[:-1]:
        first, _, second, attention = block.body
        residual = conv(F.relu(conv(y, first)), second)
        down, _, up, _ = attention.conv_du
        means = residual.mean(dim=tuple(range(2, residual.ndim)), keepdim=True)
        residual = residual * torch.sigmoid(conv(F.relu(conv(means, down)), up))
        y = y + residual
    return x + conv(y, group.body[-1])


@formulation_of("RCAN")
def rcan(network: RCAN) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(shift(lr, network.sub_mean), network.head[0])
        x = first
        for group in network.body[:-1]:
            x = residual_group(x, group)
        x = first + conv(x, network.body[-1])
        return shift(conv(upsample(x, network.tail[0]), network.tail[1]), network.add_mean)

    return forward
