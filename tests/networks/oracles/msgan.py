"""The generators of Zhu 2022, chapter 3, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from medsr.networks.msgan import MSGANGenerator, MSSRResNet
from tests.networks.oracles.layers import batch_norm, conv, shuffle
from tests.networks.oracles.registration import formulation_of


def extract(x: torch.Tensor, extractor: Any) -> torch.Tensor:
    """Apply the blocks of equation 3.3, a convolution and a batch norm, plus the input."""
    y = x
    for block in extractor.body[:-2]:
        conv1, norm1, _, conv2, norm2, _ = block.body
        y = y + F.relu(batch_norm(conv(F.relu(batch_norm(conv(y, conv1), norm1)), conv2), norm2))
    return x + batch_norm(conv(y, extractor.body[-2]), extractor.body[-1])


def enlarge(x: torch.Tensor, stage: Any) -> torch.Tensor:
    """Apply the x2 sub-pixel stage."""
    return F.relu(shuffle(conv(x, stage[0]), 2))


@formulation_of("MSSRResNet")
def mssrresnet(network: MSSRResNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        head, _, extractor, stage = network.stages[0]
        x = enlarge(extract(F.relu(conv(lr, head)), extractor), stage)
        for stage in network.stages[1:]:
            x = enlarge(x, stage)
        return conv(x, network.images[-1])

    return forward


@formulation_of("MSGANGenerator")
def msgan(network: MSGANGenerator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""

    def forward(lr: torch.Tensor) -> torch.Tensor:
        x = lr
        for stage in network.stages:
            if len(stage) == 4:  # with a convolution and ReLU at its beginning
                x = F.relu(conv(x, stage[0]))
            x = enlarge(extract(x, stage[-2]), stage[-1])
        return conv(x, network.images[-1])

    return forward
