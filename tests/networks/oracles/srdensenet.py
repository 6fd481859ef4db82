"""SRDenseNet as in Tong et al. 2017 and Zhu 2022, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from medsr.networks.blocks.residual import MeanShift
from medsr.networks.srdensenet import CumulativeBlock, SRDenseNet
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.rdn import dense_layers, flat
from tests.networks.oracles.registration import formulation_of


def tong(network: SRDenseNet, lr: torch.Tensor) -> torch.Tensor:
    """Return the output of "tong2017": blocks return only the maps of their layers; ReLU everywhere; deconvolutions."""
    maps = [F.relu(conv(lr, network.head[0]))]
    for block in network.body:
        given = maps if network.connections == "all" else maps[-1:]
        first = F.relu(conv(torch.cat(given, 1), block[0][0]))
        maps.append(torch.cat(dense_layers(first, list(block)[1:]), 1))
    gathered = {"h": maps[-1:], "hl": [maps[0], maps[-1]], "all": maps}[network.connections]
    x = F.relu(conv(torch.cat(gathered, 1), network.bottleneck[0]))
    enlarge = F.conv_transpose2d if lr.ndim == 4 else F.conv_transpose3d
    for layer in network.tail[0]:
        if hasattr(layer, "weight"):
            x = F.relu(enlarge(x, layer.weight, layer.bias, stride=2, padding=1, output_padding=1))
    return conv(x, network.tail[1])


def cumulative_block(x: torch.Tensor, block: CumulativeBlock) -> torch.Tensor:
    """Apply layers that also read the input of the block; the output contains it."""
    features = [x]
    for layer in block.layers:
        features.append(F.relu(conv(torch.cat(features, 1), layer)))
    return torch.cat(features, 1)


def zhu(network: SRDenseNet, lr: torch.Tensor) -> torch.Tensor:
    """Return the output of "zhu2022": cumulative blocks, linear ends and sub-pixel convolutions."""
    maps = [conv(lr, network.head[0])]
    for block in network.body:
        maps.append(cumulative_block(maps[-1], block))
    gathered = {"h": maps[-1:], "hl": [maps[0], maps[-1]], "all": maps}[network.connections]
    x = conv(torch.cat(gathered, 1), network.bottleneck[0])
    return upsample(x, flat(network.tail))


@formulation_of("SRDenseNet")
def srdensenet(network: SRDenseNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    compute: Any = zhu if isinstance(network.body[0], CumulativeBlock) else tong

    def forward(lr: torch.Tensor) -> torch.Tensor:
        if not isinstance(network.sub_mean, MeanShift):
            return compute(network, lr)
        return shift(compute(network, shift(lr, network.sub_mean)), network.add_mean)

    return forward
