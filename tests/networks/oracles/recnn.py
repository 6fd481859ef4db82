"""ReCNN, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from medsr.networks import ReCNN
from tests.networks.oracles.registration import formulation_of


@formulation_of("ReCNN")
def recnn(network: ReCNN) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass: L convolutions with ReLUs between them, plus the interpolated image."""
    layers = [network.layers[i] for i in range(0, len(network.layers), 2)]
    convolve = F.conv3d if network.spec.spatial_dims == 3 else F.conv2d

    def forward(image: torch.Tensor) -> torch.Tensor:
        x = image
        for i, layer in enumerate(layers):
            x = convolve(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)
            x = torch.relu(x) if i < len(layers) - 1 else x
        return x + image[:, : network.out_channels] if network.residual else x

    return forward
