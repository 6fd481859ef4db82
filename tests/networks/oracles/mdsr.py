"""MDSR as in Lim et al. 2017 and as run by Zhu 2022, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch

from medsr.networks.mdsr import MDSR
from tests.networks.oracles.edsr import residual_blocks
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.registration import formulation_of


@formulation_of("MDSR")
def mdsr(network: MDSR) -> Callable[..., torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters; it takes a scale like the network."""
    own_ends = len(network.head) == 0

    def forward(lr: torch.Tensor, scale: list[float] | None = None) -> torch.Tensor:
        k = network.scales.index(network.scale if scale is None else int(scale[0]))
        before, after = network.pre_process[k], network.upsample[k]
        image = shift(lr, network.sub_mean)
        first = conv(image, before[0]) if own_ends else residual_blocks(conv(image, network.head[0]), before)
        x = first + conv(residual_blocks(first, network.body[:-1]), network.body[-1])
        if own_ends:
            x = conv(upsample(x, after[0]), after[1])
        else:
            x = conv(upsample(x, after), network.tail[0])
        return shift(x, network.add_mean)

    return forward
