"""RDST as in Zhu 2022, equations 5.2 to 5.7, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from medsr.networks.rdst import RDST
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.registration import formulation_of
from tests.networks.oracles.swinir import linear, norm, reflect, relative_positions, transformer_layers


def dense_block(x: torch.Tensor, block: Any, side: int, positions: torch.Tensor) -> torch.Tensor:
    """Apply transformer layers and a bottleneck to (B, H, W, C) and append the result to the input."""
    y = transformer_layers(x, block.body, side, positions)
    for layer in block.tail:
        y = norm(y, layer) if isinstance(layer, nn.LayerNorm) else linear(y, layer)
    return torch.cat([x, y], dim=-1)


def fused(outputs: list[torch.Tensor], fusion: Any) -> torch.Tensor:
    """Apply two layers to all outputs and return an image."""
    x = torch.cat(outputs, dim=-1)
    if isinstance(fusion.layers[0], nn.Linear):
        return linear(linear(x, fusion.layers[0]), fusion.layers[1]).permute(0, 3, 1, 2)
    return conv(conv(x.permute(0, 3, 1, 2), fusion.layers[0]), fusion.layers[1])


@formulation_of("RDST")
def rdst(network: RDST) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    side, scale = network.window, network.scale
    positions = relative_positions(side)

    def forward(lr: torch.Tensor) -> torch.Tensor:
        first = conv(reflect(shift(lr, network.sub_mean), side), network.head)
        outputs = [norm(first.permute(0, 2, 3, 1), network.patch_embed.norm)]
        for block in network.body:
            y = outputs[-1]
            for dense in block.body:
                y = dense_block(y, dense, side, positions)
            outputs.append(outputs[-1] + conv(y.permute(0, 3, 1, 2), block.conv).permute(0, 2, 3, 1))
        if network.fusion is None:
            x = conv(norm(outputs[-1], network.norm).permute(0, 3, 1, 2), network.conv_after_body)
        else:
            x = fused(outputs[1:], network.fusion)
        sr = shift(conv(upsample(first + x, network.tail[0]), network.tail[1]), network.add_mean)
        return sr[:, :, : lr.shape[2] * scale, : lr.shape[3] * scale]

    return forward
