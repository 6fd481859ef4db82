"""The lesion detector, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.lesion_detector import LesionDetector
from tests.networks.oracles.layers import batch_norm, conv
from tests.networks.oracles.registration import formulation_of


def residual_block(x: torch.Tensor, block: Any) -> torch.Tensor:
    """Apply a convolution, a batch norm and a ReLU twice, plus the input, padded with zero channels or projected."""
    first, norm1, _, second, norm2, _ = block.body
    residual = F.relu(batch_norm(conv(F.relu(batch_norm(conv(x, first), norm1)), second), norm2))
    if not isinstance(block.shortcut, nn.Identity):
        return conv(x, block.shortcut) + residual
    missing = residual[:, x.shape[1] :]
    return torch.cat([x, torch.zeros_like(missing)], dim=1) + residual


@formulation_of("LesionDetector")
def lesion_detector(network: LesionDetector) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the plain forward pass of the network, with the same parameters."""
    pool = F.max_pool2d if network.spec.spatial_dims == 2 else F.max_pool3d

    def forward(image: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(image, network.input_size, mode=network.mode, align_corners=False)
        for i in range(0, len(network.body), 3):
            x = residual_block(residual_block(x, network.body[i]), network.body[i + 1])
            x = pool(x, 2)
        x = x.reshape(len(x), -1)
        for layer in network.tail[:-1:2]:
            x = F.relu(F.linear(x, layer.weight, layer.bias))
        return F.linear(x, network.tail[-1].weight, network.tail[-1].bias)

    return forward
