"""RDN as in Zhang et al. 2018, and dense blocks that other networks share, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from medsr.networks.rdn import RDN
from tests.networks.oracles.edsr import activate
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.registration import formulation_of


def dense_layers(x: torch.Tensor, layers: Any) -> list[torch.Tensor]:
    """Apply layers that each read the input and all earlier outputs; return all of these, the input first."""
    features = [x]
    for layer in layers:
        features.append(activate(conv(torch.cat(features, 1), layer.conv[0]), layer.conv[1]))
    return features


def residual_dense_block(x: torch.Tensor, block: Any) -> torch.Tensor:
    """Apply dense layers and their fusion, times a factor, plus the input."""
    return x + block.res_scale * conv(torch.cat(dense_layers(x, block.convs), 1), block.LFF)


def rdn_features(image: torch.Tensor, network: Any) -> torch.Tensor:
    """Return the features before the upsampler."""
    first = conv(image, network.SFENet1)
    x, outputs = conv(first, network.SFENet2), []
    for block in network.RDBs:
        x = residual_dense_block(x, block)
        outputs.append(x)
    return conv(conv(torch.cat(outputs, 1), network.GFF[0]), network.GFF[1]) + first


@formulation_of("RDN")
def rdn(network: RDN) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        x = rdn_features(shift(lr, network.sub_mean), network)
        return shift(upsample(x, flat(network.UPNet)), network.add_mean)

    return forward


def flat(layers: Any) -> list[Any]:
    """Return the layers of nested sequences in order."""
    return [layer for part in layers for layer in (flat(part) if hasattr(part, "__iter__") else [part])]
