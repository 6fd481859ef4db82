"""HAN as in Niu et al. 2020, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from medsr.networks.han import HAN
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.rcan import residual_group
from tests.networks.oracles.registration import formulation_of


def layer_attention(layers: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Map (B, N, C, H, W) to (B, N C, H, W): every layer plus gamma times a weighted sum of all layers."""
    rows = layers.flatten(2)
    energy = torch.matmul(rows, rows.transpose(1, 2))
    energy = energy.max(dim=-1, keepdim=True).values - energy
    weights = torch.exp(energy - energy.max(dim=-1, keepdim=True).values)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    weighed = torch.matmul(weights, rows).reshape(layers.shape)
    return (gamma * weighed + layers).flatten(1, 2)


@formulation_of("HAN")
def han(network: HAN) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(shift(lr, network.sub_mean), network.head[0])
        x, outputs = first, []
        for group in network.body[:-1]:
            x = residual_group(x, group)
            outputs.append(x)
        x = conv(x, network.body[-1])
        outputs.append(x)
        layers = torch.stack(outputs[::-1], dim=1)  # newest first
        by_layer = conv(layer_attention(layers, network.la.gamma), network.last_conv)
        csa = network.csa
        weights = torch.sigmoid(F.conv3d(x[:, None], csa.conv.weight, csa.conv.bias, padding=1))[:, 0]
        by_position = x + x * (csa.gamma * weights)
        x = first + conv(torch.cat([by_position, by_layer], dim=1), network.last)
        return shift(conv(upsample(x, network.tail[0]), network.tail[1]), network.add_mean)

    return forward
