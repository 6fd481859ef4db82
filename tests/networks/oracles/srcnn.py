"""SRCNN as in Dong et al. 2016, and in 3D as run by Pham et al. 2017, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from medsr.networks.srcnn import SRCNN, SRCNN3D
from tests.networks.oracles.registration import formulation_of


def continued(x: torch.Tensor, width: int) -> torch.Tensor:
    """Repeat the edge values on all sides."""
    return F.pad(x, [width] * 2 * (x.ndim - 2), mode="replicate") if width else x


@formulation_of("SRCNN", "SRCNN3D")
def srcnn(network: SRCNN) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain pass: three unpadded convolutions, with edge values repeated before each or once before all."""
    layers = [network.conv1, network.conv2, network.conv3]

    def forward(image: torch.Tensor) -> torch.Tensor:
        radii = [layer.weight.shape[-1] // 2 for layer in layers]
        once = isinstance(network, SRCNN3D)
        convolve = F.conv2d if image.ndim == 4 else F.conv3d
        x = continued(image, sum(radii)) if once else image
        for layer, radius in zip(layers, radii, strict=True):
            x = convolve(x if once else continued(x, radius), layer.weight, layer.bias)
            x = x if layer is layers[-1] else torch.relu(x)
        return x

    return forward
