"""The discriminators, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.discriminators import MetaSRGANDiscriminator, MSGANDiscriminator, SRGANDiscriminator
from tests.networks.oracles.layers import batch_norm, conv
from tests.networks.oracles.registration import formulation_of


def leaky(x: torch.Tensor) -> torch.Tensor:
    """Apply LeakyReLU with slope 0.2."""
    return torch.where(x > 0, x, 0.2 * x)


def _with_two_linear_layers(network: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(image: torch.Tensor) -> torch.Tensor:
        x = image
        for i, stage in enumerate(network.features):
            x = conv(x, stage[0], stride=2 if i % 2 else 1)
            x = leaky(batch_norm(x, stage[1]) if len(stage) == 3 else x)
        first, _, last = network.classifier
        x = leaky(F.linear(x.reshape(len(x), -1), first.weight, first.bias))
        return F.linear(x, last.weight, last.bias)

    return forward


@formulation_of("SRGANDiscriminator")
def srgan_discriminator(network: SRGANDiscriminator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    return _with_two_linear_layers(network)


@formulation_of("MSGANDiscriminator")
def msgan_discriminator(network: MSGANDiscriminator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    return _with_two_linear_layers(network)


@formulation_of("MetaSRGANDiscriminator")
def meta_srgan_discriminator(network: MetaSRGANDiscriminator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    convolutions = [layer for layer in network.net if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    norms = [layer for layer in network.net if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d)]

    def forward(image: torch.Tensor) -> torch.Tensor:
        x = leaky(conv(image, convolutions[0]))
        for i, norm in enumerate(norms):
            x = leaky(batch_norm(conv(x, convolutions[i + 1], stride=1 if i % 2 else 2), norm))
        x = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        score = conv(leaky(conv(x, convolutions[-2])), convolutions[-1]).reshape(len(x), 1)
        return torch.sigmoid(score) if network.sigmoid else score

    return forward
