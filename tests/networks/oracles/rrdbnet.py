"""RRDBNet as in Wang et al. 2018, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch.nn import functional as F

from medsr.networks.blocks.residual import MeanShift
from medsr.networks.rrdbnet import RRDBNet
from tests.networks.oracles.layers import conv, shift, upsample
from tests.networks.oracles.rdn import flat, residual_dense_block
from tests.networks.oracles.registration import formulation_of


def apart(image: torch.Tensor, step: int) -> torch.Tensor:
    """Pad the image to a multiple of `step` and return every `step`-th voxel from every start as channels."""
    for axis in range(2, image.ndim):
        n = image.shape[axis]
        at = torch.arange(n + -n % step, device=image.device).clamp(max=n - 1)
        image = image.index_select(axis, at)
    starts = product(range(step), repeat=image.ndim - 2)
    parts = [image[(..., *[slice(start, None, step) for start in corner])] for corner in starts]
    return torch.stack(parts, 2).flatten(1, 2)


def nearest_tail(x: torch.Tensor, layers: list[torch.nn.Module]) -> torch.Tensor:
    """Apply nearest neighbours and a convolution twice, then two convolutions; LeakyReLU after all but the last."""
    first, second, third, last = [layer for layer in layers if hasattr(layer, "weight")]
    for layer in (first, second):
        x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest"), layer), 0.2)
    return conv(F.leaky_relu(conv(x, third), 0.2), last)


@formulation_of("RRDBNet")
def rrdbnet(network: RRDBNet) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    shifted = isinstance(network.sub_mean, MeanShift)
    layers = flat(network.tail)
    subpixel = any(hasattr(layer, "scale") for layer in layers)

    def forward(lr: torch.Tensor) -> torch.Tensor:
        image = shift(lr, network.sub_mean) if shifted else lr
        first = conv(apart(image, network.step), network.conv_first)
        x = first
        for block in network.body:
            inner = x
            for dense in block.body:
                inner = residual_dense_block(inner, dense)
            x = x + 0.2 * inner
        x = first + conv(x, network.conv_body)
        x = upsample(x, layers) if subpixel else nearest_tail(x, layers)
        x = x[(..., *[slice(n * network.scale) for n in lr.shape[2:]])]
        return shift(x, network.add_mean) if shifted else x

    return forward
